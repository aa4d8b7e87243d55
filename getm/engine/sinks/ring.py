"""Filling slots with the bytes of one part."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from getm.core.spans import Span
from getm.engine.sinks.slots import Claim
from getm.engine.timers import Timer, Timers

# How long a consumer that has nothing to read waits for a full slot before it gets what there is.
_PATIENCE_S = 0.1

# Called with (offset, slot, length) for each slot that is full, or holds the last bytes of its part.
Emit = Callable[[int, int, int], None]


class PartWriter:
    """Fills slots with the bytes of one part, in order: from `start` to `stop`, or to the end where that is None."""

    def __init__(
        self,
        memory: memoryview,
        slot_bytes: int,
        claim: Claim,
        start: int,
        stop: int | None,
        emit: Emit,
        *,
        prompt: bool,
        timers: Timers,
    ) -> None:
        self._timers = timers
        self._memory = memory
        self._slot_bytes = slot_bytes
        self._claim = claim
        self._emit = emit
        self._start = start
        self.position = start
        self.stop = stop
        self._slot: int | None = None
        self._filled = 0
        # Bytes that may go into the current slot.
        self._room = 0
        # Whether what little there is should go out as soon as it may, and the timer that decides it.
        self._hungry = False
        self._hunger: Timer | None = None
        self._on_hungry: Callable[[], None] | None = None
        # Whether the consumer waits for the first slot; afterwards it is the claim that tells.
        self._awaited = prompt
        # Whether there was no slot to fill at any time since someone last cleared this.
        self.waited = False
        self._waiter: asyncio.Future[None] | None = None
        self._on_space: Callable[[], None] | None = None
        claim.on_slot, claim.on_spare = self._slot_ready, self._send_early
        if prompt:
            claim.on_returned = self._returned

    @property
    def remaining(self) -> Span:
        """What is still to come of a part of known length."""
        return Span(self.position, self.position if self.stop is None else self.stop)

    @property
    def complete(self) -> bool:
        """Whether nothing is to come of a part of known length."""
        return self.stop is None or self.position >= self.stop

    def _slot_ready(self) -> None:
        if self._on_space is not None:
            self._on_space()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def begin(self) -> None:
        """Wait until the part may start: its slots are there, or it is the one the consumer waits for."""
        while not self._claim.start():
            await self._wait()

    def expect(self) -> None:
        """All that is at hand is written, and more is waited for. A small object is there with its head, and needs
        none of the care for a consumer that waits."""
        if self._awaited:
            self._starved()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def notify(self, on_space: Callable[[], None] | None, on_hungry: Callable[[], None] | None = None) -> None:
        """Call `on_space()` when there is space again after `space()` found none; `on_hungry()` when the consumer has
        waited so long that it should get whatever comes: what `space()` returned before is then no longer ours."""
        self._on_space = on_space
        self._on_hungry = on_hungry

    def _returned(self, earliest: int | None) -> None:
        # Bytes behind this part do not help a consumer that wants the object in order.
        if earliest is None or earliest > self.position:
            self._starved()

    def _starved(self) -> None:
        """The consumer has nothing left to read. If no slot is full soon, it gets what there is: on a slow connection
        a slot takes seconds to fill."""
        if self._hunger is None:
            self._hunger = self._timers.call_later(_PATIENCE_S, self._grow_hungry)

    def _grow_hungry(self) -> None:
        self._hunger = None
        if not self._claim.is_first():
            return
        self._hungry = True
        if self._filled and self._claim.spare():
            self._send()
        if self._on_hungry is not None:
            self._on_hungry()

    def _send_early(self) -> None:
        """There is a slot for the rest of what could not go out for want of one."""
        self._send()
        if self._on_hungry is not None:
            self._on_hungry()

    def _sated(self) -> None:
        self._awaited = self._hungry = self._claim.wishes = False
        if self._hunger is not None:
            self._hunger.cancel()
            self._hunger = None

    def space(self) -> memoryview | None:
        """Where the next bytes go: the rest of the current slot or of the part, whichever ends first; never empty.
        None where no slot is free."""
        if self._slot is None:
            self._slot = self._claim.next()
            if self._slot is None:
                self.waited = True
                return None
            # Slots end at whole slots of the object, whatever was sent before its time: a chunk stays in one slot.
            self._room = self._slot_bytes - (self.position - self._start) % self._slot_bytes
            if self.stop is not None:
                self._room = min(self._room, self.stop - self.position)
        start = self._slot * self._slot_bytes
        return self._memory[start + self._filled : start + self._room]

    def advance(self, count: int) -> bool:
        """`count` bytes were written to `space()`. True where the slot went out: `space()` then means another one."""
        self._filled += count
        self.position += count
        if self._filled == self._room or (self._hungry and self._claim.spare()):
            self._send()
            return True
        return False

    def _send(self) -> None:
        if self._slot is not None:
            slot, length = self._slot, self._filled
            self._slot, self._filled = None, 0
            self._sated()
            self._emit(self.position - length, slot, length)

    def end_of_content(self) -> None:
        """The content of unknown length ended here."""
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
            await self._wait()

    def close(self) -> None:
        """The part is over, complete or not: every slot that was not sent goes back."""
        self._sated()
        if self._slot is not None:
            self._claim.put_back(self._slot)
            self._slot = None
        # It forgets this writer, and this one the ring: where a part, its races and tasks know each other, the ring's
        # memory does not wait for the collector to part them.
        self._memory = memoryview(b"")
        self._claim.close()
