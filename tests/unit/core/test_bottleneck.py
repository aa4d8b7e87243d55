"""What limits a transfer, by what was measured: each stage by a table, and what holds for all values."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.core.bottleneck import find_bottleneck, rate_text, seconds_text
from getm.core.stats import Stats, Times

SECONDS = st.floats(0, 1e6)
STAGES = tuple(Times().stages())
TIMES = st.builds(
    Times,
    **{f"{name}_s": SECONDS for name in ("lookup", "connect", "tls", "response", "network", "hashing", "disk")},
    **{f"{name}_s": SECONDS for name in ("consumer", "store", "limit", "retry", "connection", "cpu")},
    hashed_by=st.lists(st.sampled_from(("sha256", "md5", "crc32c")), unique=True).map(tuple),
)


@pytest.mark.parametrize(
    ("times", "counts", "stage", "text"),
    [
        (
            Times(network_s=10, connection_s=40),
            {},
            "network",
            "the server or the network: 25.0 MB/s on each of 4 connections",
        ),
        (Times(network_s=2, connection_s=2), {}, "network", "the server or the network: 500.0 MB/s on one connection"),
        (
            Times(network_s=1, connection_s=1, cpu_s=0.9),
            {},
            "cpu",
            "this machine's CPU: a thread of getm was busy 90 % of the time",
        ),
        # Its work goes on while the network brings what comes next.
        (
            Times(network_s=1, connection_s=1, cpu_s=0.6),
            {},
            "network",
            "the server or the network: 1.0 GB/s on one connection",
        ),
        # It worked for other transfers.
        (Times(consumer_s=1, cpu_s=1), {}, "consumer", "your consumer: getm waited 100 % of the time for it"),
        (
            Times(network_s=0.29, connection_s=0.29, consumer_s=0.71),
            {},
            "consumer",
            "your consumer: getm waited 71 % of the time for it",
        ),
        (Times(store_s=1), {}, "store", "the store that it goes to: getm waited 100 % of the time for it"),
        (Times(disk_s=3, network_s=1, connection_s=1), {}, "disk", "the disk: getm waited 75 % of the time for it"),
        (
            Times(hashing_s=3, network_s=1, hashed_by=("sha256",)),
            {},
            "hashing",
            "hashing (sha256, one thread): getm waited 75 % of the time for it",
        ),
        (
            Times(hashing_s=1, hashed_by=("md5", "sha1")),
            {},
            "hashing",
            "hashing (md5, sha1, one thread each): getm waited 100 % of the time for it",
        ),
        (
            Times(hashing_s=1, hashed_by=("crc32c",)),
            {},
            "hashing",
            "hashing (crc32c): getm waited 100 % of the time for it",
        ),
        (Times(hashing_s=1), {}, "hashing", "hashing: getm waited 100 % of the time for it"),
        (Times(response_s=0.21), {}, "first byte", "the time to the first byte: 210 ms"),
        (
            Times(response_s=8.4, network_s=1, connection_s=1),
            {"requests": 40},
            "first byte",
            "the time to the first byte: 210 ms for each of 40 requests",
        ),
        # Four at the same time.
        (
            Times(response_s=2.1, network_s=1, connection_s=4),
            {"requests": 40},
            "first byte",
            "the time to the first byte: 210 ms for each of 40 requests",
        ),
        (Times(lookup_s=2.5), {}, "lookup", "name lookup: 2.5 s"),
        (Times(connect_s=3), {"connections": 3}, "connect", "connecting: 1 s for each of 3 connections"),
        (Times(tls_s=0.25), {}, "tls", "TLS handshakes: 250 ms"),
        (Times(limit_s=99, network_s=1), {}, "rate limit", "--limit-rate (limit_rate): it held back 99 % of the time"),
        (Times(retry_s=6, network_s=4), {}, "retries", "retries: getm paused 60 % of the time before them"),
    ],
)
def test_the_stage_that_took_most_is_named(times: Times, counts: dict[str, int], stage: str, text: str) -> None:
    found = find_bottleneck(times, **{"received_bytes": 10**9, "requests": 1, "connections": 1, **counts})
    assert found is not None
    assert (found.stage, str(found)) == (stage, f"limited by {text}")


def test_nothing_limits_what_takes_no_time() -> None:
    assert Stats().bottleneck is None
    assert find_bottleneck(Times(network_s=1e-9), received_bytes=0, requests=0, connections=0) is None


@given(TIMES, st.integers(0, 2**63), st.integers(0, 10**6), st.integers(0, 10**6))
def test_any_times_have_one_line(times: Times, received_bytes: int, requests: int, connections: int) -> None:
    found = find_bottleneck(times, received_bytes=received_bytes, requests=requests, connections=connections)
    stages = times.stages()
    if found is None:
        assert max(stages.values()) < 1e-6
        return
    assert 0 < found.share <= 1
    assert found.stage == "cpu" or stages[found.stage] == max(stages.values())
    assert found.text.startswith("limited by ") and found.text.isprintable() and len(found.text) < 120


@given(TIMES, TIMES)
def test_times_add_up(first: Times, second: Times) -> None:
    both = first + second
    for stage, seconds in both.stages().items():
        assert seconds == first.stages()[stage] + second.stages()[stage]
    assert both.connection_s == first.connection_s + second.connection_s
    assert set(both.hashed_by) == {*first.hashed_by, *second.hashed_by}


@given(st.none() | SECONDS, SECONDS)
def test_a_plain_response_has_its_first_byte_and_the_rest(first_byte_s: float | None, rest_s: float) -> None:
    stats = Stats(first_byte_s=first_byte_s, seconds=(first_byte_s or 0.0) + rest_s)
    assert math.isclose(sum(stats.times.stages().values()), stats.seconds, abs_tol=1e-9)
    assert stats.times.response_s == (first_byte_s or 0.0)


@given(TIMES, SECONDS)
def test_what_comes_after_the_verdict_is_added(times: Times, seconds: float) -> None:
    stats = Stats(measured=times).and_then(Times(disk_s=seconds))
    assert stats.times.disk_s == times.disk_s + seconds
    assert stats.times.network_s == times.network_s


def test_attempts_and_files_add_up() -> None:
    plain, measured = Stats(seconds=2.0, first_byte_s=1.0), Stats(seconds=3.0, measured=Times(disk_s=3.0))
    assert (plain + measured).times == Times(response_s=1, network_s=1, connection_s=1, disk_s=3)
    assert sum([plain, plain], Stats()).times == Times(response_s=2, network_s=2, connection_s=2)
    assert (Stats() + Stats(retries={"reset": 1})).measured is None


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (rate_text(0.4), "0 bytes/s"),
        (rate_text(999.9), "1000 bytes/s"),
        (rate_text(1000), "1.0 kB/s"),
        (rate_text(20e6), "20.0 MB/s"),
        (rate_text(2.5e12), "2500.0 GB/s"),
        (seconds_text(0.000_12), "0.12 ms"),
        (seconds_text(0.2104), "210 ms"),
        (seconds_text(1), "1 s"),
        (seconds_text(86_400), "86,400 s"),
    ],
)
def test_numbers_are_short(made: Any, text: str) -> None:
    assert made == text
