"""A small span of an object that is known, received whole over a connection that waits for a request."""

from __future__ import annotations

import asyncio

from getm.core.spans import Span
from getm.engine.http.connections import Begun
from getm.engine.http.framing import PlainHead
from getm.engine.sources import Ranges, Source

# A response that takes longer than this is received as any other one, with all limits on its time.
PATIENCE_S = 0.2
# Longer spans are received as any other one, straight to their place.
MAX_SPAN_BYTES = 256 * 1024


def may_exchange(source: Source, span: Span) -> bool:
    """Whether `source` is known to grant such a span, on the condition that the object is of its version."""
    return (
        0 < len(span) <= MAX_SPAN_BYTES
        and source.ranges is Ranges.GRANTED
        and source.takes_if_range
        and source.version.joinable
    )


class SmallExchange:
    """One request for `span` of what `source` has: a `WholeListener`. No reader and no limits on its time wait for it:
    for a small span they would be most of the work.

    `content` gets the bytes; None where the response is not the usual one, and is to be received as any other, by
    `begun`.
    """

    status = 206

    def __init__(self, source: Source, span: Span, content: asyncio.Future[bytes | None]) -> None:
        self.begun: Begun
        self.content = content
        self._source = source
        self._span = span

    def accepts(self, head: PlainHead) -> bool:
        # Exactly what was asked for: the usual way says what is wrong with anything else.
        span, version, fields = self._span, self._source.version, head.fields
        return (
            head.length == len(span)
            and fields["content-range"] == [f"bytes {span.start}-{span.stop - 1}/{version.size}"]
            and fields.get("etag", [version.etag]) == [version.etag]
            and fields.get("last-modified", [version.last_modified]) == [version.last_modified]
        )

    def came(self, content: bytes) -> None:
        # Before the one who waits runs: others may use it meanwhile.
        self.begun.keep(self.begun.connection)
        if not self.content.done():
            self.content.set_result(content)

    def is_other(self) -> None:
        if not self.content.done():
            self.content.set_result(None)
