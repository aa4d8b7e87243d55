"""The layout of a ring of slots, decided from chunk size, concurrency and memory budget."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from getm.core.units import KIB, MIB

# Measured: slots of 1 MiB cost the least CPU; 16 of them keep the engine busy while the consumer works on one.
_SLOT_BYTES = MIB
_SINGLE_STREAM_SLOTS = 16
# AWS advises parts of 8 to 16 MiB; the smaller keeps the ring of 16 connections within the memory budget.
_PART_BYTES = 8 * MIB
# With a number of connections that changes, parts are no smaller than this while four of them fit.
_MIN_ADAPTIVE_PART_BYTES = 4 * MIB
_MIN_SLOT_BYTES = 4 * KIB


class RingLayout(NamedTuple):
    """The shape of a ring: `slots` slots of `slot_bytes` bytes; a range request is for `part_slots` of them. With
    `spare_slots`, so many of them have no memory before they are needed."""

    slot_bytes: int
    slots: int
    part_slots: int
    spare_slots: int = 0

    @property
    def total_bytes(self) -> int:
        return self.slot_bytes * self.slots

    @property
    def first_slots(self) -> int:
        """Those that have memory from the start."""
        return self.slots - self.spare_slots


@lru_cache(maxsize=64)
def plan_layout(
    chunk_bytes: int, concurrency: int, budget_bytes: int, *, jobs: int = 1, adaptive: bool = False
) -> RingLayout:
    """The ring for a transfer, or for `jobs` of them at once, within `budget_bytes` of shared memory.

    A slot holds a whole number of chunks where that fits the budget, so that every chunk is one view without a copy.
    Each of `concurrency` parts in flight has its slots, and one more part is being consumed. Each of several transfers
    with one request has a slot that is being filled and one that is being consumed. `adaptive`: there may be as many
    parts in flight, of all transfers together, and one stream for each at first, whose ring costs what it always does.
    """
    slot_bytes = max(1, _SLOT_BYTES // chunk_bytes) * chunk_bytes
    if slot_bytes * 4 > budget_bytes:
        slot_bytes = min(_SLOT_BYTES, max(_MIN_SLOT_BYTES, budget_bytes // 4))
        # Still whole chunks, where four slots of them fit.
        slot_bytes = slot_bytes // chunk_bytes * chunk_bytes or (
            chunk_bytes if 4 * chunk_bytes <= budget_bytes else slot_bytes
        )
    affordable = max(2, budget_bytes // slot_bytes)
    if concurrency == 1:
        wanted = max(4, _SINGLE_STREAM_SLOTS * _SLOT_BYTES // slot_bytes, 2 * jobs)
        return RingLayout(slot_bytes, min(wanted, affordable), 1)
    if adaptive:
        wanted = max(4, _SINGLE_STREAM_SLOTS * _SLOT_BYTES // slot_bytes, 2 * jobs)
        least = min(_MIN_ADAPTIVE_PART_BYTES // slot_bytes, affordable // 4)
        part_slots = max(1, min(_PART_BYTES // slot_bytes, max(least, affordable // (concurrency + 1))))
        slots = min(max(wanted, part_slots * (concurrency + 1)), affordable)
        return RingLayout(slot_bytes, slots, part_slots, max(0, slots - wanted))
    parts = concurrency * jobs + 1
    part_slots = max(1, min(_PART_BYTES // slot_bytes, affordable // parts))
    return RingLayout(slot_bytes, min(part_slots * parts, affordable), part_slots)
