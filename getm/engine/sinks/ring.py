"""The sink that fills slots of shared memory with the bytes of one span."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from getm.core.spans import Span
from getm.engine.sinks.slots import Claim

# How long bytes may be in a slot that is not full before the consumer may read them, and the time in which a connection
# that counts as fast fills a slot.
_TICK_S = 0.03


class Emit(Protocol):
    """Called for bytes of the object from `offset` on, which are the first `length` of `slot`; it was not called for
    the last `new` of them before. `full`: the slot is complete; otherwise the sink continues to fill it."""

    def __call__(self, offset: int, slot: int, length: int, new: int, *, full: bool) -> None: ...


class RingSink:
    """Fills slots with the bytes of one span, in order, to its end; where that is not known, to that of the content.

    Slots go to the consumer when they are full. Where that takes long, the bytes that are there are announced to the
    consumer, so that a slow stream comes as it is received.
    """

    def __init__(self, memory: memoryview, slot_bytes: int, claim: Claim, span: Span, emit: Emit) -> None:
        self._memory = memory
        self._slot_bytes = slot_bytes
        self._claim = claim
        self._emit = emit
        self.position: int = span.start
        self._start = span.start
        self.stop: int = span.stop
        self._slot: int | None = None
        self._filled = 0
        # Bytes of the current slot that the consumer knows of.
        self._announced = 0
        # Bytes that may go into the current slot.
        self._room = 0
        # Whether slots fill so fast that nothing less than a whole one need be announced; how many were sent, now and
        # at the last tick.
        self.fast: bool = True
        self._sent = self._sent_before = 0
        self._tick: asyncio.TimerHandle | None = None
        self._on_pace: Callable[[], None] = lambda: None
        # Whether there was no slot to fill at any time since this was last cleared.
        self.waited: bool = False
        self.waits: int = 0
        # Whether a response fills it that may be cut; whether it waits at `stop` until `resume`.
        self.may_cut: bool = False
        self._held = False

    @property
    def remaining(self) -> Span:
        """The bytes still to come."""
        return Span(self.position, self.stop)

    @property
    def ended(self) -> bool:
        """Whether nothing more is wanted."""
        return self.position == self.stop and not self._held

    def border(self, position: int) -> int:
        """Where it may be cut: the first end of a slot at or beyond `position`, and beyond the one being filled."""
        at_least = max(position, self.position + self._slot_bytes) - self._start
        return self._start + -(-at_least // self._slot_bytes) * self._slot_bytes

    def cut(self, stop: int, *, hold: bool) -> None:
        """Others bring the bytes from `stop` on, a border. `hold`: wait there until `resume`, since it is not certain
        that they can."""
        self.stop, self._held = stop, hold
        current = 0 if self._slot is None else self._room - self._filled
        self._claim.limit(-(-(stop - self.position - current) // self._slot_bytes))

    def resume(self, stop: int | None = None) -> None:
        """After `cut` with `hold`: others bring the rest; or nobody does, and `stop` is where it was before."""
        self._held = False
        if stop is not None:
            self.stop = stop
            self._claim.unlimit()
        # It may be waiting there.
        self._claim.on_slot()

    async def begin(self) -> None:
        """Wait until the span may be fetched: its slots are there, or it is the one the consumer waits for."""
        while not self._claim.start():
            await self._claim.wait()

    def notify(self, on_space: Callable[[], None], on_pace: Callable[[], None]) -> None:
        """Call `on_space()` when there is space again after `space()` found none; `on_pace()` when `fast` changes."""
        self._claim.on_slot, self._on_pace = on_space, on_pace
        self.may_cut = True
        if self._tick is None:
            self.fast = True
            self._start_tick()

    def silence(self) -> None:
        """Call nothing any more."""
        self._claim.on_slot = self._on_pace = lambda: None
        self.may_cut = False

    def space(self) -> memoryview | None:
        """The memory for the next bytes: the rest of the current slot or of the span, whichever ends first; never
        empty. None where no slot is free, and where no more is wanted, or may be."""
        if self._slot is None:
            if self.position == self.stop:
                return None
            self._slot = self._claim.next()
            if self._slot is None:
                self.waited = True
                self.waits += 1
                return None
            # Slots end at whole slots of the object, wherever the span began: a chunk stays in one slot.
            room = self._slot_bytes - (self.position - self._start) % self._slot_bytes
            self._room = min(room, self.stop - self.position)
        start = self._slot * self._slot_bytes
        return self._memory[start + self._filled : start + self._room]

    def advance(self, count: int) -> bool:
        """`count` bytes were written to `space()`. True where the slot was sent: `space()` is then another one."""
        self._filled += count
        self.position += count
        if self._filled == self._room:
            self._send()
            return True
        if self._tick is None:
            self._start_tick()
        return False

    def _start_tick(self) -> None:
        self._sent_before = self._sent
        self._tick = asyncio.get_running_loop().call_later(_TICK_S, self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        fast = self._sent > self._sent_before
        if not fast:
            self._announce()
        if fast != self.fast:
            self.fast = fast
            self._on_pace()
        if fast:
            # Until it turns out to be slow: what the kernel holds back on a fast connection must come as well.
            self._start_tick()

    def _announce(self) -> None:
        if self._slot is not None and self._filled > self._announced:
            new, self._announced = self._filled - self._announced, self._filled
            self._emit(self.position - self._filled, self._slot, self._filled, new, full=False)

    def _send(self) -> None:
        if self._slot is not None:
            slot, length, new = self._slot, self._filled, self._filled - self._announced
            self._slot, self._filled, self._announced = None, 0, 0
            self._sent += 1
            self._emit(self.position - length, slot, length, new, full=True)

    def end_of_content(self) -> None:
        """The content of unknown length has ended."""
        if self._filled:
            self._send()
        self.stop = self.position

    def fill(self, data: bytes | memoryview) -> memoryview:
        """Copy `data` into the slots that are there; returns what is left of it."""
        rest = memoryview(data)
        while rest and (space := self.space()) is not None:
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            rest = rest[count:]
            self.advance(count)
        return rest

    async def write(self, data: bytes | memoryview) -> None:
        """Copy `data` into slots, waiting for them as needed: the plain path."""
        while data := self.fill(data):
            await self._claim.wait()

    def close(self) -> None:
        """The span is over, complete or not: every slot that the consumer does not know of goes back."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if self._announced:
            # The consumer may be reading it.
            self._send()
        elif self._slot is not None:
            self._claim.put_back(self._slot)
            self._slot = None
        # It drops this sink, and this one the ring: a span, its hedges and tasks refer to each other, and the ring's
        # memory must not wait for a garbage collection.
        self._memory = memoryview(b"")
        self._claim.close()
