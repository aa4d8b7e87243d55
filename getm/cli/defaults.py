"""Defaults of options: from variables (GETM_LIMIT_RATE) and a file (`limit-rate = "20M"`).

What is given on the command line comes first, then the variables, then the file, then what the command itself has.
Where an option may be repeated, all count; of headers of one name those that come first in this order. Downloads have
all of them; other commands those that say how requests are made.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from getm.cli.parser import Parser
from getm.errors import InvalidInput
from getm.options import override_headers

PREFIX = "GETM_"
_CONFIG, _NO_CONFIG = "--config", "--no-config"
# What names one piece of work is no default for others.
NOT_A_DEFAULT = frozenset(
    (
        *("help", "version", "config", "no-config", "filepath", "manifest", "format", "base-url", "columns"),
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

# Their values are tokens or headers, or "@FILE".
_SEVERAL_LINES = frozenset({"header", "bearer"})

_Headers = list[tuple[str, str]]


class _Given(NamedTuple):
    """A default that is given for an option, and where: for messages."""

    place: str
    name: str
    value: Any


def parse(
    parser: Parser,
    arguments: Sequence[str],
    environment: Mapping[str, str] = os.environ,
    *,
    only: Parser | None = None,
) -> argparse.Namespace:
    """The options and operands of the command line, with these defaults.

    Args:
        parser: Of the command.
        arguments: The command line.
        environment: Variables.
        only: Has the options that have defaults (`session_parser()`), and nothing else; None: all of `parser` have.

    Returns:
        The options; `config` is the file, None where there is none, and `exposed_config` the same where it has secrets.
        `unknown_variables`: names of variables with the prefix that are none of getm's. Others may use such names as
        well: no reason to fail.

    Raises:
        InvalidInput: For a default with its file and line, or its variable.
    """
    defaults = Defaults(parser, arguments, environment, only=only)
    return defaults.applied(parser.parse(arguments))


class Defaults:
    """Makes what is given elsewhere the defaults of `parser`. The arguments are those of `parse`."""

    def __init__(
        self,
        parser: Parser,
        arguments: Sequence[str],
        environment: Mapping[str, str] = os.environ,
        *,
        only: Parser | None = None,
    ) -> None:
        self._is_download = only is None
        self._config = _config_for(arguments, environment)
        self._unknown: list[str] = []
        self._has_secrets = False
        # What reads them: a command of another kind wants operands, and has fewer of these options, or more.
        reader = only or parser
        levels = [
            [] if self._config is None else list(self._in_file(reader, self._config)),
            list(self._in_variables(reader, environment)),
        ]
        built_in = vars(reader.parse([])) if any(levels) else {}
        self._headers: _Headers = []
        for level in levels:
            for given in level:
                _set(reader, given, built_in)
            self._headers = self._overridden(reader.get_default("header"))
            reader.set_defaults(header=self._headers)
        if reader is not parser:
            own = {name: reader.get_default(name) for name in built_in}
            parser.set_defaults(**{name: value for name, value in own.items() if value != built_in[name]})

    def applied(self, options: argparse.Namespace) -> argparse.Namespace:
        """What the parser has made of the arguments, with what it cannot know."""
        options.header = self._overridden(options.header)
        options.config, options.unknown_variables = self._config, self._unknown
        options.exposed_config = self._config if self._has_secrets else None
        return options

    def _overridden(self, headers: _Headers) -> _Headers:
        """Those so far, which `headers` begins with, and the others of it in place of those of the same names."""
        return list(override_headers(self._headers, headers[len(self._headers) :]))

    def _in_file(self, reader: Parser, path: str) -> Iterator[_Given]:
        for given in _in_file(path):
            self._has_secrets = self._has_secrets or _is_secret(given)
            if self._is_meant(given.name, reader, given.place):
                yield given

    def _in_variables(self, reader: Parser, environment: Mapping[str, str]) -> Iterator[_Given]:
        for variable, value in environment.items():
            # An empty one is as one that is not set.
            if not variable.startswith(PREFIX) or not value or variable in OTHER_VARIABLES:
                continue
            name = variable.removeprefix(PREFIX).lower().replace("_", "-")
            action = reader.option(name)
            if action is None or name in NOT_A_DEFAULT:
                self._unknown.append(variable)
            elif action.nargs == 0:
                yield _Given(variable, name, _switch(variable, value))
            else:
                # Several headers, or tokens, are several lines.
                yield _Given(variable, name, value.splitlines() if name in _SEVERAL_LINES else value)

    def _is_meant(self, name: str, reader: Parser, place: str) -> bool:
        """Whether the file has that default for this command, and not for downloads only. Raises `InvalidInput`."""
        if self._is_download or reader.option(name) is not None:
            return True
        # Needed by few.
        from getm.cli.options import build_parser

        _require(name, build_parser(), place)
        return False


def _config_for(arguments: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """The file that the command line names, or else the variable, or else the user's own where it is there. Known
    before the options are read, which happens once. Raises `InvalidInput`."""
    named = None
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == _CONFIG:
            named = value if equals else "".join(arguments[number + 1 : number + 2]) or None
            break
    if _NO_CONFIG in arguments:
        if named is not None:
            raise InvalidInput(f"{_CONFIG} names a file, and {_NO_CONFIG} wants none: leave one of them out")
        return None
    if found := named or environment.get("GETM_CONFIG"):
        return found
    folder = environment.get("XDG_CONFIG_HOME", "")
    # A relative one is to be ignored (XDG Base Directory Specification).
    if not os.path.isabs(folder):  # noqa: PTH117
        folder = os.path.expanduser("~/.config")  # noqa: PTH111 - there may be no home
    path = os.path.join(folder, "getm", "config.toml")  # noqa: PTH118
    return path if os.path.exists(path) else None  # noqa: PTH110


# Where defaults are given ---------------------------------------------------------------------------------------------


def _is_secret(given: _Given) -> bool:
    """Whether what a file gives may be a secret, and not a reference to one."""
    values = given.value if isinstance(given.value, list) else [given.value]
    texts = [value for value in values if isinstance(value, str)]
    if given.name in _SEVERAL_LINES:
        return any(not text.rpartition("=")[2].startswith("@") for text in texts)
    return given.name == "proxy" and any("@" in text for text in texts)


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
    action = _require(given.name, parser, given.place)
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


def _require(name: str, parser: Parser, place: str) -> argparse.Action:
    """The option of a default. Raises `InvalidInput` where there is none."""
    action = parser.option(name)
    if action is None or name in NOT_A_DEFAULT:
        raise InvalidInput(f"{place}: {_unknown(name, parser)}")
    return action


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
