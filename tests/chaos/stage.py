"""What a round of transfers runs on: servers, sessions, and the engines that are killed now and then."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

import getm
from tests.chaos.consume import open_session
from tests.chaos.plan import MIB, Plan
from tests.chaos.serving import ServedPlan
from tests.support.certificates import Authority
from tests.support.fault_script import failure
from tests.support.fault_server import FaultServer

# How long after a kill an engine's death may still surprise a transfer that began after it.
_AFTERMATH_S = 2.0


class Stage:
    """Servers and sessions, opened and closed together. `kills` counts engines."""

    def __init__(self, authority: Authority, folder: Path) -> None:
        self.folder = folder
        self.kills = 0
        self._killed_at = -1e9
        self._lock = threading.Lock()
        good, expired = authority.issue().server_context(), authority.issue(expired=True).server_context()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self._nobody = taken.getsockname()[1]
        with contextlib.ExitStack() as opened:
            enter = opened.enter_context
            self._plain = enter(FaultServer())
            self._tls = enter(FaultServer(tls=good))
            self._expired = enter(FaultServer(tls=expired))
            self.sessions: dict[str, getm.Session] = {
                "one process": enter(open_session(1, 1024 * MIB, authority.ca_path)),
                "two processes": enter(open_session(2, 1024 * MIB, authority.ca_path)),
                "little memory": enter(open_session(1, 24 * MIB, authority.ca_path)),
                "limited rate": enter(open_session(1, 1024 * MIB, authority.ca_path, limit_rate=50 * MIB)),
            }
            self._close = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close.close()

    def serve(self, plan: Plan) -> tuple[ServedPlan, list[str]]:
        """Put the plan's object on the server that it is for; where to ask for it: a URL, and its mirrors."""
        server = self._server(plan)
        served = ServedPlan(plan, server.gate(), lambda: self.kill_engine(plan.seed))
        for path in served.paths:
            server.serve(path, served.script)
        if plan.wire == "no TLS behind https":
            return served, [self._plain.url(served.path).replace("http:", "https:")]
        if plan.wire == "nobody listens":
            return served, [f"http://127.0.0.1:{self._nobody}{served.path}"]
        good, bad = server.url(served.path), server.url(served.bad_mirror_path)
        if plan.bad_mirror is None:
            return served, [good]
        return served, [bad, good] if plan.bad_mirror_first else [good, bad]

    def forget(self, served: ServedPlan) -> None:
        """The transfer is over: its object need not be kept."""
        for path in served.paths:
            self._server(served.plan).serve(path, failure(410))

    def _server(self, plan: Plan) -> FaultServer:
        return {"https": self._tls, "expired certificate": self._expired}.get(plan.wire, self._plain)

    def engines(self) -> list[psutil.Process]:
        found = []
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if "getm.engine" in " ".join(child.cmdline()):
                    found.append(child)
        return sorted(found, key=lambda process: process.pid)

    def kill_engine(self, which: int) -> None:
        """SIGKILL one of the engines, whoever uses it."""
        with self._lock:
            engines = self.engines()
            if engines:
                self._killed_at = time.monotonic()
                os.kill(engines[which % len(engines)].pid, signal.SIGKILL)
                self.kills += 1

    def killed_since(self, began: float) -> bool:
        """Whether a transfer that began then may have met a kill."""
        return self._killed_at > began - _AFTERMATH_S
