"""How a response's head frames its content (RFC 9112, section 6), made plain for a parser of the usual forms.

Pure: bytes of a head in, bytes of a head out, and what else must be done to the content.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import lru_cache
from typing import NamedTuple

from getm import errors
from getm.core.head import HeadError
from getm.core.text import brief, decode

# The value of a field may continue in lines that begin with a blank (RFC 9112, section 5.2).
_LINE = rb"\n(%b):([^\n]*(?:\n[ \t][^\n]*)*)"
_FRAMING = re.compile(_LINE % rb"content-length|transfer-encoding", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/(\d)\.(\d) +(\d{3})")
_USUAL = frozenset({b"http/1. 200", b"http/1. 206"})
_PLAIN_STATUS = re.compile(rb"HTTP/1\.1 (200|206)(?: ([\t\x20-\x7e]*))?")
_PLAIN_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e]*?)[ \t]*")
# Longer lines are not remembered: they hardly come twice.
_MAX_KNOWN_BYTES = 256
# What could say of a content that it is more than so many bytes of the object, or, in a 206, of the span.
_FRAMERS = frozenset({"transfer-encoding", "content-encoding", "trailer", "upgrade"})
_DIGITS = re.compile(r"[0-9]{1,19}")
# RFC 9112, section 7: the codings that are decoded here, besides "chunked", which the parser decodes.
_CODINGS = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
# A coded content may be a thousand times as large as it looks: it is taken apart in pieces of this size.
_PIECE_BYTES = 256 * 1024


def usual_length(head: bytes) -> int | None:
    """The length of the content where `head` is like nearly every head of an object, and `frame` would change nothing:
    a 200 or 206 with one Content-Length and no transfer coding. None for all others."""
    lower = head.lower()
    at = lower.find(b"\ncontent-length:")
    if at < 0 or b"transfer-encoding" in lower or lower.find(b"content-length", at + 2) > 0:
        return None
    value = lower[at + 16 : lower.find(b"\n", at + 16)].strip()
    return int(value[:20]) if value.isdigit() and lower[:7] + lower[8:12] in _USUAL else None


class PlainHead(NamedTuple):
    """The head of an object, or of a span of it, as nearly all are, with a content of `length` bytes. `lines`,
    `fields`: as `ResponseHead` has them."""

    length: int
    reason: str
    lines: str
    fields: dict[str, list[str]]


def plain_head(head: bytes, status: int = 200) -> PlainHead | None:
    """A 200, or 206, as `status` says, of HTTP/1.1 with one Content-Length, of an identity content on a connection that
    stays open, whose every line is what RFC 9112, section 5, has it to be, in ASCII. None for all others."""
    if not head.endswith(b"\r\n\r\n"):
        return None
    first, *rest = head[:-4].split(b"\r\n")
    found = _plain_status(first)
    if found is None or found[0] != status:
        return None
    lines: list[str] = []
    fields: dict[str, list[str]] = {}
    for line in rest:
        field = _known_field(line) if len(line) <= _MAX_KNOWN_BYTES else _plain_field(line)
        if field is None:
            return None
        name, value, lower = field
        lines += (name, value)
        if lower in fields:
            fields[lower].append(value)
        else:
            fields[lower] = [value]
    lengths = fields.get("content-length", ())
    if len(lengths) != 1 or not _DIGITS.fullmatch(lengths[0]) or not _FRAMERS.isdisjoint(fields):
        return None
    if len(fields.get("content-range", ())) != (status == 206):
        return None
    if any(value.lower() != "keep-alive" for value in fields.get("connection", ())):
        return None
    return PlainHead(int(lengths[0]), found[1], "\n".join(lines), fields)


@lru_cache(maxsize=16)
def _plain_status(line: bytes) -> tuple[int, str] | None:
    found = _PLAIN_STATUS.fullmatch(line)
    return None if found is None else (int(found[1]), (found[2] or b"").decode().strip())


def _plain_field(line: bytes) -> tuple[str, str, str] | None:
    """Name, value and the name in lower case; None where the line is not in the plainest form, or says how often the
    server may be asked, which is heard where requests can wait."""
    found = _PLAIN_FIELD.fullmatch(line)
    if found is None:
        return None
    name = found[1].decode()
    return None if "ratelimit" in (lower := name.lower()) else (name, found[2].decode(), lower)


# Most lines of a server's heads are the same for many objects.
_known_field = lru_cache(maxsize=512)(_plain_field)


class Framing(NamedTuple):
    """`head` as the parser is to have it. `codings`: the transfer codings below "chunked", the outermost first.
    `reusable`: whether the connection may carry another response. `interim`: another head follows."""

    head: bytes
    codings: tuple[str, ...] = ()
    reusable: bool = True
    interim: bool = False


def frame(head: bytes) -> Framing:
    """Make the framing of `head` plain. Raises `HeadError` for a transfer coding that is not understood.

    Equal lengths that are given several times become one (RFC 9110, section 8.6); those that do not are left for the
    parser to refuse. Empty elements of a list, and "identity", say nothing (RFC 9110, section 5.6.1.2). Where there is
    a transfer coding the length does not count, and the connection is not trusted any further (section 6.3).
    """
    line = _STATUS.match(head)
    interim = line is not None and line[3][:1] == b"1" and line[3] != b"101"
    fields = [(name.lower(), value) for name, value in _FRAMING.findall(head)]
    lengths = _elements(fields, b"content-length")
    codings = [coding for coding in _elements(fields, b"transfer-encoding") if coding not in ("", "identity")]
    if not codings:
        agreed = all(map(_DIGITS.fullmatch, lengths)) and len({int(length) for length in lengths}) == 1
        plain = _without(head, b"transfer-encoding")
        if agreed:
            plain = _with(_without(plain, b"content-length"), b"Content-Length: %d" % int(lengths[0]))
        return Framing(plain, interim=interim)
    chunked = codings[-1] == "chunked"
    inner = codings[:-1] if chunked else codings
    unknown = [coding for coding in inner if coding not in _CODINGS]
    if unknown:
        named = brief(", ".join(codings))
        raise HeadError(
            f"Transfer-Encoding is {named!r}: only gzip and deflate are understood, and then chunked as the last one"
        )
    plain = _without(head, b"content-length|transfer-encoding")
    return Framing(
        _with(plain, b"Transfer-Encoding: chunked") if chunked else plain,
        codings=tuple(_CODINGS[coding] for coding in reversed(inner)),
        # HTTP/1.0 has no transfer codings: whoever sends one may not know where the message ends (section 6.1).
        reusable=not lengths and line is not None and (line[1], line[2]) >= (b"1", b"1"),
        interim=interim,
    )


def _elements(fields: list[tuple[bytes, bytes]], name: bytes) -> list[str]:
    lines = [decode(value) for found, value in fields if found == name]
    return [" ".join(element.split()).lower() for line in lines for element in line.split(",")]


def _without(head: bytes, names: bytes) -> bytes:
    return re.sub(_LINE % names, b"", head, flags=re.IGNORECASE)


def _with(head: bytes, field: bytes) -> bytes:
    line, _, rest = head.partition(b"\n")
    return b"%b\n%b\r\n%b" % (line, field, rest)


async def decoded(coding: str, read: Callable[[], Awaitable[bytes]]) -> AsyncGenerator[bytes]:
    """A content without one transfer coding; `read` gives its coded pieces, b"" at its end. Raises `BadResponse` for
    what is not coded so, `Truncated` where it ends too soon, and whatever `read` raises."""
    coded, received = b"", 0
    decoder: zlib._Decompress | None = None
    while True:
        at_end = not coded and not (coded := await read())
        if decoder is None:
            if at_end and received:
                return
            decoder = zlib.decompressobj(_window_bits(coding, coded))
        before = len(coded)
        try:
            piece = decoder.decompress(coded, _PIECE_BYTES)
        except zlib.error as error:
            raise errors.BadResponse(
                f"the content is not coded as its Transfer-Encoding says: {coding} ({error})"
            ) from None
        coded = decoder.unconsumed_tail
        if decoder.eof:
            # Of gzip there may be another member (RFC 1952, section 2.2); anything else shows as an error.
            coded, decoder = decoder.unused_data, None
        received += before - len(coded)
        if piece:
            yield piece
        elif at_end and decoder is not None:
            # There was no more within it, either.
            raise errors.Truncated(f"the content ended within its transfer coding {coding}", received=received)


def _window_bits(coding: str, coded: bytes) -> int:
    if coding == "gzip":
        return zlib.MAX_WBITS + 16
    # "Some non-conformant implementations send deflate without the zlib wrapper" (RFC 9110, section 8.4.1.2).
    return zlib.MAX_WBITS if coded and coded[0] & 0x0F == zlib.DEFLATED else -zlib.MAX_WBITS
