"""The whole protocol at once: two ends with real conversations, ledgers, claims and codec, and bytes under way.

Whatever the order of events, whatever is cancelled when, and however the bytes are cut: every OPEN gets exactly one END
or FAILED, what ended well is complete and in place, no `ProtocolError` comes up, and at last every slot is home.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from getm import errors
from getm.buffers.ledger import Owner, SlotLedger
from getm.core.head import ResponseHead
from getm.core.retry import Retries
from getm.core.version import Version
from getm.engine.sinks.slots import Claim, SlotPool
from getm.integrity.verdict import unverified
from getm.protocol.codec import Decoder, decode_body, encode, encode_body
from getm.protocol.messages import EndInfo, FailedInfo, HeadInfo, Kind, Message, NoteInfo, OpenRequest
from getm.protocol.order import Conversation
from getm.results import Stats

SLOT_BYTES = 10


def request(first_byte: int, size: int) -> OpenRequest:
    return OpenRequest(
        url="https://example.test/object",
        headers=(),
        concurrency=1,
        checksums=None,
        strict=False,
        connect_s=None,
        stall_s=None,
        total_s=None,
        floor_bytes_s=None,
        floor_window_s=30.0,
        tail_s=None,
        custom_retries=Retries(0),
        cacert=None,
        environment={},
        spans=((first_byte, first_byte + size),),
    )


class Engine:
    """The engine's end: serves each object in one part, a slot at a time, as it is told to."""

    def __init__(self, slots: int, memory: list[bytes]) -> None:
        self.slots = slots
        self.memory = memory
        self.out = bytearray()
        self.conversation = Conversation()
        self.ledger = SlotLedger(slots, Owner.PEER)
        self.pool = SlotPool(self.ledger, self._give_back)
        self._decoder = Decoder()
        self.serving: dict[int, Serving] = {}

    def receive(self, data: bytes) -> None:
        for message in self._decoder.feed(data):
            self.conversation.pass_(message.kind, message.object)
            if message.kind is Kind.GRANT:
                if message.object in self.serving:
                    self.serving[message.object].lent = True
                for slot in range(message.slot, message.slot + message.length):
                    self.pool.granted(message.object, slot, is_open=message.object in self.serving)
                self.pool.distribute()
            elif message.kind is Kind.OPEN:
                (span,) = decode_body(message, OpenRequest).spans
                self.serving[message.object] = Serving(message.object, *span, pace=1 + sum(span) % SLOT_BYTES)
            elif message.kind is Kind.SPAN:
                start, stop = message.offset, message.offset + message.length
                self.serving[message.object] = Serving(message.object, start, stop, alone=True)
            elif message.kind is Kind.CANCEL and message.object in self.serving:
                self.serving[message.object].cancelled = True

    def send(self, data: bytes, kind: Kind, number: int) -> None:
        self.conversation.pass_(kind, number)
        self.out += data

    def _give_back(self, number: int, slot: int) -> None:
        self.send(encode(Kind.RETURN, number, slot=slot), Kind.RETURN, number)

    def go_on(self, serving: Serving) -> None:
        """The next step of one object."""
        number = serving.number
        if serving.cancelled:
            self.fail(serving, errors.Cancelled("the transfer was cancelled"))
        elif serving.claim is None and serving.alone and (slot := self._take(serving)) is not None:
            self.memory[slot] = bytes(position % 251 for position in range(serving.start, serving.stop))
            self._over(serving)
            self.ledger.send(slot)
            self.send(encode(Kind.ONLY, number, 0, slot, serving.stop - serving.start), Kind.ONLY, number)
        elif serving.claim is None:
            response = ResponseHead(200, "https://example.test/object", reason="OK")
            head = HeadInfo(response, Version(serving.stop - serving.start))
            self.send(encode_body(Kind.HEAD, number, head), Kind.HEAD, number)
            needed = -(-(serving.stop - serving.start) // SLOT_BYTES)
            # With slots of its own, it takes them as they come.
            alone = self.slots if serving.lent else None
            serving.claim = self.pool.claim((number, 0), needed, lambda: None, max_unhashed=alone)
        elif serving.position == serving.stop:
            total = serving.stop - serving.start
            self._over(serving)
            self.send(encode_body(Kind.END, number, EndInfo(total, unverified(""), Stats())), Kind.END, number)
        elif serving.started or serving.claim.start():
            serving.started = True
            if serving.slot is None:
                serving.slot = serving.claim.next()
            if serving.slot is not None:
                self._fill(serving, serving.slot)

    def _take(self, serving: Serving) -> int | None:
        """A slot for all of a small object, where one is free."""
        return self.ledger.take() if serving.stop - serving.start <= SLOT_BYTES and not serving.lent else None

    def _fill(self, serving: Serving, slot: int) -> None:
        """The next bytes of the slot: it goes to the consumer when it is full, else its first bytes may be read."""
        room = min(SLOT_BYTES, serving.stop - serving.position + serving.filled)
        filled = min(room, serving.filled + serving.pace)
        first = serving.position - serving.filled
        self.memory[slot] = bytes(position % 251 for position in range(first, first + filled))
        serving.position, serving.filled = first + filled, filled
        self._announce(serving, slot, full=filled == room)

    def _announce(self, serving: Serving, slot: int, *, full: bool) -> None:
        kind = Kind.PART if full else Kind.PREFIX
        offset = serving.position - serving.filled - serving.start
        self.send(encode(kind, serving.number, offset, slot, serving.filled), kind, serving.number)
        if full:
            self.ledger.send(slot)
            serving.slot, serving.filled = None, 0

    def note(self, serving: Serving) -> None:
        serving.notes += 1
        info = NoteInfo("reset", serving.notes, 0.5, "the connection broke")
        self.send(encode_body(Kind.NOTE, serving.number, info), Kind.NOTE, serving.number)

    def fail(self, serving: Serving, error: errors.GetmError) -> None:
        self._over(serving)
        info = FailedInfo(error.code, error.message, None, {}, Stats())
        self.send(encode_body(Kind.FAILED, serving.number, info), Kind.FAILED, serving.number)

    def _over(self, serving: Serving) -> None:
        if serving.slot is not None and serving.filled:
            # The consumer knows of it.
            self._announce(serving, serving.slot, full=True)
        elif serving.slot is not None and serving.claim is not None:
            serving.claim.put_back(serving.slot)
        if serving.claim is not None:
            serving.claim.close()
        del self.serving[serving.number]
        self.pool.end(serving.number)


@dataclass
class Serving:
    number: int
    start: int
    stop: int
    claim: Claim | None = None
    started: bool = False
    cancelled: bool = False
    notes: int = 0
    position: int = 0
    # How many bytes come at once; those of the slot that is being filled.
    pace: int = SLOT_BYTES
    slot: int | None = None
    filled: int = 0
    # Whether slots were granted for it alone: it gets no others.
    lent: bool = False
    # Whether all of it may come in one slot, and with one message.
    alone: bool = False

    def __post_init__(self) -> None:
        self.position = self.start


@dataclass
class Wanted:
    """An object as the consumer sees it."""

    expected: bytes
    head: bool = False
    notes: list[int] = field(default_factory=list)
    cancelled: bool = False
    received: dict[int, bytes] = field(default_factory=dict)
    # The slots that were granted for it alone.
    lent: set[int] = field(default_factory=set)
    endings: list[Kind] = field(default_factory=list)


class Consumer:
    """The caller's end: holds slots as long as it likes."""

    def __init__(self, slots: int, memory: list[bytes]) -> None:
        self.memory = memory
        self.out = bytearray()
        self.conversation = Conversation()
        self.ledger = SlotLedger(slots, Owner.HELD)
        self._decoder = Decoder()
        self.objects: dict[int, Wanted] = {}
        self.held: dict[int, bytes] = {}
        # What may be read of slots that the engine is still filling.
        self.growing: dict[int, bytes] = {}
        # Slots that are granted for one object at a time, as a lead engine does of its helpers: the upper half.
        self.own = set(range(slots - slots // 2, slots))
        self.spare = set(self.own)
        for slot in range(slots - len(self.own)):
            self.ledger.give_back(slot)
        self.out += encode(Kind.GRANT, slot=0, length=slots - len(self.own))

    def open(self, first_byte: int, size: int, *, lend: bool) -> None:
        number = len(self.objects) + 1
        if size and number > 1 and not lend:
            self.conversation.pass_(Kind.SPAN, number)
            self.out += encode(Kind.SPAN, number, first_byte, length=size)
        else:
            self.conversation.pass_(Kind.OPEN, number)
            self.out += encode_body(Kind.OPEN, number, request(first_byte, size))
        wanted = Wanted(bytes(position % 251 for position in range(first_byte, first_byte + size)))
        self.objects[number] = wanted
        needed = -(-size // SLOT_BYTES)
        if lend and 0 < needed <= len(self.spare):
            wanted.lent = {self.spare.pop() for _ in range(needed)}
            for slot in wanted.lent:
                self.ledger.give_back(slot)
                self.out += encode(Kind.GRANT, number, slot=slot, length=1)

    def cancel(self, number: int) -> None:
        self.objects[number].cancelled = True
        self.conversation.pass_(Kind.CANCEL, number)
        self.out += encode(Kind.CANCEL, number)

    def hedge(self, number: int) -> None:
        self.conversation.pass_(Kind.HEDGE, number)
        self.out += encode(Kind.HEDGE, number)

    def let_go(self, slot: int) -> None:
        assert self.memory[slot] == self.held.pop(slot), "overwritten while it was held"
        if slot in self.own:
            self.spare.add(slot)
            return
        self.ledger.give_back(slot)
        self.out += encode(Kind.GRANT, slot=slot, length=1)

    def receive(self, data: bytes) -> None:
        for message in self._decoder.feed(data):
            self.conversation.pass_(message.kind, message.object)
            self._hear(self.objects[message.object], message)

    def _hear(self, wanted: Wanted, message: Message) -> None:
        if message.kind is Kind.PREFIX:
            seen = self.memory[message.slot][: message.length]
            assert seen.startswith(self.growing.get(message.slot, b"")), "overwritten behind a prefix"
            self.growing[message.slot] = seen
        elif message.kind is Kind.RETURN:
            self.ledger.receive(message.slot)
            wanted.lent.remove(message.slot)
            self.spare.add(message.slot)
        elif message.kind in (Kind.PART, Kind.ONLY):
            self.ledger.receive(message.slot)
            assert not wanted.lent or message.slot in wanted.lent, "another object's slot"
            assert self.memory[message.slot].startswith(self.growing.pop(message.slot, b""))
            self.held[message.slot] = self.memory[message.slot]
            wanted.received[message.offset] = self.memory[message.slot][: message.length]
            if message.kind is Kind.ONLY:
                assert not wanted.head and wanted.received == {0: wanted.expected}
                wanted.endings.append(message.kind)
            if wanted.cancelled:
                self.let_go(message.slot)
        elif message.kind is Kind.NOTE:
            assert not wanted.endings
            wanted.notes.append(decode_body(message, NoteInfo).attempt)
        elif message.kind is Kind.HEAD:
            assert decode_body(message, HeadInfo).size == len(wanted.expected)
            wanted.head = True
        else:
            wanted.endings.append(message.kind)
            assert wanted.notes == list(range(1, len(wanted.notes) + 1))
            if message.kind is Kind.END:
                assert decode_body(message, EndInfo).total == len(wanted.expected)
                whole = b"".join(wanted.received[offset] for offset in sorted(wanted.received))
                assert wanted.head and whole == wanted.expected
            else:
                info = decode_body(message, FailedInfo)
                errors.from_wire(info.code, info.message, info.url, info.fields)


class Protocol(RuleBasedStateMachine):
    @initialize(slots=st.integers(1, 4))
    def start(self, slots: int) -> None:
        memory = [b""] * slots
        self.slots = slots
        self.engine = Engine(slots, memory)
        self.consumer = Consumer(slots, memory)

    # The pipes: bytes in order, cut anywhere -------------------------------------------------------------------------

    def _pass_on(self, out: bytearray, count: int) -> bytes:
        data = bytes(out[:count])
        del out[:count]
        return data

    @precondition(lambda self: self.consumer.out)
    @rule(count=st.sampled_from([1, 7, 24, 100, 10_000]))
    def to_engine(self, count: int) -> None:
        self.engine.receive(self._pass_on(self.consumer.out, count))

    @precondition(lambda self: self.engine.out)
    @rule(count=st.sampled_from([1, 7, 24, 100, 10_000]))
    def to_consumer(self, count: int) -> None:
        self.consumer.receive(self._pass_on(self.engine.out, count))

    # What either end may do at any moment ----------------------------------------------------------------------------

    @precondition(lambda self: len(self.consumer.conversation.phases.keys()) < 4)
    @rule(first_byte=st.integers(0, 300), size=st.integers(0, 8 * SLOT_BYTES), lend=st.booleans())
    def consumer_opens(self, first_byte: int, size: int, lend: bool) -> None:
        self.consumer.open(first_byte, size, lend=lend)

    @precondition(lambda self: self.consumer.objects)
    @rule(data=st.data())
    def consumer_cancels(self, data: st.DataObject) -> None:
        # Also an object that has ended already, or was cancelled before.
        self.consumer.cancel(data.draw(st.sampled_from(sorted(self.consumer.objects))))

    @precondition(lambda self: self.consumer.held)
    @rule(data=st.data())
    def consumer_lets_go(self, data: st.DataObject) -> None:
        self.consumer.let_go(data.draw(st.sampled_from(sorted(self.consumer.held))))

    @precondition(lambda self: self.engine.serving)
    @rule(data=st.data(), steps=st.integers(1, 5))
    def engine_goes_on(self, data: st.DataObject, steps: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.engine.serving)))
        for _ in range(steps):
            if number in self.engine.serving:
                self.engine.go_on(self.engine.serving[number])

    @precondition(lambda self: self.engine.serving)
    @rule(data=st.data())
    def engine_retries(self, data: st.DataObject) -> None:
        # Before the head, between parts, or when all were sent.
        self.engine.note(self.engine.serving[data.draw(st.sampled_from(sorted(self.engine.serving)))])

    @precondition(lambda self: self.consumer.objects)
    @rule(data=st.data())
    def consumer_hurries(self, data: st.DataObject) -> None:
        # Also an object that has ended already.
        self.consumer.hedge(data.draw(st.sampled_from(sorted(self.consumer.objects))))

    @precondition(lambda self: self.engine.serving)
    @rule(data=st.data())
    def engine_fails(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.engine.serving)))
        self.engine.fail(self.engine.serving[number], errors.Truncated("cut off", received=1, expected=2))

    # What holds at every moment, and at the end ----------------------------------------------------------------------

    @invariant()
    def a_slot_is_with_one_end_or_under_way(self) -> None:
        with_engine = self.engine.ledger.count(Owner.FREE) + self.engine.ledger.count(Owner.FILLING)
        assert with_engine + self.consumer.ledger.count(Owner.HELD) <= self.slots
        assert set(self.consumer.held) | self.consumer.spare == {
            slot for slot in range(self.slots) if self.consumer.ledger.owners[slot] is Owner.HELD
        }

    @invariant()
    def no_object_ends_twice(self) -> None:
        assert all(len(wanted.endings) <= 1 for wanted in self.consumer.objects.values())

    def teardown(self) -> None:
        """Nothing more is opened or cancelled; both ends go on until there is nothing left to do."""
        if not hasattr(self, "engine"):
            return
        while self.engine.serving or self.engine.out or self.consumer.out or self.consumer.held:
            before = self._progress()
            self.to_engine_all()
            for serving in list(self.engine.serving.values()):
                self.engine.go_on(serving)
            self.consumer.receive(self._pass_on(self.engine.out, len(self.engine.out)))
            for slot in list(self.consumer.held):
                self.consumer.let_go(slot)
            assert self._progress() != before, "deadlock"
        assert all(len(wanted.endings) == 1 for wanted in self.consumer.objects.values())
        assert self.engine.conversation.phases.keys() == self.consumer.conversation.phases.keys() == frozenset()
        shared = self.slots - len(self.consumer.own)
        assert self.consumer.spare == self.consumer.own, "a slot that was granted for one object was lost"
        assert self.engine.ledger.available == self.engine.ledger.count(Owner.FREE) == shared
        assert self.consumer.ledger.count(Owner.PEER) == shared

    def to_engine_all(self) -> None:
        self.engine.receive(self._pass_on(self.consumer.out, len(self.consumer.out)))

    def _progress(self) -> tuple[object, ...]:
        serving = Counter({each.number: each.position for each in self.engine.serving.values()})
        heads = sum(each.claim is not None for each in self.engine.serving.values())
        return (
            len(self.engine.serving),
            heads,
            serving,
            len(self.engine.out),
            len(self.consumer.out),
            len(self.consumer.held),
        )


# Not strict: it takes luck to come upon what test_slots shows for certain.
TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
