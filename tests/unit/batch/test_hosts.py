"""How many downloads run at once from a host, and the connections that they get."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from getm.batch.hosts import Host

MIB = 1024 * 1024


def started(host: Host, size: int | None, most: int = 64) -> int:
    """How many downloads of `size`, as a list gives it, are started one after another."""
    while host.jobs < most and host.has_room:
        host.take(1, size)
        if size is not None:
            host.sized(size, size)
    return host.jobs


def test_small_files_come_many_at_once() -> None:
    assert started(Host(64, adaptive=True), 16 * 1024) == 64


def test_large_files_come_few_at_once() -> None:
    assert started(Host(64, adaptive=True), 10**9) == 3
    assert started(Host(64, adaptive=True, few=8), 10**9) == 8


def test_files_of_some_size_come_as_many_as_are_enough() -> None:
    assert 10 <= started(Host(64, adaptive=True), 5 * MIB) <= 14


def test_unknown_sizes_are_those_of_the_files_before() -> None:
    host = Host(64, adaptive=True)
    assert started(host, None) == 8
    for _ in range(8):
        host.sized(None, 10_000)
    assert started(host, None) == 64
    host = Host(64, adaptive=True)
    started(host, None)
    for _ in range(8):
        host.sized(None, 10**9)
    assert not host.has_room
    for _ in range(6):
        host.give_back(1, 10**9)
    assert host.has_room
    assert started(host, None) == 3


def test_a_number_of_jobs_is_that_number() -> None:
    assert started(Host(1000), 10**12, most=500) == 500


def test_a_large_file_gets_the_connections_that_no_other_one_needs() -> None:
    host = Host(64, adaptive=True)
    assert host.share(10**9, others=63) == 21
    assert host.share(10**9, others=0) == 64
    assert host.share(1000, others=63) == 1
    assert Host(64).share(10**9, others=7) == 8


jobs = st.lists(st.tuples(st.none() | st.integers(0, 10**10), st.integers(0, 10**10), st.booleans()), max_size=60)


@given(jobs, st.integers(1, 70), st.booleans())
def test_connections_and_jobs_add_up(steps: list[tuple[int | None, int, bool]], most: int, adaptive: bool) -> None:
    host, running = Host(most, adaptive=adaptive), list[tuple[int, int | None]]()
    for size, actual, ends in steps:
        if host.has_room:
            count = host.take(host.share(size, 5), size)
            assert count >= 1
            host.sized(size, actual)
            running.append((count, actual))
        elif adaptive:
            assert len(running) >= 3 or sum(count for count, _ in running) == most
        assert sum(count for count, _ in running) <= most
        if ends and running:
            host.give_back(*running.pop())
    while running:
        host.give_back(*running.pop())
    assert host.jobs == 0 and host.has_room
