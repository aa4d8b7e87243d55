"""What the readers of lists yield: entries, and problems with their places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec

from getm.errors import InvalidInput, MissingExtra
from getm.manifests.entry import Entry

Item = Entry | InvalidInput | str
"""An entry; what is wrong with one, with its place (`located`); or the name of a column, key or option of the list that
is understood and not used. A reader raises InvalidInput where nothing after it can be read."""

_P = ParamSpec("_P")


def located(place: str, error: InvalidInput | MissingExtra) -> InvalidInput:
    """The error with its place in the list in front: "line 7", "entry 3 (counted from 0)"."""
    return InvalidInput(f"{place}: {error.message}", url=error.url)


def attempt(make: Callable[Concatenate[str, _P], Entry], place: str, *args: _P.args, **kwargs: _P.kwargs) -> Item:
    """The entry that `make(place, ...)` returns, or the problem that kept it from doing so."""
    try:
        return make(place, *args, **kwargs)
    except InvalidInput as error:
        return located(place, error)
