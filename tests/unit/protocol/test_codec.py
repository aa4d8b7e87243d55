"""The pipe protocol: any cutting of the bytes gives the same messages, garbage gives `ProtocolError`, order is held."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import tracemalloc
from collections.abc import Iterator, Mapping
from typing import get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from getm.core.retry import Retries
from getm.errors import ProtocolError
from getm.integrity.values import DIGEST_BYTES, Checksum
from getm.protocol.codec import FRAME, MAX_BODY_BYTES, Decoder, decode_body, encode, encode_body
from getm.protocol.messages import (
    FROM_CONSUMER,
    FROM_ENGINE,
    ON_CONTROL,
    AdaptedInfo,
    EndInfo,
    FailedInfo,
    FolderEntry,
    HeadInfo,
    Kind,
    Message,
    NoteInfo,
    OpenRequest,
    Record,
    RenewedInfo,
    ServeRequest,
    plain,
)
from getm.protocol.order import Conversation, Phase
from getm.results import Stats

BODY_OF: dict[Kind, type[Record]] = {
    Kind.OPEN: OpenRequest,
    Kind.WRITE: FolderEntry,
    Kind.RENEWED: RenewedInfo,
    Kind.HEAD: HeadInfo,
    Kind.NOTE: NoteInfo,
    Kind.ADAPTED: AdaptedInfo,
    Kind.END: EndInfo,
    Kind.FAILED: FailedInfo,
    Kind.SERVE: ServeRequest,
}

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
# What a field may hold. MessagePack's integers reach from -2**63 to 2**64 - 1; NaN is equal to nothing.
OF_TYPE: dict[object, st.SearchStrategy[object]] = {
    int: st.integers(-(2**63), 2**64 - 1),
    str: st.text(max_size=12),
    bytes: st.binary(max_size=12),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    type(None): st.none(),
    # These refuse others by themselves.
    Checksum: st.sampled_from(list(DIGEST_BYTES)).flatmap(
        lambda name: st.builds(
            Checksum, st.just(name), st.binary(min_size=DIGEST_BYTES[name], max_size=DIGEST_BYTES[name])
        )
    ),
    Retries: st.builds(
        Retries,
        st.integers(0, 10**6),
        st.floats(0, 1e9),
        st.floats(0, 1e9),
        st.frozensets(st.integers(100, 999), max_size=3),
    ),
}


def values(annotation: object) -> st.SearchStrategy[object]:
    """Any value of a type that a record's field may have."""
    if annotation in OF_TYPE:
        return OF_TYPE[annotation]
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        hints = get_type_hints(annotation)
        return st.builds(annotation, **{name: values(hint) for name, hint in hints.items()})
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        fields = msgspec.structs.fields(annotation)
        return st.builds(annotation, **{field.name: values(field.type) for field in fields})
    container, inner = get_origin(annotation), get_args(annotation)
    if container in (dict, Mapping):
        return st.dictionaries(values(inner[0]), values(inner[1]), max_size=4)
    if container is tuple and inner[-1] is Ellipsis:
        return st.lists(values(inner[0]), max_size=4).map(tuple)
    if container is tuple:
        return st.tuples(*map(values, inner))
    return st.one_of(*map(values, inner))


def records(kind: Kind) -> st.SearchStrategy[Record]:
    fields = msgspec.structs.fields(BODY_OF[kind])
    return st.builds(BODY_OF[kind], **{field.name: values(field.type) for field in fields})


@st.composite
def message_bytes(draw: st.DrawFn) -> tuple[bytes, Message]:
    """One message as it travels, and as it must arrive."""
    kind = draw(st.sampled_from(Kind))
    if kind in BODY_OF:
        number = draw(U32)
        data = encode_body(kind, number, draw(records(kind)))
        return data, Message(kind, number, length=len(data) - FRAME.size, body=data[FRAME.size :])
    number, offset, slot, length = draw(U32), draw(U64), draw(U32), draw(U32)
    return encode(kind, number, offset, slot, length), Message(kind, number, offset, slot, length)


def cut(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return (data[start:stop] for start, stop in itertools.pairwise(edges))


# Codec ---------------------------------------------------------------------------------------------------------------


@given(st.lists(message_bytes(), max_size=8), st.lists(st.integers(0, 10**6), max_size=20))
def test_any_cutting_gives_the_same_messages(sent: list[tuple[bytes, Message]], cuts: list[int]) -> None:
    decoder = Decoder()
    data = b"".join(piece for piece, _ in sent)
    assert [message for piece in cut(data, cuts) for message in decoder.feed(piece)] == [message for _, message in sent]


@given(message_bytes())
def test_a_message_comes_with_its_last_byte_and_not_before(sent: tuple[bytes, Message]) -> None:
    data, message = sent
    decoder = Decoder()
    assert [found for at in range(len(data) - 1) for found in decoder.feed(data[at : at + 1])] == []
    assert list(decoder.feed(data[-1:])) == [message]


@pytest.mark.parametrize("kind", BODY_OF)
def test_every_record_round_trips(kind: Kind) -> None:
    @given(records(kind))
    def check(record: Record) -> None:
        (message,) = Decoder().feed(encode_body(kind, 7, record))
        decoded = decode_body(message, type(record))
        assert decoded == record
        # 1 and 1.0 and True are equal, and not the same thing to whoever gets them.
        assert repr(decoded) == repr(record)

    check()


@given(st.lists(st.binary(max_size=60), max_size=5))
@example([encode(Kind.STOP)[:-1], b"\xff" * 60])
def test_garbage_is_messages_or_a_protocol_error(pieces: list[bytes]) -> None:
    decoder = Decoder()
    try:
        found = [message for piece in pieces for message in decoder.feed(piece)]
    except ProtocolError:
        return
    assert sum(FRAME.size + len(message.body) for message in found) <= sum(map(len, pieces))


def test_every_unknown_kind_is_refused_at_once() -> None:
    for number in set(range(256)) - set(Kind):
        with pytest.raises(ProtocolError, match=f"kind {number}"):
            list(Decoder().feed(bytes([number]) + bytes(FRAME.size - 1)))


def test_what_came_before_garbage_is_still_heard() -> None:
    feeding = Decoder().feed(encode(Kind.GRANT, slot=3, length=1) + b"\xff" * FRAME.size)
    assert next(feeding) == Message(Kind.GRANT, slot=3, length=1)
    with pytest.raises(ProtocolError):
        next(feeding)


def test_a_body_over_the_limit_is_refused_before_it_comes() -> None:
    for kind in BODY_OF:
        assert list(Decoder().feed(FRAME.pack(kind, 1, 0, 0, MAX_BODY_BYTES))) == []
        with pytest.raises(ProtocolError, match=str(MAX_BODY_BYTES)):
            list(Decoder().feed(FRAME.pack(kind, 1, 0, 0, MAX_BODY_BYTES + 1)))


def test_a_body_of_the_largest_size_comes_whole() -> None:
    body = bytes(range(256)) * (MAX_BODY_BYTES // 256)
    decoder = Decoder()
    data = FRAME.pack(Kind.HEAD, 1, 0, 0, len(body)) + body
    pieces = [data[at : at + 2**20] for at in range(0, len(data), 2**20)]
    assert [found.body == body for piece in pieces for found in decoder.feed(piece)] == [True]


# Bodies --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BODY_OF)
def test_a_body_of_another_shape_is_a_protocol_error(kind: Kind) -> None:
    wrong: list[object] = [None, 5, "text", [], {}, [None] * 30, [[]] * 30, ["x"] * 30]
    bodies = [b"", b"\xc1", *(msgspec.msgpack.encode(value) for value in wrong)]
    for body in bodies:
        with pytest.raises(ProtocolError, match=kind.name):
            pytest.fail(f"{body!r} is {decode_body(Message(kind, body=body), BODY_OF[kind])}")


NO_TEXT = b"\x94\xa1\xff\xa1m\xc0\x80"
TOO_DEEP = b"\x95\xa1c\xa1m\xc0\x80" + b"\x91" * 100_000 + b"\x00"


@given(st.sampled_from(sorted(BODY_OF)), st.binary(max_size=60))
@example(Kind.FAILED, NO_TEXT)
@example(Kind.FAILED, TOO_DEEP)
def test_any_body_is_a_record_or_a_protocol_error(kind: Kind, body: bytes) -> None:
    try:
        decode_body(Message(kind, body=body), BODY_OF[kind])
    except ProtocolError:
        return


@given(st.sampled_from(sorted(BODY_OF)), st.data())
def test_a_body_cut_short_or_followed_by_more_is_a_protocol_error(kind: Kind, data: st.DataObject) -> None:
    record = data.draw(records(kind))
    body = msgspec.msgpack.encode(record)
    short = body[: data.draw(st.integers(0, len(body) - 1))]
    for changed in (short, body + b"\xc0"):
        with pytest.raises(ProtocolError):
            decode_body(Message(kind, body=changed), type(record))


def test_a_body_that_announces_billions_of_elements_takes_no_memory_for_them() -> None:
    announced = b"\xff\xff\xff\xff"
    bodies = [
        b"\x96\xa1u\xcc\xc8\xa1r\xdd" + announced,
        b"\x96\xdb" + announced,
        b"\xdd" + announced + b"\xa1u\xcc\xc8\xa1r",
    ]
    tracemalloc.start()
    try:
        for body in bodies:
            with pytest.raises(ProtocolError):
                decode_body(Message(Kind.HEAD, body=body), HeadInfo)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@given(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()
)
def test_plain_makes_of_any_value_one_that_travels(value: object) -> None:
    sent = plain(value)
    assert sent == (str(value) if isinstance(value, bytes) else value)
    (message,) = Decoder().feed(encode_body(Kind.FAILED, 1, FailedInfo("c", "m", None, {"name": sent}, Stats())))
    assert decode_body(message, FailedInfo).fields == {"name": sent}


# Order ---------------------------------------------------------------------------------------------------------------

# As the module's docstring says it; GRANT is of no object, CANCEL and HEDGE may cross the end of their object.
ALLOWED: dict[Phase | None, dict[Kind, Phase | None]] = {
    None: {
        Kind.OPEN: Phase.OPENED,
        Kind.SPAN: Phase.OPENED,
        Kind.GRANT: None,
        Kind.RETURN: None,
        Kind.WRITE: None,
        Kind.PLACE: None,
        Kind.CANCEL: None,
        Kind.HEDGE: None,
        Kind.MORE: None,
        Kind.RENEWED: None,
    },
    Phase.OPENED: {
        Kind.HEAD: Phase.STREAMING,
        Kind.NOTE: Phase.OPENED,
        Kind.WRITE: Phase.OPENED,
        Kind.PLACE: Phase.OPENED,
        Kind.ONLY: None,
        Kind.END: None,
        Kind.HEDGE: Phase.OPENED,
        Kind.MORE: Phase.OPENED,
        Kind.EXPIRED: Phase.OPENED,
        Kind.RENEWED: Phase.OPENED,
        Kind.FAILED: None,
        Kind.GRANT: Phase.OPENED,
        Kind.RETURN: Phase.OPENED,
        Kind.CANCEL: Phase.OPENED,
    },
    Phase.STREAMING: {
        Kind.PART: Phase.STREAMING,
        Kind.PREFIX: Phase.STREAMING,
        Kind.WRITTEN: Phase.STREAMING,
        Kind.WRITE: Phase.STREAMING,
        Kind.PLACE: Phase.STREAMING,
        Kind.NOTE: Phase.STREAMING,
        Kind.ADAPTED: Phase.STREAMING,
        Kind.HEDGE: Phase.STREAMING,
        Kind.MORE: Phase.STREAMING,
        Kind.EXPIRED: Phase.STREAMING,
        Kind.RENEWED: Phase.STREAMING,
        Kind.END: None,
        Kind.FAILED: None,
        Kind.GRANT: Phase.STREAMING,
        Kind.RETURN: Phase.STREAMING,
        Kind.CANCEL: Phase.STREAMING,
    },
}
LEADING_TO: dict[Phase | None, list[Kind]] = {
    None: [],
    Phase.OPENED: [Kind.OPEN],
    Phase.STREAMING: [Kind.OPEN, Kind.HEAD],
}


def passes(conversation: Conversation, kind: Kind, number: int) -> bool:
    """Whether the message may come; the conversation goes on by it."""
    try:
        conversation.pass_(kind, number)
    except ProtocolError:
        return False
    return True


def phase(conversation: Conversation, number: int) -> Phase | None:
    """Where the object stands, by what may come for it."""
    if number not in conversation.phases:
        return None
    return Phase.STREAMING if passes(copy.deepcopy(conversation), Kind.PART, number) else Phase.OPENED


@pytest.mark.parametrize("before", ALLOWED)
def test_each_message_in_each_phase(before: Phase | None) -> None:
    for kind in Kind:
        conversation = Conversation()
        conversation.pass_(Kind.OPEN, 1)
        for step in LEADING_TO[before]:
            conversation.pass_(step, 2)
        after = ALLOWED[before].get(kind, before)
        assert passes(conversation, kind, 2) is (kind in ALLOWED[before]), kind
        assert phase(conversation, 2) is after, kind
        assert phase(conversation, 1) is Phase.OPENED, "another object's message changes nothing here"


def test_an_object_that_ended_is_not_open_any_more() -> None:
    for last in (Kind.END, Kind.FAILED):
        conversation = Conversation()
        for kind in (Kind.OPEN, Kind.HEAD, Kind.PART, last):
            conversation.pass_(kind, 1)
        assert conversation.phases.keys() == frozenset()
        # What was sent before its sender had read the end.
        assert passes(conversation, Kind.CANCEL, 1) and passes(conversation, Kind.HEDGE, 1)
        late = (Kind.HEAD, Kind.NOTE, Kind.PART, Kind.END, Kind.FAILED)
        assert [kind for kind in late if passes(conversation, kind, 1)] == []


def test_cancel_leaves_the_object_open_until_its_one_end() -> None:
    conversation = Conversation()
    for kind in (Kind.OPEN, Kind.CANCEL, Kind.HEAD, Kind.CANCEL, Kind.PART):
        conversation.pass_(kind, 1)
    assert conversation.phases.keys() == {1}
    conversation.pass_(Kind.FAILED, 1)
    assert conversation.phases.keys() == frozenset()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=30))
def test_a_number_is_never_used_twice(moves: list[tuple[bool, int]]) -> None:
    conversation, used, still_open = Conversation(), {0}, set[int]()
    for opens, number in moves:
        if opens:
            # Numbers rise, so that "used before" needs no list of them.
            assert passes(conversation, Kind.OPEN, number) is (number > max(used))
            if number > max(used):
                used.add(number)
                still_open.add(number)
        else:
            assert passes(conversation, Kind.FAILED, number) is (number in still_open)
            still_open.discard(number)
        assert conversation.phases.keys() == still_open


def test_what_the_other_end_may_not_send_is_refused_though_it_is_a_message() -> None:
    for kinds, kind in ((FROM_ENGINE, Kind.OPEN), (FROM_CONSUMER, Kind.PART), (ON_CONTROL, Kind.GRANT)):
        with pytest.raises(ProtocolError, match=kind.name):
            list(Decoder(kinds).feed(encode(kind)))
