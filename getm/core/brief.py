"""Values on one line of less than 100 characters, for notebooks and logs: their attributes have the rest."""

from __future__ import annotations

import os
from collections.abc import Sized

from msgspec import NODEFAULT, Struct

_LINE = 99
_MOST_OF_A_TEXT, _MOST_OF_A_FIELD = 32, 64


def cut(text: str, width: int = _LINE) -> str:
    """The beginning of `text` where it is longer than `width`."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


def brief_repr(value: Struct) -> str:
    """A struct by those of its fields that say anything: that are not None, nor their defaults, nor empty. Of a path it
    is the name."""
    fields = value.__struct_fields__
    defaults = (*[NODEFAULT] * (len(fields) - len(value.__struct_defaults__)), *value.__struct_defaults__)
    parts = []
    for name, default in zip(fields, defaults, strict=True):
        content = getattr(value, name)
        if content is None or content == default or (isinstance(content, Sized) and not content):
            continue
        parts.append(f"{name}={_shown(content)}")
    return cut(f"{type(value).__name__}({', '.join(parts)}", _LINE - 1) + ")"


def _shown(content: object) -> str:
    if isinstance(content, os.PathLike):
        content = os.path.basename(content)  # noqa: PTH119 - as text
    most = _MOST_OF_A_TEXT if isinstance(content, str) else _MOST_OF_A_FIELD
    return cut(repr(round(content, 3) if isinstance(content, float) else content), most)
