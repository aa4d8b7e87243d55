"""The process around a command: its descriptors, signals, log records, and what may reach standard error."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from getm.log import get_logger

_log = get_logger("cli")


class Stopped(KeyboardInterrupt):
    """A signal asks this process to end: KeyboardInterrupt for more signals than SIGINT."""

    def __init__(self, number: int) -> None:
        self.number = number


def occupy_standard_descriptors() -> None:
    """Give descriptors 0 to 2 to /dev/null where they are closed: a socket or a file that got one of these numbers
    would be taken for standard input or output by a child process, and be written to by whatever prints."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is this one: those below it are taken by now.
            os.open(os.devnull, os.O_RDWR)


@contextlib.contextmanager
def logging_to_stdout(verbosity: int, to_stdout: bool) -> Iterator[None]:
    """Log records to standard output, since callers take anything on standard error for a failure, whatever `-v` they
    give. Where the data itself goes to standard output, records go to standard error if that is a terminal."""
    stream = sys.stderr if to_stdout and sys.stderr is not None and sys.stderr.isatty() else sys.stdout
    if verbosity == 0 or stream is None or (to_stdout and stream is sys.stdout):
        yield
        return
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
    try:
        yield
    finally:
        root.setLevel(before)
        root.removeHandler(handler)


@contextlib.contextmanager
def quiet_process() -> Iterator[None]:
    """Nothing but `print_error` writes to standard error, and signals that end the process clean up first."""
    root = logging.getLogger()
    # Without any handler, logging prints warnings to standard error.
    null = logging.NullHandler()
    root.addHandler(null)
    hooks = threading.excepthook, sys.unraisablehook, logging.raiseExceptions
    threading.excepthook = lambda args: _log.debug("unexpected error in a thread", exc_info=args.exc_value)
    sys.unraisablehook = lambda args: _log.debug("unexpected error in a finaliser", exc_info=args.exc_value)
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    handlers = _catch_signals()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        logging.captureWarnings(False)
        threading.excepthook, sys.unraisablehook, logging.raiseExceptions = hooks
        root.removeHandler(null)
        _flush_stdout()


def _catch_signals() -> dict[int, Callable[[int, FrameType | None], Any] | int]:
    """Make SIGINT, SIGTERM and SIGHUP raise `Stopped`, where nobody (nohup, a shell's `&`) has said otherwise."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    caught: dict[int, Callable[[int, FrameType | None], Any] | int] = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        before = signal.getsignal(number)
        if before is signal.SIG_DFL or before is signal.default_int_handler:
            signal.signal(number, _on_signal)
            caught[int(number)] = before
    return caught


def _on_signal(number: int, frame: FrameType | None) -> None:
    # A second one ends the process at once, should cleaning up take too long.
    signal.signal(number, signal.SIG_DFL)
    raise Stopped(number)


def _flush_stdout() -> None:
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it ends, and would complain on standard error.
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
