"""Which part gets the next free slot, so that the parts of all objects on a pipe make progress, and none blocks
another.

Within an object, slots are reserved in the order of the parts: a part gets one only when every part before it has all
that it needs. A part may start once it has them all, or, where it is the object's first, as soon as it has one. So a
first part never lacks a slot because of a later part of its object, and a part that was started can be finished. A part
that is alone (one stream) reserves nothing, and takes each slot when it uses it.

Between objects, slots go in turn:

- An object whose first part waits with nothing reserved comes before all that is reserved, and such objects are served
  in the order in which they began to wait, one slot at a time.
- The other parts reserve the rest, one slot for each object in turn, as long as a slot for every other active object
  stays free: an object that is stuck keeps what it has, and the others still get one.

An object that fits one slot and came with its head takes a free one without a claim, as its first part would: no slot
is free while such parts wait.

Slots that a consumer granted for one object only (a lead engine does, of its helpers) are reserved for that object from
the start, and what it did not fill goes back to that consumer.

This requires that all parts are consumed as they come: a consumer that opens several objects on a pipe must take the
parts of all of them, and never let one wait while it asks for another.

Who lets slots become free says who had them (`SlotPool.holder`): the time in which the first part of an object has
waited until then is counted as that one's. What waits behind the first part waits for the same, or for that part.
"""

from __future__ import annotations

import asyncio
import enum
import heapq
import time
from bisect import insort
from collections import deque
from collections.abc import Callable

from getm.buffers.ledger import SlotLedger


class Holder(enum.Enum):
    """Who had a slot until it became free."""

    CONSUMER = enum.auto()
    HASHING = enum.auto()
    DISK = enum.auto()


class _Line:
    """The claims of one object, in the order of their offsets."""

    __slots__ = ("claims", "granted", "number", "queued", "unhashed", "waited_s")

    def __init__(self, number: int) -> None:
        self.number: int = number
        self.claims: list[Claim] = []
        # How many slots are still being hashed.
        self.unhashed: int = 0
        # Slots granted for this object alone, before its claim was there; None: it shares those of the pipe.
        self.granted: list[int] | None = None
        # Whether it waits for a slot for its first part.
        self.queued: bool = False
        # How long its first claim has waited, in seconds, by who had the slots.
        self.waited_s: dict[Holder, float] = {}

    def lacking(self) -> Claim | None:
        """The first claim that reserves and does not have all that it needs."""
        return next((claim for claim in self.claims if not claim.satisfied), None)

    def take_back(self) -> int | None:
        """A slot that is reserved for a later part that has not started."""
        for later in reversed(self.claims[1:]):
            if later.reserved and not later.started:
                later.given -= 1
                return later.reserved.pop()
        return None


class Claim:
    """One part's claim on slots. `on_slot()` is called when a claim that had to wait may ask again."""

    def __init__(
        self,
        pool: SlotPool,
        line: _Line,
        offset: int,
        needed: int | None,
        on_slot: Callable[[], object],
        max_unhashed: int | None,
    ) -> None:
        self._pool = pool
        self.line = line
        self.offset = offset
        self.needed = needed
        self.on_slot: Callable[[], object] = on_slot
        self._max_unhashed = max_unhashed
        # Alone in its object: it reserves nothing.
        self.alone: bool = needed is None or max_unhashed is not None
        # A heap, as in the ledger: the lowest is filled first.
        self.reserved: list[int] = []
        # Slots that were reserved so far, used or not.
        self.given: int = 0
        self._waiting = False
        # Since when it waits as the first of its object.
        self._waits_since_s: float | None = None
        self.started: bool = False

    @property
    def satisfied(self) -> bool:
        """Whether all that it needs is reserved."""
        return self.alone or self.given >= (self.needed or 0)

    @property
    def may_take(self) -> bool:
        """Whether it needs a slot, and none is reserved for it."""
        return not self.reserved and (self.alone or not self.satisfied) and not self._ahead()

    @property
    def starved(self) -> bool:
        """Whether it waits only for a slot."""
        return self._waiting and self.may_take

    def limit(self, needed: int) -> None:
        """It is alone, takes `needed` more slots and no others, and may be followed by further parts."""
        self.alone, self._max_unhashed = False, None
        self.needed, self.given = needed, len(self.reserved)
        self._pool.reserve(self.line)

    def unlimit(self) -> None:
        """It is alone again, with an unknown number of slots to come."""
        self.alone, self.needed = True, None
        self._pool.distribute()

    def is_first(self) -> bool:
        """Whether it is the first of its object: the one that a consumer waits for."""
        return bool(self.line.claims) and self.line.claims[0] is self

    def give(self, slot: int) -> None:
        """A slot for this part."""
        heapq.heappush(self.reserved, slot)
        self.given += 1

    def start(self) -> bool:
        """Whether the part may begin now; otherwise `on_slot()` comes when that may have changed."""
        if not self.started:
            enough = self.needed == 0 if self.alone else self.satisfied
            self.started = enough or (self._has_one() and self.is_first()) or self._wait()
        return self.started

    def next(self) -> int | None:
        """The next slot to fill, or None: then `on_slot()` comes when there is one."""
        if (not self._ahead() and self._has_one()) or self._wait():
            return heapq.heappop(self.reserved)
        return None

    def _has_one(self) -> bool:
        """Whether there is a slot for it: reserved, or free and not to be reserved by others first."""
        if self.may_take and self.is_first() and (slot := self._pool.ledger.take()) is not None:
            self.give(slot)
        return bool(self.reserved)

    def _wait(self) -> bool:
        """Wait for a slot. True where there is one at once: queueing may have taken it back from a later part. Who asks
        is told so, and not called: nobody waits for the call yet."""
        self._waiting = True
        self.note_first()
        on_slot, self.on_slot = self.on_slot, lambda: None
        if self.starved and self.is_first():
            self._pool.queue(self.line)
        self.on_slot = on_slot
        return not self._waiting

    def note_first(self) -> None:
        """Where it waits as the first of its object, that time counts."""
        if self._waiting and self._waits_since_s is None and self.is_first():
            self._waits_since_s = time.monotonic()

    def _count_wait(self) -> None:
        since_s, self._waits_since_s = self._waits_since_s, None
        if since_s is not None:
            waited_s, holder = self.line.waited_s, self._pool.holder
            waited_s[holder] = waited_s.get(holder, 0.0) + time.monotonic() - since_s

    def _ahead(self) -> bool:
        """Whether it has to wait for the hashing of what it has sent."""
        return self._max_unhashed is not None and self.line.unhashed >= self._max_unhashed

    def put_back(self, slot: int) -> None:
        """A slot from `next` that was not sent."""
        heapq.heappush(self.reserved, slot)

    def wake(self) -> None:
        """Call `on_slot`, if the part waits and may continue."""
        if (
            self._waiting
            and self.reserved
            and not self._ahead()
            and (self.started or self.satisfied or self.is_first())
        ):
            self._waiting = False
            self.started = True
            self._count_wait()
            self.on_slot()

    async def wait(self) -> None:
        """Wait until `on_slot()` comes."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_slot = lambda: None if woken.done() else woken.set_result(None)
        await woken

    def close(self) -> None:
        """The part is over: unused reserved slots go to the others. `on_slot` is not called any more."""
        self.on_slot = lambda: None
        self._count_wait()
        self._pool.close(self)


class SlotPool:
    """The engine's free slots and the claims on them, over one ledger. `give_back(number, slot)` is called for a slot
    that was granted for that object and is not needed: it goes back to the consumer."""

    def __init__(self, ledger: SlotLedger, give_back: Callable[[int, int], None]) -> None:
        self.ledger = ledger
        # Who had the slots that become free now: to be set before.
        self.holder: Holder = Holder.CONSUMER
        self._give_back = give_back
        # By the object's number; `end` forgets them.
        self._lines: dict[int, _Line] = {}
        # How many of them have a claim.
        self._busy = 0
        # Those whose first part waits with nothing reserved, and those that reserve.
        self._queue: deque[_Line] = deque()
        self._reserving: deque[_Line] = deque()

    def claim(
        self,
        key: tuple[int, int],
        needed: int | None,
        on_slot: Callable[[], object],
        *,
        max_unhashed: int | None = None,
    ) -> Claim:
        """A claim for the part of object `key[0]` at offset `key[1]`, which needs `needed` slots, None where that is
        not known. `max_unhashed`: it is alone in its object, and waits while so many slots are still being hashed."""
        number, offset = key
        line = self._lines.setdefault(number, _Line(number))
        claim = Claim(self, line, offset, needed, on_slot, max_unhashed)
        self._busy += not line.claims
        insort(line.claims, claim, key=lambda other: other.offset)
        while line.granted:
            claim.give(line.granted.pop())
        if not claim.alone:
            self.reserve(line)
        else:
            self.distribute()
        return claim

    def reserve(self, line: _Line) -> None:
        """A claim of `line` reserves."""
        if line not in self._reserving:
            self._reserving.append(line)
        self.distribute()

    def close(self, claim: Claim) -> None:
        line = claim.line
        if claim not in line.claims:
            return
        line.claims.remove(claim)
        while claim.reserved:
            self._drop(line, claim.reserved.pop())
        if line.claims:
            line.claims[0].note_first()
            self._look_at(line)
        else:
            self._busy -= 1
            if line in self._reserving:
                self._reserving.remove(line)
        self.distribute()

    def _drop(self, line: _Line, slot: int) -> None:
        if line.granted is None:
            self.ledger.drop(slot)
        else:
            self.ledger.send(slot)
            self._give_back(line.number, slot)

    def waited_s(self, number: int) -> dict[Holder, float]:
        """How long the object has waited for slots, in seconds, by who had them."""
        line = self._lines.get(number)
        return {} if line is None else line.waited_s

    def end(self, number: int) -> None:
        """The object has ended: there is no further claim of it."""
        line = self._lines.pop(number, None)
        while line is not None and line.granted:
            self._drop(line, line.granted.pop())

    # Events of the consumer and the hashers ---------------------------------------------------------------------------

    def granted(self, number: int, slot: int, *, is_open: bool) -> None:
        """The consumer gave the slot, for the object of that number alone unless it is 0; `is_open`: that has not
        ended. `distribute` follows."""
        if not number:
            self.ledger.grant(slot)
            return
        self.ledger.reserve(slot)
        line = self._lines.setdefault(number, _Line(number)) if is_open else _Line(number)
        if line.granted is None:
            line.granted = []
        if not is_open:
            self._drop(line, slot)
        elif line.claims:
            line.claims[0].give(slot)
            line.claims[0].wake()
        else:
            line.granted.append(slot)

    def sent(self, number: int, *, hashed: bool) -> None:
        """A slot with bytes of the object went to the consumer; `hashed`: and is being hashed."""
        line = self._lines.get(number)
        if line is not None:
            line.unhashed += hashed

    def hashed(self, number: int) -> None:
        """One slot of the object less is being hashed. `distribute` follows."""
        line = self._lines.get(number)
        if line is not None:
            line.unhashed -= 1
            self._look_at(line)

    # Giving out -----------------------------------------------------------------------------------------------------

    def queue(self, line: _Line) -> None:
        """The first part of `line` waits with nothing reserved."""
        if not line.queued:
            line.queued = True
            self._queue.append(line)
            if not self.ledger.available and (slot := line.take_back()) is not None:
                self.ledger.drop(slot)
                self.distribute()

    def _look_at(self, line: _Line) -> None:
        """Something changed in `line`: its first part may continue, or may have to queue."""
        if line.claims:
            first = line.claims[0]
            if first.starved:
                self.queue(line)
            else:
                first.wake()

    def distribute(self) -> None:
        """Slots became available, or the claims changed: give them out, and wake the claims that can continue."""
        full = 0
        # Checked first for the usual case, in which no claim waits.
        while (self._queue or self._reserving) and self.ledger.available:
            if self._queue:
                line = self._queue.popleft()
                line.queued = False
                claim = line.claims[0] if line.claims and line.claims[0].starved else None
            elif full < len(self._reserving) and self.ledger.available >= self._busy:
                line = self._reserving[0]
                self._reserving.rotate(-1)
                claim = line.lacking()
                full += 1
            else:
                return
            if claim is not None and (slot := self.ledger.take()) is not None:
                full = 0
                claim.give(slot)
                claim.wake()
