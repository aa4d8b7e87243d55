"""How much to request of an object that is read in any order: decided from the reads, without I/O.

A *run* is a series of reads that follow each other. Its first read is met by a request for what was asked for, and
little more; the longer it goes on, the more is requested ahead. So scattered reads transfer what they need, a long run
is a stream, and no request is for more than a few times what was read in a row before it.
"""

from __future__ import annotations

from typing import NamedTuple

from getm.core.spans import MAX_POSITION, Span
from getm.core.units import KIB, MIB

# The least that a request is for: on most networks, fewer bytes do not come sooner.
MIN_BYTES = 64 * KIB
# A read this near to the end gets all of that by one request: zip files and Parquet have an index there, of which the
# last bytes are read first.
TAIL_BYTES = 128 * KIB
# So many times what was read in a row is requested ahead, and not more than that, which keeps a fast connection busy.
GROWTH = 2
MAX_AHEAD_BYTES = 64 * MIB
# So many bytes that are on their way come sooner than the answer to another request.
SKIPPED_BYTES = 256 * KIB


class Pace(NamedTuple):
    """How a run goes on: `growth` / `of` times what was read in a row is requested ahead, `max_ahead` bytes at most.
    Its first request is for `min_bytes` or more, and for the last `tail_bytes` of an object where it is near them. An
    object of up to `small_bytes` that is read from its start on is mostly read whole, and grows as files do."""

    growth: int
    of: int
    max_ahead: int
    min_bytes: int
    tail_bytes: int
    small_bytes: int


FILES = Pace(GROWTH, 1, MAX_AHEAD_BYTES, MIN_BYTES, TAIL_BYTES, 0)


class ReadAhead:
    """One run, which began at `start`, in an object of `size` bytes; those up to `requested` are requested."""

    def __init__(self, size: int, start: int, requested: int, pace: Pace = FILES) -> None:
        self._size = size
        self._start = start
        self._max_ahead = pace.max_ahead
        is_small = start == 0 and size <= pace.small_bytes
        self._growth, self._of = FILES[:2] if is_small else pace[:2]
        self.requested: int = min(requested, size)
        # Reads that end beyond this call `request`.
        self.quiet_until: int = MAX_POSITION if self.requested == size else self.requested

    def request(self, position: int, stop: int) -> int:
        """Up to where to request, for a read from `position` to `stop`."""
        growth, of, max_ahead = self._growth, self._of, self._max_ahead
        ahead = min(growth * (position - self._start) // of, max_ahead)
        self.requested = min(self._size, max(self.requested, stop, position + ahead))
        # Until half of that is left, or an eighth of the most.
        read = (self.requested - self._start) * (growth + 2 * of) // (2 * (growth + of))
        soon = max(self._start + read, self.requested - max_ahead // 8)
        # Not within this read, which may be made in pieces.
        self.quiet_until = MAX_POSITION if self.requested == self._size else max(soon, min(stop, self.requested))
        return self.requested

    def reaches(self, target: int, received: int) -> bool:
        """Whether a read at `target`, when the bytes before `received` are here, belongs to the run: what lies between
        costs less than a request."""
        return target - received <= SKIPPED_BYTES and target <= self.requested + MIN_BYTES


def first_span(size: int, position: int, stop: int, pace: Pace = FILES) -> Span:
    """What to request of an object of `size` bytes for the first read of a run, from `position` to `stop`."""
    if position > size - pace.tail_bytes:
        return Span(max(0, size - pace.tail_bytes), size)
    return Span(position, min(size, max(stop, position + pace.min_bytes)))
