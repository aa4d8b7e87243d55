"""`getm completion SHELL`: the script by which the shell completes getm's options.

The scripts are data: dev_scripts/generate.py makes them of the parsers, and a test finds those that are out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from getm.cli.exit_status import EXIT_OK
from getm.cli.parser import Parser

SHELLS = ("bash", "zsh", "fish")

_EPILOG = """\
examples:
  source <(getm completion bash)                  # in ~/.bashrc
  eval "$(getm completion zsh)"                   # in ~/.zshrc, after compinit
  getm completion fish > ~/.config/fish/completions/getm.fish
"""


def main(arguments: Sequence[str]) -> int:
    """Run `getm completion` with `arguments` and return its exit status; raises what getm raises."""
    options = build_parser().parse(arguments)
    if sys.stdout is not None:
        sys.stdout.write((Path(__file__).parent / "completions" / f"getm.{options.shell}").read_text())
    return EXIT_OK


def build_parser() -> Parser:
    """The parser of `getm completion`."""
    parser = Parser(
        prog="getm completion",
        usage="getm completion bash|zsh|fish",
        description="Print a script by which a shell completes getm's options.",
        epilog=_EPILOG,
    )
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")
    return parser
