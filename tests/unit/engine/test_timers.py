"""Timers that share one of the loop's, and the limits made of them."""

from __future__ import annotations

import asyncio
import gc
from functools import partial

import pytest

import getm
from getm.engine.http.loop import EngineLoop
from getm.engine.timers import Timers
from tests.support.nginx import NginxServer


def run(coroutine: object) -> object:
    with asyncio.Runner(loop_factory=EngineLoop) as runner:
        return runner.run(coroutine)  # type: ignore[arg-type]


def test_timers_of_one_length_call_in_their_order_and_cancelled_ones_do_not() -> None:
    async def check() -> list[int]:
        timers, done = Timers(), asyncio.get_running_loop().create_future()
        called: list[int] = []
        made = [timers.call_later(0.01, partial(called.append, number)) for number in range(4)]
        timers.call_later(0.02, lambda: done.set_result(None))
        made[0].cancel()
        made[2].cancel()
        await done
        made[1].cancel()
        return called

    assert run(check()) == [1, 3]


def test_a_timer_that_is_set_by_another_one_of_its_length_calls_too() -> None:
    async def check() -> None:
        timers, done = Timers(), asyncio.get_running_loop().create_future()
        timers.call_later(0.01, lambda: timers.call_later(0.01, lambda: done.set_result(None)))
        await done

    run(check())


def test_what_takes_longer_than_its_limit_ends_with_a_timeout() -> None:
    async def check() -> None:
        timers = Timers()
        with pytest.raises(TimeoutError), timers.limit(0.01):
            await asyncio.get_running_loop().create_future()
        task = asyncio.current_task()
        assert task is not None and not task.cancelling()
        with timers.limit(None), timers.limit(30):
            await asyncio.sleep(0)

    run(check())


def test_who_is_cancelled_from_outside_is_cancelled() -> None:
    async def waits(timers: Timers) -> None:
        with timers.limit(30):
            await asyncio.get_running_loop().create_future()

    async def check() -> None:
        task = asyncio.create_task(waits(Timers()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(check())


@pytest.mark.parametrize("size_bytes", [1000, 300_000])
def test_an_object_leaves_nothing_for_the_collector_of_garbage(nginx: NginxServer, size_bytes: int) -> None:
    """What knows each other in a circle would be found by the collector only, at a price for each object."""
    url = nginx.url(nginx.objects.make(size_bytes))
    with getm.Session() as session:
        session.read(url, concurrency=None)
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                session.read(url, concurrency=None)
            assert gc.collect() == 0
        finally:
            gc.enable()
