"""Who owns each slot of a ring: the rules, without memory, sockets or clock.

Each end of a pipe has a ledger of its own, and a slot changes its owner only by a message, so at any time exactly one
of this ledger, the peer's ledger and a message on its way has it. On one end a slot is in one of these states:

    PEER    the other end has it, or a message with it is on its way
    FREE    engine: ours, empty
    FILLING engine: ours, bytes are being received into it
    HELD    consumer: ours, with bytes that someone may be reading

    engine:   grant PEER -> FREE,  take FREE -> FILLING,  drop FILLING -> FREE,  send FILLING -> PEER,
              reserve PEER -> FILLING (granted for one object)
    consumer: receive PEER -> HELD,  give_back HELD -> PEER

An engine may still be reading a slot that it has sent, to hash it: it pins the slot. A pinned slot that comes back is
not FREE until the last pin is gone, so no byte is overwritten before it was hashed.
"""

from __future__ import annotations

import enum
import heapq

from getm.errors import ProtocolError


class Owner(enum.Enum):
    PEER = "with the peer"
    FREE = "free"
    FILLING = "being filled"
    HELD = "held"


# Looked up once, not in the class for every step of every slot.
PEER, FREE, FILLING, HELD = Owner


class SlotLedger:
    """The states of `slots` slots, all of them `initial` at first."""

    def __init__(self, slots: int, initial: Owner) -> None:
        self.owners: list[Owner] = [initial] * slots
        self._pins = [0] * slots
        # A heap: the lowest is taken first. With a prompt consumer the engine then fills the same few slots again and
        # again, which stay in the processor's cache (over HTTPS that saves a fifth of the CPU), and a consumer of long
        # reads gets adjacent slots, which make one view.
        self._free: list[int] = list(range(slots)) if initial is FREE else []

    def count(self, owner: Owner) -> int:
        """How many slots are in that state."""
        return self.owners.count(owner)

    @property
    def available(self) -> int:
        """How many slots `take` could give now: FREE and not pinned."""
        return len(self._free)

    def _check(self, slot: int, what: str) -> None:
        if not 0 <= slot < len(self.owners):
            raise ProtocolError(f"{what} names slot {slot} of a ring of {len(self.owners)}")

    def _move(self, slot: int, before: Owner, after: Owner, what: str) -> None:
        owners = self.owners
        if not 0 <= slot < len(owners) or owners[slot] is not before:
            self._check(slot, what)
            raise ProtocolError(f"{what} of slot {slot}: expected it {before.value}, but it is {owners[slot].value}")
        owners[slot] = after

    def grant(self, slot: int) -> None:
        """Engine: the consumer gave the slot."""
        self._free_up(slot, PEER, "GRANT")

    def _free_up(self, slot: int, before: Owner, what: str) -> None:
        self._move(slot, before, FREE, what)
        if not self._pins[slot]:
            heapq.heappush(self._free, slot)

    def reserve(self, slot: int) -> None:
        """Engine: the consumer gave the slot for one object, which is to fill it."""
        self._move(slot, PEER, FILLING, "GRANT")

    def take(self) -> int | None:
        """Engine: a slot to fill, or None where none is available."""
        if not self._free:
            return None
        slot = heapq.heappop(self._free)
        self._move(slot, FREE, FILLING, "take")
        return slot

    def drop(self, slot: int) -> None:
        """Engine: the slot was not needed after all."""
        self._free_up(slot, FILLING, "drop")

    def send(self, slot: int) -> None:
        """Engine: the slot goes to the consumer, filled or not needed."""
        self._move(slot, FILLING, PEER, "PART")

    def pin(self, slot: int) -> None:
        """Engine: the slot is being read here, no matter who owns it."""
        self._check(slot, "pin")
        self._pins[slot] += 1

    def unpin(self, slot: int) -> bool:
        """Engine: one reader less. True where this makes the slot available."""
        self._check(slot, "unpin")
        if not self._pins[slot]:
            raise ProtocolError(f"unpin of slot {slot}, which is not pinned")
        self._pins[slot] -= 1
        if self._pins[slot] or self.owners[slot] is not FREE:
            return False
        heapq.heappush(self._free, slot)
        return True

    def receive(self, slot: int) -> None:
        """Consumer: a PART brought the slot."""
        self._move(slot, PEER, HELD, "PART")

    def give_back(self, slot: int) -> None:
        """Consumer: the slot goes (back) to the engine, as a GRANT or credit."""
        self._move(slot, HELD, PEER, "GRANT")
