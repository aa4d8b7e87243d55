"""Exit statuses: what each means, and which one stands for an error."""

from __future__ import annotations

import signal

from getm.errors import (
    CommandFailed,
    GetmError,
    HTTPStatusError,
    IntegrityError,
    InvalidInput,
    NetworkError,
    TargetError,
    URLExpired,
)

EXIT_OK = 0
EXIT_OTHER = 1
# 2, 3, 4 and 8 mean what they mean to wget (wget(1), "Exit status").
EXIT_USAGE = 2
EXIT_DISK = 3
EXIT_NETWORK = 4
EXIT_HTTP = 8
EXIT_INTEGRITY = 9
EXIT_COMMAND = 10
# Of `getm run`, as of env(1) and nohup(1): the program cannot be run, or there is none.
EXIT_CANNOT_RUN = 126
EXIT_NO_COMMAND = 127
# 128 plus the number of a signal, as shells report it.
EXIT_SIGNAL = 128
EXIT_BROKEN_PIPE = EXIT_SIGNAL + signal.SIGPIPE

_BY_ERROR: tuple[tuple[type[GetmError], int], ...] = (
    (InvalidInput, EXIT_USAGE),
    (TargetError, EXIT_DISK),
    (HTTPStatusError, EXIT_HTTP),
    (URLExpired, EXIT_HTTP),
    (NetworkError, EXIT_NETWORK),
    (IntegrityError, EXIT_INTEGRITY),
    (CommandFailed, EXIT_COMMAND),
)


def exit_status(error: BaseException) -> int:
    """The exit status for `error`."""
    return next((status for kind, status in _BY_ERROR if isinstance(error, kind)), EXIT_OTHER)


def is_broken_pipe(error: BaseException | None) -> bool:
    """Whether `error` only means that the reader of standard output is gone."""
    return isinstance(error, BrokenPipeError) or (
        isinstance(error, TargetError) and isinstance(error.__cause__, BrokenPipeError)
    )
