"""How much is requested for reads: pure decisions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from getm.client.read_ahead import GROWTH, MAX_AHEAD_BYTES, MIN_BYTES, TAIL_BYTES, ReadAhead, first_span
from getm.core.spans import MAX_POSITION, Span
from getm.core.units import KIB, MIB

GIB = 1024 * MIB


def test_the_first_read_of_a_run_gets_what_it_asks_for_and_little_more() -> None:
    assert first_span(GIB, 5 * MIB, 5 * MIB + 100) == Span(5 * MIB, 5 * MIB + MIN_BYTES)
    assert first_span(GIB, 5 * MIB, 9 * MIB) == Span(5 * MIB, 9 * MIB)
    assert first_span(GIB, 5 * MIB, 5 * GIB) == Span(5 * MIB, GIB)


def test_a_read_near_the_end_gets_all_of_the_end() -> None:
    assert first_span(GIB, GIB - 22, GIB) == Span(GIB - TAIL_BYTES, GIB)
    assert first_span(1000, 900, 910) == Span(0, 1000)


@given(size=st.integers(1, GIB), start=st.integers(0, GIB), lengths=st.lists(st.integers(1, 4 * MIB), max_size=50))
def test_requests_grow_with_the_run_and_never_beyond_what_was_read(size: int, start: int, lengths: list[int]) -> None:
    position = start = min(start, size - 1)
    span = first_span(size, position, position + (lengths or [1])[0])
    run = ReadAhead(size, start, span.stop)
    for length in lengths:
        stop = min(size, position + length)
        before = run.requested
        if stop > run.quiet_until:
            run.request(position, stop)
        assert run.requested >= max(stop, before) and run.requested <= size
        assert run.requested <= max(before, stop, position + GROWTH * (position - start))
        assert run.requested - position <= max(MAX_AHEAD_BYTES, length, TAIL_BYTES)
        position = stop
    if run.requested == size and lengths and position < size:
        assert run.quiet_until in (MAX_POSITION, size)


def test_a_long_run_is_a_few_large_requests() -> None:
    run, requests = ReadAhead(GIB, 0, MIN_BYTES), 1
    for position in range(0, GIB, 64 * KIB):
        before = run.requested
        if position + 64 * KIB > run.quiet_until:
            run.request(position, position + 64 * KIB)
        requests += run.requested > before
    assert requests < 30


def test_what_is_soon_there_is_no_reason_for_another_request() -> None:
    run = ReadAhead(GIB, 0, 10 * MIB)
    assert run.reaches(9 * MIB, 9 * MIB - 1000) and run.reaches(10 * MIB + 1000, 10 * MIB)
    assert not run.reaches(9 * MIB, MIB) and not run.reaches(11 * MIB, 10 * MIB + 1000)
