"""A terminal, whose last lines are redrawn in place while other lines scroll up above them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, TextIO

# Where neither the terminal nor COLUMNS and LINES tell.
_USUAL_SIZE = os.terminal_size((80, 24))

# Control sequences (ECMA-48, and DECAWM of the VT100): without wrapping, a row whose characters are wider than they are
# thought to be is cut, and takes no second row.
_ERASE_TO_END_OF_LINE, _ERASE_BELOW = "\x1b[K", "\x1b[J"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"


class Style(StrEnum):
    """The parameters of SGR (ECMA-48, section 8.3.117) for what text means here."""

    GOOD = "32"
    BAD = "31"
    WAITING = "33"
    DONE = "36"
    DIM = "2"


class Marks(NamedTuple):
    """Signs that the terminal's encoding has."""

    good: str
    plain: str
    bad: str
    filled: str
    half: str
    empty: str
    ellipsis: str


_UNICODE = Marks("✓", "·", "✗", "━", "╸", "─", "…")
_ASCII = Marks("+", "-", "x", "#", "#", "-", "...")


class Terminal:
    """Draws on `stream`, a terminal. `in_place`: whether what is drawn can be drawn over; a dumb terminal only has
    lines one after another. Nothing is raised where the terminal is gone: `gone` says so, and nothing more is written.

    The cursor stays at the first of the rows that are redrawn: whatever a change of the window's width makes of them,
    all that is below it is theirs.
    """

    def __init__(self, stream: TextIO, environment: Mapping[str, str] = os.environ) -> None:
        encoding = stream.encoding or "ascii"
        self.in_place: bool = environment.get("TERM", "dumb") not in ("dumb", "unknown", "")
        self.gone: bool = False
        # NO_COLOR (no-color.org): set to anything but nothing.
        self._coloured = self.in_place and not environment.get("NO_COLOR")
        self._stream = stream
        self._environment = environment
        self._encoding = encoding
        self._is_unicode = encoding.lower().replace("-", "").startswith("utf")
        self.marks: Marks = _UNICODE if self._is_unicode else _ASCII
        self._drawn = False

    def size(self) -> os.terminal_size:
        """Columns and lines, now."""
        try:
            columns, lines = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            columns = lines = 0
        return os.terminal_size(
            (
                columns or self._from_environment("COLUMNS") or _USUAL_SIZE.columns,
                lines or self._from_environment("LINES") or _USUAL_SIZE.lines,
            )
        )

    def _from_environment(self, name: str) -> int:
        text = self._environment.get(name, "")
        return int(text) if text.isdecimal() and len(text) < 6 else 0

    def encodable(self, text: str) -> str:
        """`text` in what the terminal's encoding has: what it has not is escaped."""
        if self._is_unicode or text.isascii():
            return text
        return text.encode(self._encoding, "backslashreplace").decode(self._encoding)

    def styled(self, text: str, style: Style) -> str:
        return f"\x1b[{style}m{text}\x1b[m" if self._coloured and text else text

    def draw(self, above: Sequence[str], rows: Sequence[str]) -> None:
        """Write the lines `above`, and `rows` below them in place of those that were drawn before. Rows must be
        narrower than the terminal, and fewer than its lines."""
        if not self.in_place:
            self._write("".join([f"{line}\n" for line in (*above, *rows)]))
            return
        if not (above or rows or self._drawn):
            return
        parts = ["\r", *[f"{line}{_ERASE_TO_END_OF_LINE}\n" for line in above]]
        if rows:
            end = f"{_ERASE_TO_END_OF_LINE}\n"
            back = f"\x1b[{len(rows) - 1}A" if len(rows) > 1 else ""
            parts += [_NO_WRAP, end.join(rows), _ERASE_BELOW, _WRAP, back, "\r"]
        else:
            parts.append(_ERASE_BELOW)
        self._drawn = bool(rows)
        self._write("".join(parts))

    def _write(self, text: str) -> None:
        if self.gone or not text:
            return
        # OSError: the terminal is gone. ValueError: the stream was closed.
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self.gone = True
