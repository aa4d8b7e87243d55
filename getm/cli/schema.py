"""The words of the command and their parsers, as data: what completion and the man page are made from.

Nothing here knows a single option. What can stand behind one is read from the parser: its `choices`, or its metavar,
where FILE and MANIFEST are files, DIR is a folder and ALG a checksum algorithm.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from getm.cli import completion, demo, hash, options, verify
from getm.integrity import available_algorithms


class Kind(Enum):
    """What a value is, for a shell that completes it."""

    FILE = "file"
    FOLDER = "folder"
    WORD = "word"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Value:
    """What stands behind an option, or is an operand: `name` is its metavar, `words` all that a `Kind.WORD` can be."""

    name: str
    kind: Kind
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """`names` as they are written ("-o", "--filepath"); `value` None: it has none; `repeatable`: it may come again."""

    names: tuple[str, ...]
    help: str
    value: Value | None
    repeatable: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Options that belong together, under their title."""

    title: str
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """`word`: what stands behind "getm"; empty for downloads, which have none. `usage` and `epilog` as in the help."""

    word: str
    description: str
    usage: str
    epilog: str
    groups: tuple[Group, ...]
    operand: Value | None

    @property
    def options(self) -> Iterator[Option]:
        """All options, in the order of the help."""
        for group in self.groups:
            yield from group.options


def commands() -> tuple[Command, ...]:
    """All of them: downloads first, then the words."""
    parsers = (
        ("", options.build_parser()),
        ("verify", verify.build_parser()),
        ("hash", hash.build_parser()),
        ("completion", completion.build_parser()),
        ("demo", demo.build_parser()),
    )
    return tuple(_command(word, parser) for word, parser in parsers)


def _command(word: str, parser: argparse.ArgumentParser) -> Command:
    groups, operand = [], None
    # argparse tells its groups and their actions by no public name, and has kept these since Python 2.7.
    for group in parser._action_groups:
        options = []
        for action in group._group_actions:
            if action.option_strings:
                options.append(_option(parser, action))
            else:
                operand = _value(action)
        if options:
            groups.append(Group(group.title or "", tuple(options)))
    return Command(word, parser.description or "", parser.usage or "", parser.epilog or "", tuple(groups), operand)


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> Option:
    repeatable = isinstance(action, argparse._AppendAction | argparse._CountAction)
    # argparse's own way of writing help: "%%", "%(default)s".
    text = (action.help or "") % {**vars(action), "prog": parser.prog}
    return Option(tuple(action.option_strings), text, None if action.nargs == 0 else _value(action), repeatable)


def _value(action: argparse.Action) -> Value:
    name = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.choices is not None:
        return Value(name, Kind.WORD, tuple(map(str, action.choices)))
    if name == "ALG":
        return Value(name, Kind.WORD, available_algorithms())
    parts = re.findall(r"[A-Z]+", name)
    kind = Kind.FOLDER if "DIR" in parts else Kind.FILE if {"FILE", "MANIFEST"} & set(parts) else Kind.OTHER
    return Value(name, kind)
