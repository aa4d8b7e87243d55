"""What is wrong with a list of downloads, and where: collected first, told all at once."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from getm.errors import InvalidInput

SHOWN = 20
"""So many problems are told one by one; of the rest, how many there are."""


class Problem(Exception):
    """Something that cannot be used, at a place in the list: "line 7", "entry 3 (counted from 0)", or "" for the whole.

    Readers yield one and go on with the next entry; they raise one where nothing after it can be read. `url` is
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


def tried(place: str, make: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | Problem:
    """What `make` makes, or the problem that kept it from doing so."""
    try:
        return make(*args, **kwargs)
    except InvalidInput as error:
        return Problem.of(place, error)


class Problems:
    """The first problems of a list in its order, and the number of all."""

    def __init__(self) -> None:
        self._first: list[tuple[int, Problem]] = []
        self._count = 0

    def add(self, number: int, problem: Problem) -> None:
        """`number` is the entry's, from 0: problems need not be added in their order."""
        self._count += 1
        bisect.insort(self._first, (number, problem), key=lambda pair: pair[0])
        del self._first[SHOWN:]

    def count_one_more(self) -> None:
        """A problem that is not told."""
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def raise_any(self, list_name: str) -> None:
        """Raise one InvalidInput that tells them all, if there are any."""
        if self._count == 1:
            ((_, problem),) = self._first
            raise InvalidInput(f"{list_name}: {problem}", url=problem.url)
        if self._count:
            lines = [f"{problem} [{problem.url}]" if problem.url else str(problem) for _, problem in self._first]
            if self._count > len(lines):
                lines.append(f"and {self._count - len(lines):,} more")
            raise InvalidInput("\n  ".join([f"{list_name} has {self._count:,} problems:", *lines]))
