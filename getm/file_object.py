"""A reader as the file object that other libraries take: buffered bytes, or text."""

from __future__ import annotations

import codecs
import io
import operator
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from getm.client.read_ahead import MIN_BYTES
from getm.errors import InvalidInput
from getm.reader import Reader

# So many bytes are requested at first, before it is known how the object is read.
FIRST_BYTES = MIN_BYTES


def wrapping(
    mode: str, encoding: str | None, errors: str | None, newline: str | None
) -> Callable[[Reader], io.BufferedReader[Reader] | io.TextIOWrapper]:
    """What `getm.open` makes of a reader. Raises `InvalidInput` for what the built-in `open` refuses, and for other
    modes than reading."""
    if not isinstance(mode, str) or mode not in ("rb", "r", "rt"):
        raise InvalidInput(f'mode must be "rb", "r" or "rt", since a URL can only be read, not {mode!r}')
    if mode == "rb":
        for name, value in (("encoding", encoding), ("errors", errors), ("newline", newline)):
            if value is not None:
                raise InvalidInput(f'{name} is for text: give mode="r" as well')
        return BufferedFile
    text = partial(io.TextIOWrapper, encoding=io.text_encoding(encoding), errors=errors, newline=newline)
    try:
        if errors is not None:
            codecs.lookup_error(errors)
        text(io.BytesIO())
    except (LookupError, ValueError, TypeError) as error:
        raise InvalidInput(f"encoding, errors and newline must be as for the built-in open: {error}") from None
    return lambda raw: text(BufferedFile(raw))


if TYPE_CHECKING:
    _Buffered = io.BufferedReader[Reader]
else:
    _Buffered = io.BufferedReader


class BufferedFile(_Buffered):
    """The buffer of `getm.open` over a `Reader`: what a large read needs is requested at once, and no more."""

    def __init__(self, raw: Reader) -> None:
        super().__init__(raw, MIN_BYTES)
        self._reader = raw

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except io.UnsupportedOperation:
            # The buffer refuses any seek where the reader cannot be read anywhere.
            if self._reader.seekable():
                raise
        position = self.tell()
        target = self._reader.onwards(offset, whence, position)
        while position < target and (skipped := self.read(min(target - position, MIN_BYTES))):
            position += len(skipped)
        return position

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or (count := operator.index(size)) <= MIN_BYTES:
            return super().read(size)
        # The buffer asks for it in two pieces.
        self._reader.expected_stop = self.tell() + count
        try:
            return super().read(size)
        finally:
            self._reader.expected_stop = 0
