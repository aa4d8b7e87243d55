"""The journal's records, its slots, the set of bytes, and whose a partial file is: decisions without a file system."""

from __future__ import annotations

import itertools
import os
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from getm.core.coverage import Coverage
from getm.core.spans import MAX_POSITION, Span
from getm.core.version import Version
from getm.files.journal import (
    JOURNAL_BYTES,
    SLOT_BYTES,
    SPANS_AT_MOST,
    Journal,
    Record,
    data_name,
    decode,
    encode,
    fits,
    journal_name,
    spans_of,
)
from getm.files.lock import is_free

VERSION = Version(size=100, etag='"a"', last_modified=None, strong='"a"')
RECORD = Record(
    identity="0123456789abcdef",
    version=VERSION,
    declared=("md5:00", "caller"),
    in_use=True,
    locked=True,
    boot="now",
    written=[0, 9],
    durable=[0, 5],
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
VERSIONS = st.builds(Version, st.just(MAX_POSITION), st.none() | TEXTS, st.none() | TEXTS, TEXTS)
DECLARED = st.none() | st.tuples(TEXTS, TEXTS)
BOUNDS = st.lists(st.integers(0, MAX_POSITION), max_size=6, unique=True).map(
    lambda points: sorted(points)[len(points) % 2 :]
)
RECORDS = st.builds(Record, IDENTITIES, VERSIONS, DECLARED, st.booleans(), st.booleans(), TEXTS, BOUNDS, BOUNDS)


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
@example(b"getm-journal 2 ")
def test_anything_else_is_none(data: bytes) -> None:
    assert decode(data) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"identity": "../../etc/passwd"},
        {"identity": "0123456789abcdef\n"},
        {"written": [5, 5]},
        {"written": [5, 4]},
        {"written": [0, 5, 5, 6]},
        {"durable": [0, 101]},
        {"durable": [1]},
        {"written": [-1, 5]},
        {"boot": None},
        {"version": Version(-1, None, None, "x")},
        {"version": Version(None, None, None, "x")},
        {"version": Version(2**64, None, None, "x")},
        {"version": Version(100, "x", None, None)},
    ],
)
def test_a_record_that_makes_no_sense_is_none(changes: dict[str, object]) -> None:
    fields = {name: getattr(RECORD, name) for name in RECORD.__struct_fields__}
    assert decode(encode(7, Record(**fields))) is not None
    assert decode(encode(7, Record(**{**fields, **changes}))) is None


def test_another_version_of_the_format_is_none() -> None:
    assert decode(encode(7, RECORD).replace(b"getm-journal 2", b"getm-journal 1")) is None


def test_the_largest_record_fits_its_slot() -> None:
    """As many spans as are told at most, the largest numbers, and texts as long as `fits` lets them be."""
    bounds = [MAX_POSITION - 2 * SPANS_AT_MOST + number for number in range(2 * SPANS_AT_MOST)]
    length = max(length for length in range(2000) if fits(version_of("\x01" * length), None))
    version = version_of("\x01" * length)
    record = Record("0" * 16, version, None, False, False, "b" * 36, written=bounds, durable=bounds)
    assert len(encode(2**64 - 1, record)) <= SLOT_BYTES


def version_of(etag: str) -> Version:
    return Version(MAX_POSITION, etag, None, etag)


def test_what_no_journal_can_hold() -> None:
    assert not fits(version_of("x" * 5000), None)
    assert not fits(version_of("x"), ("md5:00", "x" * 5000))
    assert not fits(version_of("\udc80"), None)


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
            write(journal, number, durable)
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
            write(journal, number, number in (1, 3))
        content = os.pread(journal.fd, JOURNAL_BYTES, 0)
        os.pwrite(journal.fd, bytes(2 * SLOT_BYTES), 2 * SLOT_BYTES)
        assert journal.load() == numbered(3)
        os.pwrite(journal.fd, bytes(SLOT_BYTES), content.index(encode(4, numbered(3))))
        assert journal.load() == numbered(1)
    finally:
        journal.close()


def numbered(number: int) -> Record:
    return Record("0" * 16, VERSION, None, True, True, "now", [0, number + 1], [])


def write(journal: Journal, number: int, durable: bool) -> None:
    if durable:
        journal.write(numbered(number), durable=True)
        journal.turn()
    else:
        journal.write(numbered(number))


def test_a_durable_record_that_did_not_reach_the_disk_is_written_over() -> None:
    """By the next one: of the two slots, one is always on the disk."""
    journal = Journal(os.memfd_create("journal"))
    try:
        write(journal, 1, durable=True)
        journal.write(numbered(2), durable=True)
        write(journal, 3, durable=True)
        os.pwrite(journal.fd, bytes(2 * SLOT_BYTES), 2 * SLOT_BYTES)
        content = os.pread(journal.fd, JOURNAL_BYTES, 0)
        assert encode(1, numbered(1)) in content and encode(3, numbered(3)) in content
    finally:
        journal.close()


def test_names() -> None:
    assert journal_name("reads.bam") == ".reads.bam.getm-journal"
    assert data_name("reads.bam", "0123456789abcdef") == ".reads.bam.0123456789abcdef.getm-part"
    for target in ("x" * 255, "ä" * 127, "\udcff" * 250, "x" * 240):
        names = {journal_name(target), data_name(target, "0" * 16), data_name(target, "1" * 16)}
        assert len(names) == 3
        assert all(len(os.fsencode(name)) <= 255 and name.startswith(".") for name in names)
    assert journal_name("x" * 255) != journal_name("x" * 254 + "y")


@pytest.mark.parametrize(
    ("changes", "locked", "fresh", "free"),
    [
        # Let go by its last user.
        ({"in_use": False}, True, True, True),
        ({"in_use": False}, False, True, True),
        # The same run of this machine: the lock tells, if both have asked for it.
        ({}, True, True, True),
        ({"locked": False}, True, True, False),
        ({"locked": False}, True, False, True),
        ({}, False, True, False),
        ({}, False, False, True),
        # Another machine, or this one before it was started again: a lock that we got says nothing of it.
        ({"boot": "then"}, True, True, False),
        ({"boot": "then"}, True, False, True),
        ({"boot": ""}, True, True, False),
        ({"boot": "then"}, False, True, False),
        ({"boot": "then"}, False, False, True),
    ],
)
def test_whose_it_is(changes: dict[str, object], locked: bool, fresh: bool, free: bool) -> None:
    fields = {name: getattr(RECORD, name) for name in RECORD.__struct_fields__}
    record = Record(**{**fields, **changes})
    assert is_free(record, "now", locked=locked, is_fresh=lambda: fresh) is free


@pytest.mark.parametrize(("locked", "fresh", "free"), [(True, True, True), (False, True, False), (False, False, True)])
def test_a_journal_that_cannot_be_read(locked: bool, fresh: bool, free: bool) -> None:
    """Without locks another process may be just writing its first record."""
    assert is_free(None, "now", locked=locked, is_fresh=lambda: fresh) is free


def test_where_a_machine_does_not_tell_its_runs_the_lock_does() -> None:
    fields = {name: getattr(RECORD, name) for name in RECORD.__struct_fields__}
    assert is_free(Record(**{**fields, "boot": ""}), "", locked=True, is_fresh=lambda: True)
