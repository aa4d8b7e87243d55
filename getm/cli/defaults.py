"""Defaults of the download command's options: from variables (GETM_LIMIT_RATE) and a file (`limit-rate = "20M"`).

What is given on the command line comes first, then the variables, then the file, then what the command itself has.
Where an option may be repeated, all count; of headers of one name those that come first in this order.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from getm.cli.parser import Parser
from getm.errors import InvalidInput

PREFIX = "GETM_"
_CONFIG = "--config"
# What names one piece of work is no default for others.
NOT_A_DEFAULT = frozenset(
    (
        *("help", "version", "config", "filepath", "manifest", "format", "base-url", "columns"),
        *("checksum", "checksum-algorithm", "dry-run", "recursive", "include", "exclude"),
    )
)
# Variables with the prefix that are no options: those of other modules, and those that a command of --on-complete gets.
OTHER_VARIABLES = frozenset(
    (
        "GETM_CONFIG",
        "GETM_SHARED_MEMORY",
        "GETM_HOST_TABLE",
        "GETM_DRS_ACCESS",
        "GETM_PATH",
        "GETM_SIZE",
        "GETM_CHECKSUM",
    )
)
_ON, _OFF = ("1", "true", "yes", "on"), ("0", "false", "no", "off")

_Headers = list[tuple[str, str]]


class _Given(NamedTuple):
    """A default that is given for an option, and where: for messages."""

    place: str
    name: str
    value: Any


def parse(parser: Parser, arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> argparse.Namespace:
    """The options and operands of the command line, with these defaults. `unknown_variables` of the options: names of
    variables with the prefix that are none of getm's. Others may use such names as well: no reason to fail.

    Raises:
        InvalidInput: Of either; for a default with its file and line, or its variable.
    """
    config = _config_in(arguments) or environment.get("GETM_CONFIG")
    unknown: list[str] = []
    levels = [[] if not config else list(_in_file(config)), list(_in_variables(parser, environment, unknown))]
    built_in = vars(parser.parse([])) if any(levels) else {}
    headers: _Headers = []
    for level in levels:
        for given in level:
            _set(parser, given, built_in)
        headers = _replaced(headers, parser.get_default("header")[len(headers) :])
        parser.set_defaults(header=headers)
    options = parser.parse(arguments)
    options.header = _replaced(headers, options.header[len(headers) :])
    options.config, options.unknown_variables = config, unknown
    return options


def _config_in(arguments: Sequence[str]) -> str | None:
    """The file that the command line names: known before the options are read, which happens once."""
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == _CONFIG:
            return value if equals else "".join(arguments[number + 1 : number + 2]) or None
    return None


# Where defaults are given ---------------------------------------------------------------------------------------------


def _in_variables(parser: Parser, environment: Mapping[str, str], unknown: list[str]) -> Iterator[_Given]:
    for variable, value in environment.items():
        # An empty one is as one that is not set.
        if not variable.startswith(PREFIX) or not value or variable in OTHER_VARIABLES:
            continue
        name = variable.removeprefix(PREFIX).lower().replace("_", "-")
        action = parser.option(name)
        if action is None or name in NOT_A_DEFAULT:
            unknown.append(variable)
        elif action.nargs == 0:
            yield _Given(variable, name, _switch(variable, value))
        else:
            # Several headers are several lines.
            yield _Given(variable, name, value.splitlines() if name == "header" else value)


def _switch(variable: str, value: str) -> int:
    if value.lower() in (*_ON, *_OFF):
        return int(value.lower() in _ON)
    if value.isascii() and value.isdecimal():
        return int(value)
    raise InvalidInput(f"{variable}: expected 1 or 0, got {value[:40]!r}")


def _in_file(path: str) -> Iterator[_Given]:
    """What a TOML file says: a key for each option, without its hyphens in front. Raises `InvalidInput`."""
    # Needed by few.
    import tomllib

    from getm.manifests.document import Document

    document = Document.read(os.path.expanduser(path), "configuration")  # noqa: PTH111
    try:
        values = tomllib.loads(document.text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+)", str(error))
        line = found[1] if found else len(document.text.splitlines())
        raise InvalidInput(f"{document.name}:{line}: this is no TOML ({error})") from None
    for name, value in values.items():
        yield _Given(f"{document.name}:{_line_of(name, document.text)}", name, value)


def _line_of(name: str, text: str) -> int:
    """Where a key is: `tomllib` does not tell. The first lines that are a document and have it end with its value."""
    import tomllib

    lines = text.splitlines(keepends=True)
    for count in range(1, len(lines)):
        try:
            if name in tomllib.loads("".join(lines[:count])):
                return count
        except tomllib.TOMLDecodeError:
            # Within a value of several lines.
            continue
    return len(lines)


# Setting them --------------------------------------------------------------------------------------------------------


def _set(parser: Parser, given: _Given, built_in: Mapping[str, Any]) -> None:
    """Make what is given the parser's default, in place of what is `built_in`. Raises `InvalidInput`."""
    action = parser.option(given.name)
    if action is None or given.name in NOT_A_DEFAULT:
        raise InvalidInput(f"{given.place}: {_unknown(given.name, parser)}")
    usual = built_in[action.dest]
    arguments = list(_arguments(action, given, repeatable=isinstance(usual, list)))
    if not arguments and action.const is not None and parser.get_default(action.dest) != action.const:
        # Another option of the same meaning is on: -4 where this is -6.
        return
    try:
        value = getattr(parser.parse(arguments), action.dest) if arguments else usual
    except InvalidInput as error:
        raise InvalidInput(f"{given.place}: {error.message}") from None
    parser.set_defaults(**{action.dest: value})


def _arguments(action: argparse.Action, given: _Given, *, repeatable: bool) -> Iterable[str]:
    """The arguments that would say the same on the command line."""
    option, value = f"--{given.name}", given.value
    if action.nargs == 0:
        if not isinstance(value, int) or value < 0:
            raise InvalidInput(f"{given.place}: {given.name} is true or false")
        return [option] * value
    values = value if isinstance(value, list) else [value]
    if len(values) != 1 and not repeatable:
        raise InvalidInput(f"{given.place}: {given.name} has one value")
    if not all(isinstance(each, str | int | float) and not isinstance(each, bool) for each in values):
        raise InvalidInput(f"{given.place}: {given.name} is a text or a number")
    # No shell has done that.
    is_path = action.metavar in ("FILE", "DIR")
    return [f"{option}={os.path.expanduser(str(each)) if is_path else each}" for each in values]  # noqa: PTH111


def _unknown(name: str, parser: Parser) -> str:
    # Needed by few.
    from difflib import get_close_matches

    if name in NOT_A_DEFAULT:
        return f"{name} says what to do, which has no default; give it on the command line"
    close = get_close_matches(name.replace("_", "-"), parser.long_names() - NOT_A_DEFAULT, 1)
    return f"there is no option {name!r}" + (f"; did you mean {close[0]!r}?" if close else "; see getm --help")


def _replaced(lower: _Headers, higher: _Headers) -> _Headers:
    """`lower` without those of a name in `higher`, and these."""
    names = {name.lower() for name, _ in higher}
    return [*(pair for pair in lower if pair[0].lower() not in names), *higher]
