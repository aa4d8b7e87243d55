"""`--on-complete CMD`: a command that is run for each file that has come, once it is in place.

It is split into words as a shell would, and started without one: a name of a file, which a server or a list may have
chosen, is an argument and nothing else, whatever characters it has. It gets no URL.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import IO, NamedTuple, Self

from getm.cli.command_words import command_words
from getm.core.threads import WorkerThreads
from getm.errors import CommandFailed
from getm.files.receipt_lines import full_path
from getm.results import DownloadResult

# How long a command may take to end once it is asked to (SIGTERM).
_GRACE_S = 5.0
# So much of what a command prints is passed on.
_OUTPUT_BYTES = 64 * 1024


class Outcome(NamedTuple):
    """How a command has ended: the last bytes of what it printed, and why it has failed, if it has."""

    output: bytes = b""
    error: CommandFailed | None = None


class Commands:
    """Runs `command` for files, as many at a time as there are cores. A context manager: when it is left by an
    exception, no further one is started, and those under way are ended.

    Raises:
        InvalidInput: There is no such command.
    """

    def __init__(self, command: str) -> None:
        self._words = command_words(command, "--on-complete")
        self._threads = WorkerThreads("getm-on-complete", os.cpu_count() or 1)
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        # One for each that was asked for.
        self._outcomes: SimpleQueue[Outcome] = SimpleQueue()
        self._awaited = 0
        self._not_run = 0

    def run(self, result: DownloadResult) -> None:
        """Run it for a file, soon; it does not wait."""
        self._awaited += 1
        self._threads.submit(partial(self._run, result))

    def outcomes(self, *, wait: bool) -> Iterator[Outcome]:
        """Of those that have ended since the last call; `wait`: until all have."""
        while self._awaited and (wait or not self._outcomes.empty()):
            while self._outcomes.empty():
                self._wait()
            outcome = self._outcomes.get()
            self._awaited -= 1
            yield outcome

    def _wait(self) -> None:
        """Wait for an outcome, or a signal. A signal that comes just before the queue waits would not wake it, and
        nothing else may happen for hours: so each writes a byte (`signal.set_wakeup_fd`), as each outcome does."""
        is_main = threading.current_thread() is threading.main_thread()
        before = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False) if is_main else -1
        try:
            poll = select.poll()
            poll.register(self._woken, select.POLLIN)
            poll.poll()
            self._woken.recv(4096)
        finally:
            if is_main:
                signal.set_wakeup_fd(before)

    def stop(self) -> None:
        """Start no further one."""
        with self._lock:
            self._stopped = True

    def _run(self, result: DownloadResult) -> None:
        outcome = Outcome()
        try:
            # A file, not a pipe: what the command has left running would keep that open.
            with tempfile.TemporaryFile() as printed:
                error = self._failed(result, self._exit_status(result, printed))
                size_bytes = printed.seek(0, os.SEEK_END)
                printed.seek(max(0, size_bytes - _OUTPUT_BYTES))
                outcome = Outcome(printed.read(_OUTPUT_BYTES), error)
        except OSError as error:
            outcome = Outcome(b"", self._error(result, f"could not be started ({error.strerror or error})", None))
        finally:
            self._outcomes.put(outcome)
            with contextlib.suppress(OSError):
                # There are bytes enough, or nobody waits any more.
                self._waker.send(b"\0")

    def _exit_status(self, result: DownloadResult, printed: IO[bytes]) -> int:
        """Of the command, once it has ended; 0 where it was not started."""
        # Absolute: none begins with a hyphen, and the command may change its folder.
        # (So is a URL.)
        path = full_path(result.path)
        checksum = result.checksum.checksum
        facts = {
            "GETM_PATH": path,
            "GETM_SIZE": str(result.size),
            "GETM_CHECKSUM": "" if checksum is None else str(checksum),
        }
        with self._lock:
            if self._stopped:
                self._not_run += 1
                return 0
            process = subprocess.Popen(
                [*self._words, path],
                env={**os.environ, **facts},
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
            self._running.add(process)
        try:
            return process.wait()
        finally:
            with self._lock:
                self._running.discard(process)

    def _failed(self, result: DownloadResult, status: int) -> CommandFailed | None:
        if status == 0:
            return None
        how = f"ended with status {status}" if status > 0 else f"was ended by {signal.Signals(-status).name}"
        return self._error(result, how, status)

    def _error(self, result: DownloadResult, how: str, status: int | None) -> CommandFailed:
        path = os.fspath(result.path)
        # Its name only: its arguments may be secrets.
        message = f"the command {self._words[0]} (--on-complete) {how} for {path}; the file itself is in place"
        return CommandFailed(message, path=path, exit_status=status)

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.send_signal(number)

    def _end(self) -> None:
        """End the commands under way: those that do not end in time are killed."""
        self._signal(signal.SIGTERM)
        late = threading.Timer(_GRACE_S, self._signal, (signal.SIGKILL,))
        late.daemon = True
        late.start()

    def __enter__(self) -> Self:
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self._end()
            self._threads.close()
        except BaseException:
            # A signal, while it waits.
            self._end()
            raise
        finally:
            self._woken.close()
            self._waker.close()
        if isinstance(error, KeyboardInterrupt) and self._not_run:
            files = "1 file is" if self._not_run == 1 else f"{self._not_run} files are"
            error.add_note(f"{files} in place for which the command of --on-complete was not run.")
