"""Spans: Content-Range as servers send it, Range as getm sends it, and parts that cover exactly what was asked for."""

from __future__ import annotations

import itertools
import re

from hypothesis import example, given
from hypothesis import strategies as st

from getm.core.spans import MAX_POSITION, ContentRange, Span, join, lay_out, parse_content_range, plan_parts, resolve

POSITIONS = st.integers(0, 2**61)


@st.composite
def spans(draw: st.DrawFn) -> Span:
    start, size_bytes = draw(POSITIONS), draw(st.integers(1, 2**61))
    return Span(start, start + size_bytes)


@given(spans(), st.integers(0, 2**40))
def test_what_a_server_says_of_a_span_reads_back_as_that_span(span: Span, beyond: int) -> None:
    total = span.stop + beyond
    last = span.stop - 1
    assert parse_content_range(f"bytes {span.start}-{last}/{total}") == ContentRange(span, total)
    assert parse_content_range(f" BYTES \t{span.start}-{last}/* ") == ContentRange(span, None)
    assert parse_content_range(f"bytes */{total}") == ContentRange(None, total)


@given(spans())
def test_the_range_header_names_the_first_and_the_last_byte(span: Span) -> None:
    header = span.range_header()
    match = re.fullmatch(r"bytes=(\d+)-(\d+)", header)
    assert match is not None
    assert Span(int(match[1]), int(match[2]) + 1) == span
    assert len(span) == int(match[2]) - int(match[1]) + 1
    # A server that answers just what was asked for is understood as having done so.
    assert parse_content_range(f"{header.replace('=', ' ')}/*") == ContentRange(span, None)


def test_a_span_without_an_end_asks_for_all_that_is_there() -> None:
    assert Span(5, MAX_POSITION).range_header() == "bytes=5-"


MALFORMED = [
    "",
    "bytes",
    "bytes 0-1",
    "bytes 0-1/",
    "bytes /2",
    "bytes */*",
    "bytes 1-0/2",
    "bytes 0-2/2",
    "bytes 2-2/2",
    "bytes -1-1/2",
    "bytes -1/2",
    "bytes 0-/2",
    "bytes 0-1/-2",
    "bytes +0-1/2",
    "bytes 0 - 1/2",
    "bytes 0-1 /2",
    "bytes=0-1/2",
    "bytes0-1/2",
    "items 0-1/2",
    "bytes 0-1/2, bytes 0-1/2",
    "bytes 0-1/2 and more",
    "bytes 0x0-0x1/0x2",
    "bytes 0.0-1.0/2.0",
    "bytes 0_0-1/2",
    "bytes \u0660-\u0661/\u0662",
    "bytes 0-1/99999999999999999999",
    f"bytes 0-1/{'9' * 1_000_000}",
]


def test_a_malformed_or_contradictory_content_range_is_none() -> None:
    assert [value[:40] for value in MALFORMED if parse_content_range(value) is not None] == []


near_misses = st.from_regex(r"bytes[ \t=]{0,2}(\*|[0-9]{0,21}-?[0-9]{0,21})/?[0-9*]{0,21}", fullmatch=True)


@given(st.text(max_size=60) | near_misses)
@example("bytes 0-9999999999999999999/*")
def test_any_text_is_a_consistent_content_range_or_none(value: str) -> None:
    found = parse_content_range(value)
    if found is None:
        return
    assert found.span is not None or found.total is not None
    if found.span is not None:
        assert 0 <= found.span.start < found.span.stop
        assert found.total is None or found.span.stop <= found.total


def test_every_span_that_is_parsed_has_a_length() -> None:
    for value in ("bytes 0-9999999999999999998/*", "bytes 0-9223372036854775807/*"):
        found = parse_content_range(value)
        if found is not None and found.span is not None:
            assert len(found.span) == found.span.stop - found.span.start


@given(st.integers(0, 2**50), st.integers(0, 5000), st.integers(1, 700))
def test_parts_cover_a_span_exactly_in_order_and_without_overlap(start: int, size_bytes: int, part_bytes: int) -> None:
    parts = list(plan_parts(Span(start, start + size_bytes), part_bytes))
    if not size_bytes:
        assert parts == []
        return
    assert (parts[0].start, parts[-1].stop) == (start, start + size_bytes)
    assert all(before.stop == after.start for before, after in itertools.pairwise(parts))
    assert all(len(part) == part_bytes for part in parts[:-1])
    assert 0 < len(parts[-1]) <= part_bytes


def test_parts_come_one_by_one_however_large_the_object_is_said_to_be() -> None:
    parts = plan_parts(Span(0, 10**19), 7)
    assert list(itertools.islice(parts, 2)) == [Span(0, 7), Span(7, 14)]


wanted = st.one_of(
    st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: Span(min(pair), max(pair))),
    st.integers(0, 60).map(lambda start: Span(start, MAX_POSITION)),
    st.integers(1, 60).map(lambda count: Span(-count, MAX_POSITION)),
)


@given(wanted, st.integers(0, 50))
def test_what_is_wanted_of_an_object_is_a_slice_of_it(span: Span, size: int) -> None:
    positions = range(size)
    found = resolve(span, size)
    assert (
        positions[found.start : found.stop] == positions[span.start : None if span.stop == MAX_POSITION else span.stop]
    )
    assert 0 <= found.start <= found.stop <= size


@given(st.lists(wanted), st.integers(0, 50), st.integers(0, 5))
def test_joined_spans_have_all_that_is_wanted_and_no_larger_gaps(several: list[Span], size: int, max_gap: int) -> None:
    resolved = [resolve(span, size) for span in several]
    joined = join(resolved, max_gap)
    assert all(before.stop + max_gap < after.start for before, after in itertools.pairwise(joined))
    needed = {position for span in resolved for position in range(span.start, span.stop)}
    covered = {position for span in joined for position in range(span.start, span.stop)}
    assert needed <= covered
    for span in filter(len, resolved):
        assert any(each.start <= span.start and span.stop <= each.stop for each in joined)
    assert lay_out(several, size) == join(resolved)
    assert {position for span in join(resolved) for position in range(span.start, span.stop)} == needed


def test_the_range_header_of_a_suffix_has_no_first_position() -> None:
    assert Span(-5, MAX_POSITION).range_header() == "bytes=-5"
