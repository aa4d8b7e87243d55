"""Reads arguments. Wrong ones raise `InvalidInput`, as every other failure raises an error of getm."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from getm.core.redact import redact, redact_text
from getm.core.validate import MAX_INTEGER, MAX_NUMBER
from getm.errors import InvalidInput

_SUFFIXES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?", re.IGNORECASE)


class Once(argparse.Action):
    """Stores a value, or its `const` where it takes none, and refuses a second one: of two lists or two targets one
    would be dropped silently."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        # A default may be set: only the command line counts.
        given: set[str] = namespace.__dict__.setdefault("given_once", set())
        if self.dest in given:
            of = "" if self.const is None else f" (or --{self.dest}, for which it stands)"
            parser.error(f"{'/'.join(self.option_strings)}{of} is given twice")
        given.add(self.dest)
        setattr(namespace, self.dest, values if self.const is None else self.const)


def short_form(of: str, value: str, help: str) -> dict[str, Any]:
    """What an option is that stands for another one with a value."""
    return {"action": Once, "nargs": 0, "const": value, "dest": of, "help": f"{help}: --{of}={value}"}


def json_errors() -> dict[str, Any]:
    """What the option --json-errors is; `getm.cli.output.errors` acts on it."""
    return {"action": "store_true", "help": "errors as JSON on a terminal as well, as they are everywhere else"}


def number(
    low: int, high: int | None = None, default: int | str | None = None, *, auto: bool = False
) -> dict[str, Any]:
    """What an option takes that is a whole number from `low` to `high`, both included; `auto`: or the word "auto"."""

    def parse(text: str) -> int | str:
        if auto and text == "auto":
            return text
        limits = f"{low} or more" if high is None else f"a number from {low} to {high}"
        limits += ", or auto" if auto else ""
        try:
            given = int(text)
        except ValueError:
            kind = "int or auto" if auto else "int"
            raise argparse.ArgumentTypeError(f"invalid {kind} value: {text!r}; must be {limits}") from None
        if given < low or (high is not None and given > high):
            raise argparse.ArgumentTypeError(f"must be {limits}, not {given}")
        return given

    return {"type": parse, "metavar": "N", "default": default}


def amount(low: int, high: float = MAX_INTEGER, default: float | None = None) -> dict[str, Any]:
    """What an option takes that is bytes from `low` to `high`, with the suffixes K, M, G and T for powers of 1024, as
    curl, wget and aria2 have."""

    def parse(text: str) -> int:
        match = _AMOUNT.fullmatch(text)
        count = float(match[1]) * _SUFFIXES[match[2].lower()] if match else -1.0
        if not low <= count <= high:
            limits = f"from {low} to {high:.0f}, like 500K, 20M or 1048576"
            raise argparse.ArgumentTypeError(f"must be an amount of bytes {limits}, not {text[:40]!r}")
        return int(count)

    return {"type": parse, "metavar": "BYTES", "default": default}


def seconds(text: str) -> float:
    """A time above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= MAX_NUMBER:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text[:40]!r}")
    return number


def existing(text: str) -> str:
    """A file or folder that exists."""
    if not Path(text).exists():
        raise argparse.ArgumentTypeError(f"there is no file or folder {text!r}")
    return text


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps line breaks, and names the value of an option once, as Python 3.13 does: "-o, -O, --filepath FILE"."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that raises `InvalidInput`, keeps line breaks in its epilog and knows no abbreviations."""

    def __init__(self, **texts: Any) -> None:
        # argparse makes formatters even where no help is wanted, and would ask for the terminal's width.
        self._width: int | None = 80
        # An abbreviation in a script would break with the next option.
        super().__init__(**texts, formatter_class=self._formatter, allow_abbrev=False)

    def _formatter(self, prog: str) -> argparse.HelpFormatter:
        return _Formatter(prog, max_help_position=30, width=self._width)

    def format_help(self) -> str:
        self._width = None
        return super().format_help()

    def option(self, name: str) -> argparse.Action | None:
        """The option --NAME; None where there is none."""
        return self._option_string_actions.get(f"--{name}")

    def long_names(self) -> set[str]:
        """The names of all options, without the hyphens in front."""
        return {option[2:] for option in self._option_string_actions if option.startswith("--")}

    def error(self, message: str) -> NoReturn:
        # A value may be a URL, where the one that was meant was left out.
        raise InvalidInput(f"{redact_text(message)}; see {self.prog} --help")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The options and operands, in any order. Raises `InvalidInput`."""
        # Because of -4 and -6, "-x -1" would lack its value, and its error would not say what is wrong with it.
        self._has_negative_number_optionals.clear()
        options, unknown = self.parse_known_intermixed_args(arguments)
        if unknown:
            self.refuse([argument for argument in unknown if argument.startswith("-")])
        return options

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Raise `InvalidInput` for options that are not known; without any, for operands that are too many."""
        from getm.cli.suggestions import unknown_options

        if not unknown:
            self.error("too many operands")
        raise InvalidInput(unknown_options(unknown, self._option_string_actions, self.prog))


def refuse_urls(operands: Sequence[str]) -> None:
    """Raise `InvalidInput` where an operand that must be a file is a URL, before a message quotes it with its query."""
    for operand in operands:
        if operand.lower().startswith(("http://", "https://")):
            raise InvalidInput(
                "expected a file, got a URL: getm URL --checksum ALG:VALUE downloads and verifies in one go",
                url=redact(operand),
            )
