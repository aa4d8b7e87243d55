"""Writes what is made of the command's parsers: the man page (by argparse-manpage) and the completion scripts (by
shtab). With --check, only says what is not up to date.

python dev_scripts/generate.py [--check]
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import shtab
from argparse_manpage.manpage import Manpage

from getm._version import __version__
from getm.cli import completion, demo, hash, help, ls, options, report, run, serve, sources, verify
from getm.integrity.algorithms import available_algorithms

ROOT = Path(__file__).parent.parent
_WORDS: dict[str, Any] = {
    "ls": ls,
    "run": run,
    "serve": serve,
    "verify": verify,
    "hash": hash,
    "report": report,
    "sources": sources,
    "completion": completion,
    "demo": demo,
    "help": help,
}

_HEADING = re.compile(r"([a-z ]+):(.*)", re.DOTALL)
# A section that tells of this machine, not of the command.
_LOCAL = "algorithms here"

# Sections of the man page that are topics of "getm help".
_TOPICS = {"exit status": "exit-status", "environment": "environment", "files": "files"}


def generated() -> dict[Path, str]:
    """Each file that is generated, and its content."""
    scripts = {ROOT / "getm" / "cli" / "completions" / f"getm.{shell}": script(shell) for shell in completion.SHELLS}
    return {ROOT / "docs" / "getm.1": man_page(), **scripts}


def root_parser() -> argparse.ArgumentParser:
    """The parser of downloads with the other commands as subparsers, which the command itself has not: a word there is
    chosen before anything is imported."""
    root = options.build_parser()
    (operands,) = (action for action in root._actions if not action.option_strings)
    root._remove_action(operands)
    for group in root._action_groups:
        group._group_actions = [action for action in group._group_actions if action is not operands]
    commands = root.add_subparsers(title="commands", parser_class=argparse.ArgumentParser)
    for word, module in _WORDS.items():
        parser = module.build_parser()
        description = "\n\n".join([parser.description, *_paragraphs(parser.epilog)])
        summary = parser.description.partition(".")[0]
        commands.add_parser(
            word, parents=[parser], add_help=False, usage=parser.usage, description=description, help=summary
        )
    return root


# Completion ----------------------------------------------------------------------------------------------------------


def script(shell: str) -> str:
    """The completion script for `shell`. What stands behind an option follows from its metavar."""
    root = root_parser()
    commands = (action.choices for action in root._actions if isinstance(action.choices, dict))
    for parser in (root, *next(commands).values()):
        for action in parser._actions:
            metavar = action.metavar if isinstance(action.metavar, str) else ""
            if metavar == "ALG":
                action.choices = available_algorithms()
            elif metavar == "TOPIC":
                action.choices = (*help.TOPICS, *help.COMMANDS)
            elif "DIR" in metavar:
                action.complete = shtab.DIRECTORY
            elif "FILE" in metavar:
                action.complete = shtab.FILE
    # Where nothing else fits, as behind a URL, the names of files do.
    return shtab.complete(root, shell).replace("complete -o bashdefault ", "complete -o bashdefault -o default ")


# The man page --------------------------------------------------------------------------------------------------------


def man_page() -> str:
    root = root_parser()
    epilog, root.epilog = root.epilog or "", None
    root.description = "\n\n".join([root.description or "", *_paragraphs(epilog)])
    page = Manpage(root, format="single-commands-section")
    page.date, page.source, page.manual = "", f"getm {__version__}", "User Commands"
    page.description = "download files over HTTP, checked against their checksums"
    sections = dict(_sections(epilog))
    for module in _WORDS.values():
        sections["examples"] += "\n" + dict(_sections(module.build_parser().epilog)).get("examples", "")
    synopsis = "\n".join(line.strip() for line in (root.usage or "").splitlines())
    topics = {title: help.read_topic(name).partition("\n\n")[2].rstrip() for title, name in _TOPICS.items()}
    for title, text in {"synopsis": synopsis, **topics, **sections}.items():
        page.add_section(title, "=", f".nf\n{_roff(text)}\n.fi")
    return f'.\\" Written by dev_scripts/generate.py from the parsers of the command.\n{page}'


def _blocks(epilog: str | None) -> Iterator[tuple[re.Match[str] | None, str]]:
    for block in (epilog or "").strip().split("\n\n"):
        yield _HEADING.match(block), block


def _paragraphs(epilog: str | None) -> list[str]:
    return [block for heading, block in _blocks(epilog) if heading is None]


def _sections(epilog: str | None) -> list[tuple[str, str]]:
    """Blocks that begin with a title in lower case and a colon."""
    return [(heading[1], heading[2].strip("\n")) for heading, _ in _blocks(epilog) if heading and heading[1] != _LOCAL]


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"(?m)^(?=[.'])", r"\\&", escaped)


def main(arguments: list[str]) -> int:
    stale = [path for path, text in generated().items() if not path.exists() or path.read_text() != text]
    if arguments == ["--check"]:
        for path in stale:
            print(f"{path} is not up to date: run python dev_scripts/generate.py", file=sys.stderr)
        return 1 if stale else 0
    for path, text in generated().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
