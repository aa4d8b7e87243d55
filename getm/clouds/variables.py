"""Variables of the environment that say how a cloud is used."""

from __future__ import annotations

import os

ABSENT_S = 30
"""For how long credentials that were not found are not looked for again: somebody may log in."""


def chosen(given: bool | None, variable: str, values: tuple[str, ...] = ("1", "yes", "true")) -> bool:
    """What was given, or else whether that variable has one of these values."""
    return os.environ.get(variable, "").lower() in values if given is None else given


def snapshot(prefixes: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The variables whose names begin so, as they are now: a program may change them, and with them what was found."""
    return tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith(prefixes)))
