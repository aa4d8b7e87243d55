"""Problems in a list of downloads, with their places: collected first, reported all at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from getm.errors import InvalidInput

_SHOWN = 20


class Problem(Exception):
    """Something that cannot be used, at a place in the list: "line 7", "entry 3 (counted from 0)", or "" for the whole.

    Readers yield one and continue with the next entry; they raise one where nothing after it can be read. `url` is
    redacted, as in `InvalidInput`.
    """

    def __init__(self, place: str, reason: str, url: str | None = None) -> None:
        super().__init__(place, reason)
        self.place = place
        self.reason = reason
        self.url = url

    @classmethod
    def of(cls, place: str, error: InvalidInput) -> Problem:
        return cls(place, error.message, error.url)

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}" if self.place else self.reason


_P = ParamSpec("_P")
_T = TypeVar("_T")


def attempt(place: str, make: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | Problem:
    """What `make` returns, or the problem that kept it from doing so."""
    try:
        return make(*args, **kwargs)
    except InvalidInput as error:
        return Problem.of(place, error)


def raise_all(list_name: str, problems: Sequence[Problem]) -> None:
    """Raise one InvalidInput with all `problems`, the first 20 in words; return where there are none."""
    if not problems:
        return
    if len(problems) == 1:
        raise InvalidInput(f"{list_name}: {problems[0]}", url=problems[0].url)
    lines = [f"{problem} [{problem.url}]" if problem.url else str(problem) for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"and {len(problems) - _SHOWN:,} more")
    raise InvalidInput("\n  ".join([f"{list_name} has {len(problems):,} problems:", *lines]))
