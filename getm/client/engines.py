"""Engines seen from the caller: a process, or a thread of this one; started, watched and stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Sequence
from subprocess import Popen

from getm import errors
from getm.buffers import Segment
from getm.buffers.layout import RingLayout
from getm.client import process
from getm.core.lazy import importing
from getm.core.readable import readable
from getm.core.this_process import busy_s
from getm.protocol.codec import encode, encode_body
from getm.protocol.messages import Kind, ServeRequest

# Flags for sends and receives that do not wait. Plain numbers: joining the enumeration's members costs more than the
# call that they are for.
NO_WAIT = int(socket.MSG_DONTWAIT)
# A program may have SIGPIPE as the system has it: an engine's death is no reason to end that program.
NO_SIGNAL = int(getattr(socket, "MSG_NOSIGNAL", 0))
SEND_NOW = NO_WAIT | NO_SIGNAL
# A process is gone a moment after the kernel has closed its descriptors; this is for a machine that is busy.
_DEATH_S = 1.0


class Engine:
    """An engine seen from the caller: its control socket, and whether it is alive.

    `limit_rate`: bytes a second over everything that it receives; None: no limit.
    """

    def __init__(self, control: socket.socket, limit_rate: float | None) -> None:
        self._limit_rate = limit_rate
        self._control = control

    def serve(
        self, pipe: socket.socket, segment: Segment, layout: RingLayout, helpers: Sequence[socket.socket]
    ) -> None:
        """Make the engine serve the other end of `pipe`'s pair. Sending duplicates the descriptors."""
        request = ServeRequest(
            layout.slot_bytes,
            layout.slots,
            layout.part_slots,
            segment.size,
            segment.token,
            len(helpers),
            self._limit_rate,
        )
        descriptors = [pipe.fileno(), *([segment.descriptor] if segment.token is None else [])]
        descriptors.extend(helper.fileno() for helper in helpers)
        try:
            socket.send_fds(self._control, [encode_body(Kind.SERVE, 0, request)], descriptors)
        except OSError as error:
            raise errors.DescriptorsExhausted.found(error) or self.died() from None

    @property
    def alive(self) -> bool:
        """Whether it can still be used, as far as can be seen without asking it."""
        # It never writes to it: if it is readable, it is at its end. (Reading nothing would cost an exception each
        # time.)
        descriptor = self._control.fileno()
        return descriptor >= 0 and not readable(descriptor, 0)

    def lives_on(self) -> bool:
        """Whether it has only closed a pipe. Waits for a moment: its own end may not show yet."""
        return self.alive

    def died(self) -> errors.GetmError:
        """The error for a pipe that ended without being closed. `EngineDied`, unless the engine is alive."""
        return errors.EngineDied("the engine ended; open the URL again, and another one is started", exit_status=None)

    def tell_to_stop(self) -> None:
        """Send STOP, without waiting for its end."""
        with contextlib.suppress(OSError):
            # It may be gone already.
            self._control.send(encode(Kind.STOP), SEND_NOW)
        self._control.close()

    def stop(self) -> None:
        """Send STOP, unless that was done, and wait for its end."""
        self.tell_to_stop()

    def leave(self) -> None:
        """Send STOP, and have another thread wait for its end."""
        self.tell_to_stop()

    def abandon(self) -> None:
        """In a forked child: the engine is the parent's. Forget it without a message to it."""
        self._control.close()


class ProcessEngine(Engine):
    """An engine in a process of its own: the one that was started ahead, if there is one. Raises `EngineDied`."""

    def __init__(self, limit_rate: float | None = None) -> None:
        try:
            self._launched = process.take()
        except OSError as error:
            raise errors.DescriptorsExhausted.found(error) or errors.EngineDied(
                f"no engine process could be started ({error}); use concurrency=None"
            ) from None
        self.process: Popen[bytes] = self._launched.process
        self._began_s = time.monotonic()
        super().__init__(self._launched.control, limit_rate)

    def lives_on(self) -> bool:
        return not self._launched.has_ended(_DEATH_S)

    def cpu_s(self) -> float:
        """The CPU seconds that it has used so far; 0.0 where the system does not say (proc(5))."""
        try:
            with open(f"/proc/{self.process.pid}/stat", "rb") as file:  # noqa: PTH123 - faster
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            return 0.0
        # utime and stime, the 14th and 15th field; the name, the second one, may hold spaces.
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def busy(self) -> float:
        """The share of the time since its start in which its thread was busy; see `busy_s`."""
        return min(1.0, busy_s(self.process.pid) / max(time.monotonic() - self._began_s, 1e-9))

    def died(self) -> errors.GetmError:
        if self.lives_on():
            # It serves others, so one of its consumers must not end it.
            return errors.EngineDied(
                "the engine closed this connection, and serves others; open the URL again", exit_status=None
            )
        status = self._launched.wait()
        how = f"ended with status {status}" if status >= 0 else f"was ended by {signal.Signals(-status).name}"
        if status == -signal.SIGKILL:
            how += " (often the system's answer to a lack of memory)"
        said = self._launched.said()
        return errors.EngineDied(
            f"the engine process {how}{f': {said}' if said else ''}; open the URL again, and another one is started",
            exit_status=status,
        )

    def stop(self) -> None:
        super().stop()
        self._launched.end()

    def leave(self) -> None:
        super().leave()
        self._launched.leave()

    def abandon(self) -> None:
        self._launched.abandon()


class ThreadEngine(Engine):
    """The same engine in a thread of this process: for `concurrency=None`, and where no process can be started. Raises
    `EngineDied`."""

    def __init__(self, limit_rate: float | None = None) -> None:
        # Importing aiohttp makes contexts for TLS, which no engine uses: an unwritable SSLKEYLOGFILE would prevent it.
        key_log = os.environ.pop("SSLKEYLOGFILE", None)
        try:
            with importing:
                from getm.engine.main import serve
            with process.passed_pair() as (control, theirs):
                # As it is closed here, too.
                its_own = theirs.dup()
                self._thread = threading.Thread(target=serve, args=(its_own, None), name="getm-engine", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:
                    # After any other exception the thread may run, and have the socket.
                    its_own.close()
                    raise
        except RuntimeError as error:
            # A limit on threads or on memory; or the main thread has ended, and aiohttp cannot be imported any more.
            raise errors.EngineDied(f"no engine thread could be started ({error}); use concurrency=1") from None
        finally:
            if key_log is not None:
                os.environ["SSLKEYLOGFILE"] = key_log
        super().__init__(control, limit_rate)

    def stop(self) -> None:
        super().stop()
        self._thread.join(timeout=process.STOP_S)
