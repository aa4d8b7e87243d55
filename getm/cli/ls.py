"""`getm ls NAME...`: what is in a folder, or matches a pattern."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC
from typing import Any

from getm.cli import defaults
from getm.cli.exit_status import EXIT_OK
from getm.cli.output.errors import JSON_ERRORS, print_failure
from getm.cli.output.formatting import bytes_text, json_text, printable
from getm.cli.parser import Parser, json_errors
from getm.cli.session_options import (
    add_config_options,
    add_connection_options,
    add_filters,
    add_retry_options,
    open_session,
    session_parser,
    warn_of_exposed_files,
)
from getm.core.redact import redact
from getm.errors import GetmError, NothingFound
from getm.resolve.listing import ListedObject
from getm.resolve.patterns import is_root
from getm.resolve.request import is_http
from getm.session import Session

_EPILOG = """\
examples:
  getm ls s3://bucket/in/
  getm ls -l 's3://bucket/in/**.cram' --exclude tmp/
  getm ls 's3://bucket/in/*' | grep -v old | getm -i - -d data
  getm ls https://host/pub/release/

Each name is printed whole, as getm takes it, also in a list. What names can be
listed, wildcards, --include and --exclude: getm help listing.

exit status:
  0  success
  1  nothing was found
  2  bad options
  4  the network failed
  8  the server refused
"""


class _Total:
    """How much was listed."""

    def __init__(self) -> None:
        self._objects = self._bytes = self._unknown = 0

    def add(self, listed: ListedObject) -> None:
        if not listed.is_folder:
            self._objects += 1
            self._bytes += listed.size or 0
            self._unknown += listed.size is None

    def text(self, *, human: bool) -> str:
        size = bytes_text(self._bytes) if human else f"{self._bytes:,} bytes"
        beside = f", and {self._unknown:,} of unknown size" if self._unknown else ""
        return f"{size} in {self._objects:,} {'object' if self._objects == 1 else 'objects'}{beside}"


def main(arguments: Sequence[str]) -> int:
    """Run `getm ls` with `arguments` and return its exit status; raises what getm raises."""
    options = defaults.parse(build_parser(), arguments, only=session_parser())
    warn_of_exposed_files(options)
    status, total = EXIT_OK, _Total()
    with open_session(options) as session:
        for name in options.names:
            try:
                _list(session, name, options, total)
            except GetmError as error:
                status = status or print_failure(error, redact(name))
    if options.total and not options.json and sys.stdout is not None:
        sys.stdout.write(f"{total.text(human=options.human)}\n")
    return status


def _list(session: Session, name: str, options: argparse.Namespace, total: _Total) -> None:
    """Print what `name` stands for. Raises `NothingFound`, and what `list_objects` raises."""
    # A folder of a server, or a bucket, is there though nothing is in it; any other one is only what is in it.
    found = is_root(name.rstrip("/")) or (is_http(name) and name.endswith("/"))
    for listed in session.list_objects(
        name, recursive=options.recursive, include=options.include, exclude=options.exclude
    ):
        found = True
        total.add(listed)
        if sys.stdout is not None:
            sys.stdout.write(f"{_line(listed, options)}\n")
    if not found:
        raise NothingFound("nothing was found there", url=redact(name))


def _line(listed: ListedObject, options: argparse.Namespace) -> str:
    if options.json:
        return json_text(
            {
                "name": listed.name,
                "size": listed.size,
                "modified": None if listed.modified is None else _time(listed),
                "checksums": listed.texts(),
                "version": listed.version,
                "pinned": listed.pinned,
                "folder": listed.is_folder,
            }
        )
    name = printable(listed.name)
    if not options.long:
        return name
    size = "-" if listed.size is None else bytes_text(listed.size) if options.human else str(listed.size)
    return f"{size:>14}  {_time(listed):20}  {name}"


def _time(listed: ListedObject) -> str:
    """As RFC 3339 has it, in UTC."""
    return "-" if listed.modified is None else listed.modified.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def build_parser() -> Parser:
    """The parser of `getm ls`."""
    parser = Parser(
        prog="getm ls",
        usage="getm ls [-l] [-r] NAME...",
        description="List what is in a bucket, a repository or a folder of a web server, or what\nmatches a pattern.",
        epilog=_EPILOG,
    )
    flag: dict[str, Any] = {"action": "store_true"}
    add = parser.add_argument
    add("names", nargs="+", metavar="NAME", help="s3://bucket/in/, hf://org/model, 's3://bucket/*.cram', ...")
    add("-l", "--long", **flag, help="with sizes in bytes, and times of modification (UTC)")
    add("-r", "--recursive", **flag, help="everything below, and no folders")
    add("--human", **flag, help="with -l: sizes in KiB, MiB, ...")
    add("--total", **flag, help="on a last line how many objects there are, and their bytes")
    add_filters(add)
    add("--json", **flag, help="a JSON object for each on a line")
    add(JSON_ERRORS, **json_errors())
    add_retry_options(parser.add_argument_group("when something fails").add_argument)
    add_connection_options(parser)
    add_config_options(parser.add_argument_group("defaults").add_argument)
    # A listing is short.
    parser.set_defaults(limit_rate=None)
    return parser
