"""Small spans of an object that is known, each received whole over a connection that waits for a request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from getm import errors
from getm.core.spans import Span
from getm.core.version import Version
from getm.engine.attempts import Attempts
from getm.engine.http.connections import Begun, SpanRequests
from getm.engine.http.framing import PlainHead
from getm.engine.sources import Source
from getm.protocol.messages import OpenRequest

if TYPE_CHECKING:
    from getm.engine.connection import EngineConnection
    from getm.engine.small import SmallFetches

# A response that takes longer than this is received as any other one, with all limits on its time.
PATIENCE_S = 0.2
# Longer spans are received as any other one, straight to their place.
_MAX_SPAN_BYTES = 256 * 1024


def may_exchange(version: Version, span: Span) -> bool:
    """Whether the whole of the span may be awaited, on the condition that the object is of that version."""
    return 0 < len(span) <= _MAX_SPAN_BYTES and version.joinable


def is_usual(head: PlainHead, version: Version, span: Span) -> bool:
    """Whether it is the head of exactly what was asked for: the usual way says what is wrong with anything else."""
    fields = head.fields
    return (
        head.length == len(span)
        and fields["content-range"] == [f"bytes {span.start}-{span.stop - 1}/{version.size}"]
        and fields.get("etag", [version.etag]) == [version.etag]
        and fields.get("last-modified", [version.last_modified]) == [version.last_modified]
    )


class SpanHeads:
    """The heads of responses to requests for spans of one version. One that differs from the last only in its
    Content-Range is recognised, and not parsed again."""

    def __init__(self, version: Version) -> None:
        self._version = version
        # The last one that was accepted, around the value of its Content-Range, and the length of its content.
        self._before = self._after = b""
        self._length = 0
        # The one that is parsed just now.
        self._new = b""

    def knows(self, head: bytes, span: Span) -> int | None:
        """See `WholeListener`."""
        if len(span) == self._length and head == b"%b%b%b" % (self._before, self._value(span), self._after):
            return self._length
        self._new = head
        return None

    def accepts(self, head: PlainHead, span: Span) -> bool:
        """See `WholeListener`."""
        if not is_usual(head, self._version, span):
            return False
        self._before, _, self._after = self._new.partition(self._value(span))
        self._length = len(span)
        return True

    def _value(self, span: Span) -> bytes:
        return b"bytes %d-%d/%d" % (span.start, span.stop - 1, self._version.size or 0)


class SlotSpan:
    """A span that a consumer wants on its own, and gets in a slot: a `WholeListener`."""

    status: int = 206

    def __init__(
        self,
        fetches: SmallFetches,
        connection: EngineConnection,
        number: int,
        request: OpenRequest,
        span: Span,
        requests: SpanRequests,
        heads: SpanHeads,
        slot: int,
    ) -> None:
        self.began_s: float = time.monotonic()
        self.begun: Begun
        self._fetches = fetches
        self._connection = connection
        self._number = number
        self._request = request
        self._span = span
        self._requests = requests
        self._heads = heads
        self._slot: int | None = slot

    def release(self) -> None:
        """Nothing more is put into the slot."""
        if self._slot is not None:
            self._connection.drop(self._slot)

    def knows(self, head: bytes) -> int | None:
        return self._heads.knows(head, self._span)

    def accepts(self, head: PlainHead) -> bool:
        return self._heads.accepts(head, self._span)

    def came(self, content: memoryview) -> None:
        self.begun.keep(self.begun.connection)
        self._requests.usual = True
        slot, self._slot = self._slot, None
        if slot is not None:
            self._connection.fill(slot, content)
            self._connection.only(self._number, self._span.start, slot, len(content))
        self._fetches.ended(self._number)

    def is_other(self) -> None:
        self._requests.usual = False
        if self._fetches.ended(self._number):
            self._connection.fetch_span(self._number, self._request, self._span, self.begun, self.began_s)


class SmallSpans:
    """Fetches spans of what `source` has, one after another: a `WholeListener`. No task, no reader and no limits on its
    time wait for a response: for a small span they would be most of the work.

    `begin(span)` says whether there is room for its bytes, and `put(span, content)` takes them.
    """

    status: int = 206
    # As a `Watched`: no part of them is slower than the others.
    waited: bool = False
    waits: int = 0
    remaining: Span = Span(0, 0)

    def __init__(
        self,
        attempts: Attempts,
        source: Source,
        spans: Iterator[Span],
        begin: Callable[[Span], bool],
        put: Callable[[Span, memoryview], None],
    ) -> None:
        self.position: int = 0
        self._attempts = attempts
        self._source = source
        self._version = source.version
        self._heads = SpanHeads(source.version)
        self._spans = spans
        self._begin = begin
        self._put = put
        self._requests: SpanRequests | None = None
        # The span that is awaited, the request for it, and when that was sent.
        self._span = Span(0, 0)
        self._begun: Begun | None = None
        self._began_s = self._answered_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._left: asyncio.Future[Span | None] = self._loop.create_future()

    async def run(self) -> tuple[Span | None, Begun | None]:
        """Fetch spans until one takes more than this: that one, and the request for it where it was sent. None: there
        are no more."""
        attempts, source = self._attempts, self._source
        if attempts.http.throttle is None:
            self._requests = attempts.http.spans(attempts.request, source.route, source.version.strong)
        self._next()
        if not self._left.done():
            self._timer = self._loop.call_later(PATIENCE_S, self._look)
            try:
                with attempts.attempt(source):
                    await self._left
            except BaseException:
                if self._begun is not None:
                    self._begun.connection.close()
                raise
            finally:
                self._timer.cancel()
                attempts.part_ended(complete=True)
        return self._left.result(), self._begun

    def _next(self) -> None:
        """Ask for the next span."""
        self._begun = None
        span = next(self._spans, None)
        if span is not None and self._may_begin(span) and self._requests is not None and self._begin(span):
            self._span, self._began_s = span, time.monotonic()
            self._begun = self._requests.begin(span, self)
        if self._begun is None:
            self._left.set_result(span)

    def _may_begin(self, span: Span) -> bool:
        return self._source.takes_spans and may_exchange(self._version, span)

    def _look(self) -> None:
        """No longer wait for what takes too long."""
        waited_s = time.monotonic() - self._began_s
        if waited_s < PATIENCE_S:
            self._timer = self._loop.call_later(PATIENCE_S - waited_s, self._look)
        elif self._begun is not None:
            self._begun.protocol.give_up_whole()

    def knows(self, head: bytes) -> int | None:
        self._answered_s = time.monotonic()
        return self._heads.knows(head, self._span)

    def accepts(self, head: PlainHead) -> bool:
        return self._heads.accepts(head, self._span)

    def came(self, content: memoryview) -> None:
        if self._begun is None:
            return
        self._begun.keep(self._begun.connection)
        attempts, size, now = self._attempts, len(content), time.monotonic()
        counted, seconds = attempts.counters, now - self._began_s
        counted.requests += 1
        counted.received_bytes += size
        counted.response_s += self._answered_s - self._began_s
        counted.network_s += now - self._answered_s
        attempts.began(seconds)
        attempts.sources.received(self._source, size, seconds)
        self.position += size
        try:
            self._put(self._span, content)
        except errors.GetmError as error:
            self._begun = None
            self._left.set_exception(error)
            return
        self._next()

    def is_other(self) -> None:
        if not self._left.done():
            self._left.set_result(self._span)
