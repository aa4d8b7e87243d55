"""Claims on slots: order within an object, turns between objects, nothing lost or given twice, and no deadlock as long
as the consumer lets go."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from getm.buffers.ledger import Owner, SlotLedger
from getm.engine.sinks.slots import Claim, Holder, SlotPool


def _nothing_comes_back(number: int, slot: int) -> None:
    raise AssertionError("no slot was granted for one object")


class Part:
    """One part at work: asks for slots, again only when told to, and fills them one by one."""

    def __init__(
        self, pool: SlotPool, number: int, start: int, stop: int, *, known: bool, eager: bool, max_unhashed: int | None
    ) -> None:
        self.number = number
        self.position = start
        self.stop = stop
        self.in_hand: int | None = None
        self._begun = False
        self._may_ask = True
        # An eager part takes its slot from within the call that tells of it, as a paused transport does.
        self._eager = eager
        self.claim: Claim
        needed = stop - start if known else None
        self.claim = pool.claim((number, start), needed, self._woken, max_unhashed=max_unhashed)

    def _woken(self) -> None:
        assert not self._may_ask, "told without having been refused"
        self._may_ask = True
        if self._eager and self._begun:
            self.ask()

    def ask(self) -> bool:
        """Ask for a slot if that makes sense. Whether anything came of it."""
        if not self._may_ask or self.in_hand is not None:
            return False
        if not self._begun:
            self._begun = self._may_ask = self.claim.start()
            return self._begun
        self.in_hand = self.claim.next()
        self._may_ask = self.in_hand is not None
        return self._may_ask

    def give_up(self) -> None:
        if self.in_hand is not None:
            self.claim.put_back(self.in_hand)
            self.in_hand = None
        self.claim.close()


@dataclass(eq=False)
class Object:
    """One object of `size` slots, fetched in parts by several workers, and how far the consumer has come."""

    number: int
    size: int
    part_slots: int
    known: bool
    eager: bool
    max_unhashed: int | None
    claimed: int = 0
    consumed: int = 0
    parts: list[Part] = field(default_factory=list)
    arrived: dict[int, int] = field(default_factory=dict)


class Ring(RuleBasedStateMachine):
    """Parts that fill slots, and a consumer that takes each object's slots in order and lets go of them at any time.

    It never holds more than all slots but a part and one: so whatever it does, every object must come to its end.
    """

    max_objects = 1

    @initialize(slots=st.integers(2, 8), data=st.data())
    def start(self, slots: int, data: st.DataObject) -> None:
        part_slots = data.draw(st.integers(1, slots - 1))
        self._set_up(slots, part_slots, may_hold=slots - part_slots - 1)

    def _set_up(self, slots: int, part_slots: int, *, may_hold: int) -> None:
        self.slots = slots
        self.part_slots = part_slots
        self.may_hold = may_hold
        self.ledger = SlotLedger(slots, Owner.FREE)
        self.pool = SlotPool(self.ledger, _nothing_comes_back)
        self.objects: list[Object] = []
        self.opened = 0
        self.held: list[int] = []
        # Each with its object, and the position of its first byte there.
        self.pinned: list[tuple[Object, int, int]] = []

    # The engine ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.objects) < self.max_objects)
    @rule(
        workers=st.integers(1, 4),
        size=st.integers(0, 20),
        known=st.booleans(),
        eager=st.booleans(),
        max_unhashed=st.none() | st.integers(1, 3),
    )
    def open(self, workers: int, size: int, known: bool, eager: bool, max_unhashed: int | None) -> None:
        self._open(workers, size, known, eager, max_unhashed)

    def _open(self, workers: int, size: int, known: bool, eager: bool, max_unhashed: int | None) -> None:
        self.opened += 1
        several = known and workers > 1
        part_slots = self.part_slots if several else max(1, size)
        opened = Object(self.opened, size, part_slots, known, eager, None if several else max_unhashed)
        self.objects.append(opened)
        for _ in range(workers):
            self._next_part(opened)

    def _next_part(self, of: Object) -> None:
        if of.claimed < of.size:
            start, of.claimed = of.claimed, min(of.claimed + of.part_slots, of.size)
            of.parts.append(
                Part(
                    self.pool,
                    of.number,
                    start,
                    start + of.part_slots if of.claimed < of.size else of.size,
                    known=of.known,
                    eager=of.eager,
                    max_unhashed=of.max_unhashed,
                )
            )

    def _parts(self) -> list[tuple[Object, Part]]:
        return [(of, part) for of in self.objects for part in of.parts]

    def _step(self, of: Object, part: Part, *, hashed: bool = False) -> bool:
        """Let one part ask, fill or end. Whether that changed anything."""
        if part.in_hand is None:
            return part.ask()
        slot = self._send(of, part, hashed=hashed)
        of.arrived[part.position] = slot
        part.position += 1
        if part.position == part.stop:
            of.parts.remove(part)
            part.claim.close()
            self._next_part(of)
        return True

    def _send(self, of: Object, part: Part, *, hashed: bool) -> int:
        slot, part.in_hand = part.in_hand, None
        assert slot is not None
        if hashed:
            self.ledger.pin(slot)
            self.pinned.append((of, part.position, slot))
        self.ledger.send(slot)
        self.pool.sent(of.number, hashed=hashed)
        return slot

    @precondition(lambda self: self._parts())
    @rule(data=st.data(), hashed=st.booleans())
    def part_goes_on(self, data: st.DataObject, hashed: bool) -> None:
        self._step(*data.draw(st.sampled_from(self._parts())), hashed=hashed)

    def _hashable(self) -> list[tuple[Object, int, int]]:
        """In the order of the bytes, as MD5 needs them; those of an object that was cancelled at any time."""
        return [
            (of, position, slot)
            for of, position, slot in self.pinned
            if of not in self.objects or position <= min([of.claimed, *(part.position for part in of.parts)])
        ]

    @precondition(lambda self: self._hashable())
    @rule(data=st.data())
    def reader_is_done(self, data: st.DataObject) -> None:
        self._unpin(*data.draw(st.sampled_from(self._hashable())))

    def _unpin(self, of: Object, position: int, slot: int) -> None:
        self.pinned.remove((of, position, slot))
        self.ledger.unpin(slot)
        self.pool.hashed(of.number)
        self.pool.distribute()

    @precondition(lambda self: self.objects)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        cancelled = data.draw(st.sampled_from(self.objects))
        for part in data.draw(st.permutations(cancelled.parts)):
            part.give_up()
            part.give_up()
        self.objects.remove(cancelled)
        self.pool.end(cancelled.number)
        for slot in cancelled.arrived.values():
            self._let_go(slot)

    # The consumer ----------------------------------------------------------------------------------------------------

    def _consume(self, of: Object, choose: Callable[[int], int]) -> bool:
        """Take the next slot of an object, letting go of another where too many are held. Whether it had come."""
        slot = of.arrived.pop(of.consumed, None)
        if slot is None:
            return False
        of.consumed += 1
        self.held.append(slot)
        self._keep_to_the_limit(choose)
        return True

    def _keep_to_the_limit(self, choose: Callable[[int], int]) -> None:
        while len(self.held) > self.may_hold:
            self._let_go(self.held.pop(choose(len(self.held))))

    @precondition(lambda self: self.objects)
    @rule(data=st.data())
    def consumer_takes_the_next(self, data: st.DataObject) -> None:
        of = data.draw(st.sampled_from(self.objects))
        self._consume(of, lambda count: data.draw(st.integers(0, count - 1)))
        if of.consumed == of.size:
            self.objects.remove(of)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def consumer_lets_go(self, data: st.DataObject) -> None:
        self._let_go(self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))

    def _let_go(self, slot: int) -> None:
        self.pool.granted(0, slot, is_open=False)
        self.pool.distribute()

    # What holds at every moment, and at the end ----------------------------------------------------------------------

    @invariant()
    def no_slot_is_lost_or_has_two_owners(self) -> None:
        in_hand = [part.in_hand for _, part in self._parts() if part.in_hand is not None]
        away = self.held + [slot for of in self.objects for slot in of.arrived.values()]
        assert max(Counter(in_hand + away).values(), default=1) == 1
        assert all(self.ledger.owners[slot] is Owner.FILLING for slot in in_hand)
        assert self.ledger.count(Owner.PEER) == len(away)
        if not self._parts():
            assert self.ledger.count(Owner.FILLING) == 0, "a slot stayed reserved for a part that is over"

    @invariant()
    def no_slot_lies_idle_while_a_part_lacks_one(self) -> None:
        if any(of.parts and of.parts[0].claim.starved for of in self.objects):
            assert self.ledger.available == 0
        others = max(0, sum(bool(of.parts) for of in self.objects) - 1)
        if any(not part.claim.satisfied for _, part in self._parts()):
            assert self.ledger.available <= others, "beyond one for each other object, a slot may be reserved"

    def _run(self, chosen: list[Object]) -> None:
        """The chosen objects come to their end, whatever the others do not do."""
        while any(of.consumed < of.size for of in chosen):
            moved = False
            while hashable := self._hashable():
                moved = True
                self._unpin(*hashable[0])
            self._keep_to_the_limit(lambda count: count - 1)
            for of, part in self._parts():
                moved |= of in chosen and self._step(of, part)
            for of in self.objects:
                moved |= self._consume(of, lambda count: count - 1)
            assert moved, "deadlock"

    def teardown(self) -> None:
        """From wherever things stand, with the consumer holding as much as it may, everything comes to its end."""
        if not hasattr(self, "ledger"):
            return
        self._run(self.objects)
        assert self._parts() == []
        while hashable := self._hashable():
            self._unpin(*hashable[0])
        for slot in self.held:
            self._let_go(slot)
        assert self.ledger.available == self.slots


class RingOfManyObjects(Ring):
    max_objects = 6


class RingOfStreams(Ring):
    """Many objects, each one stream: those that stand still for good keep one slot each, and nothing else."""

    max_objects = 12

    @initialize(slots=st.integers(2, 8))
    def start(self, slots: int) -> None:
        super()._set_up(slots, 1, may_hold=0)

    @precondition(lambda self: len(self.objects) < self.max_objects)
    @rule(size=st.integers(0, 20), known=st.booleans(), eager=st.booleans(), max_unhashed=st.integers(1, 3))
    def open(self, size: int, known: bool, eager: bool, max_unhashed: int) -> None:
        super()._open(1, size, known, eager, max_unhashed)

    @precondition(lambda self: len(self.objects) > 1)
    @rule(data=st.data())
    def some_stand_still(self, data: st.DataObject) -> None:
        some = data.draw(st.lists(st.sampled_from(self.objects), max_size=self.slots - 1, unique_by=id))
        self._run([of for of in self.objects if of not in some])


TestRing = pytest.mark.deadline(60)(Ring.TestCase)
TestRing.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)

TestRingOfManyObjects = RingOfManyObjects.TestCase
TestRingOfManyObjects.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)

TestRingOfStreams = RingOfStreams.TestCase
TestRingOfStreams.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


# The rules, one by one -----------------------------------------------------------------------------------------------


class Waiting:
    """A claim and the count of times that it was told it may go on."""

    def __init__(self, pool: SlotPool, key: tuple[int, int], needed: int | None) -> None:
        self.told = 0
        self.claim = pool.claim(key, needed, self._tell)

    def _tell(self) -> None:
        self.told += 1

    def take_all(self) -> list[int]:
        taken = []
        while (slot := self.claim.next()) is not None:
            taken.append(slot)
        return taken


def ring(slots: int, *, free: bool = True) -> tuple[SlotLedger, SlotPool]:
    ledger = SlotLedger(slots, Owner.FREE if free else Owner.PEER)
    return ledger, SlotPool(ledger, _nothing_comes_back)


def grant(ledger: SlotLedger, pool: SlotPool, *slots: int) -> None:
    for slot in slots:
        pool.granted(0, slot, is_open=False)
    pool.distribute()


def test_a_later_part_starts_only_with_all_its_slots() -> None:
    _, pool = ring(5)
    first, second = Waiting(pool, (1, 0), 3), Waiting(pool, (1, 3), 3)
    assert (first.claim.start(), second.claim.start()) == (True, False)
    assert first.take_all() == [0, 1, 2]
    assert second.told == 0
    first.claim.close()
    assert second.told == 1, "it is the first one now"
    assert second.claim.start()
    assert second.take_all() == [3, 4]


def test_the_first_part_starts_with_one_slot_and_gets_every_further_one() -> None:
    ledger, pool = ring(4, free=False)
    first, second = Waiting(pool, (1, 0), 3), Waiting(pool, (1, 3), 1)
    assert (first.claim.start(), second.claim.start()) == (False, False)
    grant(ledger, pool, 2)
    assert (first.told, second.told) == (1, 0)
    assert first.claim.start() and not second.claim.start()
    assert first.take_all() == [2]
    grant(ledger, pool, 0, 3, 1)
    assert (first.told, second.told) == (2, 1)
    assert (first.take_all(), second.claim.start(), second.take_all()) == ([0, 1], True, [3])


def test_parts_of_an_object_are_served_by_offset_whenever_they_came() -> None:
    ledger, pool = ring(3, free=False)
    waiting = {key: Waiting(pool, key, 1) for key in [(1, 9), (1, 8), (1, 0)]}
    assert not any(part.claim.start() for part in waiting.values())
    for slot, key in enumerate([(1, 0), (1, 8), (1, 9)]):
        grant(ledger, pool, slot)
        assert (waiting[key].told, waiting[key].claim.start(), waiting[key].take_all()) == (1, True, [slot])


def test_a_part_of_unknown_length_takes_what_it_uses_and_no_more() -> None:
    ledger, pool = ring(3)
    first, second = Waiting(pool, (1, 0), None), Waiting(pool, (2, 0), 1)
    assert first.claim.start() and second.claim.start()
    assert (first.claim.next(), second.take_all()) == (1, [0])
    assert ledger.available == 1
    ledger.send(1)
    first.claim.close()
    assert ledger.available == 1


def test_objects_that_wait_are_served_in_turn_one_slot_at_a_time() -> None:
    ledger, pool = ring(6, free=False)
    streams = [Waiting(pool, (number, 0), 100 if number < 3 else None) for number in range(4)]
    assert not any(stream.claim.start() for stream in streams)
    grant(ledger, pool, 0)
    assert [stream.told for stream in streams] == [1, 0, 0, 0]
    grant(ledger, pool, 1, 2, 3)
    assert [stream.told for stream in streams] == [1, 1, 1, 1]
    assert [stream.take_all() for stream in reversed(streams)] == [[3], [2], [1], [0]]
    # The last one to run out comes last.
    grant(ledger, pool, 4, 5)
    assert [stream.told for stream in streams] == [1, 1, 2, 2]


def test_the_parts_behind_leave_a_slot_for_every_other_object() -> None:
    ledger, pool = ring(6)
    stream, other = Waiting(pool, (1, 0), None), Waiting(pool, (2, 0), None)
    ahead, behind = Waiting(pool, (3, 0), 2), Waiting(pool, (3, 2), 5)
    assert ahead.claim.start() and not behind.claim.start()
    assert ledger.available == 2
    assert (stream.claim.start(), other.claim.start()) == (True, True)
    assert ledger.available == 0
    assert (ahead.take_all(), ahead.told, behind.told) == ([0, 1], 0, 0)
    stream.claim.close()
    other.claim.close()
    assert behind.told == 0, "it stands behind another part, and lacks one more"
    ahead.claim.close()
    assert behind.told == 1


def test_objects_reserve_in_turn() -> None:
    ledger, pool = ring(10, free=False)
    parts = [Waiting(pool, (number, 0), 4) for number in (1, 2)]
    grant(ledger, pool, *range(5))
    assert [len(part.claim.reserved) for part in parts] == [2, 2]
    grant(ledger, pool, *range(5, 10))
    assert [len(part.claim.reserved) for part in parts] == [4, 4]


def test_a_stream_waits_for_its_own_hashing_and_not_for_others() -> None:
    ledger, pool = ring(8)
    told: list[int] = []
    claims = [pool.claim((n, 0), 8, lambda n=n: told.append(n), max_unhashed=2) for n in (1, 2)]  # type: ignore[misc]
    assert all(claim.start() for claim in claims)
    for _ in range(2):
        slot = claims[0].next()
        assert slot is not None
        ledger.send(slot)
        pool.sent(1, hashed=True)
        grant(ledger, pool, slot)
    assert claims[0].next() is None and claims[1].next() is not None
    pool.distribute()
    assert told == []
    pool.hashed(1)
    pool.distribute()
    assert told == [1]
    assert claims[0].next() is not None


def test_a_part_of_no_bytes_starts_at_once_and_needs_nothing() -> None:
    ledger, pool = ring(1, free=False)
    ahead, empty = Waiting(pool, (1, 0), 1), Waiting(pool, (2, 0), 0)
    assert empty.claim.start() and not ahead.claim.start()
    empty.claim.close()
    assert ledger.available == 0


def test_a_claim_that_ends_midway_leaves_its_slots_in_order() -> None:
    ledger, pool = ring(4)
    part = Waiting(pool, (1, 0), 4)
    assert part.claim.start()
    slot = part.claim.next()
    assert slot == 0
    part.claim.put_back(slot)
    part.claim.close()
    part.claim.close()
    assert [ledger.take() for _ in range(5)] == [0, 1, 2, 3, None]


def test_a_claim_that_never_asked_is_told_nothing_and_keeps_nothing() -> None:
    ledger, pool = ring(2)
    part = Waiting(pool, (1, 0), 2)
    part.claim.close()
    assert (part.told, ledger.available) == (0, 2)


def test_closing_others_from_within_a_call_is_safe() -> None:
    ledger, pool = ring(3, free=False)
    later: deque[Claim] = deque()
    first = pool.claim((1, 0), 1, lambda: later.popleft().close())
    second = Waiting(pool, (1, 1), 1)
    later.append(second.claim)
    assert not first.start() and not second.claim.start()
    grant(ledger, pool, 0, 1, 2)
    assert second.told == 0
    first.close()
    assert ledger.available == 3


def test_a_part_that_was_told_to_go_on_may_go_on_though_an_earlier_one_comes_meanwhile() -> None:
    ledger, pool = ring(2, free=False)
    later = Waiting(pool, (2, 0), 3)
    assert not later.claim.start()
    grant(ledger, pool, 0, 1)
    assert later.told == 1
    earlier = Waiting(pool, (1, 0), 1)
    # Both slots are reserved for the later one: if it may not use them, nobody ever can.
    assert not earlier.claim.start()
    assert later.claim.start()


def test_a_part_that_cannot_start_does_not_keep_slots_from_an_earlier_one() -> None:
    ledger, pool = ring(3)
    running, later = Waiting(pool, (1, 0), 1), Waiting(pool, (1, 2), 3)
    assert running.claim.start() and not later.claim.start()
    # A part between them: two of three slots are reserved for one that waits for a third.
    between = Waiting(pool, (1, 1), 1)
    assert running.take_all() == [0]
    ledger.send(0)
    running.claim.close()
    assert between.claim.start()
    assert not later.claim.start()


def test_slots_taken_back_from_a_later_part_are_there_at_once() -> None:
    """Nothing would tell of them later: who asks does not wait yet."""
    ledger, pool = ring(3)
    running, later = Waiting(pool, (1, 0), 1), Waiting(pool, (1, 5), 3)
    assert running.claim.start() and not later.claim.start()
    between = Waiting(pool, (1, 1), 2)
    assert running.take_all() == [0]
    ledger.send(0)
    running.claim.close()
    assert between.claim.start()
    assert sorted(between.take_all()) == [1, 2]
    assert between.told == 0


def test_case_7_slots_granted_for_one_object_serve_it_alone_and_come_back_unfilled() -> None:
    ledger = SlotLedger(6, Owner.PEER)
    back: list[tuple[int, int]] = []
    pool = SlotPool(ledger, lambda number, slot: back.append((number, slot)))
    # Before its claim is there, and after.
    pool.granted(1, 0, is_open=True)
    mine = Waiting(pool, (1, 100), 3)
    other = Waiting(pool, (2, 0), 3)
    assert mine.claim.next() == 0
    assert mine.claim.next() is None
    pool.granted(1, 4, is_open=True)
    pool.granted(1, 2, is_open=True)
    assert (mine.told, other.claim.next()) == (1, None)
    assert mine.claim.next() == 2
    mine.claim.put_back(2)
    mine.claim.close()
    pool.end(1)
    assert sorted(back) == [(1, 2), (1, 4)]
    assert ledger.owners[0] is Owner.FILLING, "what was filled is sent by who filled it"


def test_case_7_a_slot_for_an_object_that_has_ended_comes_back_at_once() -> None:
    ledger = SlotLedger(3, Owner.PEER)
    back: list[tuple[int, int]] = []
    pool = SlotPool(ledger, lambda number, slot: back.append((number, slot)))
    pool.granted(7, 1, is_open=False)
    # And one that came before a claim that never was made.
    pool.granted(8, 2, is_open=True)
    pool.end(8)
    assert back == [(7, 1), (8, 2)]
    assert ledger.count(Owner.PEER) == 3


# Who had the slots ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("holder", Holder)
def test_the_wait_of_the_first_part_counts_for_who_had_the_slots(
    holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("getm.engine.sinks.slots.time.monotonic", lambda: now[0])
    ledger, pool = _empty_pool(2)
    first, second = (pool.claim((1, offset), 2, lambda: None) for offset in (0, 2))
    assert not first.start() and not second.start()
    now[0] += 3.0
    pool.holder = holder
    ledger.grant(0)
    pool.distribute()
    assert first.started and not second.started
    # What waits behind the first part waits for that one.
    assert pool.waited_s(1) == {holder: 3.0}
    slot = first.next()
    assert slot is not None
    ledger.send(slot)
    first.close()
    now[0] += 5.0
    ledger.grant(slot)
    pool.distribute()
    assert second.started and pool.waited_s(1) == {holder: 8.0}
    second.close()
    pool.end(1)
    assert pool.waited_s(1) == {}


def _empty_pool(slots: int) -> tuple[SlotLedger, SlotPool]:
    ledger = SlotLedger(slots, Owner.PEER)
    return ledger, SlotPool(ledger, _nothing_comes_back)
