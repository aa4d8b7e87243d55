"""The journal's records, its slots, the set of bytes, and whose a partial file is: decisions without a file system."""

from __future__ import annotations

import itertools
import os
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from getm.core.spans import MAX_POSITION, Span
from getm.files.coverage import Coverage
from getm.files.journal import (
    JOURNAL_BYTES,
    SLOT_BYTES,
    SPANS_AT_MOST,
    Journal,
    Owner,
    Record,
    Version,
    data_name,
    decode,
    encode,
    fits,
    journal_name,
    spans_of,
)
from getm.files.lock import Judgement, judge

ME = Owner(host="here", boot="now", namespace="pid:[1]", pid=2, started=3, locked=True)
VERSION = Version(size=100, etag='"a"', last_modified=None, if_range='"a"', declared=("md5:00", "caller"))
RECORD = Record(
    identity="0123456789abcdef", heir=None, version=VERSION, owner=ME, boot="now", written=[0, 9], durable=[0, 5]
)

POINTS = st.integers(0, 60)
PAIRS = st.lists(st.tuples(POINTS, POINTS), max_size=12)


@given(PAIRS)
def test_coverage_is_a_set_of_bytes(pairs: list[tuple[int, int]]) -> None:
    coverage, model = Coverage(), set[int]()
    for start, stop in pairs:
        coverage.add(start, stop)
        model.update(range(start, stop))
    there = coverage.spans()
    assert {byte for span in there for byte in range(span.start, span.stop)} == model
    # Neither empty nor touching.
    assert all(span.start < span.stop for span in there)
    assert all(left.stop < right.start for left, right in itertools.pairwise(there))
    missing = coverage.missing(60)
    assert {byte for span in missing for byte in range(span.start, span.stop)} == set(range(60)) - model
    assert all(span.start < span.stop for span in missing)
    assert coverage.is_exactly(60) == (model == set(range(60)))
    assert coverage.stop == max(model, default=-1) + 1
    assert Coverage(there).spans() == there == coverage.copy().spans()
    assert spans_of(coverage.bounds(100)) == there
    some = spans_of(coverage.bounds(2))
    assert set(some) <= set(there) and len(some) == min(2, len(there))
    assert sum(map(len, some)) == sum(sorted(map(len, there))[-2:])


def test_a_copy_of_a_coverage_stays_as_it_is() -> None:
    first = Coverage([Span(0, 3)])
    second = first.copy()
    first.add(3, 5)
    assert second.spans() == (Span(0, 3),)


IDENTITIES = st.sampled_from(["0123456789abcdef", "f" * 16])
TEXTS = st.text(max_size=8)
VERSIONS = st.builds(
    Version, st.just(MAX_POSITION), st.none() | TEXTS, st.none() | TEXTS, TEXTS, st.none() | st.tuples(TEXTS, TEXTS)
)
OWNERS = st.builds(
    Owner, TEXTS, TEXTS, TEXTS, st.integers(0, 2**31), st.none() | st.integers(0, 2**63 - 1), st.booleans()
)
BOUNDS = st.lists(st.integers(0, MAX_POSITION), max_size=6, unique=True).map(
    lambda points: sorted(points)[len(points) % 2 :]
)
RECORDS = st.builds(Record, IDENTITIES, st.none() | IDENTITIES, VERSIONS, st.none() | OWNERS, TEXTS, BOUNDS, BOUNDS)


@given(RECORDS, st.integers(1, 2**63), st.binary(max_size=50))
def test_a_record_comes_back(record: Record, sequence: int, rest: bytes) -> None:
    """Whatever an older, longer record has left behind it in the slot."""
    assert decode(encode(sequence, record) + rest) == (sequence, record)


@given(st.data())
def test_a_changed_record_is_none(data: st.DataObject) -> None:
    text = bytearray(encode(7, RECORD))
    position = data.draw(st.integers(0, len(text) - 2))
    text[position] ^= data.draw(st.integers(1, 255))
    assert decode(bytes(text)) is None


@given(st.integers(0, len(encode(7, RECORD)) - 2))
def test_a_record_cut_off_is_none(length: int) -> None:
    assert decode(encode(7, RECORD)[:length]) is None


@given(st.binary(max_size=200))
@example(b"getm-journal 1 ")
def test_anything_else_is_none(data: bytes) -> None:
    assert decode(data) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"identity": "../../etc/passwd"},
        {"identity": "0123456789abcdef\n"},
        {"heir": "x"},
        {"written": [5, 5]},
        {"written": [5, 4]},
        {"written": [0, 5, 5, 6]},
        {"durable": [0, 101]},
        {"durable": [1]},
        {"written": [-1, 5]},
        {"boot": None},
        {"version": Version(size=-1, etag=None, last_modified=None, if_range="", declared=None)},
    ],
)
def test_a_record_that_makes_no_sense_is_none(changes: dict[str, object]) -> None:
    fields = {name: getattr(RECORD, name) for name in RECORD.__struct_fields__}
    assert decode(encode(7, Record(**fields))) is not None
    assert decode(encode(7, Record(**{**fields, **changes}))) is None


def test_another_version_of_the_format_is_none() -> None:
    assert decode(encode(7, RECORD).replace(b"getm-journal 1", b"getm-journal 2")) is None


def test_the_largest_record_fits_its_slot() -> None:
    """As many spans as are told at most, the largest numbers, and texts as long as `fits` lets them be."""
    bounds = [MAX_POSITION - 2 * SPANS_AT_MOST + number for number in range(2 * SPANS_AT_MOST)]
    length = max(length for length in range(2000) if fits(version_of("\x01" * length), ME))
    record = Record("0" * 16, "1" * 16, version_of("\x01" * length), ME, "b" * 36, written=bounds, durable=bounds)
    assert len(encode(2**64 - 1, record)) <= SLOT_BYTES


def version_of(etag: str) -> Version:
    return Version(MAX_POSITION, etag, None, etag, None)


def test_what_no_journal_can_hold() -> None:
    assert not fits(version_of("x" * 5000), ME)
    assert not fits(version_of("\udc80"), ME)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(0, 2**32))
def test_one_slot_may_be_torn_at_any_time(kinds: list[bool], seed: int) -> None:
    """The one written last: then the record before it counts."""
    chance = random.Random(seed)
    journal = Journal(os.memfd_create("journal"))
    try:
        for number, durable in enumerate(kinds):
            before = os.pread(journal.fd, JOURNAL_BYTES, 0)
            # Read anew each time, as by one run after another.
            journal.load()
            journal.write(numbered(number), durable=durable)
            after = os.pread(journal.fd, 2 * JOURNAL_BYTES, 0)
            assert len(after) <= JOURNAL_BYTES
            assert journal.load() == numbered(number)
            cut = chance.randrange(len(after))
            os.pwrite(journal.fd, (after[:cut] + before[cut:]).ljust(len(after), b"\0"), 0)
            assert journal.load() in (numbered(number), numbered(number - 1) if number else None)
            os.pwrite(journal.fd, after, 0)
    finally:
        journal.close()


def test_of_two_durable_records_one_survives_whatever_becomes_of_the_rest() -> None:
    journal = Journal(os.memfd_create("journal"))
    try:
        for number in range(5):
            journal.write(numbered(number), durable=number in (1, 3))
        content = os.pread(journal.fd, JOURNAL_BYTES, 0)
        os.pwrite(journal.fd, bytes(2 * SLOT_BYTES), 2 * SLOT_BYTES)
        assert journal.load() == numbered(3)
        os.pwrite(journal.fd, bytes(SLOT_BYTES), content.index(encode(4, numbered(3))))
        assert journal.load() == numbered(1)
    finally:
        journal.close()


def numbered(number: int) -> Record:
    return Record("0" * 16, None, VERSION, ME, "now", [0, number + 1], [])


def test_names() -> None:
    assert journal_name("reads.bam") == ".reads.bam.getm-journal"
    assert data_name("reads.bam", "0123456789abcdef") == ".reads.bam.0123456789abcdef.getm-part"
    for target in ("x" * 255, "ä" * 127, "\udcff" * 250, "x" * 240):
        names = {journal_name(target), data_name(target, "0" * 16), data_name(target, "1" * 16)}
        assert len(names) == 3
        assert all(len(os.fsencode(name)) <= 255 and name.startswith(".") for name in names)
    assert journal_name("x" * 255) != journal_name("x" * 254 + "y")


def owner(**changes: object) -> Owner:
    fields = {name: getattr(ME, name) for name in ME.__struct_fields__}
    return Owner(**{**fields, "pid": 9, **changes})


NOBODY_HERE = {"host": "other", "boot": "then"}


@pytest.mark.parametrize(
    ("former", "locked", "fresh", "alive", "expected"),
    [
        # Let go by its owner.
        (None, True, True, True, Judgement.TAKE),
        (None, False, True, True, Judgement.TAKE),
        # The same run of this machine. The lock tells, if both have asked for it; else the process does.
        (owner(), True, True, True, Judgement.TAKE),
        (owner(locked=False), True, True, True, Judgement.LEAVE),
        (owner(locked=False), True, True, False, Judgement.TAKE),
        (owner(), False, False, True, Judgement.LEAVE),
        (owner(), False, True, False, Judgement.TAKE),
        # A container of this machine, whose processes cannot be seen from here.
        (owner(host="container", namespace="pid:[2]"), True, True, False, Judgement.TAKE),
        (owner(host="container", namespace="pid:[2]"), False, True, False, Judgement.LEAVE),
        (owner(host="container", namespace="pid:[2]"), False, False, False, Judgement.COPY),
        # This machine before it was started anew.
        (owner(boot="then"), True, True, True, Judgement.TAKE),
        (owner(boot="then"), False, True, True, Judgement.TAKE),
        # Another machine: a lock that we got says nothing of it.
        (owner(**NOBODY_HERE), True, True, False, Judgement.LEAVE),
        (owner(**NOBODY_HERE), True, False, False, Judgement.COPY),
        (owner(**NOBODY_HERE), False, True, False, Judgement.LEAVE),
        (owner(**NOBODY_HERE), False, False, False, Judgement.COPY),
        (owner(host="other", boot=""), True, False, False, Judgement.COPY),
    ],
)
def test_whose_it_is(former: Owner | None, locked: bool, fresh: bool, alive: bool, expected: Judgement) -> None:
    me = owner(pid=2, locked=locked)
    assert judge(former, me, fresh=lambda: fresh, alive=lambda _: alive) is expected


@pytest.mark.parametrize(("host", "alive", "expected"), [("here", True, "LEAVE"), ("here", False, "TAKE")])
def test_whose_it_is_where_a_machine_does_not_tell_its_runs(host: str, alive: bool, expected: str) -> None:
    me = owner(boot="", pid=2, locked=False)
    former = owner(boot="", host=host)
    assert judge(former, me, fresh=lambda: True, alive=lambda _: alive) is Judgement[expected]
