"""Which part gets the next free slot: so that the parts together can never block each other for good.

Slots are reserved in the order of the parts, by (object, offset): a part gets one only when every part before it has
all it needs. A part may start once it has them all, or, where it is the first, as soon as it has one. So a part that a
consumer waits for never lacks a slot because a later part has it, and a part that was started can be finished.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Callable

from getm.buffers.ledger import SlotLedger

Key = tuple[int, int]


class Claim:
    """One part's claim on slots. `on_slot()` is called when a claim that had to wait may ask again."""

    def __init__(self, pool: SlotPool, key: Key, needed: int | None, on_slot: Callable[[], None]) -> None:
        self._pool = pool
        self.key = key
        self.needed = needed
        self.on_slot = on_slot
        # Wait while so many slots are still being hashed; None: never.
        self.max_pinned: int | None = None
        # Called when the consumer has nothing left to read, where this part is the first.
        self.on_starved: Callable[[], None] | None = None
        # A heap, as the ledger's: the lowest is filled first.
        self._reserved: list[int] = []
        # Slots that were reserved at some time, used since or not.
        self._given = 0
        self._waiting = False
        self._started = False

    @property
    def satisfied(self) -> bool:
        """Whether it has been given all the slots it will ever need."""
        return self.needed is not None and self._given >= self.needed

    def give(self, slot: int) -> None:
        """A slot for this part."""
        heapq.heappush(self._reserved, slot)
        self._given += 1

    def start(self) -> bool:
        """Whether the part may begin now; otherwise `on_slot()` comes when that may have changed."""
        self._started = self._started or self.satisfied or (bool(self._reserved) and self._pool.is_first(self))
        self._waiting = not self._started
        return self._started

    def next(self) -> int | None:
        """The next slot to fill, or None: then `on_slot()` comes when there is one."""
        self._waiting = not self._reserved or self._ahead()
        return None if self._waiting else heapq.heappop(self._reserved)

    def _ahead(self) -> bool:
        return self.max_pinned is not None and self._pool.pinned >= self.max_pinned

    def put_back(self, slot: int) -> None:
        """A slot from `next` that was not sent."""
        heapq.heappush(self._reserved, slot)

    def wake(self) -> None:
        """Tell the part, if it waits and may go on."""
        if self._ahead():
            return
        if self._waiting and self._reserved and (self._started or self.satisfied or self._pool.is_first(self)):
            self._waiting = False
            self._started = True
            self.on_slot()

    def one_more(self) -> None:
        """A slot was sent before it was full: the part needs another one."""
        if self.needed is not None:
            self.needed += 1
            self._pool.distribute()

    def close(self) -> None:
        """The part is over: what was reserved and not used goes to the others."""
        self._pool.close(self, self._reserved)


class SlotPool:
    """The engine's free slots and the claims on them, over one ledger."""

    def __init__(self, ledger: SlotLedger) -> None:
        self._ledger = ledger
        self._claims: list[Claim] = []

    def claim(self, key: Key, needed: int | None, on_slot: Callable[[], None]) -> Claim:
        """A claim for a part that needs `needed` slots, None where that is not known."""
        claim = Claim(self, key, needed, on_slot)
        insort(self._claims, claim, key=lambda other: other.key)
        self.distribute()
        return claim

    @property
    def pinned(self) -> int:
        return self._ledger.pinned

    def is_first(self, claim: Claim) -> bool:
        return bool(self._claims) and self._claims[0] is claim

    def starved(self) -> None:
        """The consumer has nothing left to read: tell the part that it waits for."""
        if self._claims and self._claims[0].on_starved is not None:
            self._claims[0].on_starved()

    def close(self, claim: Claim, unused: list[int]) -> None:
        if claim in self._claims:
            self._claims.remove(claim)
            while unused:
                self._ledger.drop(unused.pop())
            self.distribute()

    def _take_back(self, claim: Claim) -> int | None:
        """A slot that is reserved for a later part that has not started."""
        for later in reversed(self._claims):
            if later is claim:
                return None
            if later._reserved and not later._started:
                later._given -= 1
                return later._reserved.pop()
        return None

    def distribute(self) -> None:
        """Slots became available, or the claims changed: give them out, and wake who can go on."""
        for claim in self._claims:
            while not claim.satisfied:
                slot = self._ledger.take()
                if slot is None:
                    slot = self._take_back(claim)
                if slot is None:
                    break
                claim.give(slot)
            if not claim.satisfied:
                break
        for claim in list(self._claims):
            claim.wake()
