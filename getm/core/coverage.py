"""Which bytes of an object are there: a set of bytes, for digests and for files."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from getm.core.spans import Span


class Coverage:
    """A set of bytes, kept as sorted spans that neither overlap nor touch."""

    __slots__ = ("_starts", "_stops")

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for span in spans:
            self.add(span.start, span.stop)

    def add(self, start: int, stop: int) -> None:
        """Add the bytes from `start` up to, not including, `stop`, some of which may be in it already."""
        if start >= stop:
            return
        starts, stops = self._starts, self._stops
        # Those from `first` on end at or after `start`; those before `last` begin at or before `stop`.
        first, last = bisect_left(stops, start), bisect_right(starts, stop)
        if first < last:
            start, stop = min(start, starts[first]), max(stop, stops[last - 1])
        starts[first:last] = (start,)
        stops[first:last] = (stop,)

    def copy(self) -> Coverage:
        other = Coverage()
        other._starts, other._stops = self._starts.copy(), self._stops.copy()
        return other

    def spans(self) -> tuple[Span, ...]:
        return tuple(map(Span, self._starts, self._stops))

    def missing(self, size: int) -> tuple[Span, ...]:
        """The spans that are not in it of an object of `size` bytes, in order."""
        gaps = map(Span, (0, *self._stops), (*self._starts, size))
        return tuple(gap for gap in gaps if gap.start < gap.stop)

    def is_exactly(self, size: int) -> bool:
        """Whether it has all of the first `size` bytes, and none beyond."""
        return (self._starts, self._stops) == (([0], [size]) if size else ([], []))

    @property
    def size_bytes(self) -> int:
        return sum(self._stops) - sum(self._starts)

    @property
    def stop(self) -> int:
        """The end of the last span; 0 where there is none."""
        return self._stops[-1] if self._stops else 0

    def bounds(self, most: int) -> list[int]:
        """start, stop, start, stop, ... of the `most` largest spans, in order."""
        pairs = list(zip(self._starts, self._stops, strict=True))
        if len(pairs) > most:
            pairs = sorted(sorted(pairs, key=lambda pair: pair[0] - pair[1])[:most])
        return [bound for pair in pairs for bound in pair]
