"""Leases: a slot goes back exactly once, when the last of everything made from its view is gone."""

from __future__ import annotations

import ctypes
import gc
import random
import threading
from collections.abc import Callable
from queue import SimpleQueue

import numpy as np
import pytest

from getm.buffers import LeaseRing, Segment

SLOTS = 4
SLOT_BYTES = 4096


class Ring:
    """A ring of leases over private memory, and what came back from it."""

    def __init__(self) -> None:
        self.segment = Segment.create(SLOTS * SLOT_BYTES, private=True)
        self.segment.close_descriptor()
        self.data = random.Random(7).randbytes(SLOTS * SLOT_BYTES)
        self.segment.memory[:] = self.data
        self.back: list[int] = []
        self.leases = LeaseRing(self.segment, SLOTS, SLOT_BYTES, self.back.append)

    def of_slot(self, slot: int) -> bytes:
        return self.data[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES]


@pytest.fixture
def ring() -> Ring:
    return Ring()


def test_a_lease_shows_its_slot_and_cannot_be_written(ring: Ring) -> None:
    for slot in range(SLOTS):
        view = ring.leases.lease(slot)
        assert (view.readonly, view.format, view.itemsize, view.ndim, view.nbytes) == (True, "B", 1, 1, SLOT_BYTES)
        assert view == ring.of_slot(slot)
        with pytest.raises(TypeError):
            view[0] = 1
        assert not np.frombuffer(view, np.uint8).flags.writeable
        with pytest.raises(TypeError):
            ctypes.c_ubyte.from_buffer(view)
    del view
    assert ring.back == list(range(SLOTS))


def test_a_lease_is_the_memory_and_no_copy(ring: Ring) -> None:
    view = ring.leases.lease(1)
    ring.segment.memory[SLOT_BYTES] ^= 255
    assert view[0] == ring.of_slot(1)[0] ^ 255


DERIVED: dict[str, Callable[[memoryview], object]] = {
    "the view itself": lambda view: view,
    "a slice": lambda view: view[5:9],
    "a slice of a slice": lambda view: view[5:][1:][:2],
    "an empty slice": lambda view: view[9:9],
    "a slice with a step": lambda view: view[::-3],
    "a cast": lambda view: view.cast("I"),
    "a cast to two dimensions": lambda view: view.cast("B", (64, 64)),
    "another memoryview": memoryview,
    "a NumPy array": lambda view: np.frombuffer(view, np.uint16),
    "a view of a NumPy array": lambda view: np.asarray(view).reshape(64, 64)[3:, ::2].T,
    "a lazy iterator": lambda view: iter(np.asarray(view)),
    "a closure": lambda view: lambda: view[0],
}


def test_the_slot_stays_as_long_as_anything_made_from_its_view(ring: Ring) -> None:
    for name, derive in DERIVED.items():
        view = ring.leases.lease(2)
        derived = derive(view)
        del view
        gc.collect()
        assert (ring.back, ring.leases.live) == ([], 1), name
        del derived
        assert (ring.back, ring.leases.live) == ([2], 0), name
        ring.back.clear()


def test_every_last_holder_in_any_order_gives_the_slot_back_once(ring: Ring) -> None:
    order = random.Random(1)
    for _ in range(50):
        view = ring.leases.lease(0)
        holders: list[object] = [derive(view) for derive in DERIVED.values()]
        del view
        order.shuffle(holders)
        while holders:
            assert ring.back == []
            holders.pop()
        assert ring.back == [0]
        ring.back.clear()


def test_released_views_count_as_gone(ring: Ring) -> None:
    view = ring.leases.lease(3)
    part = view[1:5]
    view.release()
    assert ring.back == []
    assert part == ring.of_slot(3)[1:5]
    part.release()
    assert ring.back == [3]
    del view, part
    assert ring.back == [3]


def test_copies_hold_nothing(ring: Ring) -> None:
    view = ring.leases.lease(0)
    copies = [bytes(view), bytearray(view), np.array(view), view.tolist()]
    del view
    assert ring.back == [0]
    assert copies[0] == ring.of_slot(0)


def test_a_slot_can_be_leased_again_and_again(ring: Ring) -> None:
    for turn in range(100):
        view = ring.leases.lease(turn % SLOTS)
        assert ring.leases.live == 1
        del view
        assert (ring.back, ring.leases.live) == ([turn % SLOTS], 0)
        ring.back.clear()


def test_a_view_that_dies_in_another_thread_gives_the_slot_back_there(ring: Ring) -> None:
    threads: list[str] = []
    leases = LeaseRing(ring.segment, SLOTS, SLOT_BYTES, lambda slot: threads.append(threading.current_thread().name))
    box = [leases.lease(1)]
    thread = threading.Thread(target=box.clear, name="consumer")
    thread.start()
    thread.join()
    assert (threads, leases.live) == (["consumer"], 0)


def test_many_threads_that_hand_views_around_lose_and_double_nothing(ring: Ring) -> None:
    rounds = 300
    back: list[SimpleQueue[int]] = [SimpleQueue() for _ in range(SLOTS)]
    leases = LeaseRing(ring.segment, SLOTS, SLOT_BYTES, lambda slot: back[slot].put(slot))
    droppers: list[SimpleQueue[list[object] | None]] = [SimpleQueue() for _ in range(3)]

    def produce(slot: int) -> None:
        for turn in range(rounds):
            view = leases.lease(slot)
            for number, dropper in enumerate(droppers):
                dropper.put([np.frombuffer(view, np.uint8) if (turn + number) % 2 else view[number:]])
            del view
            # Its last holder may be any of the others; only then is it leased again.
            assert back[slot].get(timeout=30) == slot

    def drop(dropper: SimpleQueue[list[object] | None]) -> None:
        for holders in iter(dropper.get, None):
            holders.clear()

    consumers = [threading.Thread(target=drop, args=(dropper,)) for dropper in droppers]
    producers = [threading.Thread(target=produce, args=(slot,)) for slot in range(SLOTS)]
    for thread in consumers + producers:
        thread.start()
    for thread in producers:
        thread.join()
    for dropper in droppers:
        dropper.put(None)
    for thread in consumers:
        thread.join()
    assert leases.live == 0
    assert [queue.empty() for queue in back] == [True] * SLOTS, "given back twice"


def test_a_cycle_gives_the_slot_back_when_it_is_collected(ring: Ring) -> None:
    class Node:
        view: memoryview
        itself: object

    node = Node()
    node.view, node.itself = ring.leases.lease(2)[7:], node
    del node
    assert ring.back == []
    gc.collect()
    assert (ring.back, ring.leases.live) == ([2], 0)


def test_giving_back_may_lease_the_slot_again_at_once(ring: Ring) -> None:
    # As it happens when the engine has filled the slot anew before the callback returns.
    again: list[memoryview] = []
    leases: LeaseRing

    def give_back(slot: int) -> None:
        ring.back.append(slot)
        if len(ring.back) == 1:
            again.append(leases.lease(slot))

    leases = LeaseRing(ring.segment, SLOTS, SLOT_BYTES, give_back)
    view = leases.lease(1)
    del view
    assert (ring.back, leases.live) == ([1], 1)
    assert again[0] == ring.of_slot(1)
    again.clear()
    assert (ring.back, leases.live) == ([1, 1], 0)


# Joined views --------------------------------------------------------------------------------------------------------


def test_a_joined_view_is_one_read_only_view_over_adjacent_slots(ring: Ring) -> None:
    joined = ring.leases.join([ring.leases.lease(slot) for slot in (1, 2, 3)], SLOT_BYTES + 100, 2 * SLOT_BYTES + 50)
    start = SLOT_BYTES + 100
    assert joined == ring.data[start : start + 2 * SLOT_BYTES + 50]
    assert joined.readonly and joined.contiguous
    assert ring.back == []
    del joined
    assert sorted(ring.back) == [1, 2, 3]


def test_a_joined_view_keeps_all_its_slots_until_the_last_thing_made_from_it_is_gone(ring: Ring) -> None:
    for name, derive in DERIVED.items():
        leased = [ring.leases.lease(slot) for slot in (0, 1)]
        # All of the second slot, so that every cast fits.
        joined = ring.leases.join(leased, SLOT_BYTES // 2, SLOT_BYTES)
        derived = derive(joined)
        del leased, joined
        gc.collect()
        assert (ring.back, ring.leases.live) == ([], 2), name
        del derived
        assert (sorted(ring.back), ring.leases.live) == ([0, 1], 0), name
        ring.back.clear()


def test_a_slot_of_a_joined_view_stays_for_its_own_views_too(ring: Ring) -> None:
    leased = [ring.leases.lease(slot) for slot in (2, 3)]
    joined = ring.leases.join(leased, 2 * SLOT_BYTES, 2 * SLOT_BYTES)
    tail = leased[1][-10:]
    del leased, joined
    assert ring.back == [2]
    assert tail == ring.of_slot(3)[-10:]
    del tail
    assert ring.back == [2, 3]


# After the ring ------------------------------------------------------------------------------------------------------


def test_views_outlive_the_ring_and_the_segment(ring: Ring) -> None:
    def views_of_a_ring_that_is_gone() -> tuple[memoryview, memoryview, bytes]:
        own = Ring()
        joined = own.leases.join([own.leases.lease(slot) for slot in (1, 2)], 1 * SLOT_BYTES, 2 * SLOT_BYTES)
        return own.leases.lease(0), joined, own.data

    view, joined, data = views_of_a_ring_that_is_gone()
    gc.collect()
    # Memory that was freed would be given out again, and written.
    others = [Ring() for _ in range(20)]
    assert view == data[:SLOT_BYTES]
    assert joined == data[SLOT_BYTES : 3 * SLOT_BYTES]
    del view, joined, others


def test_the_memory_goes_with_the_last_view() -> None:
    segment = Segment.create(64 * 1024 * 1024, private=True)
    segment.close_descriptor()
    leases = LeaseRing(segment, 1, segment.size, lambda slot: None)
    view = leases.lease(0)
    with pytest.raises(BufferError):
        segment.memory.close()
    memory = segment.memory
    del view
    memory.close()
    assert memory.closed
