"""Receives spans of an object, one after another, once its first response has come: all are of that version."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from getm import errors
from getm.client.connection import ClientConnection, IgnoringListener
from getm.client.receiver import Part, Receiver
from getm.core.spans import Span
from getm.core.stats import Stats, Times
from getm.core.url import origin_of
from getm.integrity.verdict import Verdict, unverified
from getm.protocol.messages import MAX_LENGTH, EndInfo, HeadInfo, OpenRequest, Route


class _Earlier:
    """The statistics of all that was received of an object before, and when that began, and was answered: those of what
    was given up are still to come. `waited_s`: for spans, and `spans_s` of that by what an engine has measured."""

    def __init__(self, stats: Stats, began: float, answered_s: float) -> None:
        self.stats: Stats = stats
        self.began: float = began
        self.answered_s: float = answered_s
        self.waited_s: float = 0.0
        self.spans_s: float = 0.0
        # Those of which nothing is known but how long they were, which are most of many small ones.
        self._small = self._small_bytes = 0

    def add(self, stats: Stats) -> None:
        """A span has come."""
        if stats.seconds:
            self.stats += stats
            self.spans_s += stats.seconds
        else:
            self._small += stats.requests
            self._small_bytes += stats.received_bytes

    def stats_at(self, now: float, coming: int) -> Stats:
        """Up to `now`: what no engine has measured, the answers to small spans, was waited for here; the rest of the
        time is the caller's own. `coming`: the bytes that have come of a span which has not ended."""
        stats = self.stats + Stats(self._small_bytes + coming, requests=self._small)
        rest_s = max(0.0, now - self.answered_s - (stats.seconds - (stats.first_byte_s or 0.0)))
        response_s = min(rest_s, max(0.0, self.waited_s - self.spans_s))
        stats = stats.and_then(Times(response_s=response_s, consumer_s=rest_s - response_s))
        return msgspec.structs.replace(stats, seconds=now - self.began)


class _GivenUp(IgnoringListener):
    """Listens in place of a receiver that was given up, until its object ends."""

    def __init__(self, connection: ClientConnection, earlier: _Earlier) -> None:
        self._connection = connection
        self._earlier = earlier

    def on_bytes(self, offset: int, slot: int, start: int, length: int, *, full: bool) -> None:
        # The slot goes back with this lease.
        self._connection.lease(slot, start, length)

    def on_end(self, info: EndInfo) -> None:
        self._earlier.stats += info.stats

    def on_failed(self, error: errors.GetmError) -> None:
        self._earlier.stats += error.stats or Stats()


def _earlier(before: Receiver) -> _Earlier:
    if isinstance(before, SpanReceiver):
        return before._earlier
    return _Earlier(before.stats_so_far(), before._began, before._answered_s)


class SpanReceiver(Receiver):
    """Continues with `span` of the object, and what `want` adds to it, in place of `before`, which was given up (see
    `Receiver.give_up`), over `connection`."""

    def __init__(self, before: Receiver, connection: ClientConnection, span: Span, earlier: _Earlier) -> None:
        self._earlier: _Earlier = earlier
        # The span that was requested last, and where the next one is to end.
        self._span = span
        self._wanted = span.stop
        self._due = len(span)
        self._in_flight = True
        # Whether the last OPEN on the connection was this request, for whichever span.
        self._is_known: bool = isinstance(before, SpanReceiver) and before.has_sent(connection)
        request = before._request if isinstance(before, SpanReceiver) else _request_of(before)
        super().__init__(connection, request, before._release, before._locator)
        self.head: HeadInfo | None = before.head
        self._given = span.start
        self._began = earlier.began

    # What it is asked for ---------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> bool:
        return self._in_flight

    def want(self, stop: int) -> None:
        self._wanted = max(self._wanted, stop)
        if not self._in_flight and self._wanted > self._span.stop:
            self._request_more()

    def go_on_with(self, span: Span) -> bool:
        """Receive `span` next, in place of all else; False where something is still to come, or where the engine has
        ended. Raises `ReaderClosed`, and the error of what was received before."""
        if self._in_flight:
            return False
        self._check()
        self._pending.clear()
        self._span, self._wanted, self._given = span, span.stop, span.start
        self._due = self._received + len(span)
        try:
            self._number = self._open()
        except errors.EngineDied:
            return False
        self._in_flight = True
        return True

    def has_sent(self, connection: ClientConnection) -> bool:
        """Whether the last OPEN on the connection was this request, for whichever span."""
        return self._is_known and self.connection is connection

    def _request_more(self) -> None:
        """Raises `EngineDied`."""
        self._span = Span(self._span.stop, self._wanted)
        self._due += len(self._span)
        self._number = self._open()
        self._in_flight = True

    def _open(self) -> int:
        before = self._request
        self._locate()
        span, request = self._span, self._request
        if request is not before:
            self._is_known = False
        if self._is_known and len(span) <= MAX_LENGTH:
            return self.connection.open_span(span, self)
        left_s = None if request.total_s is None else request.total_s - (time.monotonic() - self._earlier.began)
        # What is left of the time is said each time.
        self._is_known = left_s is None
        request = msgspec.structs.replace(request, spans=((span.start, span.stop),), total_s=left_s)
        return self.connection.open(request, self)

    # Called by the connection -----------------------------------------------------------------------------------------

    def on_head(self, info: HeadInfo) -> None:
        """It has the first response's."""

    def on_end(self, info: EndInfo) -> None:
        self._earlier.add(info.stats)
        self._in_flight = False
        if self._wanted > self._span.stop:
            try:
                self._request_more()
            except errors.GetmError as error:
                self._fail(error)

    def on_failed(self, error: errors.GetmError) -> None:
        self._in_flight = False
        if isinstance(error, errors.RangesRefused):
            advice = "the server granted range requests and then refused one: download it to a file, or read it whole"
            error = errors.RangesRefused(advice, url=error.url, attempts=error.attempts)
        self._earlier.stats += error.stats or Stats()
        error.stats = None
        self._fail(error)

    def pump(self, *, wait: bool) -> None:
        began_s = time.monotonic()
        try:
            super().pump(wait=wait)
        finally:
            self._earlier.waited_s += time.monotonic() - began_s

    # What a reader asks -----------------------------------------------------------------------------------------------

    def verdict(self) -> Verdict:
        return unverified("read in parts, after a seek: checksums are of the whole")

    def stats(self) -> Stats:
        if self._stats is not None:
            return self._stats
        coming = self._received - (self._due - len(self._span)) if self._in_flight else 0
        return self._earlier.stats_at(time.monotonic(), coming)

    @property
    def finished(self) -> bool:
        return self._given == self.size

    def _may_be_last(self, part: Part) -> bool:
        # The statistics are final when the last byte is given out, and come with the END.
        return self._in_flight and part.offset + len(part.view) == self.size

    def _all_here(self) -> bool:
        return self._received == self._due


def _request_of(before: Receiver) -> OpenRequest:
    """For any span of the version that `before` has, from where its redirects led to."""
    request, head = before.request, before.head
    if head is None:
        return request
    url, final = request.url, head.head.url
    if request.mirrors:
        # Validators are compared only with those of the server that answered.
        url = final
    same = origin_of(final) == origin_of(request.url)
    return msgspec.structs.replace(
        request,
        url=url,
        headers=request.headers if same or not request.mirrors else (),
        route=None if final == url else Route(final, request.headers_for(final) if same else ()),
        mirrors=(),
        concurrency=1,
        adaptive=False,
        checksums=None,
        strict=False,
        version=head.version,
        delegated=True,
        first_bytes=0,
        size=None,
        delay_s=0.0,
    )


def receive_span(before: Receiver, span: Span, acquire: Callable[[], ClientConnection]) -> SpanReceiver:
    """Receive `span` in place of all that `before` was to receive: over its connection, or where the engine of that has
    ended, idle, over one that `acquire` gives. Closes `before`, unless that goes on with the span. Raises `EngineDied`,
    `ReaderClosed`."""
    # Whoever closes `before` in the meantime ends its pipe, and what follows fails.
    before.begin_wait()
    connection = before.connection
    try:
        if isinstance(before, SpanReceiver) and before.go_on_with(span):
            return before
        earlier = _earlier(before)
        if connection.team[0].alive:
            before.give_up(_GivenUp(connection, earlier))
            return SpanReceiver(before, connection, span, earlier)
    finally:
        connection.end_wait()
    before.close()
    return SpanReceiver(before, acquire(), span, earlier)


def receive_also(before: Receiver, span: Span, connection: ClientConnection) -> SpanReceiver:
    """Receive `span` of the version that `before` has, beside it, over `connection`. Raises `EngineDied`."""
    return SpanReceiver(before, connection, span, _Earlier(Stats(), (now := time.monotonic()), now))
