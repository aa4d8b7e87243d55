"""The limit on the rate: never more than the bucket gave, whoever asks and however it is read; and its time is nobody's
fault."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import getm
from getm import errors
from getm.engine.http.throttle import Meter, Throttle
from getm.testing import FaultServer, Framing, Reply
from tests.support.certificates import Authority

BODY = random.Random(5).randbytes(300_000)
# Half a second brings the object, so that no test waits; a burst of 50 ms brings far less.
RATE = 600_000
BURST = RATE // 20


class Clock:
    """An event loop's clock and timers, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: self)

    def time(self) -> float:
        return self.now

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Any:
        timer = (self.now + delay_s, callback)
        self.timers.append(timer)
        return self

    def cancel(self) -> None:
        self.timers.clear()

    def run(self) -> None:
        """Let the next timer come."""
        self.now, callback = self.timers.pop()
        self.now += 1e-6
        callback()


@given(
    rate=st.floats(300, 1e9),
    steps=st.lists(st.tuples(st.floats(0, 10), st.integers(0, 3), st.floats(0, 1), st.booleans()), max_size=50),
)
def test_meters_get_never_more_than_one_allowance_and_the_rate(
    rate: float, steps: list[tuple[float, int, float, bool]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        throttle = Throttle(rate)
        meters, used = [Meter(throttle) for _ in range(4)], 0
        for pause_s, number, share, leaves in steps:
            if clock.timers and clock.timers[0][0] <= clock.now + pause_s:
                clock.run()
            else:
                clock.now += pause_s
            meter = meters[number]
            if meter.ready(lambda: None):
                count = int(share * meter.allowed)
                meter.allowed -= count
                used += count
                assert used <= throttle.allowance + rate * clock.now * (1 + 1e-6) + 1
            if leaves:
                meter.close()
                meters[number] = Meter(throttle)
            assert len(clock.timers) <= 1


def test_meters_are_served_in_turn_and_one_timer_waits_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    throttle = Throttle(100_000)
    assert throttle.allowance == 5000
    meters = [Meter(throttle) for _ in range(3)]
    told: list[int] = []
    assert meters[0].ready(lambda: told.append(0))
    for number in (1, 2):
        assert not meters[number].ready(partial(told.append, number))
    meters[0].allowed -= 5000
    assert not meters[0].ready(lambda: told.append(0))
    assert len(clock.timers) == 1
    for expected in ([1], [1, 2], [1, 2, 0]):
        clock.run()
        assert told == expected
    assert clock.timers == []
    assert clock.now == pytest.approx(0.15, abs=1e-4)


def test_a_meter_that_leaves_gives_back_what_it_did_not_use(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    throttle = Throttle(100_000)
    first, second, third = (Meter(throttle) for _ in range(3))
    told: list[str] = []
    assert first.ready(lambda: None) and not second.ready(lambda: told.append("second"))
    assert not third.ready(lambda: told.append("third"))
    second.close()
    first.allowed -= 1000
    first.close()
    clock.run()
    assert told == ["third"]
    third.close()
    assert clock.timers == []
    assert Meter(throttle).ready(lambda: None)


def limited(**more: Any) -> getm.Session:
    """A session under the limit, with a floor above it that would end a transfer if the time of the limit counted."""
    timeout = getm.Timeout(floor_bytes_s=100 * RATE, floor_window_s=0.25)
    return getm.Session(limit_rate=RATE, timeout=timeout, retries=0, **more)


def check(stats: getm.Stats, bodies: int = 1, rate: float = RATE) -> None:
    # A bound that no load on the machine can break: the limit itself, whose first burst is free.
    assert bodies * len(BODY) <= BURST + rate * stats.seconds + 1000


@pytest.mark.parametrize("concurrency", (1, 3, None))
@pytest.mark.parametrize("framing", ("length", "chunked", "close"))
def test_a_limited_transfer(framing: Framing, concurrency: int | None, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY, framing=framing, ranges=framing == "length"))
    with limited() as session, session.urlopen(url, concurrency=concurrency) as fh:
        assert fh.read() == BODY
        assert fh.stats.retries == {} and fh.stats.stalls == 0
        check(fh.stats)


@pytest.mark.parametrize("concurrency", (1, 3, None))
def test_a_limited_transfer_over_tls(concurrency: int | None, tls_fault_server: FaultServer, ca_path: Path) -> None:
    url = tls_fault_server.serve("/x", Reply(body=BODY))
    with limited(cacert=ca_path) as session, session.urlopen(url, concurrency=concurrency) as fh:
        assert fh.read() == BODY
        assert fh.stats.retries == {}
        check(fh.stats)


async def test_all_transfers_of_a_session_share_the_limit(fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))

    async def read(session: getm.Session) -> getm.Stats:
        data = bytearray()
        async with session.aiter_content(url) as parts:
            async for part in parts:
                data += part
            assert data == BODY
            return parts.stats

    with limited() as session:
        stats = await asyncio.gather(*(read(session) for _ in range(3)))
    check(max(stats, key=lambda one: one.seconds), bodies=3)


def test_several_engines_share_the_limit(fault_server: FaultServer) -> None:
    large = random.Random(6).randbytes(9 * 1024 * 1024)
    rate = 40_000_000
    url = fault_server.serve("/x", Reply(body=large))
    with getm.Session(limit_rate=rate, processes=2) as session, session.urlopen(url, concurrency=2) as fh:
        assert fh.read() == large
        assert len(large) <= 2 * 1024 * 1024 + rate * fh.stats.seconds + 1000


@pytest.mark.parametrize("rate", (0, -1, 0.5, float("inf"), float("nan"), True, "1M"))
def test_a_rate_that_is_none(rate: Any) -> None:
    with pytest.raises(errors.InvalidInput, match="limit_rate"):
        getm.Session(limit_rate=rate)


# Certificates that are not checked ------------------------------------------------------------


@pytest.mark.parametrize("concurrency", (1, None))
@pytest.mark.parametrize("kind", ("unknown", "expired", "wrong host"))
def test_insecure_takes_any_certificate(kind: str, concurrency: int | None, authority: Authority) -> None:
    names = ["other.example"] if kind == "wrong host" else ["127.0.0.1"]
    certificate = authority.issue(*names, expired=kind == "expired")
    with FaultServer(tls=certificate.server_context()) as server:
        url = server.serve("/x", Reply(body=BODY))
        with getm.Session(insecure=True) as session:
            assert session.read(url, concurrency=concurrency) == BODY
        with getm.Session() as session, pytest.raises(errors.TLSFailed, match="give cacert"):
            session.read(url, concurrency=concurrency)
