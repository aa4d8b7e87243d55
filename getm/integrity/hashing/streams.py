"""Hash streams: one running digest or CRC each over the blocks of a transfer, which come in any order.

A stream holds state only. `PartsHasher` calls its methods under its lock, and `read`, which does the work, outside of
it. A worker is a thread that takes blocks from one stream until none is left. All streams have

    offer(block)          queue a block; True when one more worker is needed, which counts as started from then on
    take()                the next block that can be read now; None ends the worker that asked
    read(block)           hash one block; the result goes to `merge`
    merge(block, result)  add the result of one block
    drop()                forget the queued blocks and return them; those being read stay with their workers
    digest()              the digest of everything read; only after all blocks have been merged
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import pairwise

from msgspec import Struct

from getm.integrity.algorithms import CrcFunction, Digest
from getm.integrity.blocks import ALGORITHM, BlockSums
from getm.integrity.combine import combine
from getm.integrity.values import DIGEST_BYTES

Crcs = tuple[int, ...]


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

    def read(self, block: Block) -> Crcs:
        self._digest.update(block.view)
        return ()

    def merge(self, block: Block, result: Crcs) -> None:
        """Nothing to do: `read` has updated the digest."""

    def drop(self) -> list[Block]:
        dropped = list(self._waiting.values())
        self._waiting.clear()
        return dropped

    def digest(self) -> bytes:
        return self._digest.digest()


class _Joined:
    """The CRC of what is complete from the start on; a piece beyond it waits as two integers."""

    def __init__(self, algorithm: str) -> None:
        self.crc = 0
        self.size_bytes = 0
        self._algorithm = algorithm
        self._ahead: dict[int, tuple[int, int]] = {}  # offset -> (size in bytes, CRC)

    def add(self, offset: int, size_bytes: int, crc: int) -> None:
        self._ahead[offset] = size_bytes, crc
        while (following := self._ahead.pop(self.size_bytes, None)) is not None:
            more_bytes, more = following
            self.crc = combine(self._algorithm, self.crc, more, more_bytes) if self.size_bytes else more
            self.size_bytes += more_bytes


class CrcStream:
    """A CRC: several workers read blocks at once, in any order, and their CRCs are combined."""

    def __init__(self, algorithm: str, crc: CrcFunction, workers: int) -> None:
        self._algorithm = algorithm
        self._crc = crc
        self._workers_left = workers
        self._queue: deque[Block] = deque()
        self._whole = _Joined(algorithm)

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

    def read(self, block: Block) -> Crcs:
        return (self._crc(block.view, 0),)

    def merge(self, block: Block, result: Crcs) -> None:
        for crc in result:
            self._whole.add(block.offset, block.size_bytes, crc)

    def drop(self) -> list[Block]:
        dropped = list(self._queue)
        self._queue.clear()
        return dropped

    def digest(self) -> bytes:
        return self._whole.crc.to_bytes(DIGEST_BYTES[self._algorithm], "big")


class BlockCrcStream(CrcStream):
    """The CRC32C of each block of so many bytes, of an object of `size`; that of the whole is made of them."""

    def __init__(self, crc: CrcFunction, workers: int, size: int, block_bytes: int) -> None:
        super().__init__(ALGORITHM, crc, workers)
        self._size = size
        self._block_bytes = block_bytes
        self._crcs: list[int] = [0] * -(-size // block_bytes)
        # Of blocks of which not all has come.
        self._open: dict[int, _Joined] = {}

    def read(self, block: Block) -> Crcs:
        return tuple([self._crc(block.view[start - block.offset : stop - block.offset], 0) for start, stop in
                      self._pieces(block)])  # fmt: skip

    def _pieces(self, block: Block) -> list[tuple[int, int]]:
        """What was fed at once, cut where blocks end."""
        start, stop, size = block.offset, block.offset + block.size_bytes, self._block_bytes
        bounds = [start, *range((start // size + 1) * size, stop, size), stop]
        return list(pairwise(bounds))

    def merge(self, block: Block, result: Crcs) -> None:
        for (start, stop), crc in zip(self._pieces(block), result, strict=False):
            index = start // self._block_bytes
            first = index * self._block_bytes
            if stop - start == min(self._block_bytes, self._size - first):
                self._crcs[index] = crc
                continue
            joined = self._open.setdefault(index, _Joined(ALGORITHM))
            joined.add(start - first, stop - start, crc)
            if joined.size_bytes == min(self._block_bytes, self._size - first):
                self._crcs[index] = self._open.pop(index).crc

    def blocks(self) -> BlockSums:
        """Those of everything read; only after all of it has been merged."""
        crcs = b"".join([crc.to_bytes(4, "big") for crc in self._crcs])
        return BlockSums(self._size, self._block_bytes, crcs)

    def digest(self) -> bytes:
        return self.blocks().whole.value


HashStream = OrderedStream | CrcStream
