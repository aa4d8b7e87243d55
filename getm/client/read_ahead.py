"""How much to request of an object that is read in any order: decided from the reads, without I/O.

A *run* is a series of reads that follow each other. Its first read is met by a request for what was asked for, and
little more; the longer it goes on, the more is requested ahead. So scattered reads transfer what they need, a long run
is a stream, and no request is for more than a few times what was read in a row before it.
"""

from __future__ import annotations

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


class ReadAhead:
    """One run, which began at `start`, in an object of `size` bytes; those up to `requested` are requested."""

    def __init__(self, size: int, start: int, requested: int) -> None:
        self._size = size
        self._start = start
        self.requested: int = min(requested, size)
        # Reads that end beyond this call `request`.
        self.quiet_until: int = MAX_POSITION if self.requested == size else self.requested

    def request(self, position: int, stop: int) -> int:
        """Up to where to request, for a read from `position` to `stop`."""
        ahead = min(GROWTH * (position - self._start), MAX_AHEAD_BYTES)
        self.requested = min(self._size, max(self.requested, stop, position + ahead))
        # Until half as much as was read is left, or an eighth of the most.
        soon = max((2 * self.requested + self._start) // 3, self.requested - MAX_AHEAD_BYTES // 8)
        # Not within this read, which may be made in pieces.
        self.quiet_until = MAX_POSITION if self.requested == self._size else max(soon, min(stop, self.requested))
        return self.requested

    def reaches(self, target: int, received: int) -> bool:
        """Whether a read at `target`, when the bytes before `received` are here, belongs to the run: what lies between
        costs less than a request."""
        return target - received <= SKIPPED_BYTES and target <= self.requested + MIN_BYTES


def first_span(size: int, position: int, stop: int) -> Span:
    """What to request of an object of `size` bytes for the first read of a run, from `position` to `stop`."""
    if position > size - TAIL_BYTES:
        return Span(max(0, size - TAIL_BYTES), size)
    return Span(position, min(size, max(stop, position + MIN_BYTES)))
