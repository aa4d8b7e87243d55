"""Spans of one object, collected into memory of their own: what is requested for them, and where their bytes go.

The engine writes them to their final place, one behind the other, where it can have exactly them. Where they are few
and small, or come with others (a server that ignores Range, `max_gap`), they are copied out of the ring.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

import msgspec

from getm.client.receiver import Receiver
from getm.core.spans import MAX_POSITION, Span, join, lay_out, resolve
from getm.core.units import KIB, MIB
from getm.core.version import Version
from getm.integrity.verdict import unverified
from getm.protocol.messages import WHOLE, OpenRequest
from getm.results import SpanContents, Stats

# Of so many spans an OPEN has room, beside URL and headers.
_MAX_SPANS = 512
# Small spans wait for their answers more than for their bytes: where those take long, many at once are worth it. Of
# large ones a few fill a connection's share. The last: so many may have a slot each.
_MAX_SMALL_AT_ONCE, _MAX_LARGE_AT_ONCE, _MAX_IN_SLOTS = 64, 8, 16
# From so many bytes on, one span is worth several connections.
_ADAPTIVE_BYTES = 8 * MIB
# Shorter ones can be hashed and compared, as `bytes` can.
_BYTES_UP_TO = 64 * KIB


class CollectedSpans:
    """Spans that a caller wants of one object, in any order, overlapping or not.

    `requests` yields what is to be requested, one OPEN after another: after each of them `collect` must have returned
    True. All that is requested after the first is of the version which that one has found.
    """

    # Nothing is given out before the end: what has come may come again.
    position = 0

    def __init__(self, wanted: Sequence[Span], max_gap: int) -> None:
        self._wanted = wanted
        self._max_gap = max_gap
        spans_wanted = [span for span in wanted if span.start >= 0]
        spans = join(spans_wanted, max_gap)
        suffixes = [span for span in wanted if span.start < 0]
        # The longest one has all others.
        self._suffix = min(suffixes, key=lambda span: span.start, default=None)
        self._left = spans
        self._version = Version()
        # Whether nothing is requested but what is wanted.
        self._exact = not max_gap or (not suffixes and spans == join(spans_wanted))
        self._size: int | None = None
        self._stats = Stats()
        self._verdict = unverified("nothing was asked for")
        self.clear()

    def clear(self) -> None:
        """Drop what has come."""
        self._data: list[bytes | bytearray | memoryview | None] = [None] * len(self._wanted)
        # The spans that have bytes, by their starts; their numbers; and how long the longest is.
        self._spans: list[Span] = []
        self._starts: list[int] = []
        self._numbers: list[int] = []
        self._longest = 0
        # Whether the size was known when they were laid out: it may become known as the last bytes come.
        self._sized = False

    # What is requested ------------------------------------------------------------------------------------------------

    def next_request(self, common: OpenRequest, concurrency: int | None) -> OpenRequest | None:
        """The next request, made of what all have in common; None where there is nothing more. `concurrency`: spans
        that are fetched at once; None: as many as are of use."""
        size = self._size
        if size is not None and (self._left or self._suffix is not None):
            # After the first request.
            suffix = () if self._suffix is None else (self._suffix,)
            self._left = join((resolve(span, size) for span in (*self._left, *suffix)), self._max_gap)
            self._suffix = None
            if self._left and not self._version.joinable:
                # Nothing would show that two responses are of one version: one brings all, from the start.
                self._wanted = [resolve(span, size) for span in self._wanted]
                whole = join(self._wanted, MAX_POSITION)
                self._left, self._version, self._exact = (), Version(), False
                self.clear()
                return self._request(common, whole, 1)
        spans, self._left = self._left[:_MAX_SPANS], self._left[_MAX_SPANS:]
        if self._suffix is not None and not self._left:
            spans, self._suffix = (*spans, self._suffix), None
        return self._request(common, spans, concurrency) if spans else None

    def _request(self, common: OpenRequest, spans: tuple[Span, ...], concurrency: int | None) -> OpenRequest:
        # The ring has slots for a few; for many, one block costs less than their slots, however small they are.
        place_from = common.place_from if self._exact else None
        if len(spans) > _MAX_IN_SLOTS and place_from is not None:
            place_from = 1
        adaptive = common.adaptive and len(spans) == 1 and _length(spans[0]) >= _ADAPTIVE_BYTES
        if concurrency is None:
            large = max(map(_length, spans)) > MIB
            most = _MAX_LARGE_AT_ONCE if large else _MAX_SMALL_AT_ONCE if place_from == 1 else _MAX_IN_SLOTS
            concurrency = min(len(spans), most)
            adaptive = adaptive or concurrency > _MAX_IN_SLOTS
        pairs = tuple((span.start, span.stop) for span in spans)
        return msgspec.structs.replace(
            common,
            spans=WHOLE if pairs == WHOLE and self._version.size is None else pairs,
            version=None if self._version == Version() else self._version,
            concurrency=common.concurrency if adaptive and len(spans) == 1 else concurrency,
            adaptive=adaptive,
            place_from=place_from,
        )

    # What comes -------------------------------------------------------------------------------------------------------

    def collect(self, receiver: Receiver) -> bool:
        """Copy what has come; True where all that was requested is there."""
        receiver.reader = self
        while (part := receiver.next_part(ordered=False)) is not None:
            self._copy(part.offset, part.view, receiver.size)
        if not receiver.finished or receiver.head is None:
            return False
        memory = receiver.take_memory()
        if memory is not None:
            with contextlib.closing(memory):
                self._take(memory.view(), receiver.request, receiver.size or 0)
        self._version = receiver.head.version
        self._stats += receiver.stats()
        self._verdict = receiver.verdict()
        self._size = receiver.size
        return True

    def _take(self, view: memoryview, request: OpenRequest, size: int) -> None:
        """Everything that was requested has come, in one block of memory."""
        brought = lay_out([Span(*span) for span in request.spans], size)
        starts = [span.start for span in brought]
        places = [0, *accumulate(map(len, brought))]
        for number, wanted in enumerate(self._wanted):
            span = resolve(wanted, size)
            index = bisect_right(starts, span.start) - 1
            if len(span) and index >= 0 and span.stop <= brought[index].stop:
                start = places[index] + span.start - starts[index]
                self._data[number] = view[start : start + len(span)]

    def _resolve(self, size: int | None) -> None:
        """The object's size is known, or that it is not."""
        self._sized = size is not None
        found = [(span if size is None else resolve(span, size), number) for number, span in enumerate(self._wanted)]
        found = sorted(((span, number) for span, number in found if len(span)), key=lambda each: each[0].start)
        self._spans = [span for span, _ in found]
        self._starts = [span.start for span in self._spans]
        self._numbers = [number for _, number in found]
        self._longest = max(map(_length, self._spans), default=0)

    def _copy(self, offset: int, view: memoryview, size: int | None) -> None:
        if not self._spans:
            self._resolve(size)
        stop = offset + len(view)
        first = bisect_left(self._starts, offset - self._longest)
        for index in range(first, bisect_left(self._starts, stop)):
            span, number = self._spans[index], self._numbers[index]
            start, end = max(span.start, offset), min(span.stop, stop)
            if start >= end:
                continue
            piece = view[start - offset : end - offset]
            if len(piece) == len(span):
                self._data[number] = bytes(piece)
                continue
            data = self._data[number]
            if not isinstance(data, bytearray):
                # Without a size, one stream brings it in order: it grows.
                data = self._data[number] = bytearray(len(span)) if self._sized else bytearray()
            data[start - span.start : end - span.start] = piece

    def contents(self) -> SpanContents:
        """What has come, for the caller."""
        views = []
        for data in self._data:
            if isinstance(data, bytearray) and len(data) < _BYTES_UP_TO:
                data = bytes(data)
            views.append(memoryview(data or b"").toreadonly())
        return SpanContents(views, self._size, self._verdict, self._version, self._stats)


def _length(span: Span) -> int:
    return -span.start if span.start < 0 else len(span)
