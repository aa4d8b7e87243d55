"""The elements of a JSON array, one at a time, however long the array is.

The standard library's decoder tells where a value ends, and does the work in C; only what lies between the elements is
read here.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import NoReturn

from getm.manifests.problem import Problem
from getm.manifests.source import BOM, MAX_ENTRY_BYTES, UTF_16_BOMS, Source

_BLANK = re.compile(r"[ \t\n\r]*")
_EXPECTED = "expected a list of entries"


def array_elements(source: Source) -> Iterator[object]:
    """Raises Problem: not UTF-8, a byte order mark, not JSON (RFC 8259), not an array, an element that is too long."""
    if source.head().startswith((BOM, *UTF_16_BOMS)):
        raise Problem("", "begins with a byte order mark; save it as UTF-8 without one (RFC 8259)")
    text = _Text(source)
    if text.next_char() != "[":
        text.value()
        raise Problem("", "must be a JSON list of entries, and is one value")
    text.skip()
    if text.next_char() == "]":
        text.skip()
    else:
        while True:
            yield text.value()
            separator = text.next_char()
            if separator not in (",", "]"):
                text.refuse("expected ',' or ']' after an entry")
            text.skip()
            if separator == "]":
                break
    if text.next_char():
        text.refuse("expected nothing after the list")


class _Text:
    """The text of a list, of which only the part that is being read is kept."""

    def __init__(self, source: Source) -> None:
        self._chunks = source.chunks()
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._json = json.JSONDecoder(parse_constant=self._refuse_constant)
        self._kept = ""
        self._position = 0
        self._line = 1
        self._ended = False

    def next_char(self) -> str:
        """The next character that is not blank, without taking it; "" at the end."""
        while True:
            found = _BLANK.match(self._kept, self._position)
            self._position = found.end() if found else self._position
            if self._position < len(self._kept) or self._ended:
                return self._kept[self._position : self._position + 1]
            self._read_more()

    def skip(self) -> None:
        """Take the character that `next_char` told."""
        self._position += 1

    def value(self) -> object:
        """Take the next value."""
        self.next_char()
        wanted = 1
        while True:
            try:
                value, end = self._json.raw_decode(self._kept, self._position)
            except RecursionError:
                self.refuse("nested too deeply")
            except ValueError as error:
                if self._ended:
                    position = error.pos if isinstance(error, json.JSONDecodeError) else self._position
                    self.refuse(error.msg if isinstance(error, json.JSONDecodeError) else str(error), position)
            else:
                # A number that ends with the text so far may go on.
                if end < len(self._kept) or self._ended:
                    self._position = end
                    return value
            if len(self._kept) - self._position > MAX_ENTRY_BYTES:
                self.refuse(f"an entry that is broken or longer than {MAX_ENTRY_BYTES:,} characters")
            # Twice as much each time: what is decoded again is no more than what was read.
            wanted = 2 * max(wanted, len(self._kept) - self._position)
            while len(self._kept) - self._position < wanted and not self._ended:
                self._read_more()

    def refuse(self, reason: str, position: int | None = None) -> NoReturn:
        line = self._line + self._kept.count("\n", 0, self._position if position is None else position)
        raise Problem(f"line {line}", f"not JSON: {reason}; {_EXPECTED}")

    def _refuse_constant(self, name: str) -> NoReturn:
        raise ValueError(f"{name} is no JSON")

    def _read_more(self) -> None:
        chunk = next(self._chunks, b"")
        self._ended = not chunk
        try:
            more = self._decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise Problem("", f"not JSON: not UTF-8 ({error.reason}); {_EXPECTED}") from error
        self._line += self._kept.count("\n", 0, self._position)
        self._kept = self._kept[self._position :] + more
        self._position = 0
