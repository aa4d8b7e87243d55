"""`getm report RECEIPT`: a page about the downloads of a receipt, in one HTML file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

from getm.cli.exit_status import EXIT_OK
from getm.cli.output.errors import JSON_ERRORS
from getm.cli.output.formatting import name_of
from getm.cli.parser import Once, Parser, json_errors, refuse_urls
from getm.cli.report.facts import facts_of
from getm.cli.report.page import page
from getm.cli.report.rows import read_rows
from getm.errors import InvalidInput
from getm.files.os_errors import as_target_error
from getm.manifests.document import Document

_EPILOG = """\
examples:
  getm -m manifest.json --receipt received.jsonl
  getm report received.jsonl
  getm report received.jsonl -o - > report.html

The page shows sizes, speeds, retries, what verified what, and failures. It is
one file that loads nothing from elsewhere and runs no script. Of many files
it shows the largest, and says what it leaves out. It needs no connection, and
does not look at the files themselves: getm verify --receipt does.
"""


def main(arguments: Sequence[str]) -> int:
    """Run `getm report` with `arguments` and return its exit status; raises what getm raises."""
    options = build_parser().parse(arguments)
    refuse_urls([options.receipt])
    document = Document.read(options.receipt, "receipt")
    rows = read_rows(BytesIO(document.data))
    if not rows.rows and rows.problems:
        raise InvalidInput(f"{document.name} is no receipt: {rows.problems[0]}")
    title = "receipt" if document.path is None else document.path.name
    pieces = page(title, facts_of(rows))
    target = options.output or (f"{document.path.stem}.html" if document.path is not None else "-")
    if target == "-":
        if sys.stdout is not None:
            sys.stdout.writelines(pieces)
    else:
        _write(Path(target), pieces, document.path)
    return EXIT_OK


def _write(target: Path, pieces: Iterable[str], receipt: Path | None) -> None:
    """Put the page in place at once, when all of it is there."""
    if receipt is not None and os.path.realpath(target) == os.path.realpath(receipt):
        raise InvalidInput(f"the page would replace the receipt {name_of(receipt)}; give it another name by -o")
    with as_target_error(target):
        if target.exists() and not target.is_file():
            # A pipe or a device; a folder is an error.
            target.write_text("".join(pieces), encoding="utf-8")
            return
        part = target.with_name(f".getm-{os.getpid()}.html.part")
        try:
            with part.open("x", encoding="utf-8") as file:
                file.writelines(pieces)
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def build_parser() -> Parser:
    """The parser of `getm report`."""
    parser = Parser(
        prog="getm report",
        usage="getm report RECEIPT [-o FILE]",
        description="Write a page (HTML) about the downloads of a receipt.",
        epilog=_EPILOG,
    )
    add = parser.add_argument
    add("receipt", metavar="RECEIPT", help="what getm --receipt has written; - is standard input")
    page_ = "the page; - is standard output (default: the receipt's name with .html, in the current folder)"
    add("-o", "--output", action=Once, metavar="FILE", help=page_)
    add(JSON_ERRORS, **json_errors())
    return parser
