"""Strands: one running computation each over the parts of a transfer, fed in any order.

A stream holds state only. `PartsHasher` calls `offer`, `take` and `merge` under its lock, and `read`, which does the
work, outside of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from getm.integrity.algorithms import CrcFunction, Digest
from getm.integrity.combine import CRC_MODELS, combine


class Block:
    """One fed part: its bytes, who still has to read them, and whom to tell when all have."""

    __slots__ = ("done", "offset", "readers", "size_bytes", "view")

    def __init__(self, offset: int, view: memoryview, done: Callable[[], None], readers: int) -> None:
        self.offset = offset
        self.view = view
        self.size_bytes = view.nbytes
        self.done = done
        self.readers = readers

    def read_by_one(self) -> bool:
        """One stream is through with it. True when it was the last: then the part must be given back."""
        self.readers -= 1
        return self.readers == 0


class HashStream(Protocol):
    """What the hasher drives. A runner is a thread that takes tickets from a stream until there is none left."""

    def offer(self, block: Block) -> bool:
        """Queue a part; True when one more runner is wanted, which then counts as started."""

    def take(self) -> Block | None:
        """The next part that can be read now; None ends the runner that asked."""

    def read(self, view: memoryview) -> int:
        """Hash one part. The result goes to `merge`."""

    def merge(self, block: Block, result: int) -> None:
        """Add the result of one part."""

    def drop(self) -> list[Block]:
        """Forget the queued parts and return them; those being read stay with their runners."""

    def digest(self) -> bytes:
        """The digest of everything read; only after all parts have been absorbed."""


class OrderedStream:
    """A digest that needs byte order (MD5, SHA): parts wait for their turn; one runner at a time."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self._waiting: dict[int, Block] = {}
        self._next_offset = 0
        self._running = False

    def offer(self, block: Block) -> bool:
        self._waiting[block.offset] = block
        if self._running or block.offset != self._next_offset:
            return False
        self._running = True
        return True

    def take(self) -> Block | None:
        block = self._waiting.pop(self._next_offset, None)
        if block is None:
            self._running = False
            return None
        self._next_offset += block.size_bytes
        return block

    def read(self, view: memoryview) -> int:
        self._digest.update(view)
        return 0

    def merge(self, block: Block, result: int) -> None:
        """Nothing to do: the digest itself has taken the bytes in."""

    def drop(self) -> list[Block]:
        dropped = list(self._waiting.values())
        self._waiting.clear()
        return dropped

    def digest(self) -> bytes:
        return self._digest.digest()


class CrcStream:
    """A CRC: parts are read in any order by several runners at once, and their CRCs combined.

    Out-of-order CRCs wait as two integers a part; the prefix that is complete is one.
    """

    def __init__(self, algorithm: str, crc: CrcFunction, runners: int) -> None:
        self._algorithm = algorithm
        self._crc = crc
        self._runners_left = runners
        self._queue: deque[Block] = deque()
        self._prefix_crc = 0
        self._prefix_bytes = 0
        self._ahead: dict[int, tuple[int, int]] = {}  # offset -> (size in bytes, CRC)

    def offer(self, block: Block) -> bool:
        self._queue.append(block)
        if not self._runners_left:
            return False
        self._runners_left -= 1
        return True

    def take(self) -> Block | None:
        if self._queue:
            return self._queue.popleft()
        self._runners_left += 1
        return None

    def read(self, view: memoryview) -> int:
        return self._crc(view, 0)

    def merge(self, block: Block, result: int) -> None:
        self._ahead[block.offset] = (block.size_bytes, result)
        while (part := self._ahead.pop(self._prefix_bytes, None)) is not None:
            size_bytes, crc = part
            self._prefix_crc = combine(self._algorithm, self._prefix_crc, crc, size_bytes)
            self._prefix_bytes += size_bytes

    def drop(self) -> list[Block]:
        dropped = list(self._queue)
        self._queue.clear()
        return dropped

    def digest(self) -> bytes:
        return self._prefix_crc.to_bytes(CRC_MODELS[self._algorithm].digest_bytes, "big")


class Coverage:
    """Which bytes of [0, total) have been fed, as merged spans."""

    def __init__(self) -> None:
        self._end_of: dict[int, int] = {}
        self._start_of: dict[int, int] = {}
        self._fed_bytes = 0

    def add(self, start: int, size_bytes: int) -> None:
        end = start + size_bytes
        self._fed_bytes += size_bytes
        start = self._start_of.pop(start, start)
        end = self._end_of.pop(end, end)
        self._end_of[start] = end
        self._start_of[end] = start

    def is_exactly(self, total_bytes: int) -> bool:
        """True when every byte of [0, total_bytes) has been fed once."""
        whole = {0: total_bytes} if total_bytes else {}
        return self._fed_bytes == total_bytes and self._end_of == whole
