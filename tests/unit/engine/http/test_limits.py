"""When silence and slowness are noticed, by a clock of the test's own: exact, and the same on every machine."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm import errors
from getm.engine.http.limits import StallMonitor
from tests.support.consumer import open_request


class FakeLoop:
    """A clock that stands still until `run_to` moves it, and its timers."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        return self.now

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Any:
        assert delay_s > 0
        entry = (self.now + delay_s, next(self._numbers), call)
        heapq.heappush(self._timers, entry)
        return type("Handle", (), {"cancel": lambda handle: self._timers.remove(entry)})()

    def run_to(self, when: float) -> None:
        while self._timers and self._timers[0][0] <= when:
            self.now, _, call = heapq.heappop(self._timers)
            call()
        self.now = when

    @property
    def idle(self) -> bool:
        return not self._timers


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLoop]:
    yield from fake_loop(monkeypatch)


def fake_loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLoop]:
    loop = FakeLoop()
    monkeypatch.setattr("getm.engine.http.limits.asyncio.get_running_loop", lambda: loop)
    yield loop


class Aborted:
    """A content under watch, and when it was ended."""

    def __init__(
        self, loop: FakeLoop, stall_s: float | None, floor_bytes_s: float | None, floor_window_s: float
    ) -> None:
        self._loop = loop
        self.received = 0
        self.error: errors.GetmError | None = None
        self.at = 0.0
        request = open_request("http://a/", stall_s=stall_s, floor_bytes_s=floor_bytes_s, floor_window_s=floor_window_s)
        self.monitor = StallMonitor(request, lambda: self.received, self._abort)

    def _abort(self, error: errors.GetmError) -> None:
        assert self.error is None
        self.error, self.at = error, self._loop.now


@given(
    stall_s=st.sampled_from((0.05, 1.0, 3.0, 60.0)),
    gaps=st.lists(st.floats(0, 0.9), max_size=20),
    floor=st.sampled_from((None, 1e-9)),
)
def test_case_50_silence_is_noticed_within_a_tenth_of_its_limit_from_the_last_byte(
    stall_s: float, gaps: list[float], floor: float | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        loop = next(fake_loop(patch))
        watched = Aborted(loop, stall_s, floor, 1e6)
        for gap in gaps:
            loop.run_to(loop.now + gap * stall_s)
            watched.received += 1
        last = loop.now
        assert watched.error is None
        loop.run_to(last + 2 * stall_s)
        assert isinstance(watched.error, errors.TimedOut)
        assert (watched.error.phase, watched.error.timeout_s) == ("body", stall_s)
        assert 0.94 * stall_s <= watched.at - last <= 1.1 * stall_s
        assert loop.idle


def test_case_50_time_in_which_nothing_is_asked_for_is_no_silence(loop: FakeLoop) -> None:
    watched = Aborted(loop, 1.0, 1000.0, 5.0)
    watched.received += 10**6
    loop.run_to(loop.now + 0.5)
    watched.monitor.pause()
    loop.run_to(loop.now + 1000)
    watched.monitor.resume()
    resumed = loop.now
    loop.run_to(resumed + 0.9)
    assert watched.error is None
    loop.run_to(resumed + 2)
    assert watched.error is not None and watched.at - resumed <= 1.1


def test_a_throughput_below_the_floor_is_noticed_after_a_window(loop: FakeLoop) -> None:
    watched = Aborted(loop, 60.0, 100.0, 10.0)
    began = loop.now
    while watched.error is None:
        loop.run_to(loop.now + 0.1)
        watched.received += 9
    assert isinstance(watched.error, errors.TimedOut) and watched.error.phase == "pace"
    assert 9.5 <= watched.at - began <= 11
    quick = Aborted(loop, 60.0, 100.0, 10.0)
    for _ in range(2000):
        loop.run_to(loop.now + 0.1)
        quick.received += 11
    assert quick.error is None
    quick.monitor.cancel()
    assert loop.idle


def test_without_limits_nothing_is_looked_at(loop: FakeLoop) -> None:
    watched = Aborted(loop, None, None, 30.0)
    assert loop.idle
    watched.monitor.cancel()
