"""`getm serve NAME...`: objects at URLs on this machine, for programs that only know URLs, until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from getm.adapter.locations import Locations
from getm.adapter.sockets import listen, url_of
from getm.cli import defaults
from getm.cli.exit_status import EXIT_OK
from getm.cli.output.formatting import json_text
from getm.cli.parser import Once, Parser
from getm.cli.serving import add_beside, add_serving_options, is_served, serve
from getm.cli.session_options import session_parser
from getm.core.redact import redact
from getm.errors import InvalidInput, TargetError

_EPILOG = """\
A URL has a random token, and only programs of this user (and root) get an
answer. What is beside an object is there as well, by its URL: x.bam.bai.

examples:
  getm serve s3://bucket/x.bam
  getm serve --output urls.txt s3://bucket/x.bam s3://bucket/y.bam &
  getm serve --json https://host/x.parquet

exit status:
  0  ended by a signal (Ctrl-C, SIGTERM)
  2  bad options
  3  the file of --output cannot be written
"""


def main(arguments: Sequence[str]) -> int:
    """Run `getm serve` with `arguments` and return its exit status; raises what getm raises."""
    options = defaults.parse(build_parser(), arguments, only=session_parser())
    if wrong := [name for name in options.names if not is_served(name)]:
        raise InvalidInput(
            f"expected the URL or the name of an object, got {redact(wrong[0])}; getm sources lists the schemes"
        )
    locations = Locations(secrets.token_urlsafe(24))
    with listen() as listener, contextlib.ExitStack() as stack:
        lines = []
        for name in options.names:
            url = url_of(listener, locations.add(name))
            lines.append(json_text({"name": redact(name), "url": url}) if options.json else url)
        add_beside(locations, options)

        def watch(end: Callable[[], None]) -> None:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # As nohup and a shell's "&" have it.
                if signal.getsignal(number) != signal.SIG_IGN:
                    asyncio.get_running_loop().add_signal_handler(number, end)
            text = "".join([f"{line}\n" for line in lines])
            if options.output is not None:
                stack.enter_context(_written(Path(options.output), text))
            if sys.stdout is not None:
                sys.stdout.write(text)
                sys.stdout.flush()

        serve(options, locations, listener, watch)
    return EXIT_OK


@contextlib.contextmanager
def _written(path: Path, text: str) -> Iterator[None]:
    """A file with that text: complete from the moment when it is there, for this user alone, and gone at the end.
    Raises `TargetError`."""
    try:
        if path.exists() and not path.is_file():
            # A FIFO, or the like: a file in its place would not be read.
            path.write_text(text)
            yield
            return
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)
        written = Path(name).replace(path).stat().st_ino
    except OSError as error:
        raise TargetError(f"{path} cannot be written: {error.strerror}", path=str(path), errno=error.errno) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if path.stat().st_ino == written:
                path.unlink()


def build_parser() -> Parser:
    """The parser of `getm serve`."""
    parser = Parser(
        prog="getm serve",
        usage="getm serve [options] NAME...",
        description="Print URLs on this machine by which programs read objects, and serve them until\nCtrl-C.",
        epilog=_EPILOG,
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="https://host/x.bam, s3://bucket/x.bam, ...")
    written = "write the URLs to this file as well, which is for this user alone, and gone at the end"
    parser.add_argument("-o", "--output", action=Once, metavar="FILE", help=written)
    parser.add_argument("--json", action="store_true", help="a JSON object for each on a line: name, url")
    add_serving_options(parser)
    return parser
