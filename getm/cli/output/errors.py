"""Errors on standard error, in the one form that callers read.

`ERROR:getm.cli:`, followed on the same line by one JSON object with `"message"`, `"url"` (without query and userinfo)
where a URL is concerned, and `"status_code"` for HTTP errors.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from getm.cli.exit_status import EXIT_OTHER, exit_status
from getm.core.log import get_logger
from getm.core.redact import redact
from getm.errors import ChecksumMismatch, GetmError, HTTPStatusError, TargetError

_log = get_logger("cli")


def print_failure(error: Exception, url: str | None = None, path: Path | None = None) -> int:
    """Print what went wrong; the exit status for it. `url` and `path` are used where the error does not name one."""
    error = _from_surroundings(error)
    if not isinstance(error, GetmError):
        _log.debug("unexpected error", exc_info=error)
        facts: dict[str, object] = {"message": f"Unexpected error, please report it: {type(error).__name__}: {error}"}
        if url is not None:
            facts["url"] = redact(url)
        print_error(facts)
        return EXIT_OTHER
    # Callers of getm 0.0.x look for these words.
    wanting = isinstance(error, ChecksumMismatch) and "Checksum failed!" not in error.message
    message = f"Checksum failed! {error.message}" if wanting else error.message
    facts = {"message": message, "error": error.code}
    where = error.url or url
    if where is not None:
        facts["url"] = redact(where)
    fields = error.fields()
    if isinstance(error, HTTPStatusError):
        facts["status_code"] = fields.pop("status")
    if path is not None:
        # The URLs of many files may differ only in their queries: the path says which one it was.
        facts["path"] = os.fspath(path)
    facts.update((name, value) for name, value in fields.items() if value is not None)
    print_error(facts)
    return exit_status(error)


def _from_surroundings(error: Exception) -> Exception:
    """What an error of Python's own means where the process's surroundings are to blame; else `error` itself."""
    if isinstance(error, FileNotFoundError) and error.filename is None:
        try:
            os.getcwd()  # noqa: PTH109
        except OSError:
            return TargetError("The current folder is gone; change into another one, or give absolute paths.", path=".")
    if isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding():
        return TargetError(
            f"The name of a file cannot be written in the encoding {error.encoding} of this locale; "
            "set one with UTF-8, for example LC_ALL=C.UTF-8.",
            path=error.object,
        )
    return error


def print_summary(failures: Sequence[Exception], downloads: int) -> None:
    """Print the last line of a batch with several failures, which sums them up."""
    if len(failures) < 2:
        return
    facts: dict[str, object] = {"message": f"{len(failures)} of {downloads} downloads failed."}
    facts["failed"] = len(failures)
    statuses = [error.status for error in failures if isinstance(error, HTTPStatusError)]
    # Callers read the last status on standard error, and retry by it. One that no retry mends decides.
    lasting = [status for status in statuses if 400 <= status < 500 and status not in (408, 429)]
    if statuses:
        facts["status_code"] = (lasting or statuses)[0]
    print_error(facts)


def print_error(facts: dict[str, object]) -> None:
    """Write the line of one failure to standard error."""
    if sys.stderr is not None:
        # json.dumps escapes everything beyond ASCII: the line stays one line for every reader. Its end goes with it, or
        # a line of progress from another thread could come between.
        print(f"ERROR:getm.cli:{json.dumps(facts)}\n", end="", file=sys.stderr, flush=True)
