"""Byte spans: half-open everywhere, inclusive only where a Range header is written or read (RFC 9110, section 14)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

# No file, and no index in this language, reaches further.
MAX_POSITION = 2**63 - 1

_CONTENT_RANGE = re.compile(r"bytes[ \t]+(?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19}|\*)", re.ASCII | re.IGNORECASE)


class Span(Struct, frozen=True, gc=False):
    """The bytes from `start` up to, not including, `stop`.

    In what is asked for, a negative `start` is a suffix: so many bytes before the end, wherever that is, with
    `MAX_POSITION` as `stop`. `resolve` makes it a span of an object whose size is known.
    """

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def range_header(self) -> str:
        """The Range header's value, whose last position is inclusive (RFC 9110, section 14.1.2). Up to `MAX_POSITION`
        means: to the end, wherever that is; a suffix has no first position."""
        if self.start < 0:
            return f"bytes={self.start}"
        if self.stop == MAX_POSITION:
            return f"bytes={self.start}-"
        return f"bytes={self.start}-{self.stop - 1}"


class ContentRange(Struct, frozen=True):
    """A parsed Content-Range: `span` is None for the unsatisfied form `*/total`, `total` None for `/*`."""

    span: Span | None
    total: int | None


def parse_content_range(value: str) -> ContentRange | None:
    """Read a Content-Range header (RFC 9110, section 14.4); None for anything malformed or contradictory."""
    match = _CONTENT_RANGE.fullmatch(value.strip())
    if match is None:
        return None
    first, last, total_text = match.groups()
    total = None if total_text == "*" else int(total_text)
    if first is None:
        return None if total is None or total > MAX_POSITION else ContentRange(None, total)
    span = Span(int(first), int(last) + 1)
    if (
        span.stop <= span.start
        or max(span.stop, total or 0) > MAX_POSITION
        or (total is not None and span.stop > total)
    ):
        return None
    return ContentRange(span, total)


def resolve(span: Span, size: int) -> Span:
    """`span` of an object of `size` bytes: a suffix becomes a span, and what is beyond the end is left out, as in a
    slice; it may be empty then."""
    start = min(size, span.start if span.start >= 0 else max(0, size + span.start))
    return Span(start, max(start, min(span.stop, size)))


def join(spans: Iterable[Span], max_gap: int = 0) -> tuple[Span, ...]:
    """Spans in the order of their starts, without empty ones; those that overlap, or have at most `max_gap` bytes
    between them, are one."""
    joined: list[Span] = []
    for span in sorted((each for each in spans if len(each)), key=lambda each: each.start):
        if joined and span.start - joined[-1].stop <= max_gap:
            joined[-1] = Span(joined[-1].start, max(joined[-1].stop, span.stop))
        else:
            joined.append(span)
    return tuple(joined)


def lay_out(spans: Iterable[Span], size: int) -> tuple[Span, ...]:
    """What spans of an object of `size` bytes are, one after another and without gaps, in memory for all of them."""
    return join(resolve(span, size) for span in spans)


def plan_parts(span: Span, part_bytes: int) -> Iterator[Span]:
    """Cut `span` into parts of `part_bytes` bytes, the last one shorter, in order. The parts cover it exactly."""
    for start in range(span.start, span.stop, part_bytes):
        yield Span(start, min(start + part_bytes, span.stop))
