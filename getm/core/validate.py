"""Checks of single values that a caller gives. Each takes the name to use in its error: a parameter in Python, a flag
in the command. They return the plain type, whatever subclass or NumPy scalar they were given.
"""

from __future__ import annotations

import math
import numbers
import operator
import os
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from getm.errors import InvalidInput

# A timer takes so many seconds without overflow, and no connection brings so many bytes a second.
MAX_NUMBER = 1e9
MAX_INTEGER = 2**63 - 1

_Function = TypeVar("_Function", bound=Callable[..., Any])


def refuse(name: str, expected: str, value: object) -> NoReturn:
    """Raise `InvalidInput` for a value that is not what was expected."""
    try:
        shown = repr(value)
    except Exception:  # an object's own code, which may raise anything
        shown = f"a {type(value).__name__}"
    raise InvalidInput(f"{name} must be {expected}, not {shown if len(shown) <= 60 else f'{shown[:57]}...'}")


def validate_bool(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        refuse(name, "True or False", value)
    return value


def validate_integer(value: object, name: str, low: int, high: int = MAX_INTEGER, *, none: str = "") -> int:
    """`none`: what else may be given, for the message (" or None for ...")."""
    expected = f"a whole number from {low} {'on' if high == MAX_INTEGER else f'to {high}'}{none}"
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # what has no __index__ raises TypeError
    except TypeError:
        refuse(name, expected, value)
    if isinstance(value, bool) or not low <= number <= high:
        refuse(name, expected, value)
    return number


def validate_number(value: object, name: str, unit: str, low: float | None = None, *, none: str = "") -> float:
    """A finite number; above 0, or from `low` on. `none`: what else may be given, for the message."""
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, numbers.Real) else float(value)
    except (OverflowError, ValueError):
        number = math.nan
    if not ((number > 0 if low is None else number >= low) and number <= MAX_NUMBER):
        refuse(
            name,
            f"a {'positive number' if low is None else 'number'} of {unit}"
            f"{'' if low is None else f' from {low:g} on'}{none}",
            value,
        )
    return number


def validate_text(value: object, name: str) -> str:
    if not isinstance(value, str):
        refuse(name, "a str", value)
    return str.__str__(value)


def validate_path(value: str | os.PathLike[str], name: str) -> str:
    """A path that a file can have."""
    try:
        path = os.fspath(value)
    except TypeError:
        refuse(name, "a str or a path-like object", value)
    if not isinstance(path, str):
        refuse(name, "a str or a path-like object", value)
    path = str.__str__(path)
    try:
        usable = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        usable = False
    if not usable:
        refuse(name, "a path that a file can have, without NUL and lone surrogates", value)
    return path


def validate_callback(value: _Function | None, name: str) -> _Function | None:
    if value is not None and not callable(value):
        refuse(name, "a function or None", value)
    return value
