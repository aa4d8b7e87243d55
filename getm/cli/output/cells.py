"""How many columns of a terminal a text takes, by the standard library's table of Unicode."""

from __future__ import annotations

import unicodedata
from itertools import accumulate


def width_of(text: str) -> int:
    """The columns that `text` takes, which has no control characters (see `formatting.printable`)."""
    return len(text) if text.isascii() else sum(map(_width, text))


def last_part(text: str, width: int, ellipsis: str) -> str:
    """`text` in at most `width` columns: where it is too long, its end after an `ellipsis`. The end of a path says more
    than its beginning."""
    if width_of(text) <= width:
        return text
    left = width - width_of(ellipsis)
    if left < 1:
        return ""
    kept = sum(taken <= left for taken in accumulate(map(_width, reversed(text))))
    # A mark that combines with what went before it would combine with the ellipsis.
    return ellipsis + text[len(text) - kept :].lstrip(_marks(text))


def padded(text: str, width: int, *, right: bool = False) -> str:
    """`text` with blanks up to `width` columns; `right`: before it."""
    blanks = " " * (width - width_of(text))
    return blanks + text if right else text + blanks


def _width(char: str) -> int:
    # Nonspacing and enclosing marks are drawn over the character before them; wide and full-width characters take two
    # columns (Unicode Standard Annex 11; what is ambiguous there is narrow outside of East Asian terminals).
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _marks(text: str) -> str:
    return "".join({char for char in text if _width(char) == 0})
