"""A headless Chromium, steered over two pipes by the Chrome DevTools Protocol."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe"),
)
_READ_BYTES = 1 << 20


class Browser:
    """One page of a browser, whose files are in `folder`. A context manager.

    `requested` has the URL of everything that a page has asked for.
    """

    def __init__(self, folder: Path) -> None:
        self.requested: list[str] = []
        self._folder = folder
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        # The browser reads commands from descriptor 3, and writes answers to descriptor 4.
        program = f'exec "$0" "$@" 3<&{commands} 4>&{answers}'
        self._process = subprocess.Popen(
            ["bash", "-c", program, str(CHROMIUM), *_OPTIONS, f"--user-data-dir={self._folder}", "about:blank"],
            pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Their D-Bus is none of this test's, and reports of crashes go where the browser's other files are.
            env={
                **os.environ,
                "DBUS_SESSION_BUS_ADDRESS": "disabled:",
                "XDG_CONFIG_HOME": str(self._folder / "config"),
            },
        )
        os.close(commands)
        os.close(answers)
        self._messages = self._read()
        self._session: str | None = None
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self._send(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._commands)
        try:
            # The end of its commands ends the browser.
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            os.close(self._answers)

    def open(self, page: Path | str, *, width: int, scheme: str) -> None:
        """Load a page, a file or a URL, at a width in pixels, in the "light" or "dark" scheme."""
        self._send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self._send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._send("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        while (message := next(self._messages)).get("method") != "Page.loadEventFired":
            self._note(message)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self._send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self) -> bytes:
        """The page from its top to its end, as PNG."""
        return base64.b64decode(self._send("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        os.write(self._commands, data)
        for answer in self._messages:
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)
        raise RuntimeError(f"the browser ended before it answered {method}")

    def _note(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Network.requestWillBeSent":
            self.requested.append(message["params"]["request"]["url"])

    def _read(self) -> Iterator[dict[str, Any]]:
        data = b""
        while more := os.read(self._answers, _READ_BYTES):
            *whole, data = (data + more).split(b"\0")
            yield from map(json.loads, whole)
