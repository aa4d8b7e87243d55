"""Slot ownership as a state machine: both ends' ledgers over two pipes, with messages under way at every moment."""

from __future__ import annotations

import copy
from collections import Counter, deque
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from getm.buffers.ledger import Owner, SlotLedger
from getm.errors import ProtocolError


def state(ledger: SlotLedger) -> tuple[list[Owner], list[int]]:
    """The owners of all slots, and those that could be taken, in the order in which they would be."""
    probe = copy.deepcopy(ledger)
    takeable = []
    while (slot := probe.take()) is not None:
        takeable.append(slot)
    assert len(takeable) == ledger.available
    return [ledger.owners[slot] for slot in range(len(ledger.owners))], takeable


class BothEnds(RuleBasedStateMachine):
    """The engine fills and sends, the consumer gives back, each by the protocol; `_refused` tries all that is not."""

    @initialize(slots=st.integers(1, 5))
    def start(self, slots: int) -> None:
        self.slots = slots
        self.engine = SlotLedger(slots, Owner.PEER)
        self.consumer = SlotLedger(slots, Owner.HELD)
        self.to_engine: deque[int] = deque()
        self.to_consumer: deque[int] = deque()
        self.pins: Counter[int] = Counter()

    def _with(self, ledger: SlotLedger, owner: Owner) -> list[int]:
        return [slot for slot in range(self.slots) if ledger.owners[slot] is owner]

    # Moves by the protocol -------------------------------------------------------------------------------------------

    @precondition(lambda self: self._with(self.consumer, Owner.HELD))
    @rule(data=st.data())
    def consumer_gives_back(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(self._with(self.consumer, Owner.HELD)))
        self.consumer.give_back(slot)
        self.to_engine.append(slot)

    @precondition(lambda self: self.to_engine)
    @rule()
    def engine_receives_a_grant(self) -> None:
        slot = self.to_engine.popleft()
        before = self.engine.available
        self.engine.grant(slot)
        assert self.engine.available - before == (0 if self.pins[slot] else 1)

    @rule()
    def engine_takes(self) -> None:
        could = [slot for slot in self._with(self.engine, Owner.FREE) if not self.pins[slot]]
        assert self.engine.available == len(could)
        slot = self.engine.take()
        # The lowest: never one that is not free, or still being hashed.
        assert slot == min(could, default=None)

    @precondition(lambda self: any(not self.pins[slot] for slot in self._with(self.engine, Owner.FILLING)))
    @rule(data=st.data())
    def engine_drops(self, data: st.DataObject) -> None:
        filling = [slot for slot in self._with(self.engine, Owner.FILLING) if not self.pins[slot]]
        slot = data.draw(st.sampled_from(filling))
        before = self.engine.available
        self.engine.drop(slot)
        assert self.engine.available == before + 1

    @precondition(lambda self: self._with(self.engine, Owner.FILLING))
    @rule(data=st.data(), readers=st.integers(0, 2))
    def engine_sends(self, data: st.DataObject, readers: int) -> None:
        slot = data.draw(st.sampled_from(self._with(self.engine, Owner.FILLING)))
        for _ in range(readers):
            self.engine.pin(slot)
            self.pins[slot] += 1
        self.engine.send(slot)
        self.to_consumer.append(slot)

    @precondition(lambda self: +self.pins)
    @rule(data=st.data())
    def a_reader_is_done(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(+self.pins)))
        self.pins[slot] -= 1
        free = self.engine.owners[slot] is Owner.FREE and not self.pins[slot]
        assert self.engine.unpin(slot) is free, "whether it became available by this"

    @precondition(lambda self: self.to_consumer)
    @rule()
    def consumer_receives(self) -> None:
        self.consumer.receive(self.to_consumer.popleft())

    # Moves against it ------------------------------------------------------------------------------------------------

    def _refused(self, ledger: SlotLedger, move: Callable[[int], object], slot: int) -> None:
        before = state(ledger)
        with pytest.raises(ProtocolError):
            move(slot)
        assert state(ledger) == before

    @rule(slot=st.integers(-3, 7))
    def engine_refuses_what_may_not_come(self, slot: int) -> None:
        owner = self.engine.owners[slot] if 0 <= slot < self.slots else None
        moves = {Owner.PEER: [self.engine.grant], Owner.FILLING: [self.engine.drop, self.engine.send]}
        for expected, methods in moves.items():
            for move in methods:
                if owner is not expected:
                    self._refused(self.engine, move, slot)
        if owner is not None and not self.pins[slot]:
            self._refused(self.engine, self.engine.unpin, slot)

    @rule(slot=st.integers(-3, 7))
    def consumer_refuses_what_may_not_come(self, slot: int) -> None:
        owner = self.consumer.owners[slot] if 0 <= slot < self.slots else None
        if owner is not Owner.PEER:
            self._refused(self.consumer, self.consumer.receive, slot)
        if owner is not Owner.HELD:
            self._refused(self.consumer, self.consumer.give_back, slot)

    # What holds at every moment --------------------------------------------------------------------------------------

    @invariant()
    def each_slot_is_in_exactly_one_place(self) -> None:
        places = Counter(self.to_engine) + Counter(self.to_consumer)
        places.update(self._with(self.consumer, Owner.HELD))
        places.update(self._with(self.engine, Owner.FREE))
        places.update(self._with(self.engine, Owner.FILLING))
        assert places == Counter(range(self.slots))

    @invariant()
    def counts_agree_with_owners(self) -> None:
        for ledger in (self.engine, self.consumer):
            owners, takeable = state(ledger)
            assert [ledger.count(owner) for owner in Owner] == [owners.count(owner) for owner in Owner]
            assert not any(self.pins[slot] for slot in takeable)


TestBothEnds = pytest.mark.deadline(60)(BothEnds.TestCase)
TestBothEnds.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_the_lowest_free_slot_is_taken_first() -> None:
    ledger = SlotLedger(4, Owner.FREE)
    assert [ledger.take() for _ in range(5)] == [0, 1, 2, 3, None]
    for slot in range(4):
        ledger.send(slot)
    for slot in (2, 0, 3):
        ledger.grant(slot)
    assert [ledger.take() for _ in range(2)] == [0, 2]
    ledger.grant(1)
    ledger.drop(0)
    assert [ledger.take() for _ in range(4)] == [0, 1, 3, None]


def test_a_slot_that_comes_back_pinned_is_free_with_its_last_pin() -> None:
    ledger = SlotLedger(1, Owner.FREE)
    ledger.take()
    ledger.pin(0)
    ledger.pin(0)
    ledger.send(0)
    ledger.grant(0)
    assert (ledger.owners[0], ledger.available, ledger.take()) == (Owner.FREE, 0, None)
    assert (ledger.unpin(0), ledger.take()) == (False, None)
    assert (ledger.unpin(0), ledger.take()) == (True, 0)


def test_a_refusal_names_the_slot_and_both_states() -> None:
    ledger = SlotLedger(2, Owner.PEER)
    with pytest.raises(ProtocolError, match="PART of slot 1: expected it being filled, but it is with the peer"):
        ledger.send(1)
    with pytest.raises(ProtocolError, match="GRANT names slot 2 of a ring of 2"):
        ledger.grant(2)


def test_a_slot_that_is_dropped_pinned_is_free_with_its_last_pin() -> None:
    ledger = SlotLedger(1, Owner.FREE)
    ledger.take()
    ledger.pin(0)
    ledger.drop(0)
    assert ledger.take() is None
    assert ledger.unpin(0)
    assert ledger.take() == 0


@pytest.mark.parametrize("slot", [-1, 2])
def test_pins_of_slots_that_do_not_exist_are_refused(slot: int) -> None:
    ledger = SlotLedger(2, Owner.PEER)
    with pytest.raises(ProtocolError):
        ledger.pin(slot)
