"""What the vendors' modules take and give: a `ResponseHead` goes in, findings come out."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from getm.core.head import ResponseHead
from getm.errors import InvalidInput
from getm.integrity.values import Checksum, make_checksum


class Declared(Struct, frozen=True, gc=False):
    """A checksum that the bytes should have, and who says so: `source` is "caller" or the response header's name."""

    checksum: Checksum
    source: str


Finding = Declared | str
"""What a header field yields: a declared checksum, or a note that says what was skipped and why."""

_QUOTED_CHARACTERS = 40


def quoted(text: str) -> str:
    """The start of what a server sent, for a note: bounded, and printable whatever its bytes are."""
    return ascii(text[:_QUOTED_CHARACTERS])


def other_size(head: ResponseHead, field: str, size_bytes: int | None) -> str | None:
    """That a field with the object's size contradicts the response; None where it does not, or one is not known."""
    declared = head.get(field.lower())
    if declared is None or size_bytes is None or declared == str(size_bytes):
        return None
    return f"{field} is {quoted(declared)}, but the response has {size_bytes} bytes"


def read_value(source: str, algorithm: str, text: str) -> Finding:
    """`text` of the header `source` as a checksum of a canonical algorithm; a note where it is malformed."""
    try:
        return Declared(make_checksum(algorithm, text), source)
    except InvalidInput:
        return f"{source} is malformed and was skipped: {quoted(text)} is no {algorithm} checksum"


def read_field(head: ResponseHead, source: str, algorithm: str) -> Iterator[Finding]:
    """Every line of a field that holds one checksum. Lines that repeat the same value count once."""
    for text in dict.fromkeys(head.get_all(source.lower())):
        yield read_value(source, algorithm, text)
