"""How many engines a session uses, by what they do: a pure decision."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.client.process_count import ProcessCount

S = 0.5
"""Seconds between samples: long enough for each to count."""


def used(count: ProcessCount, shares: list[list[float]]) -> list[int]:
    """The number after each sample, where engine i has used `shares[n][i]` of a core before sample n. The first sample
    only says where the clocks stand."""
    clocks: dict[int, float] = {}
    now_s, numbers = 100.0, []
    count.sample(now_s, dict.fromkeys(range(len(shares[0])), 0.0) if shares else {})
    for of_each in shares:
        now_s += S
        for engine, share in enumerate(of_each):
            clocks[engine] = clocks.get(engine, 0.0) + share * S
        count.sample(now_s, dict(clocks))
        numbers.append(count.now)
    return numbers


@pytest.mark.parametrize(
    ("shares", "numbers"),
    (
        # One stream over HTTP; many small files, or TLS.
        ([[0.2], [0.2]], [1, 1]),
        ([[0.2], [0.95], [0.95]], [1, 2, 2]),
        # The other one may be used, and is not: nothing shows that a third would be.
        ([[0.95], [0.95], [0.95], [0.95]], [2, 2, 2, 2]),
        # A new one must have kept a core busy for as long as the others.
        ([[0.95], [0.95, 0.3], [0.95, 0.3]], [2, 2, 2]),
        ([[0.95], [0.95, 0.3], [0.95, 0.95]], [2, 2, 3]),
        # All of the cores, and no more.
        ([[1.0], [1.0, 1.0], [1.0, 1.0], [1.0] * 3, [1.0] * 3, [1.0] * 4, [1.0] * 4], [2, 2, 3, 3, 4, 4, 4]),
    ),
)
def test_another_engine_is_used_where_all_keep_a_core_busy(shares: list[list[float]], numbers: list[int]) -> None:
    assert used(ProcessCount(None, cores=64), shares) == numbers


@pytest.mark.parametrize(
    ("given_number", "cores", "number"),
    ((None, 1, 1), (None, 2, 1), (None, 3, 2), (None, 64, 2), (1, 64, 1), (3, 1, 3)),
)
def test_several_connections_over_tls_are_worth_a_second_engine_where_a_core_is_left(
    given_number: int | None, cores: int, number: int
) -> None:
    assert ProcessCount(given_number, cores).over_tls == number


def test_a_sample_that_is_too_soon_decides_nothing() -> None:
    count = ProcessCount(None, cores=2)
    count.sample(100.0, {1: 0.0})
    assert not count.is_due(100.1) and count.is_due(100.5)


@given(
    given_number=st.none() | st.integers(1, 300),
    cores=st.integers(1, 300),
    shares=st.lists(st.lists(st.floats(0, 1.2), min_size=1, max_size=5), max_size=20),
)
def test_a_number_stays_what_it_is_and_auto_keeps_to_the_cores(
    given_number: int | None, cores: int, shares: list[list[float]]
) -> None:
    count = ProcessCount(given_number, cores)
    for number in used(count, shares):
        assert number == given_number if given_number else 1 <= number <= min(cores, 4)
    assert count.most == (given_number or min(cores, 4))
    assert count.now < count.most or not count.is_due(1e9)
