"""What a response head says about the representation: length, validator, coding, range. Pure parsing, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC
from functools import cached_property, lru_cache
from itertools import chain

import msgspec

from getm.core.lazy import importing
from getm.core.spans import MAX_POSITION, ContentRange, parse_content_range
from getm.core.text import brief, decode
from getm.core.version import Version

Headers = tuple[tuple[str, str], ...]

# More digits than this cannot be a length of anything; also keeps int() cheap on hostile input.
_MAX_DIGITS = 19


class HeadError(ValueError):
    """The head contradicts itself or HTTP; the text says how."""


class ResponseHead(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """One response: its status line and header fields. It crosses the pipe as it is.

    `url` is the one requested, with its secrets. `lines`: names and values in turn, each on a line of its own, in the
    order of the wire, names as they came; one text costs a fraction of what pairs do, and many callers never look.
    `ranged`: the request carried Range.
    """

    status: int
    url: str
    lines: str = ""
    ranged: bool = False
    reason: str = ""

    @classmethod
    def of(cls, status: int, url: str, headers: Headers, ranged: bool = False, reason: str = "") -> ResponseHead:
        """With header fields as pairs. A line feed in them would end a header line: it becomes a space."""
        lines = "\n".join([text.replace("\n", " ") for text in chain.from_iterable(headers)])
        return cls(status, url, lines, ranged, reason)

    @classmethod
    def with_fields(
        cls, status: int, url: str, lines: str, fields: dict[str, list[str]], reason: str = ""
    ) -> ResponseHead:
        """With `fields` that are known already."""
        head = cls(status, url, lines, reason=reason)
        head.__dict__["fields"] = fields
        return head

    @property
    def headers(self) -> Headers:
        """Names and values in the order of the wire."""
        if not self.lines:
            return ()
        lines = self.lines.split("\n")
        return tuple(zip(lines[::2], lines[1::2], strict=True))

    @cached_property
    def fields(self) -> dict[str, list[str]]:
        """The values of each field, one for each time it came, by its name in lower case."""
        headers = self.headers
        fields = {name.lower(): [value] for name, value in headers}
        if len(fields) < len(headers):
            # Some came several times.
            fields = {name: [] for name in fields}
            for name, value in headers:
                fields[name.lower()].append(value)
        return fields

    def get(self, name: str) -> str | None:
        """All values of a field, its name in lower case, joined by ", " (RFC 9110, section 5.3); or None."""
        values = self.fields.get(name)
        return None if values is None else ", ".join(values)

    def get_all(self, name: str) -> Sequence[str]:
        """All values of a field, its name in lower case: one for each field line."""
        return self.fields.get(name, ())

    def content_length(self) -> int | None:
        """The declared length of this message's content in bytes; None where there is none.

        Raises `HeadError` on a negative, huge, malformed or contradictory one (RFC 9112, section 6.3).
        """
        lines = self.fields.get("content-length")
        if lines is None:
            return None
        value = lines[0].strip()
        if len(lines) > 1 or "," in value:
            values = {item.strip() for line in lines for item in line.split(",")}
            if len(values) > 1:
                raise HeadError(f"Content-Length is declared as {' and '.join(sorted(values))}")
            (value,) = values
        if not (value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS and int(value) <= MAX_POSITION):
            raise HeadError(f"Content-Length is {value[:40]!r}, not a number of bytes")
        return int(value)

    def content_range(self) -> ContentRange | None:
        """The parsed Content-Range; None where it is missing or malformed."""
        values = self.get_all("content-range")
        return parse_content_range(values[0]) if len(values) == 1 else None

    def content_coding(self) -> str | None:
        """The content coding in lower case, None for identity (RFC 9110, section 8.4)."""
        if "content-encoding" not in self.lines.lower():
            # Of most heads nothing else is asked, and their fields need not be made.
            return None
        codings = [coding.strip() for coding in (self.get("content-encoding") or "").lower().split(",")]
        return ", ".join(coding for coding in codings if coding not in ("", "identity")) or None

    def is_chunked(self) -> bool:
        """Whether the message is framed by a transfer coding: its length is then known only at its end."""
        return self.get("transfer-encoding") is not None

    def version(self, size: int | None) -> Version:
        """The version of the object, whose size depends on the kind of response."""
        return Version(size, self.get("etag"), self.get("last-modified"), self.strong_validator())

    def strong_validator(self) -> str | None:
        """The value for If-Range, by which responses may be joined; None where there is no strong one.

        A strong entity tag, or else a Last-Modified at least a second older than the Date of the same response
        (RFC 9110, sections 8.8.2.2 and 13.1.5). One beyond ASCII is none: its bytes are not known any more.
        """
        etag = self.get("etag")
        if etag is not None:
            return etag if len(etag) >= 2 and etag[0] == etag[-1] == '"' and etag.isascii() else None
        modified, date = _timestamp(self.get("last-modified")), _timestamp(self.get("date"))
        if modified is not None and date is not None and date - modified >= 1:
            return self.get("last-modified")
        return None

    def sent_at(self) -> float | None:
        """The Date in seconds since the epoch, by the server's clock; None where it is missing or malformed."""
        return _timestamp(self.get("date"))

    def modified_at(self) -> float | None:
        """The Last-Modified in seconds since the epoch; None where it is missing or malformed."""
        return _timestamp(self.get("last-modified"))


class HeaderMap(Mapping[str, str]):
    """Header fields by name, in any case; fields that came several times are joined by ", "."""

    def __init__(self, head: ResponseHead) -> None:
        self._head = head

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._head.fields[name.lower()])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._head.fields

    def __iter__(self) -> Iterator[str]:
        # Each as it came the first time.
        names = {name.lower(): name for name, _ in reversed(self._head.headers)}
        return map(names.__getitem__, self._head.fields)

    def __len__(self) -> int:
        return len(self._head.fields)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"

    def get_all(self, name: str) -> list[str]:
        """The values of a field, one for each time it came."""
        return list(self._head.get_all(name.lower()))


@lru_cache(maxsize=64)
def _timestamp(value: str | None) -> float | None:
    # Remembered: one response is asked several times, and the Date of many is the same.
    if value is None:
        return None
    with importing:
        import email.utils
    try:
        date = email.utils.parsedate_to_datetime(value)
        # The obsolete asctime form names no zone, and means UTC (RFC 9110, section 5.6.7).
        return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def header_lines(raw: Iterable[tuple[bytes, bytes]]) -> str:
    """Header bytes as the text that `ResponseHead` has. UTF-8 where it is valid, ISO-8859-1 otherwise: no byte is lost
    (RFC 9110, section 5.5)."""
    texts = tuple(chain.from_iterable(raw))
    lines = b"\n".join(texts)
    if lines.count(b"\n") >= len(texts) > 0:
        # No parser lets these through; anything stays one line.
        lines = b"\n".join(text.replace(b"\n", b" ") for text in texts)
    try:
        # Nearly every head is UTF-8 throughout.
        return lines.decode()
    except UnicodeDecodeError:
        return "\n".join(map(decode, lines.split(b"\n")))


@lru_cache(maxsize=64)
def decode_phrase(surrogate_escaped: str) -> str:
    """A reason phrase as the parser has it, as text for people: a client makes nothing of it (RFC 9112, section 4)."""
    return brief(decode(surrogate_escaped.encode("utf-8", "surrogateescape")))


def retry_after_s(head: ResponseHead, now: float) -> float | None:
    """Seconds to wait by Retry-After (RFC 9110, section 10.2.3): a number, or a date. A date is set against the
    response's own Date, so that a wrong clock here does no harm, and against `now`, our clock in seconds since the
    epoch, where there is none. A past date is 0; None where it is missing or malformed."""
    value = (head.get("retry-after") or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    at, their_now = _timestamp(value or None), _timestamp(head.get("date"))
    return None if at is None else max(0.0, at - (now if their_now is None else their_now))
