"""How many connections are found worth having, on simulated links."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.engine.concurrency import Controller, Decision, Sample, shares
from getm.engine.host_load import HostLoads

MB = 1_000_000
MOST = 32
TICK_S = 0.05


@dataclass
class Link:
    """A simulated host: `rate(count, seconds)` bytes a second by `count` connections, each of which brings something
    from `delay_s` after it was opened. It refuses those beyond `allowed`."""

    rate: Callable[[int, float], float]
    size: int
    delay_s: float = 0.02
    allowed: int = 1000
    cpu: Callable[[float], float] = lambda rate: 0.0
    latency_s: Callable[[int], float] = lambda count: 0.02
    held: bool = False
    decisions: list[Decision] = field(default_factory=list)
    opened: int = 1
    most: int = 1
    refused: int = 0
    seconds: float = 0.0

    def run(self, most: int = MOST, limit_s: float = 600.0) -> float:
        """Fetch `size` bytes; returns how long that took."""
        controller, count = Controller(), 1
        ready = [0.0]
        received, busy_s = 0.0, 0.0
        while received < self.size and self.seconds < limit_s:
            bringing = sum(at_s <= self.seconds for at_s in ready)
            sample = Sample(
                self.seconds,
                int(received),
                count,
                bringing,
                1,
                most,
                int(self.size - received),
                self.refused,
                busy_s,
                self.held,
                self.latency_s(bringing),
            )
            if (decision := controller.decide(sample)) is not None:
                assert 1 <= decision.connections <= most
                self.decisions.append(decision)
                count = decision.connections
            while len(ready) < count:
                # Those that were closed are reused, as kept-alive ones are.
                self.opened = max(self.opened, len(ready) + 1)
                if len(ready) >= self.allowed:
                    self.refused += 1
                    break
                ready.append(self.seconds + self.delay_s)
            del ready[count:]
            self.most = max(self.most, len(ready))
            rate = self.rate(bringing, self.seconds)
            received += rate * TICK_S
            busy_s += self.cpu(rate) * TICK_S
            self.seconds += TICK_S
        return self.seconds


def test_connections_that_are_each_limited_are_soon_as_many_as_may_be() -> None:
    link = Link(lambda count, _: count * 20 * MB, 1000 * MB)
    ideal_s = 1000 / (MOST * 20)
    assert link.run() < ideal_s + 1.0
    assert link.most == MOST


def test_a_shared_link_gets_few_connections() -> None:
    link = Link(lambda count, _: 100 * MB, 1000 * MB)
    link.run()
    assert link.opened <= 8
    assert link.decisions[-1].connections == 1


@given(st.lists(st.floats(0.93, 1.07), min_size=20, max_size=200), st.floats(0.0, 0.2))
def test_noise_is_no_gain(noise: list[float], delay_s: float) -> None:
    link = Link(lambda count, at_s: 100 * MB * noise[int(at_s / TICK_S) % len(noise)], 6000 * MB, delay_s)
    link.run(limit_s=60)
    assert link.opened <= 8


def test_a_small_object_gets_one() -> None:
    link = Link(lambda count, _: count * 20 * MB, 15 * MB)
    link.run()
    assert link.decisions == []


def test_long_round_trips() -> None:
    link = Link(lambda count, _: count * 25 * MB, 1000 * MB, delay_s=0.16, latency_s=lambda _: 0.08)
    assert link.run() < 1000 / (MOST * 25) + 1.0


def test_a_link_that_is_full_with_some_gets_about_so_many() -> None:
    link = Link(lambda count, _: min(count * 20, 200) * MB, 20_000 * MB)
    link.run()
    assert 10 <= link.decisions[-1].connections <= 16


def test_slow_start_is_waited_for() -> None:
    # Each connection needs a second for its full rate.
    link = Link(lambda count, at_s: count * 20 * MB * min(1.0, 0.1 + at_s % 3), 4000 * MB)
    link.run()
    assert link.most == MOST


def test_bursts_of_a_second() -> None:
    link = Link(lambda count, at_s: count * 20 * MB * (10 if at_s % 1.0 < 0.1 else 0), 4000 * MB)
    link.run()
    assert link.most == MOST


@pytest.mark.parametrize("allowed", [1, 2, 4, 7, 20])
def test_a_host_that_refuses_more_gets_what_it_allows(allowed: int) -> None:
    link = Link(lambda count, _: count * 20 * MB, 2000 * MB, allowed=allowed)
    link.run(limit_s=60)
    assert link.refused <= 2
    assert link.decisions[-1].connections == allowed


def test_a_host_that_punishes_is_left_with_few() -> None:
    # Beyond three connections everything becomes slower.
    link = Link(lambda count, _: (30 if count <= 3 else 5) * MB, 3000 * MB)
    link.run(limit_s=100)
    slow = [decision for decision in link.decisions if decision.connections > 3]
    assert len(slow) <= 3
    assert link.decisions[-1].connections <= 3


def test_a_busy_processor_gets_no_more() -> None:
    link = Link(lambda count, _: 1500 * MB, 30_000 * MB, cpu=lambda rate: 0.97)
    link.run()
    assert link.decisions == []


def test_a_processor_that_a_trial_makes_busy_ends_it_soon() -> None:
    link = Link(lambda count, _: (1500 + count) * MB, 30_000 * MB, cpu=lambda rate: 0.97 if rate > 1501 * MB else 0.8)
    link.run(limit_s=0.5)
    assert [decision.connections for decision in link.decisions] == [6, 1]


def test_a_slow_consumer_gets_no_more() -> None:
    link = Link(lambda count, _: 5 * MB, 500 * MB, held=True)
    link.run()
    assert link.decisions == []


def test_connections_are_taken_away_where_they_only_make_responses_late() -> None:
    def latency_s(count: int) -> float:
        return 0.02 if count < 6 else 2.0

    link = Link(lambda count, _: min(count, 10) * 10 * MB, 6000 * MB, latency_s=latency_s)
    link.run()
    assert any("longer than before" in decision.reason for decision in link.decisions)


samples = st.lists(
    st.tuples(
        st.floats(0.0, 0.5),
        st.integers(0, 50 * MB),
        st.integers(0, 1),
        st.booleans(),
        st.floats(0.0, 3.0),
        st.integers(0, 10**10),
        st.integers(1, 4),
    ),
    max_size=200,
)


@given(samples, st.integers(1, 64))
def test_it_stays_within_its_bounds_whatever_comes(
    steps: list[tuple[float, int, int, bool, float, int, int]], most: int
) -> None:
    controller, count = Controller(), 1
    at_s, received, refused, least = 0.0, 0, 0, 1
    for seconds, more, refusals, held, latency_s, left, transfers in steps:
        at_s, received, refused = at_s + seconds, received + more, refused + refusals
        least = min(transfers, most)
        count = max(count, least)
        decision = controller.decide(
            Sample(at_s, received, count, count, least, most, left, refused, 0.0, held, latency_s)
        )
        if decision is not None:
            assert least <= decision.connections <= most
            assert decision.connections != count
            if refusals:
                assert decision.connections < count
            count = decision.connections


@given(
    st.integers(1, 64),
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 32)), min_size=1, max_size=12),
    st.integers(1, 10**8),
)
def test_shares_go_where_most_is_left(connections: int, transfers: list[tuple[int, int]], enough: int) -> None:
    counts = shares(connections, transfers, enough)
    assert len(counts) == len(transfers)
    assert sum(counts) <= max(connections, len(transfers))
    for (left, most), count in zip(transfers, counts, strict=True):
        assert 1 <= count <= max(1, most)
        assert count == 1 or left / count >= enough
    if sum(counts) < connections:
        assert all(
            count == most or left / (count + 1) < enough for (left, most), count in zip(transfers, counts, strict=True)
        )


def test_a_bounded_number_of_hosts_is_remembered() -> None:
    async def loads() -> tuple[bool, int]:
        known = HostLoads()
        first = known.of("0")
        for number in range(100):
            known.of(str(number))
        return known.of("0") is first, len(known._loads)

    assert asyncio.run(loads()) == (False, 64)
