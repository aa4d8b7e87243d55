"""Writes docs/getm.1 from the command's own parsers; with --check, only tells whether it is up to date.

python dev_scripts/man_page.py [--check]
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from getm._version import __version__
from getm.cli.schema import Command, Option, commands

PAGE = Path(__file__).parent.parent / "docs" / "getm.1"

_HEADING = re.compile(r"([a-z ]+):")
# Sections that tell of this machine, not of the command.
_LOCAL = ("algorithms here",)


def man_page() -> str:
    """The page, in the macros of man(7)."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    downloads, *words = commands()
    summary = downloads.description.partition(". ")[0]
    paragraphs, sections = _epilog(downloads)
    yield '.\\" Written by dev_scripts/man_page.py from the parsers of the command.'
    yield f'.TH GETM 1 "" "getm {__version__}" "User Commands"'
    # Neither hyphens that nobody wrote nor gaps.
    yield ".nh"
    yield ".ad l"
    yield ".SH NAME"
    yield f"getm \\- {_escaped(summary[0].lower() + summary[1:])}"
    yield ".SH SYNOPSIS"
    yield from _verbatim(line.strip() for line in downloads.usage.splitlines())
    yield ".SH DESCRIPTION"
    for number, paragraph in enumerate([downloads.description, *paragraphs]):
        if number:
            yield ".PP"
        yield from _text(paragraph)
    yield ".SH OPTIONS"
    for group in downloads.groups:
        yield f".SS {_escaped(_capital(group.title))}"
        for option in group.options:
            yield from _option(option)
    for command in words:
        yield f".SH GETM {command.word.upper()}"
        yield from _word(command)
    for title, lines in sections:
        yield f".SH {title.upper()}"
        yield from _verbatim(lines)


def _word(command: Command) -> Iterator[str]:
    paragraphs, sections = _epilog(command)
    yield from _verbatim(line.strip() for line in command.usage.splitlines())
    for paragraph in [command.description, *paragraphs]:
        yield ".PP"
        yield from _text(paragraph)
    for option in command.options:
        yield from _option(option)
    for title, lines in sections:
        yield f".SS {_capital(title)}"
        yield from _verbatim(lines)


def _epilog(command: Command) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Paragraphs, and sections: blocks that begin with a title in lower case and a colon, alone on its line or not."""
    paragraphs, sections = [], []
    for block in filter(None, command.epilog.strip().split("\n\n")):
        first, *rest = block.splitlines()
        heading = _HEADING.match(first)
        if heading is None:
            paragraphs.append(block)
        elif heading[1] not in _LOCAL:
            same_line = first[heading.end() :].strip()
            indent = min((len(line) - len(line.lstrip()) for line in rest), default=0)
            sections.append((heading[1], ([same_line] if same_line else []) + [line[indent:] for line in rest]))
    return paragraphs, sections


def _option(option: Option) -> Iterator[str]:
    yield ".TP"
    names = ", ".join(f"\\fB{_escaped(name)}\\fR" for name in option.names)
    yield names if option.value is None else f"{names} \\fI{_escaped(option.value.name)}\\fR"
    yield from _text(option.help)


def _text(paragraph: str) -> Iterator[str]:
    words = _escaped(" ".join(paragraph.split()))
    # Short lines, since tools for mail cut long ones; one may not begin as a request does.
    for line in textwrap.wrap(words, 76, break_long_words=False, break_on_hyphens=False):
        yield f"\\&{line}" if line.startswith((".", "'")) else line


def _verbatim(lines: Iterator[str] | list[str]) -> Iterator[str]:
    yield ".nf"
    for line in lines:
        yield f"\\&{_escaped(line)}" if line.startswith((".", "'")) else _escaped(line)
    yield ".fi"


def _escaped(text: str) -> str:
    """Text for roff: no escapes, and hyphens that can be searched for and copied."""
    return text.replace("\\", "\\e").replace("-", "\\-")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def main(arguments: list[str]) -> int:
    page = man_page()
    if arguments != ["--check"]:
        PAGE.write_text(page)
        return 0
    if PAGE.exists() and PAGE.read_text() == page:
        return 0
    print(f"{PAGE} is not up to date: run python dev_scripts/man_page.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
