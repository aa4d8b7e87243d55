"""The command `getm`: its entrance, which chooses what to run and turns what was raised into an exit status.

What callers may rely on: on success standard error is empty (unless it is a terminal, which gets a progress bar). On
failure it begins `ERROR:getm.cli:`, followed on the same line by one JSON object with `"message"`, `"url"` (without
query and userinfo) where a URL is concerned, and `"status_code"` for HTTP errors; in a batch there is such a line for
each failure and, after several, one that sums them up. No traceback, no warning and no log record goes there.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence

from getm.commands.process import Stopped, occupy_standard_descriptors, quiet_process
from getm.commands.report import EXIT_OK, EXIT_SIGNAL, print_error, reader_has_gone, report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: this process's arguments) and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    occupy_standard_descriptors()
    with quiet_process():
        try:
            run, rest = _choose(arguments)
            return run(rest)
        except SystemExit as exit_:
            # argparse, after --help and --version.
            return exit_.code if isinstance(exit_.code, int) else EXIT_OK
        except KeyboardInterrupt as stop:
            number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
            word = "Interrupted" if number == signal.SIGINT else "Terminated"
            said = f"{word} by {signal.Signals(number).name}; no unfinished file was put in place."
            print_error({"message": " ".join([said, *getattr(stop, "__notes__", ())])})
            return EXIT_SIGNAL + number
        except Exception as error:
            if reader_has_gone(error):
                return EXIT_SIGNAL + signal.SIGPIPE
            return report(error)


def _choose(arguments: list[str]) -> tuple[Callable[[Sequence[str]], int], list[str]]:
    """What to run, and its arguments. A URL has a scheme, so that no URL is taken for one of the words."""
    word, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if word == "demo":
        from getm import demo

        return demo.main, rest
    if word == "verify":
        from getm.commands import verify

        return verify.main, rest
    if word == "hash":
        from getm.commands import hash_files

        return hash_files.main, rest
    if word == "completion":
        from getm.commands import completion

        return completion.main, rest
    from getm.commands import download

    return download.main, arguments
