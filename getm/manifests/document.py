"""A file that is read whole, such as a list: its bytes, and its text."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from msgspec import Struct

from getm.core.text import decode_text
from getm.errors import InvalidInput

# More would fill the memory: a million signed URLs take half of it.
_MAX_BYTES = 1024**3


class Document(Struct, frozen=True, dict=True):
    """`path` is None for standard input; `name` is for messages."""

    path: Path | None
    name: str
    data: bytes

    @classmethod
    def read(cls, path: str | os.PathLike[str], what: str = "list") -> Document:
        """Read the file `path`, "-" for standard input. `what` it should be is for messages.

        Raises:
            InvalidInput: It cannot be read, or is too large.
        """
        where = None if os.fspath(path) == "-" else Path(path)
        name = "standard input" if where is None else str(where)
        try:
            if where is not None:
                with where.open("rb") as file:
                    data = file.read(_MAX_BYTES + 1)
            elif sys.stdin is None:
                raise ValueError("it is closed")
            else:
                data = sys.stdin.buffer.read(_MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise InvalidInput(f"The {what} {name} cannot be read: {reason}.") from error
        if len(data) > _MAX_BYTES:
            raise InvalidInput(f"{name} has more than {_MAX_BYTES:,} bytes, which no {what} has")
        return cls(where, name, data)

    @cached_property
    def text(self) -> str:
        """The text (see `decode_text`). Raises InvalidInput."""
        return decode_text(self.data)

    def lines(self) -> Iterator[tuple[int, str]]:
        """All lines with their numbers from 1, without line ends. Raises InvalidInput."""
        # One after another: a list may have a million.
        text, start, number = self.text.removesuffix("\n"), 0, 1
        while (stop := text.find("\n", start)) >= 0:
            yield number, text[start:stop].removesuffix("\r")
            start, number = stop + 1, number + 1
        yield number, text[start:].removesuffix("\r")
