"""The sink that puts bytes where they stay: a whole object in one segment, each byte at its offset."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from getm.buffers.object_memory import WritableMemory
from getm.core.spans import Span
from getm.core.units import MIB

# What is handed on, and hashed, at once.
_BLOCK_BYTES = MIB


class SegmentSink:
    """Takes the bytes of one span to their places, which are `shift` bytes behind their offsets. `on_block(offset,
    view)` gets each block that is complete, or where the span ends: it may be read from then on, and is never written
    again. See `Sink`."""

    def __init__(
        self,
        memory: WritableMemory,
        span: Span,
        shift: int,
        on_block: Callable[[int, memoryview], None],
    ) -> None:
        self._memory = memory
        self._shift = shift
        self._on_block = on_block
        self.position: int = span.start
        self.stop: int = span.stop
        # The start of the bytes that `on_block` has not had.
        self._block = span.start
        # There is always memory, and nobody reads before the end.
        self.fast: bool = True
        self.waited: bool = False
        self.waits: int = 0
        self.may_cut: bool = False
        self._held = False
        self._resumed = asyncio.Event()
        self._on_space: Callable[[], None] = lambda: None

    @property
    def remaining(self) -> Span:
        return Span(self.position, self.stop)

    @property
    def ended(self) -> bool:
        return self.position == self.stop and not self._held

    def border(self, position: int) -> int:
        return -(-max(position, self.position + _BLOCK_BYTES) // _BLOCK_BYTES) * _BLOCK_BYTES

    def cut(self, stop: int, *, hold: bool) -> None:
        self.stop, self._held = stop, hold

    def resume(self, stop: int | None = None) -> None:
        self._held = False
        if stop is not None:
            self.stop = stop
        self._resumed.set()
        self._on_space()

    async def begin(self) -> None:
        """Nothing to wait for."""

    def notify(self, on_space: Callable[[], None], on_pace: Callable[[], None]) -> None:
        self._on_space = on_space
        self.may_cut = True

    def silence(self) -> None:
        self._on_space = lambda: None
        self.may_cut = False

    def space(self) -> memoryview | None:
        if self.position == self.stop:
            return None
        return self._memory.space(self.position + self._shift, self._block_end() + self._shift)

    def _block_end(self) -> int:
        return min(self.stop, (self.position // _BLOCK_BYTES + 1) * _BLOCK_BYTES)

    def advance(self, count: int) -> bool:
        self.position += count
        if self.position % _BLOCK_BYTES and self.position != self.stop:
            return False
        self._hand_on()
        return True

    def _hand_on(self) -> None:
        start, self._block = self._block, self.position
        if start < self.position:
            self._on_block(start, self._memory.bytes(start + self._shift, self.position + self._shift))

    def end_of_content(self) -> None:
        self.stop = self.position
        self._hand_on()

    async def write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            if self.position == self.stop:
                if self.ended:
                    return
                self._resumed.clear()
                await self._resumed.wait()
                continue
            count = min(self._block_end() - self.position, len(rest))
            self._memory.write(self.position + self._shift, rest[:count])
            rest = rest[count:]
            self.advance(count)

    def close(self) -> None:
        # What came last may be the start of a block that another response continues.
        self._hand_on()
