"""Engines seen from the caller: a process, or a thread of this one; started, watched and stopped."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from getm import errors
from getm.buffers import Segment
from getm.client.sockets import SEND_NOW, in_passage
from getm.options import Geometry
from getm.wire import Kind, ServeRequest, encode, encode_body

_STOP_S = 5.0
# The engine's module path comes by the environment: `sys.path` as the caller sees it, without running the caller's
# __main__ again, and with no file of the current folder in the way of the standard library (-P).
_PATH_VARIABLE = "GETM_ENGINE_PATH"
# aiohttp reads the system's certificates, twice, for contexts that an engine does not use: more than a quarter of all
# that its start would take. It is told that there are none, and forgets that as soon as aiohttp is there: what the
# caller's variables say comes with each request.
_NO_CERTIFICATES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
# The package is entered without its __init__, which imports what only a caller needs.
_BOOTSTRAP = """\
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
import json, os, sys, types
sys.path[:] = json.loads(os.environ.pop({variable!r}))
package = sys.modules["getm"] = types.ModuleType("getm")
package.__path__ = [{package!r}]
from getm.engine.server import main
for name in {no_certificates!r}:
    del os.environ[name]
main({control}, {parent})
"""


class Engine:
    """An engine seen from the caller: a control socket, and whether it lives.

    `limit_rate`: bytes a second over everything that it receives; None: no limit.
    """

    def __init__(self, limit_rate: float | None = None) -> None:
        self._limit_rate = limit_rate
        self._control, theirs = socket.socketpair()
        self._ended = select.poll()
        self._ended.register(self._control, select.POLLIN)
        in_passage.add(theirs)
        try:
            self._start(theirs)
        except BaseException:
            self._control.close()
            raise
        finally:
            in_passage.discard(theirs)

    def _start(self, theirs: socket.socket) -> None:
        raise errors.GetmError("an engine is either a process or a thread")

    def serve(
        self, pipe: socket.socket, segment: Segment, geometry: Geometry, helpers: Sequence[socket.socket]
    ) -> None:
        """Have the engine serve the other end of `pipe`'s pair. The descriptors are duplicated on the way."""
        request = ServeRequest(
            geometry.slots, geometry.slot_bytes, segment.size, segment.token, len(helpers), self._limit_rate
        )
        descriptors = [pipe.fileno(), *([segment.descriptor] if segment.token is None else [])]
        descriptors.extend(helper.fileno() for helper in helpers)
        try:
            socket.send_fds(self._control, [encode_body(Kind.SERVE, 0, request)], descriptors)
        except OSError:
            raise self.died() from None

    @property
    def alive(self) -> bool:
        """Whether it can still be asked for something, as far as can be seen without asking. For one thread at a
        time."""
        # It never writes there: what can be read is its end. (Reading nothing would cost an exception each time.)
        return self._control.fileno() >= 0 and not self._ended.poll(0)

    def died(self) -> errors.EngineDied:
        """The error for a pipe that ended though nobody closed it."""
        return errors.EngineDied("the engine ended; open the URL again, and another one is started", exit_status=None)

    def stop(self) -> None:
        """Tell it to end, and wait until it has."""
        with contextlib.suppress(OSError):
            # It may be gone already.
            self._control.send(encode(Kind.STOP), SEND_NOW)
        self._control.close()

    def abandon(self) -> None:
        """In a forked child: the engine is the parent's. Forget it without a word to it."""
        self._control.close()


class ProcessEngine(Engine):
    """An engine in a process of its own, started as a program: this works from daemonic workers, beside threads, from
    notebooks and `python -`. The URL never stands in its arguments."""

    def _start(self, theirs: socket.socket) -> None:
        if not sys.executable:
            raise errors.EngineDied("sys.executable names no Python to start an engine with; use concurrency=None")
        paths = [os.path.abspath(path) for path in sys.path if isinstance(path, str)]  # noqa: PTH100
        # What it prints when it crashes is for the error, not for the caller's terminal.
        self._stderr: IO[bytes] = tempfile.TemporaryFile(prefix="getm-")  # noqa: SIM115
        code = _BOOTSTRAP.format(
            variable=_PATH_VARIABLE,
            package=str(Path(__file__).absolute().parents[1]),
            no_certificates=tuple(_NO_CERTIFICATES),
            control=theirs.fileno(),
            parent=os.getpid(),
        )
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, **_NO_CERTIFICATES, _PATH_VARIABLE: json.dumps(paths)},
            )
        except OSError as error:
            self._stderr.close()
            raise errors.EngineDied(f"no engine process could be started ({error}); use concurrency=None") from None
        finally:
            theirs.close()

    def died(self) -> errors.EngineDied:
        try:
            status = self.process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            # It closed the pipe but lives: it cannot be trusted with anything any more.
            self.process.kill()
            status = self.process.wait()
        if status < 0:
            how = f"was ended by {signal.Signals(-status).name}"
            if status == -signal.SIGKILL:
                how += " (often the system's answer to a lack of memory)"
        else:
            how = f"ended with status {status}"
        said = self._said()
        return errors.EngineDied(
            f"the engine process {how}{f': {said}' if said else ''}; open the URL again, and another one is started",
            exit_status=status,
        )

    def _said(self) -> str:
        """The last line on its standard error."""
        try:
            self._stderr.seek(0)
            lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        except ValueError:
            # Closed by stop().
            return ""
        return lines[-1][:500] if lines else ""

    def stop(self) -> None:
        super().stop()
        try:
            self.process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._stderr.close()

    def abandon(self) -> None:
        super().abandon()
        self._stderr.close()
        # It is no child of this process: Popen must not wait for it, nor warn that it runs.
        self.process.returncode = 0


class ThreadEngine(Engine):
    """The same engine in a thread of this process: for `concurrency=None`, and where processes cannot be had."""

    def _start(self, theirs: socket.socket) -> None:
        from getm.engine.server import serve

        self._thread = threading.Thread(target=serve, args=(theirs, None), name="getm-engine", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            # A limit on threads or on memory.
            theirs.close()
            raise errors.EngineDied(f"no engine thread could be started ({error})") from None

    def stop(self) -> None:
        super().stop()
        self._thread.join(timeout=_STOP_S)
