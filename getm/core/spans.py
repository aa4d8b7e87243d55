"""Byte spans: half-open everywhere, inclusive only where a Range header is written or read (RFC 9110, section 14)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

# No file, and no index in this language, reaches further.
MAX_POSITION = 2**63 - 1

_CONTENT_RANGE = re.compile(r"bytes[ \t]+(?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19}|\*)", re.ASCII | re.IGNORECASE)


class Span(Struct, frozen=True, gc=False):
    """The bytes from `start` up to, not including, `stop`."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def range_header(self) -> str:
        """The Range header's value, whose last position is inclusive (RFC 9110, section 14.1.2). Up to `MAX_POSITION`
        means: to the end, wherever that is."""
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


def plan_parts(span: Span, part_bytes: int) -> Iterator[Span]:
    """Cut `span` into parts of `part_bytes` bytes, the last one shorter, in order. The parts cover it exactly."""
    for start in range(span.start, span.stop, part_bytes):
        yield Span(start, min(start + part_bytes, span.stop))
