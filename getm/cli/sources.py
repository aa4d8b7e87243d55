"""`getm sources`: what names getm can download from, and what each needs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from getm.cli.exit_status import EXIT_OK
from getm.cli.output.errors import JSON_ERRORS
from getm.cli.parser import Parser, json_errors
from getm.resolve.names import has_lister, schemes

_EPILOG = """\
Packages add schemes by entry points (docs/how-to/names.md). --url-command CMD
makes a URL of any of these names by a command of yours.

exit status:
  0  success
  2  bad options
"""


def main(arguments: Sequence[str]) -> int:
    """Run `getm sources` with `arguments` and return its exit status; raises what getm raises."""
    options = build_parser().parse(arguments)
    found = schemes()
    width = max(len(scheme.prefix) for scheme in found)
    for scheme in found:
        if options.json:
            line = json.dumps(
                {
                    "scheme": scheme.name,
                    "available": scheme.available,
                    "lists": has_lister(f"{scheme.name}:"),
                    "what": scheme.summary,
                    "package": scheme.package,
                    "needs": scheme.missing,
                }
            )
        else:
            place = "" if scheme.package == "getm" else f" ({scheme.package})"
            state = "" if scheme.available else "not available: "
            missing = "" if scheme.missing is None else f" [{state}{scheme.missing}]"
            line = f"{scheme.prefix:{width}}  {scheme.summary}{place}{missing}"
        if sys.stdout is not None:
            sys.stdout.write(f"{line}\n")
    return EXIT_OK


def build_parser() -> Parser:
    """The parser of `getm sources`."""
    parser = Parser(
        prog="getm sources",
        usage="getm sources [--json]",
        description="List the schemes of names that getm can download from, and what each needs.",
        epilog=_EPILOG,
    )
    parser.add_argument("--json", action="store_true", help="a JSON object for each on a line")
    parser.add_argument(JSON_ERRORS, **json_errors())
    return parser
