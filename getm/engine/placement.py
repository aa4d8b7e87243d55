"""Memory of an object's own: its bytes are received at their places in it."""

from __future__ import annotations

import asyncio
import gc
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from getm import errors
from getm.buffers.object_memory import WritableMemory
from getm.core.spans import Span


class Placement:
    """The memory that the consumer has for an object, which comes after the head has said the size of it. `memory`:
    None as long as it has not come, or the bytes go through the ring."""

    def __init__(self) -> None:
        self.memory: WritableMemory | None = None
        self._coming: asyncio.Future[WritableMemory] | None = None
        self._starts: list[int] = []
        self._places = [0]

    def expect(self, spans: Sequence[Span] = ()) -> None:
        """The consumer will send it. `spans`: what it has one after another; none: all bytes, at their offsets."""
        self._starts = [span.start for span in spans]
        self._places = [0, *accumulate(map(len, spans))]
        self._coming = asyncio.get_running_loop().create_future()

    def come(self, descriptor: int | None, size: int) -> None:
        """It has come: `size` bytes. The descriptor, None where the process has no room for it, is this object's."""
        coming = self._coming
        if coming is None or coming.done():
            if descriptor is not None:
                os.close(descriptor)
            return
        try:
            if descriptor is None:
                raise errors.DescriptorsExhausted.of("the engine for the memory of an object")
            coming.set_result(WritableMemory(descriptor, size))
        except errors.GetmError as error:
            coming.set_exception(error)

    async def wait(self) -> None:
        """Wait for it, if it is expected. Raises `DescriptorsExhausted`."""
        if self._coming is not None:
            self.memory = await self._coming

    @property
    def are_offsets(self) -> bool:
        """Whether all bytes are at their offsets."""
        return self._starts in ([], [0])

    def of(self, position: int) -> int:
        """Where the byte at that offset of the object is in the memory."""
        if self.are_offsets:
            return position
        index = bisect_right(self._starts, position) - 1
        return self._places[index] + position - self._starts[index]

    async def let_go(self) -> bool:
        """Unmap what was filled: then the consumer can seal it. False where something still refers to it."""
        if self.memory is None:
            return True
        for collect in (False, False, True):
            if self.memory.close():
                return True
            # A connection that was given up, whose end the loop has still to notice; or a cycle.
            await asyncio.sleep(0)
            if collect:
                gc.collect()
        return self.memory.close()

    def close(self) -> None:
        """Let go of the memory as far as nothing refers to it. Harmless afterwards."""
        if self.memory is not None:
            self.memory.close()
