"""Where the time of a transfer went, by what was counted of all its connections."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.core.stats import Stats, Times
from getm.engine.counters import Counters
from getm.engine.sinks.slots import Holder

SECONDS = st.floats(0, 1e5)
OF_CONNECTIONS = ("lookup_s", "tls_s", "response_s", "network_s", "limit_s", "retry_s", "wanted_s")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getm.engine.counters.time.monotonic", lambda: 1000.0)


def after(seconds: float) -> Counters:
    return Counters(began_s=1000.0 - seconds)


def test_a_plain_response_needs_no_more_than_its_two_numbers() -> None:
    counted = after(3.0)
    counted.response_s = 1.0
    assert counted.stats() == Stats(seconds=3.0)


def test_connections_at_the_same_time_count_once() -> None:
    counted = after(10.0)
    counted.network_s, counted.response_s, counted.last_hashing_s = 30.0, 2.0, 2.0
    counted.hashed_by = ("md5",)
    found = counted.stats().times
    assert found == Times(network_s=7.5, response_s=0.5, hashing_s=2.0, connection_s=30.0, hashed_by=("md5",))


def test_opening_is_what_neither_the_name_nor_tls_took() -> None:
    counted = after(1.0)
    counted.opening_s, counted.lookup_s, counted.tls_s = 0.75, 0.25, 0.125
    found = counted.stats().times
    assert (found.lookup_s, found.connect_s, found.tls_s) == (0.25, 0.375, 0.125)
    assert found.hashed_by == ()


def test_waits_of_a_helper_for_slots_are_those_of_its_lead() -> None:
    counted = after(4.0)
    counted.waited_s = {Holder.HASHING: 1.0}
    counted.add(Stats(measured=Times(network_s=2.0, consumer_s=1.0)))
    counted.add(Stats(first_byte_s=0.5, seconds=0.75))
    found = counted.stats().times
    assert (found.network_s, found.response_s, found.hashing_s, found.consumer_s) == (2.25, 0.5, 1.0, 0.0)


@given(st.lists(SECONDS, min_size=7, max_size=7), st.lists(SECONDS, min_size=3, max_size=3), SECONDS, SECONDS)
def test_all_stages_are_the_whole_time_at_most(
    parts: list[float], waits: list[float], last_s: float, seconds: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("getm.engine.counters.time.monotonic", lambda: 1000.0)
        counted = after(seconds + last_s)
    for name, part in zip(OF_CONNECTIONS, parts, strict=True):
        setattr(counted, name, part)
    counted.opening_s = counted.lookup_s + counted.tls_s
    counted.waited_s = dict(zip(Holder, waits, strict=True))
    counted.last_disk_s = last_s
    found = sum(counted.stats().times.stages().values())
    assert found <= (seconds + last_s) * (1 + 1e-6) + 1e-6
