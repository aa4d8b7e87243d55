"""The command `getm`: chooses what to run, and turns what it raises into an exit status.

What callers may rely on, where standard error is no terminal or `--json-errors` is given: on success it is empty. On
failure it begins `ERROR:getm.cli:`, followed on the same line by one JSON object with `"message"`, `"url"` (without
query and userinfo) where a URL is concerned, and `"status_code"` for HTTP errors; in a batch there is such a line for
each failure and, after several, one that sums them up. No traceback, no warning and no log record goes there. A
terminal gets progress, and errors as lines for people.

This process imports nearly everything while the engine that it needs starts.
"""

from __future__ import annotations

import gc
import signal
import sys
from importlib import import_module

from getm.cli.startup import Stopped, occupy_standard_descriptors, raise_on_signals
from getm.client.process import end_ahead, launch_ahead

# As in the package's __init__: `typing` is not needed here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# How an argument begins that names what to download; options after which nothing is; and the other commands.
_SOURCES = ("http://", "https://", "-m", "-i", "--manifest")
_NO_DOWNLOAD = ("-h", "--help", "--version")
WORDS = ("demo", "ls", "run", "serve", "verify", "hash", "report", "sources", "completion", "help")


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
            return _report_stop(stop, arguments)
        finally:
            end_ahead()


def _is_download(arguments: list[str]) -> bool:
    """Whether an engine will be needed, unless the arguments are wrong."""
    if arguments[:1] == ["run"]:
        # The program's, whose process this will be.
        return False
    names_source = any(argument.lower().startswith(_SOURCES) for argument in arguments)
    return names_source and not any(argument in _NO_DOWNLOAD for argument in arguments)


def _run(arguments: list[str]) -> int:
    """Import what is asked for, run it, and report what it raises."""
    from getm.cli.exit_status import EXIT_BROKEN_PIPE, EXIT_OK, is_broken_pipe
    from getm.cli.output.errors import error_form, print_failure
    from getm.cli.output.logs import quiet_process
    from getm.core.this_process import set_rare_collections

    with quiet_process(), error_form(arguments):
        try:
            # A URL has a scheme, so that none is taken for one of the words.
            word = arguments[0] if arguments and arguments[0] in WORDS else "download"
            command = import_module(f"getm.cli.{word}")
            # What was imported stays: the collector need not look at it.
            gc.freeze()
            set_rare_collections()
            gc.enable()
            status: int = command.main(arguments if word == "download" else arguments[1:])
            return status
        except SystemExit as exit_:
            # argparse, after --help and --version.
            return exit_.code if isinstance(exit_.code, int) else EXIT_OK
        except Exception as error:
            if is_broken_pipe(error):
                return EXIT_BROKEN_PIPE
            return print_failure(error)


def _report_stop(stop: KeyboardInterrupt, arguments: list[str]) -> int:
    from getm.cli.exit_status import EXIT_SIGNAL
    from getm.cli.output.errors import error_form, print_error

    number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
    word = "Interrupted" if number == signal.SIGINT else "Terminated"
    with error_form(arguments):
        text = " ".join([f"{word} by {signal.Signals(number).name}.", *getattr(stop, "__notes__", ())])
        print_error({"message": text})
    return EXIT_SIGNAL + number
