"""How fast a host may be asked: against simulated servers, and for any order of events."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.core.pace import HostPace
from getm.core.rate_limit import StatedLimit
from tests.support.limited_hosts import (
    AtOnce,
    FixedWindow,
    LeakyBucket,
    Limit,
    SlidingWindow,
    TokenBucket,
    simulate,
)

SEEDS = range(5)
T = 1000.0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("limit", "rate"),
    [
        pytest.param(lambda: LeakyBucket(3), 3, id="3 a second"),
        pytest.param(lambda: LeakyBucket(10), 10, id="10 a second"),
        pytest.param(lambda: TokenBucket(3, 10), 3, id="3 a second, and 10 at first"),
    ],
)
def test_no_request_is_refused_after_the_first_second_and_most_of_the_limit_is_used(
    limit: Callable[[], Limit], rate: float, seed: int
) -> None:
    outcome = simulate(limit(), random.Random(seed))
    assert outcome.refused_after(1.0) == 0
    # The better it is known, the longer it is from one request to the next.
    assert outcome.rate(1.0, 15.0) >= (0.9 if rate < 10 else 0.8) * rate


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("response_s", [0.5, 3.0])
def test_so_it_is_where_responses_take_longer_than_the_time_between_them(response_s: float, seed: int) -> None:
    """One at a time, and then two, could be what it allows, until that proves wrong."""
    outcome = simulate(LeakyBucket(3), random.Random(seed), response_s=response_s, clients=24, seconds=20.0)
    assert outcome.refused_after(8.0) == 0
    assert outcome.rate(8.0, 20.0) >= 0.9 * 3


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("limit", "rate"),
    [
        pytest.param(lambda: FixedWindow(3, 0.7), 3, id="3 each second"),
        pytest.param(lambda: SlidingWindow(10), 10, id="10 within a second"),
    ],
)
def test_two_windows_show_how_much_a_window_has(limit: Callable[[], Limit], rate: float, seed: int) -> None:
    outcome = simulate(limit(), random.Random(seed))
    assert outcome.refused_after(2.5) == 0
    assert outcome.rate(3.0, 15.0) >= 0.85 * rate


@pytest.mark.parametrize("seed", SEEDS)
def test_a_host_that_serves_four_at_once_is_asked_for_four(seed: int) -> None:
    outcome = simulate(AtOnce(4), random.Random(seed), response_s=0.5)
    assert outcome.pace.at_once == 4
    # One more is tried after longer and longer pauses.
    assert outcome.refused_after(0.2) <= 8
    assert outcome.rate(0.0, 15.0) >= 0.9 * 4 / 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_host_that_now_serves_more_gets_more(seed: int) -> None:
    limit = AtOnce(2)
    pace = simulate(limit, random.Random(seed), response_s=0.5, seconds=5.0).pace
    assert pace.at_once == 2
    pace.answered(T + 6.0, 3)
    assert pace.at_once == 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("broken", [0.02, 0.05])
def test_objects_that_are_always_refused_slow_nothing(broken: float, seed: int) -> None:
    unlimited = AtOnce(1000)
    free = simulate(unlimited, random.Random(seed), response_s=0.02).rate(0.0, 15.0)
    outcome = simulate(AtOnce(1000), random.Random(seed), response_s=0.02, broken=broken)
    assert outcome.rate(0.0, 15.0) >= 0.75 * free


def test_an_outage_is_left_to_the_retries() -> None:
    pace = HostPace()
    for number in range(400):
        pace.refused(T + number / 100, 0)
    assert [pace.take_turn(T + 5.0, 0) for _ in range(100)] == [0.0] * 100


def test_one_refusal_is_forgotten() -> None:
    pace = HostPace()
    pace.refused(T, 0)
    assert pace.is_limited(T + 0.1)
    for number in range(40):
        pace.answered(T + 0.1 + number / 20, 1)
    assert not pace.is_limited(T + 2.2)


def test_a_pause_that_the_host_wants_holds_for_all_and_has_an_end() -> None:
    pace = HostPace()
    pace.refused(T, 0, 7.0)
    assert pace.take_turn(T + 1.0, 0) == pytest.approx(6.0) and pace.describe(T + 1.0) == "the host wants a pause"
    pace.refused(T, 0, 1e9)
    assert pace.wait_s(T, 0) <= 120.0


def test_what_the_host_states_is_kept_to_while_little_is_left() -> None:
    pace = HostPace()
    pace.told(T, StatedLimit(50, 10.0, 100, 10.0))
    assert not pace.is_limited(T)
    pace.told(T, StatedLimit(2, 1.0, 3, 1.0))
    assert pace.interval_s == pytest.approx(1 / 3, rel=0.05)
    pace.told(T, StatedLimit(500, 3000.0, 5000, 3600.0))
    assert pace.interval_s == pytest.approx(6.0, rel=0.05)
    pace.told(T, StatedLimit(0, 9.0, 3, 1.0))
    assert pace.wait_s(T, 0) == pytest.approx(9.0)
    pace.told(T + 10, StatedLimit(90, 9.0, 100, 10.0))
    assert not pace.is_limited(T + 10)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_stated_is_used_though_the_reset_is_rounded(seed: int) -> None:
    limit = FixedWindow(3, 0.4)
    outcome = simulate(limit, random.Random(seed), states=limit)
    assert outcome.refused_after(1.0) <= 2
    assert outcome.rate(2.0, 15.0) >= 0.9 * 3


def test_a_rate_that_is_no_longer_the_limit_is_left_behind_step_by_step() -> None:
    pace, now_s = HostPace(interval_s=5.0, refused_s=T, eased_s=T), T
    for _ in range(40):
        now_s += max(5.0, pace.take_turn(now_s, 0))
        pace.answered(now_s, 1)
    assert pace.interval_s < 0.5


def test_it_says_what_the_host_allows() -> None:
    assert HostPace().describe(T) == ""
    assert HostPace(interval_s=0.343).describe(T) == "the host allows 2.92 requests a second"
    assert HostPace(interval_s=5.0).describe(T) == "the host allows a request every 5.0 s"
    assert HostPace(at_once=4).describe(T) == "the host allows 4 requests at once"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "granted", "refused", "told"]),
        st.floats(0.0, 100.0),
        st.integers(0, 20),
        st.floats(0.0, 1e9),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_a_host_does_nobody_waits_for_long(steps: list[tuple[str, float, int, float]]) -> None:
    pace, now_s = HostPace(), T
    for what, pause_s, count, seconds in steps:
        now_s += pause_s
        match what:
            case "ask":
                assert 0.0 <= pace.take_turn(now_s, count) <= 120.0 + pace.interval_s
            case "granted":
                pace.answered(now_s, count)
            case "refused":
                pace.refused(now_s, count, seconds if count % 3 == 0 else 0.0)
            case "told":
                pace.told(now_s, StatedLimit(count, seconds, count * 2 or None, seconds if count % 2 else None))
        assert pace.interval_s >= 0.0 and pace.at_once >= 0
    assert not pace.is_limited(now_s + 1000.0)
