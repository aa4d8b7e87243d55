"""Room for many: transfers share one budget of memory, and wait for it only where somebody else can free it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

import getm
from getm.client.connection import ClientConnection
from getm.client.pool import EnginePool
from getm.errors import MemoryUnavailable, ReaderClosed
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

KIB = 1024
MIB = 1024 * KIB
# Two rings of the smallest size.
TIGHT = 128 * KIB
Make = Callable[..., ServedObject]


def in_threads(count: int, use: Callable[[int], None]) -> list[BaseException]:
    """Run it in so many threads at once; what they raised."""
    raised: list[BaseException] = []

    def run(number: int) -> None:
        try:
            use(number)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_a_hundred_readers_are_open_in_one_thread(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(3 * MIB)
    expected = served.read()
    with getm.Session() as session:
        readers = [session.urlopen(nginx.url(served)) for _ in range(100)]
        halves = [bytes(fh.read(MIB)) for fh in readers]
        for fh, half in zip(readers, halves, strict=True):
            assert half + fh.read() == expected
            fh.close()


def test_sixty_four_threads_iterate_at_once(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(3 * MIB)
    expected = served.read()
    all_open = threading.Barrier(64)

    def use(number: int) -> None:
        with session.iter_content(nginx.url(served), 64 * KIB) as parts:
            first = bytes(next(parts))
            all_open.wait()
            assert first + b"".join(map(bytes, parts)) == expected

    with getm.Session() as session:
        assert in_threads(64, use) == []


@pytest.mark.deadline(120)
async def test_five_hundred_tasks_at_once(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(300_000)
    expected = served.read()
    all_open = asyncio.Barrier(500)

    async def use() -> bool:
        async with session.aiter_content(nginx.url(served), 64 * KIB) as parts:
            await all_open.wait()
            return b"".join([bytes(part) async for part in parts]) == expected

    with getm.Session() as session:
        assert all(await asyncio.gather(*(use() for _ in range(500))))


@pytest.mark.parametrize("concurrency", (1, 2, None))
def test_threads_wait_for_memory_that_others_have(
    concurrency: int | None, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(300_000)

    def use(number: int) -> None:
        for _ in range(3):
            assert session.read(nginx.url(served), concurrency=concurrency) == served.read()

    with getm.Session(max_memory=TIGHT) as session:
        assert in_threads(12, use) == []


async def test_tasks_wait_for_memory_that_others_have(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(300_000)

    async def use() -> bytes:
        return b"".join([bytes(part) async for part in session.aiter_content(nginx.url(served), 10_000)])

    with getm.Session(max_memory=TIGHT) as session:
        assert set(await asyncio.gather(*(use() for _ in range(40)))) == {served.read()}


def test_a_ring_too_small_for_parts_brings_one_stream(nginx: NginxServer, make_object: Make) -> None:
    """Requests for a few KiB each, as many as it takes, would be far slower."""
    served = make_object(3 * MIB)
    with getm.Session(max_memory=TIGHT) as session, session.urlopen(nginx.url(served), concurrency=8) as fh:
        assert fh.read() == served.read()
        assert fh.stats.requests == 1


def fill(session: getm.Session, url: str) -> list[getm.Reader]:
    """Open until no memory is left."""
    readers = []
    with pytest.raises(MemoryUnavailable, match="close some") as caught:
        while True:
            readers.append(session.urlopen(url))
    assert caught.value.available is not None
    return readers


def close_all(readers: list[getm.Reader]) -> None:
    for fh in readers:
        fh.close()


async def test_who_has_all_of_it_is_told_and_does_not_wait(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(300_000)
    url = nginx.url(served)
    idle = threading.Event()
    # Another thread that has nothing of the session cannot free anything.
    thread = threading.Thread(target=idle.wait)
    thread.start()
    try:
        with getm.Session(max_memory=TIGHT) as session:
            readers = fill(session, url)
            assert len(readers) > 1
            with pytest.raises(MemoryUnavailable, match="close some"):
                await anext(session.aiter_content(url))
            readers.pop().close()
            assert b"".join([bytes(part) async for part in session.aiter_content(url)]) == served.read()
            with pytest.raises(MemoryUnavailable):
                # The one task that has them all is the one that asks.
                opened = []
                while True:
                    parts = session.aiter_content(url)
                    opened.append(parts)
                    await anext(parts)
            close_all(readers)
    finally:
        idle.set()
        thread.join()


def test_two_who_wait_for_each_other_are_told(nginx: NginxServer, make_object: Make) -> None:
    """One of them, which then lets go: the other one goes on."""
    served = make_object(300_000)
    url = nginx.url(served)
    with getm.Session(max_memory=TIGHT) as session:
        readers = fill(session, url)
        count = len(readers)
        close_all(readers)
        both = threading.Barrier(2)

        def use(number: int) -> None:
            with contextlib.ExitStack() as stack:
                for _ in range(count // 2):
                    stack.enter_context(session.urlopen(url))
                both.wait()
                for _ in range(count):
                    stack.enter_context(session.urlopen(url))

        raised = in_threads(2, use)
        # Each wants all of it beside its half, so each is told in the end.
        assert [type(error) for error in raised] == [MemoryUnavailable] * 2
        assert session.read(url) == served.read()


def wait_until_queued(session: getm.Session) -> None:
    while not any(waiter.blocked for waiter in list(session._pool._waiters)):
        os.sched_yield()


@pytest.mark.parametrize("ending", ("close", "release", "holder ends"))
def test_whoever_waits_for_memory_is_woken(ending: str, nginx: NginxServer, make_object: Make) -> None:
    served = make_object(300_000)
    url = nginx.url(served)
    got: list[object] = []

    def wait_for_it() -> None:
        try:
            got.append(bytes(session.read(url)))
        except getm.GetmError as error:
            got.append(type(error))

    with getm.Session(max_memory=TIGHT) as session:
        if ending == "holder ends":
            readers: list[getm.Reader] = []
            waiting = threading.Thread(target=wait_for_it)

            def hold() -> None:
                readers.extend(fill(session, url))
                waiting.start()
                wait_until_queued(session)

            holder = threading.Thread(target=hold)
            holder.start()
            holder.join()
        else:
            readers = fill(session, url)
            waiting = threading.Thread(target=wait_for_it)
            waiting.start()
            wait_until_queued(session)
            session.close() if ending == "close" else readers[0].close()
        waiting.join()
        close_all(readers)
    expected = {"close": ReaderClosed, "release": served.read(), "holder ends": MemoryUnavailable}
    assert got == [expected[ending]]


@pytest.mark.parametrize("ending", ("close", "cancel", "release", "release in a thread"))
async def test_a_task_that_waits_for_memory_is_woken(ending: str, nginx: NginxServer, make_object: Make) -> None:
    served = make_object(300_000)
    url = nginx.url(served)
    with getm.Session(max_memory=TIGHT) as session:
        held: list[getm.AsyncContentIterator] = []
        all_held, may_end = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            with contextlib.suppress(MemoryUnavailable):
                while True:
                    parts = session.aiter_content(url)
                    await anext(parts)
                    held.append(parts)
            all_held.set()
            await may_end.wait()

        holder = asyncio.create_task(hold())
        await all_held.wait()

        async def use() -> bytes:
            return b"".join([bytes(part) async for part in session.aiter_content(url)])

        task = asyncio.create_task(use())
        await asyncio.to_thread(wait_until_queued, session)
        if ending == "close":
            session.close()
            with pytest.raises(ReaderClosed):
                await task
        elif ending == "cancel":
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert session._pool._waiters == []
        else:
            if ending == "release":
                await held.pop().aclose()
            else:
                await asyncio.to_thread(held.pop()._close)
            assert await task == served.read()
        may_end.set()
        await holder
        for parts in held:
            await parts.aclose()


async def test_a_connection_that_comes_after_its_task_was_cancelled_serves_others(
    nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(300_000)
    with getm.Session() as session:
        in_thread, may_go_on = threading.Event(), threading.Event()
        real = session._pool.try_acquire

        def slow(*args: int, **more: object) -> ClientConnection | None:
            in_thread.set()
            may_go_on.wait()
            return real(*args, **more)  # type: ignore[arg-type]  # passed on as they came

        session._pool.try_acquire = slow  # type: ignore[method-assign,assignment]  # a stand-in
        task = asyncio.create_task(anext(session.aiter_content(nginx.url(served))))
        await asyncio.to_thread(in_thread.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_go_on.set()
        del session._pool.try_acquire
        assert await asyncio.to_thread(session.read, nginx.url(served)) == served.read()
        await asyncio.get_running_loop().shutdown_default_executor()
        assert session._pool._holders == {}


async def test_case_17_nothing_that_takes_time_happens_in_the_loop(
    nginx: NginxServer, make_object: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines start, and rings are made and given up, in another thread; a ring that is there needs none."""
    served = make_object(MIB)
    url = nginx.url(served)
    loop_thread = threading.get_ident()
    threads: set[int] = set()
    real = EnginePool._find

    def find(self: EnginePool, wanted: Any) -> ClientConnection | None:
        threads.add(threading.get_ident())
        return real(self, wanted)

    monkeypatch.setattr(EnginePool, "_find", find)

    async def use(concurrency: int | None) -> bytes:
        parts = session.aiter_content(url, concurrency=concurrency)
        return b"".join([bytes(part) async for part in parts])

    with getm.Session(max_memory=40 * MIB) as session:
        for concurrency in (1, 2, 3, None):
            assert await use(concurrency) == served.read()
        assert threads and loop_thread not in threads
        assert await use(1) == served.read()
        threads.clear()
        assert await use(1) == served.read()
        assert threads == set()


def test_a_batch_waits_for_memory_that_another_thread_has(
    nginx: NginxServer, make_object: Make, tmp_path: Path
) -> None:
    served = make_object(300_000)
    url = nginx.url(served)
    with getm.Session(max_memory=TIGHT) as session:
        readers = fill(session, url)
        raised: list[BaseException] = []

        def download() -> None:
            try:
                session.download(url, tmp_path / "file")
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=download)
        thread.start()
        wait_until_queued(session)
        close_all(readers)
        thread.join()
        assert raised == []
        assert (tmp_path / "file").read_bytes() == served.read()
        # Its caller waits for it: what only that one could free is not waited for.
        readers = fill(session, url)
        with pytest.raises(MemoryUnavailable, match="close some"):
            session.download(url, tmp_path / "other")
        close_all(readers)


def test_idle_rings_make_way_for_a_large_one(nginx: NginxServer) -> None:
    """Rings of single streams leave memory for tiny ones only, which all have the same two or four slots."""
    served = nginx.objects.make(3_000_000)
    with getm.Session() as session:

        async def read_many() -> None:
            url = nginx.url(served)
            streams = [session.aiter_content(url, concurrency=1) for _ in range(40)]
            for stream in streams:
                await stream.__aenter__()
            for stream in streams:
                await stream.aclose()

        asyncio.run(read_many())
        spans = [(start, start + 1000) for start in range(0, 2_000_000, 40_000)]
        # With some bytes between them, which none asks for, they are not placed.
        spans.append((1001, 1010))
        found = session.read_ranges(nginx.url(served), spans, concurrency=len(spans), max_gap=1)
        assert list(map(bytes, found)) == [served.read(*span) for span in spans]
        # As many slots as there are requests.
        assert max(each.layout.slots for each in session._pool._connections if not each.closed) >= len(spans) - 1


def test_many_small_spans_use_the_ring_of_one_stream(nginx: NginxServer) -> None:
    """Reads of one kind after another need no ring of their own."""
    served = nginx.objects.make(3_000_000)
    url = nginx.url(served)
    with getm.Session() as session:
        spans = [(start, start + 1000) for start in range(0, 2_000_000, 30_000)]
        for _ in range(2):
            assert b"".join(session.iter_content(url, concurrency=1)) == served.read()
            found = session.read_ranges(url, spans, concurrency=len(spans))
            assert list(map(bytes, found)) == [served.read(*span) for span in spans]
            assert session.read(url, offset=5, length=10) == served.read(5, 15)
        assert len(session._pool._connections) == 1


@pytest.mark.parametrize("concurrency", (1, 4, "auto"))
def test_the_ring_of_the_transfer_before_is_taken_without_looking_for_memory(
    concurrency: int | Literal["auto"], nginx: NginxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That takes longer than a small object, and a coroutine would need a thread for it."""
    served = nginx.objects.make(3000)
    with getm.Session(max_memory=64 * MIB) as session:

        async def read() -> memoryview:
            return await session.aread(nginx.url(served), concurrency=concurrency)

        assert asyncio.run(read()) == served.read()
        looked: list[int] = []
        monkeypatch.setattr("getm.client.pool.available_bytes", lambda: looked.append(1))
        assert asyncio.run(read()) == served.read()
        assert not looked


def test_small_rings_are_taken_again_without_looking_for_memory(
    nginx: NginxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = nginx.objects.make(3000)
    with getm.Session(max_memory=64 * MIB) as session:

        async def read_many() -> None:
            url = nginx.url(served)
            streams = [session.aiter_content(url, concurrency=1) for _ in range(12)]
            for stream in streams:
                await stream.__aenter__()
            for stream in streams:
                assert b"".join([bytes(part) async for part in stream]) == served.read()

        asyncio.run(read_many())
        layouts = {each.layout for each in session._pool._connections}
        assert len(layouts) > 1
        looked: list[int] = []
        monkeypatch.setattr("getm.client.pool.available_bytes", lambda: looked.append(1))
        asyncio.run(read_many())
        assert not looked and {each.layout for each in session._pool._connections} == layouts
