"""Log records, and what may reach standard error."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from getm.cli.startup import Stopped, raise_again
from getm.core.log import get_logger

_log = get_logger("cli")
_all = get_logger()


@contextlib.contextmanager
def logging_to_stdout(verbosity: int, to_stdout: bool) -> Iterator[None]:
    """Log records to standard output, since callers take anything on standard error for a failure, whatever `-v` they
    give. Where the data itself goes to standard output, records go to standard error if that is a terminal."""
    stream = sys.stderr if to_stdout and sys.stderr is not None and sys.stderr.isatty() else sys.stdout
    if verbosity == 0 or stream is None or (to_stdout and stream is sys.stdout):
        # Nobody reads them: they need not be made.
        before = _all.level
        _all.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            _all.setLevel(before)
        return
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    # Of others, warnings alone: what botocore logs has signatures.
    root = logging.getLogger()
    before = _all.level
    root.addHandler(handler)
    _all.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
    try:
        yield
    finally:
        _all.setLevel(before)
        root.removeHandler(handler)


@contextlib.contextmanager
def quiet_process() -> Iterator[None]:
    """Nothing but `print_error` writes to standard error, and no name is a reason not to write a line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names may hold characters that the locale's encoding lacks.
            stream.reconfigure(errors="backslashreplace")
    hooks = threading.excepthook, sys.unraisablehook, logging.raiseExceptions, logging.lastResort
    threading.excepthook = lambda args: _log.debug("unexpected error in a thread", exc_info=args.exc_value)
    sys.unraisablehook = _on_unraisable
    # The last resort prints warnings to standard error where there is no handler.
    logging.raiseExceptions, logging.lastResort = False, None
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        threading.excepthook, sys.unraisablehook, logging.raiseExceptions, logging.lastResort = hooks
        _flush_stdout()


def _on_unraisable(args: sys.UnraisableHookArgs) -> None:
    if isinstance(args.exc_value, Stopped):
        raise_again(args.exc_value)
    else:
        _log.debug("unexpected error in a finaliser", exc_info=args.exc_value)


def _flush_stdout() -> None:
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it ends, and would complain on standard error.
        with Path(os.devnull).open("wb") as devnull:
            os.dup2(devnull.fileno(), sys.stdout.fileno())
