"""Hash streams: one running digest or CRC each over the blocks of a transfer, which come in any order.

A stream holds state only. `PartsHasher` calls its methods under its lock, and `read`, which does the work, outside of
it. A worker is a thread that takes blocks from one stream until none is left. All streams have

    offer(block)          queue a block; True when one more worker is needed, which counts as started from then on
    take()                the next block that can be read now; None ends the worker that asked
    read(view)            hash one block; the result goes to `merge`
    merge(block, result)  add the result of one block
    drop()                forget the queued blocks and return them; those being read stay with their workers
    digest()              the digest of everything read; only after all blocks have been merged
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from getm.integrity.algorithms import CrcFunction, Digest
from getm.integrity.combine import combine
from getm.integrity.values import DIGEST_BYTES


class Block(Struct, eq=False):
    """Bytes that were fed: where they belong, how many streams still have to read them, and whom to call then."""

    offset: int
    size_bytes: int
    view: memoryview
    done: Callable[[], None]
    readers: int

    def read_by_one(self) -> bool:
        """One stream has read it. True for the last one: then the block must be given back."""
        self.readers -= 1
        return self.readers == 0


class OrderedStream:
    """A digest that needs the order of the bytes (MD5, SHA): blocks wait for their turn, and one worker reads them."""

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
        """Nothing to do: `read` has updated the digest."""

    def drop(self) -> list[Block]:
        dropped = list(self._waiting.values())
        self._waiting.clear()
        return dropped

    def digest(self) -> bytes:
        return self._digest.digest()


class CrcStream:
    """A CRC: several workers read blocks at once, in any order, and their CRCs are combined.

    What is complete from the start on is one CRC; a block beyond it waits as two integers.
    """

    def __init__(self, algorithm: str, crc: CrcFunction, workers: int) -> None:
        self._algorithm = algorithm
        self._crc = crc
        self._workers_left = workers
        self._queue: deque[Block] = deque()
        self._prefix_crc = 0
        self._prefix_bytes = 0
        self._ahead: dict[int, tuple[int, int]] = {}  # offset -> (size in bytes, CRC)

    def offer(self, block: Block) -> bool:
        self._queue.append(block)
        if not self._workers_left:
            return False
        self._workers_left -= 1
        return True

    def take(self) -> Block | None:
        if self._queue:
            return self._queue.popleft()
        self._workers_left += 1
        return None

    def read(self, view: memoryview) -> int:
        return self._crc(view, 0)

    def merge(self, block: Block, result: int) -> None:
        self._ahead[block.offset] = (block.size_bytes, result)
        while (following := self._ahead.pop(self._prefix_bytes, None)) is not None:
            size_bytes, crc = following
            self._prefix_crc = combine(self._algorithm, self._prefix_crc, crc, size_bytes)
            self._prefix_bytes += size_bytes

    def drop(self) -> list[Block]:
        dropped = list(self._queue)
        self._queue.clear()
        return dropped

    def digest(self) -> bytes:
        return self._prefix_crc.to_bytes(DIGEST_BYTES[self._algorithm], "big")


HashStream = OrderedStream | CrcStream
