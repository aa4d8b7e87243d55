"""The simulated path gives what its settings say, in a time of its own that no machine can disturb."""

from __future__ import annotations

import heapq
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.link import Link, Path, Shared

MB = 10**6


def transfer(link: Link, sizes: list[int], *, late_s: float = 0.0, server_s: float = 0.0) -> list[float]:
    """When each of several connections, all begun at zero, has its last byte. Timers come up to `late_s` too late, and
    the server takes `server_s` for each piece."""
    shared, random = Shared(link), Random(1)
    paths = [Path(shared, 0.0) for _ in sizes]
    left, ends = list(sizes), [0.0] * len(sizes)
    asking = [(path.request_at(0.0), number) for number, path in enumerate(paths)]
    heapq.heapify(asking)
    while asking:
        now, number = heapq.heappop(asking)
        piece = min(paths[number].piece_bytes(), left[number])
        left[number] -= piece
        through = max(now, paths[number].response_at(piece, now + server_s) + random.uniform(0, late_s))
        ends[number] = through
        if left[number]:
            heapq.heappush(asking, (through, number))
    return ends


@pytest.mark.parametrize("late_s", [0.0, 0.002])
@pytest.mark.parametrize("jitter_s", [0.0, 0.03])
@pytest.mark.parametrize("rate", [256_000, 20 * MB, 250 * MB])
def test_each_connection_has_its_rate(rate: int, jitter_s: float, late_s: float) -> None:
    ends = transfer(Link(rate=rate, jitter_s=jitter_s), [10 * rate] * 3, late_s=late_s)

    assert ends == pytest.approx([10.0] * 3, rel=0.01)


@pytest.mark.parametrize("late_s", [0.0, 0.002])
@pytest.mark.parametrize("connections", [1, 8, 32])
def test_connections_share_a_link_fairly(connections: int, late_s: float) -> None:
    ends = transfer(Link(total_rate=100 * MB), [1000 * MB // connections] * connections, late_s=late_s)

    assert max(ends) == pytest.approx(10.0, rel=0.01)
    assert min(ends) == pytest.approx(max(ends), rel=0.02)


def test_a_connection_keeps_its_rate_on_a_link_that_has_room() -> None:
    ends = transfer(Link(rate=20 * MB, total_rate=100 * MB), [100 * MB] * 4)

    assert ends == pytest.approx([5.0] * 4, rel=0.01)


def test_a_server_slower_than_the_link_saves_up_no_rate() -> None:
    link = Link(rate=20 * MB)
    shared = Shared(link)
    path = Path(shared, 0.0)

    path.response_at(200_000, 0.0)

    # After ten idle seconds a megabyte still takes 50 ms.
    assert path.response_at(MB, 10.0) == pytest.approx(10.05)


def test_connecting_takes_a_round_trip_and_so_does_each_request() -> None:
    path = Path(Shared(Link(rtt_s=0.08)), 1.0)

    assert path.request_at(1.0) == pytest.approx(1.16)
    assert path.request_at(1.04) == pytest.approx(1.16)
    assert path.request_at(5.0) == pytest.approx(5.08)


@given(jitter_s=st.floats(0, 0.5), seed=st.integers(0, 1000))
def test_requests_stay_in_order_and_come_late_by_the_jitter_at_most(jitter_s: float, seed: int) -> None:
    path = Path(Shared(Link(rtt_s=0.08, jitter_s=jitter_s, seed=seed)), 0.0)

    arrivals = [path.request_at(1 + number / 1000) for number in range(50)]

    assert arrivals == sorted(arrivals)
    for number, at in enumerate(arrivals):
        assert 1.08 + number / 1000 - 1e-9 <= at <= 1.08 + number / 1000 + jitter_s + 1e-9


def test_slow_start_takes_the_round_trips_that_doubling_takes() -> None:
    link = Link(rate=25 * MB, rtt_s=0.08)
    (fast,) = transfer(link, [50 * MB])
    (slow,) = transfer(Link(rate=25 * MB, rtt_s=0.08, slow_start=True), [50 * MB])

    # From 14,600 bytes to the 2 MB that 80 ms hold at that rate: seven doublings, during half of which bytes flow too.
    assert fast == pytest.approx(2.16, abs=0.001)
    assert slow - fast == pytest.approx(0.4, abs=0.1)


def test_connections_are_reset_after_so_many_bytes_in_the_mean() -> None:
    shared = Shared(Link(reset_bytes=20 * MB))
    lives = []
    for _ in range(500):
        path, life = Path(shared, 0.0), 0
        while piece := path.piece_bytes():
            path.response_at(piece, 0.0)
            life += piece
        lives.append(life)

    assert sum(lives) / len(lives) == pytest.approx(20 * MB, rel=0.15)
    assert len(set(lives)) > 490


@given(
    rate=st.none() | st.integers(1000, 10**10),
    total_rate=st.none() | st.integers(1000, 10**10),
    slow_start=st.booleans(),
)
def test_pieces_are_neither_empty_nor_larger_than_a_pipe(
    rate: int | None, total_rate: int | None, slow_start: bool
) -> None:
    path = Path(Shared(Link(rate=rate, total_rate=total_rate, rtt_s=0.01, slow_start=slow_start)), 0.0)

    assert 0 < path.piece_bytes() <= 1024 * 1024
