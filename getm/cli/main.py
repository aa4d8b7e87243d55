"""The command `getm`: chooses what to run, and turns what it raises into an exit status.

What callers may rely on: on success standard error is empty (unless it is a terminal, which gets a progress bar). On
failure it begins `ERROR:getm.cli:`, followed on the same line by one JSON object with `"message"`, `"url"` (without
query and userinfo) where a URL is concerned, and `"status_code"` for HTTP errors; in a batch there is such a line for
each failure and, after several, one that sums them up. No traceback, no warning and no log record goes there.

This process imports nearly everything while the engine that it needs starts.
"""

from __future__ import annotations

import gc
import signal
import sys

from getm.cli.startup import Stopped, occupy_standard_descriptors, raise_on_signals
from getm.client.process import end_ahead, launch_ahead

# As in the package's __init__: `typing` is not needed here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# How an argument begins that names what to download; and options after which nothing is.
_SOURCES = ("http://", "https://", "-m", "-i", "--manifest")
_NO_DOWNLOAD = ("-h", "--help", "--version")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: this process's arguments) and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    occupy_standard_descriptors()
    with raise_on_signals(restore=argv is not None):
        try:
            gc.disable()
            if _is_download(arguments):
                launch_ahead()
            return _run(arguments)
        except KeyboardInterrupt as stop:
            return _report_stop(stop)
        finally:
            end_ahead()


def _is_download(arguments: list[str]) -> bool:
    """Whether an engine will be needed, unless the arguments are wrong."""
    names_source = any(argument.lower().startswith(_SOURCES) for argument in arguments)
    return names_source and not any(argument in _NO_DOWNLOAD for argument in arguments)


def _run(arguments: list[str]) -> int:
    """Import what is asked for, run it, and report what it raises."""
    from getm.cli.exit_status import EXIT_BROKEN_PIPE, EXIT_OK, is_broken_pipe
    from getm.cli.output.errors import print_failure
    from getm.cli.output.logs import quiet_process

    with quiet_process():
        try:
            run, rest = _choose(arguments)
            # What was imported stays: the collector need not look at it.
            gc.freeze()
            gc.enable()
            return run(rest)
        except SystemExit as exit_:
            # argparse, after --help and --version.
            return exit_.code if isinstance(exit_.code, int) else EXIT_OK
        except Exception as error:
            if is_broken_pipe(error):
                return EXIT_BROKEN_PIPE
            return print_failure(error)


def _report_stop(stop: KeyboardInterrupt) -> int:
    from getm.cli.exit_status import EXIT_SIGNAL
    from getm.cli.output.errors import print_error

    number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
    word = "Interrupted" if number == signal.SIGINT else "Terminated"
    print_error({"message": " ".join([f"{word} by {signal.Signals(number).name}.", *getattr(stop, "__notes__", ())])})
    return EXIT_SIGNAL + number


def _choose(arguments: list[str]) -> tuple[Callable[[Sequence[str]], int], list[str]]:
    """What to run, and its arguments. A URL has a scheme, so that no URL is taken for one of the words."""
    word, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if word == "demo":
        from getm.cli import demo

        return demo.main, rest
    if word == "verify":
        from getm.cli import verify

        return verify.main, rest
    if word == "hash":
        from getm.cli import hash as hash_command

        return hash_command.main, rest
    if word == "completion":
        from getm.cli import completion

        return completion.main, rest
    from getm.cli import download

    return download.main, arguments
