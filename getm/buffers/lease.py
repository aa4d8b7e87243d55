"""Leases: read-only views of slots, each of which ends by itself when the last view of it is gone.

A lease is a memoryview over a ctypes array on the slot's memory. The array is freed with the last view derived from it,
be it a slice, a NumPy array or the view itself, released or simply dropped; the callback of a weak reference then gives
the slot back. So a view that is still referenced is never overwritten, and nobody must call `release()`.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref
from collections.abc import Callable, Sequence

from getm.buffers import fork
from getm.buffers.segment import Segment
from getm.errors import ReaderClosed

_Array = ctypes.Array[ctypes.c_ubyte]


class _SlotRef(weakref.ref[_Array]):
    """A weak reference with the number of its slot."""

    __slots__ = ("slot",)
    slot: int


class LeaseRing:
    """Leases on the slots of one segment.

    `give_back(slot)` is called exactly once for each lease, when its last view is gone: in any thread, even within a
    garbage collection, so it must take no lock.
    """

    def __init__(self, segment: Segment, slots: int, slot_bytes: int, give_back: Callable[[int], None]) -> None:
        self._memory: mmap.mmap | None = segment.memory
        self._slot_bytes = slot_bytes
        self._give_back = give_back
        self._slot_type = ctypes.c_ubyte * slot_bytes
        # Keeps each weak reference alive until its callback was called: without it the slot would be lost.
        self._live: dict[int, _SlotRef] = {}
        self._ended = self._on_end
        self._retired: set[int] = set()
        self._size = segment.size
        self._address = ctypes.addressof(ctypes.c_ubyte.from_buffer(segment.memory))
        if segment.token is None:
            # Memory of this process alone is copied by the system.
            fork.rings.add(self)

    @property
    def live(self) -> int:
        """How many slots are leased."""
        return len(self._live)

    def _on_end(self, ref: weakref.ref[_Array]) -> None:
        slot: int = ref.slot  # type: ignore[attr-defined]  # set by `lease`
        self._live.pop(slot, None)
        if slot not in self._retired:
            fork.give_back(self._give_back, slot)

    def retire(self) -> None:
        """Never give back the slots that are leased just now: a forked process has views of them."""
        self._retired.update(self._live)

    def keep_copy(self) -> None:
        """In a forked process: all views become views of its own memory, with the same bytes."""
        if self._live:
            starts = [self._address + slot * self._slot_bytes for slot in self._live]
            fork.make_private(self._address, self._size, starts, self._slot_bytes)

    def close(self) -> None:
        """Allow no more leases: the memory is freed with the last view of it."""
        self._memory = None

    def _open_memory(self) -> mmap.mmap:
        memory = self._memory
        if memory is None:
            raise ReaderClosed("the session was closed while its data was being read")
        return memory

    def lease(self, slot: int) -> memoryview:
        """The whole slot, read-only. The slot is given back when this view and all made from it are gone."""
        array = self._slot_type.from_buffer(self._open_memory(), slot * self._slot_bytes)
        ref = _SlotRef(array, self._ended)
        ref.slot = slot
        self._live[slot] = ref
        return memoryview(array).cast("B").toreadonly()

    def view(self, slot: int, start: int, length: int) -> memoryview:
        """`length` bytes of the slot from its byte `start` on, read-only, without a lease: the caller must end it."""
        start += slot * self._slot_bytes
        return memoryview(self._open_memory())[start : start + length].toreadonly()

    def join(self, views: Sequence[memoryview], address: int, length: int) -> memoryview:
        """One view over memory that several leases share: `length` bytes from byte `address` of the segment on.

        `views` are its leases; they live as long as the joined view and all views made from it.
        """
        array = (ctypes.c_ubyte * length).from_buffer(self._open_memory(), address)
        weakref.finalize(array, _hold, tuple(views)).atexit = False
        return memoryview(array).cast("B").toreadonly()


def _hold(views: tuple[memoryview, ...]) -> None:
    """Called when a joined view is freed: the reference in its finalizer has kept the leases until then."""
