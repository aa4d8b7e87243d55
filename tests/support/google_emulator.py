"""gcp-storage-emulator: Google Cloud Storage in a process of its own, filled by Google's client as any user would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

_STOP_TIMEOUT_S = 20.0

# Serves until its standard input ends: so it also ends when the tests are killed.
_PROGRAM = """
import sys
from gcp_storage_emulator import server
# One connection that is open must not keep the others waiting.
server.server.HTTPServer = server.server.ThreadingHTTPServer
emulator = server.create_server("127.0.0.1", 0, True, sys.argv[1])
emulator.start()
print(emulator._api._httpd.server_port, flush=True)
sys.stdin.read()
emulator.stop()
"""


class GoogleEmulator:
    """The emulator on a free loopback port, with the bucket `bucket`. `folder` takes its log. Use as a context
    manager."""

    def __init__(self, folder: Path, bucket: str) -> None:
        self._log = folder / "emulator.log"
        self._bucket = bucket
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = ""

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, self._bucket],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={name: value for name, value in os.environ.items() if not name.startswith("PYTHONWARN")},
            )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().decode().strip()
        if not port.isdecimal():
            self.stop()
            raise RuntimeError(f"the emulator did not start ({port}): {self._log.read_text()}")
        self.endpoint = f"http://127.0.0.1:{port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the emulator. Safe to call again."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
