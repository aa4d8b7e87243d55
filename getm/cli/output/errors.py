"""Errors on standard error: for people where that is a terminal, else in the one form that callers read.

For people: "✗ reads.bam: 404 Not Found (https://host/reads.bam)". For callers, and with `--json-errors`:
`ERROR:getm.cli:`, followed on the same line by one JSON object with `"message"`, `"url"` (without query and userinfo)
where a URL is concerned, and `"status_code"` for HTTP errors.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

from getm.cli.exit_status import EXIT_OK, EXIT_OTHER, exit_status
from getm.cli.output.formatting import error_text, json_text
from getm.cli.output.summary import Summary
from getm.core.json_form import Json
from getm.core.log import get_logger
from getm.errors import GetmError, HTTPStatusError, TargetError, URLExpired

_log = get_logger("cli")

JSON_ERRORS = "--json-errors"
# Whether this run writes JSON to terminals, too. Of the process, as standard error is.
_always_json = False


@contextlib.contextmanager
def error_form(arguments: Sequence[str]) -> Iterator[None]:
    """Within the context, errors have the form that the command's `arguments` ask for: known before they are parsed,
    since an error may be about them. `use_json_errors`: what else may ask for it."""
    global _always_json
    before, _always_json = _always_json, JSON_ERRORS in arguments
    try:
        yield
    finally:
        _always_json = before


def use_json_errors() -> None:
    """From now on, within `error_form`, errors are JSON."""
    global _always_json
    _always_json = True


def errors_are_for_people() -> bool:
    """Whether errors are not written as JSON."""
    return not _always_json and sys.stderr is not None and sys.stderr.isatty()


def print_failure(error: Exception, url: str | None = None, path: str | None = None) -> int:
    """Print what went wrong; the exit status for it. `url` (redacted) and `path` are used where the error has none."""
    error = _from_surroundings(error)
    if not isinstance(error, GetmError):
        _log.debug("unexpected error", exc_info=error)
        error = GetmError(f"Unexpected error, please report it: {type(error).__name__}: {error}")
    facts = error.to_json()
    for name, value in (("url", url), ("path", path)):
        if value is not None:
            facts.setdefault(name, value)
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


def print_summary(failures: Sequence[Exception], summary: Summary, *, shown: bool) -> int:
    """Print the last line of a batch with several failures, which sums them up, unless people have been `shown` it; the
    batch's exit status: that of its failures where they agree."""
    if len(failures) > 1 and not (shown and errors_are_for_people()):
        facts: dict[str, Json] = {"message": summary.failed_text(), "failed": len(failures)}
        if summary.not_tried:
            facts["not_tried"] = summary.not_tried
        answers = [error.status for error in failures if isinstance(error, HTTPStatusError | URLExpired)]
        statuses = [status for status in answers if status is not None]
        # Callers read the last status on standard error, and retry by it. One that no retry mends decides.
        lasting = [status for status in statuses if 400 <= status < 500 and status not in (408, 429)]
        if statuses:
            facts["status_code"] = (lasting or statuses)[0]
        print_error(facts)
    exit_statuses = set(map(exit_status, failures)) or {EXIT_OK}
    return exit_statuses.pop() if len(exit_statuses) == 1 else EXIT_OTHER


def print_unreadable(name: str, error: OSError | None) -> None:
    """Print why a file cannot be read."""
    reason = error and (error.strerror or error)
    print_error({"message": f"{name} cannot be read: {reason}.", "path": name})


def print_error(facts: dict[str, Json]) -> None:
    """Write the line of one failure to standard error. `facts` has its "message", and perhaps "path" and "url"."""
    if errors_are_for_people():
        texts = {name: str(value) for name, value in facts.items()}
        print_text(error_text(texts["message"], texts.get("path"), texts.get("url")))
    else:
        _write(f"ERROR:getm.cli:{json_text(facts)}")


def print_text(text: str) -> None:
    """Write the line of one failure for people to standard error."""
    # Programs, which read JSON, do not need it.
    from getm.cli.output.terminal import Style, Terminal

    terminal = Terminal(sys.stderr)
    _write(f"{terminal.styled(terminal.marks.bad, Style.BAD)} {terminal.encodable(text)}")


def print_warning(text: str) -> None:
    """Write a line for people to standard error, where they read it: callers take anything there for a failure."""
    if errors_are_for_people():
        from getm.cli.output.terminal import Terminal

        _write(f"warning: {Terminal(sys.stderr).encodable(text)}")


def _write(text: str) -> None:
    if sys.stderr is None:
        return
    # Where nobody reads it any more, the exit status still says what it says.
    with contextlib.suppress(OSError, ValueError):
        # The line's end goes with it, or a line of progress from another thread could come between.
        print(f"{text}\n", end="", file=sys.stderr, flush=True)
