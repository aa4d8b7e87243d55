"""What a round of transfers runs on: servers, sessions, and the engines that are killed now and then."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

import getm
from getm.testing import FaultServer, failure
from tests.chaos.consume import WHERE, open_session
from tests.chaos.plan import Plan
from tests.chaos.serving import ServedPlan
from tests.support.certificates import Authority

# How long after it what was done to an engine may still surprise a transfer that began later.
_AFTERMATH_S = 2.0
# How long an engine stands still, or gets no descriptors.
_DISTURBED_S = 0.25


class Stage:
    """Servers and sessions, opened and closed together. `kills` counts engines."""

    def __init__(self, authority: Authority, folder: Path) -> None:
        self.folder = folder
        self.kills = 0
        self._disturbed_at: dict[str, float] = {}
        self._timers: list[threading.Timer] = []
        self._lock = threading.Lock()
        good, expired = authority.issue().server_context(), authority.issue(expired=True).server_context()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self._nobody = taken.getsockname()[1]
        with contextlib.ExitStack() as opened:
            enter = opened.enter_context
            self._plain = enter(FaultServer())
            self._tls = enter(FaultServer(tls=good))
            self._expired = enter(FaultServer(tls=expired))
            self.cacert = authority.ca_path
            self._sessions = {where: enter(open_session(where, self.cacert)) for where in WHERE}
            self._close = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for timer in self._timers:
            timer.join()
        self._close.close()

    def session(self, plan: Plan) -> contextlib.AbstractContextManager[getm.Session]:
        """The session that the plan's transfer runs in: one of its own where it is to be closed."""
        if plan.leaver == "session":
            return open_session(plan.where, self.cacert)
        return contextlib.nullcontext(self._sessions[plan.where])

    def serve(self, plan: Plan) -> tuple[ServedPlan, list[str]]:
        """Put the plan's object on the server that it is for; where to ask for it: a URL, and its mirrors."""
        server = self._server(plan)
        served = ServedPlan(plan, server.gate(), lambda kind: self.disturb(kind, plan.seed))
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

    def disturb(self, kind: str, which: int) -> None:
        """Do to one of the engines, whoever uses it, what a kind of fault says."""
        with self._lock:
            engines = self.engines()
            if not engines:
                return
            pid = engines[which % len(engines)].pid
            self._disturbed_at[kind] = time.monotonic()
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                match kind:
                    case "engine killed":
                        os.kill(pid, signal.SIGKILL)
                        self.kills += 1
                    case "engine stopped":
                        os.kill(pid, signal.SIGSTOP)
                        self._later(lambda: os.kill(pid, signal.SIGCONT))
                    case "descriptors run out":
                        _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
                        resource.prlimit(pid, resource.RLIMIT_NOFILE, (psutil.Process(pid).num_fds(), most))
                        # Not to what it was: that may be the limit of another such disturbance.
                        self._later(lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most)))

    def _later(self, mend: Callable[[], object]) -> None:
        def run() -> None:
            with contextlib.suppress(ProcessLookupError):
                mend()

        timer = threading.Timer(_DISTURBED_S, run)
        self._timers.append(timer)
        timer.start()

    def disturbed_since(self, began: float) -> frozenset[str]:
        """What a transfer that began then may have met, by the kinds of faults."""
        return frozenset(kind for kind, at in self._disturbed_at.items() if at > began - _AFTERMATH_S)
