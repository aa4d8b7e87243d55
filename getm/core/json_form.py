"""Fields whose types JSON lacks, in structs that msgspec writes by itself.

Such a field is kept in a form that msgspec knows, a text in place of a path, and read in the type that its class
declares. So `msgspec.json.encode(value)` needs no hook, and the fields of the value are what they are.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import msgspec

from getm.core.url_path import as_path

Json = str | int | float | bool | None | dict[str, "Json"] | list["Json"]

_S = TypeVar("_S", bound=msgspec.Struct)


class Form(NamedTuple):
    """How a field is kept: as the type `kept`, made by `write` and read by `read`."""

    kept: type
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


class Described(dict[str, Any]):
    """What JSON says of a `value`, and the value itself."""

    def __init__(self, value: object, facts: Mapping[str, Any]) -> None:
        super().__init__(facts)
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return Described, (self.value, dict(self))

    def __hash__(self) -> int:  # type: ignore[override]  # that of the frozen struct whose field it is
        return hash(frozenset(self.items()))


PATH = Form(str, os.fspath, as_path)
HEADERS = Form(Described, lambda headers: Described(headers, dict(headers)), attrgetter("value"))
ERROR = Form(Described, lambda error: Described(error, error.to_json()), attrgetter("value"))


# Of each such struct: where it has the field, a descriptor of C, which works for a frozen struct as well.
_FORMS: dict[type[msgspec.Struct], tuple[tuple[Any, Form], ...]] = {}


def keeping(**forms: Form) -> Callable[[type[_S]], type[_S]]:
    """A decorator for a struct, whose `__post_init__` must call `keep`. `forms`: of its fields; None stays None."""

    def decorate(cls: type[_S]) -> type[_S]:
        members = []
        for name, form in forms.items():
            member = vars(cls)[name]
            members.append((member, form))
            setattr(cls, name, property(functools.partial(_read, member, form)))
        _FORMS[cls] = tuple(members)
        return cls

    return decorate


def keep(value: msgspec.Struct) -> None:
    """Have the fields of a struct in their forms; those of a copy are already."""
    for member, form in _FORMS[type(value)]:
        given = member.__get__(value)
        if given is not None and type(given) is not form.kept:
            member.__set__(value, form.write(given))


def _read(member: Any, form: Form, value: msgspec.Struct) -> Any:
    kept = member.__get__(value)
    return None if kept is None else form.read(kept)
