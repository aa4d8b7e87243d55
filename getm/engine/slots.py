"""Which part gets the next free slot: so that the parts together can never block each other for good.

Parts are ordered by (object, offset). Only the first of them may start with fewer slots than it needs, and takes what
it lacks one by one, before all others; any later part starts only once all its slots are reserved. So whatever the
consumer is waiting for next always gets the next free slot, and a part that was started can be finished.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable

from getm.buffers.ledger import SlotLedger

Key = tuple[int, int]


class Claim:
    """One part's claim on slots. `on_slot()` is called when a claim that found none may ask again."""

    def __init__(self, pool: SlotPool, key: Key, needed: int | None, on_slot: Callable[[], None]) -> None:
        self._pool = pool
        self.key = key
        self.needed = needed
        self.on_slot = on_slot
        self.reserved: deque[int] = deque()
        self.started = False
        self.waiting = False

    def start(self) -> bool:
        """Whether the part may begin now; otherwise `on_slot()` comes when it may."""
        self.waiting = not self._pool.start(self)
        return self.started

    def next(self) -> int | None:
        """The next slot to fill, or None: then `on_slot()` comes when there is one."""
        slot = self.reserved.popleft() if self.reserved else self._pool.single(self)
        self.waiting = slot is None
        return slot

    def close(self) -> None:
        """The part is over: what was reserved and not used goes to the others."""
        self._pool.close(self)


class SlotPool:
    """The engine's free slots and the claims on them, over one ledger."""

    def __init__(self, ledger: SlotLedger) -> None:
        self._ledger = ledger
        self._claims: list[Claim] = []
        self._distributing = False

    def claim(self, key: Key, needed: int | None, on_slot: Callable[[], None]) -> Claim:
        """A claim for a part that needs `needed` slots, None where that is not known."""
        claim = Claim(self, key, needed, on_slot)
        insort(self._claims, claim, key=lambda other: other.key)
        return claim

    def start(self, claim: Claim) -> bool:
        if claim.needed is not None and self._ledger.available >= claim.needed and not self._first_waits(claim):
            for _ in range(claim.needed):
                slot = self._ledger.take()
                if slot is not None:
                    claim.reserved.append(slot)
            claim.started = True
        elif claim is self._claims[0] and self._ledger.available:
            claim.started = True
        return claim.started

    def _first_waits(self, claim: Claim) -> bool:
        first = self._claims[0]
        return first is not claim and first.waiting

    def single(self, claim: Claim) -> int | None:
        return self._ledger.take() if claim is self._claims[0] else None

    def close(self, claim: Claim) -> None:
        if claim in self._claims:
            self._claims.remove(claim)
            while claim.reserved:
                self._ledger.drop(claim.reserved.pop())
            self.distribute()

    def distribute(self) -> None:
        """Slots became available, or the first claim changed: wake who can go on, the first in order first."""
        if self._distributing:
            return
        self._distributing = True
        try:
            for claim in list(self._claims):
                if not self._ledger.available:
                    return
                if claim.waiting:
                    if not (claim.started or claim.start()):
                        return
                    claim.waiting = False
                    claim.on_slot()
        finally:
            self._distributing = False
