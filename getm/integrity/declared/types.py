"""What a response declares about its bytes: the values that the functions reading headers take and give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

from getm.core.head import Head
from getm.errors import InvalidInput
from getm.integrity.values import Checksum, make_checksum


@dataclass(frozen=True, slots=True)
class Declared:
    """A checksum that the bytes should have, and who says so: `source` is "caller" or the response header's name."""

    checksum: Checksum
    source: str


@dataclass(frozen=True, slots=True)
class Discovery:
    """Declared checksums of the whole representation, strongest first, and sentences about what was skipped and why."""

    declared: tuple[Declared, ...]
    notes: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Why nothing can be verified, in words; for use when `declared` is empty."""
        if not self.notes:
            return "the server declared no checksum"
        return "the server declared no usable checksum: " + "; ".join(self.notes)


Finding = Declared | str
"""What a header yields: something declared, or a note on what was skipped."""


class Reply:
    """A `Head` prepared for look-ups by header name, case-insensitive, repeated fields kept apart."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.ranged = head.ranged or head.status == 206
        self._fields = head.fields

    def all(self, name: str) -> Sequence[str]:
        """Every line of a field, in wire order; `name` in lower case."""
        return self._fields.get(name, ())

    def joined(self, name: str) -> str | None:
        """A list-valued field as one line, as RFC 9110, section 5.3 allows it to be joined; None when absent."""
        lines = self._fields.get(name)
        return None if lines is None else ", ".join(lines)

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def names(self) -> Iterator[str]:
        return iter(self._fields)

    @cached_property
    def host(self) -> str:
        """The host of the response's URL in lower case; empty where the URL has none."""
        try:
            return (urlsplit(self.head.url).hostname or "").lower()
        except ValueError:
            return ""

    @cached_property
    def content_coding(self) -> str:
        """Content-Encoding in lower case, without "identity"; empty where the representation is not coded."""
        codings = (self.joined("content-encoding") or "").lower().split(",")
        return ", ".join(coding.strip() for coding in codings if coding.strip() not in ("", "identity"))


def read_value(source: str, algorithm: str, text: str) -> Finding:
    """`text` of the header `source` as a checksum of a canonical algorithm; a note where it is malformed."""
    try:
        return Declared(make_checksum(algorithm, text), source)
    except InvalidInput as error:
        return f"{source} is malformed and was skipped: {error}"


def read_single(reply: Reply, source: str, algorithm: str) -> Iterator[Finding]:
    """Every line of a header that holds one checksum. Lines that repeat the same value count once."""
    for text in dict.fromkeys(reply.all(source.lower())):
        yield read_value(source, algorithm, text)
