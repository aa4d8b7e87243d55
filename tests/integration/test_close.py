"""Closing wakes whoever waits: readers, iterators and downloads, in threads and in tasks, from anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

import getm
from getm.client.exclusive import Exclusive
from getm.errors import ReaderBusy, ReaderClosed
from getm.testing import FaultServer, Gate, Reply
from tests.support.engines import engines
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

MIB = 1024 * 1024
BODY = bytes(range(256)) * 16 * 1024
Make = Callable[..., ServedObject]


@pytest.fixture
def gate(fault_server: FaultServer) -> Iterator[Gate]:
    gate = fault_server.gate()
    yield gate
    gate.open()


@pytest.fixture(params=("head", "body"))
def stalled(request: pytest.FixtureRequest, fault_server: FaultServer, gate: Gate) -> str:
    """An object whose server stops, before its head or within its body."""
    if request.param == "head":
        return fault_server.serve("/stalled", Reply(body=BODY, hold=gate))
    return fault_server.serve("/stalled", Reply(body=BODY, stall_at=2 * MIB + 7, gate=gate))


@pytest.fixture(params=(1, 2, None), ids=("process", "helpers", "thread"))
def concurrency(request: pytest.FixtureRequest) -> int | None:
    chosen: int | None = request.param
    return chosen


def wait_until_waiting(session: getm.Session) -> None:
    """Until somebody waits on a connection of the session."""
    while not any(connection.waits for connection in list(session._pool._connections)):
        os.sched_yield()


class Failing(threading.Thread):
    """A thread that keeps what its function raised."""

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__()
        self._function = function
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._function()
        except BaseException as error:
            self.error = error

    def result(self) -> BaseException | None:
        self.join()
        return self.error


def read_all(session: getm.Session, url: str, concurrency: int | None) -> None:
    session.read(url, concurrency=concurrency)


def iterate(session: getm.Session, url: str, concurrency: int | None) -> None:
    for _ in session.iter_content(url, 1000, concurrency=concurrency):
        pass


def iterate_unordered(session: getm.Session, url: str, concurrency: int | None) -> None:
    for _ in session.iter_content_unordered(url, concurrency=concurrency):
        pass


def read_into(session: getm.Session, url: str, concurrency: int | None) -> None:
    with session.urlopen(url, concurrency=concurrency) as fh:
        while fh.readinto(bytearray(MIB)):
            pass


SYNC = (read_all, iterate, iterate_unordered, read_into)
Use = TypeVar("Use")


def in_pairs(uses: Iterable[Use]) -> Iterator[tuple[Use, int | None, str]]:
    """Each with each `concurrency`, and both of these with each `stalled`."""
    places = itertools.cycle(("head", "body"))
    for use, concurrency in itertools.product(uses, (1, 2, None)):
        yield use, concurrency, next(places)


@pytest.mark.parametrize(("use", "concurrency", "stalled"), list(in_pairs(SYNC)), indirect=("concurrency", "stalled"))
def test_case_47_closing_the_session_wakes_a_thread(
    use: Callable[[getm.Session, str, int | None], None], stalled: str, gate: Gate, concurrency: int | None
) -> None:
    with getm.Session(processes=2) as session:
        thread = Failing(lambda: use(session, stalled, concurrency))
        gate.wait_reached()
        session.close()
        assert isinstance(thread.result(), ReaderClosed)


def test_case_47_getm_close_wakes_a_thread(stalled: str, gate: Gate) -> None:
    thread = Failing(lambda: getm.read(stalled))
    gate.wait_reached()
    getm.close()
    assert isinstance(thread.result(), ReaderClosed)


@pytest.mark.parametrize("what", ("urlopen", "iter_content", "iter_content_unordered"))
def test_case_47_closing_a_reader_wakes_the_thread_that_reads_from_it(
    what: str, fault_server: FaultServer, gate: Gate, nginx: NginxServer, make_object: Make
) -> None:
    stalled = fault_server.serve("/stalled", Reply(body=BODY, stall_at=2 * MIB + 7, gate=gate))
    with getm.Session() as session:
        reader = getattr(session, what)(stalled)
        thread = Failing(reader.read if what == "urlopen" else lambda: list(map(bytes, map(last, reader))))
        gate.wait_reached()
        wait_until_waiting(session)
        reader.close()
        assert isinstance(thread.result(), ReaderClosed)
        with pytest.raises(ReaderClosed):
            reader.read() if what == "urlopen" else next(reader)
        served = make_object(3 * MIB)
        assert session.read(nginx.url(served)) == served.read()


def last(part: memoryview | tuple[int, memoryview]) -> memoryview:
    return part[-1] if isinstance(part, tuple) else part


@pytest.mark.parametrize(
    ("kind", "many", "concurrency", "stalled"),
    [(*use, *others) for use, *others in in_pairs(itertools.product(("sync", "async"), (False, True)))],
    indirect=("concurrency", "stalled"),
)
def test_cases_8_13_47_closing_the_session_ends_downloads(
    kind: str, many: bool, stalled: str, gate: Gate, concurrency: int | None, tmp_path: Path
) -> None:
    """Case 13: the batch's thread was told of it by a descriptor of -1."""
    target = tmp_path / "target"

    def use() -> None:
        if many:
            list(session.download_all([getm.Entry(stalled, path=target)], concurrency=concurrency))
        else:
            session.download(stalled, target, concurrency=concurrency)

    async def ause() -> None:
        if many:
            async for _ in session.adownload_all([getm.Entry(stalled, path=target)], concurrency=concurrency):
                pass
        else:
            await session.adownload(stalled, target, concurrency=concurrency)

    with getm.Session() as session:
        thread = Failing(use if kind == "sync" else lambda: asyncio.run(ause()))
        gate.wait_reached()
        session.close()
        assert isinstance(thread.result(), ReaderClosed)
    assert not target.exists()


def test_case_13_a_batch_that_was_closed_with_its_session_at_any_moment(
    nginx: NginxServer, make_object: Make, tmp_path: Path
) -> None:
    urls = [nginx.url(make_object(50_000, seed)) for seed in range(20)]
    for moment in range(8):
        with getm.Session() as session:
            entries = [getm.Entry(url, path=tmp_path / f"{moment}-{n}") for n, url in enumerate(urls)]
            results = iter(session.download_all(entries, jobs=4))
            with contextlib.suppress(ReaderClosed):
                for _ in range(moment):
                    next(results)
                closing = Failing(session.close)
                for _ in results:
                    pass
            assert closing.result() is None


# Tasks ---------------------------------------------------------------------------------------------------------------


async def waiting(session: getm.Session) -> None:
    """Until a task waits on a connection of the session."""
    while not any(each.waits for each in session._pool._connections):  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0)


async def consume(parts: AsyncIterator[object]) -> None:
    async for _ in parts:
        pass


@pytest.mark.parametrize(
    ("closer", "what", "stalled"),
    [
        ("session", "aiter_content", "head"),
        ("session", "aiter_content_unordered", "body"),
        ("iterator", "aiter_content", "body"),
        ("iterator", "aiter_content_unordered", "head"),
        ("session, in a thread", "aiter_content", "head"),
        ("session, in a thread", "aiter_content_unordered", "body"),
    ],
    indirect=("stalled",),
)
async def test_cases_8_47_closing_wakes_a_task(
    closer: str, what: str, stalled: str, gate: Gate, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(3 * MIB)
    with getm.Session() as session:
        parts = getattr(session, what)(stalled)
        task = asyncio.create_task(consume(parts))
        await asyncio.to_thread(gate.wait_reached)
        await waiting(session)
        if closer == "session":
            session.close()
        elif closer == "iterator":
            await parts.aclose()
        else:
            await asyncio.to_thread(session.close)
        with pytest.raises(ReaderClosed):
            await task
        with pytest.raises(ReaderClosed):
            await anext(parts)
        # Neither the number of the descriptor nor the connection leads another transfer astray.
        with getm.Session() as other:
            for each in (other,) if session.closed else (session, other):
                assert b"".join([bytes(part) async for part in each.aiter_content(nginx.url(served))]) == served.read()


async def test_case_47_a_descriptor_is_closed_only_after_its_loop_has_forgotten_it(stalled: str, gate: Gate) -> None:
    """By construction: so a later socket with the same number never meets a registration of this one."""
    with getm.Session() as session:
        task = asyncio.create_task(consume(session.aiter_content(stalled)))
        await asyncio.to_thread(gate.wait_reached)
        await waiting(session)
        (connection,) = session._pool._connections
        number = connection.fileno()
        session.close()
        assert connection.closed and connection.fileno() == number
        with pytest.raises(ReaderClosed):
            await task
        assert connection.fileno() == -1
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert not asyncio.get_running_loop().remove_reader(number)


@pytest.mark.parametrize("what", ("aiter_content", "aiter_content_unordered"))
async def test_case_47_a_second_task_is_refused_and_the_first_goes_on(
    what: str, fault_server: FaultServer, gate: Gate
) -> None:
    url = fault_server.serve("/stalled", Reply(body=BODY, stall_at=2 * MIB + 7, gate=gate))
    with getm.Session() as session:
        parts = getattr(session, what)(url)
        first = asyncio.create_task(take(parts))
        await asyncio.to_thread(gate.wait_reached)
        await waiting(session)
        for _ in range(3):
            with pytest.raises(ReaderBusy) as caught:
                await anext(parts)
            assert isinstance(caught.value, RuntimeError)
        gate.open()
        assert await first == BODY


async def take(parts: AsyncIterator[memoryview | tuple[int, memoryview]]) -> bytes:
    taken = bytearray(len(BODY))
    at = 0
    async for part in parts:
        at, view = part if isinstance(part, tuple) else (at, part)
        taken[at : at + len(view)] = view
        at += len(view)
    return bytes(taken)


def test_case_47_a_second_thread_is_refused_and_the_first_goes_on(fault_server: FaultServer, gate: Gate) -> None:
    url = fault_server.serve("/stalled", Reply(body=BODY, stall_at=2 * MIB + 7, gate=gate))
    with getm.Session() as session, session.urlopen(url) as fh:
        got: list[memoryview] = []
        thread = Failing(lambda: got.append(fh.read()))
        gate.wait_reached()
        wait_until_waiting(session)
        for use in (fh.read, fh.readall, lambda: fh.readinto(bytearray(1))):
            with pytest.raises(ReaderBusy):
                use()
        gate.open()
        assert thread.result() is None
        assert got == [BODY]


@pytest.mark.parametrize("what", ("aiter_content", "aiter_content_unordered"))
async def test_case_47_after_aclose_iteration_does_not_end_as_if_complete(
    what: str, nginx: NginxServer, make_object: Make
) -> None:
    url = nginx.url(make_object(5 * MIB))
    with getm.Session() as session:
        for first in (0, 1):
            parts = getattr(session, what)(url)
            for _ in range(first):
                await anext(parts)
            await parts.aclose()
            for _ in range(2):
                with pytest.raises(ReaderClosed):
                    await anext(parts)
        # What was read to its end has ended, closed or not.
        parts = getattr(session, what)(url)
        async for _ in parts:
            pass
        await parts.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(parts)


@pytest.mark.parametrize("what", ("iter_content", "iter_content_unordered"))
def test_case_47_after_close_iteration_does_not_end_as_if_complete(
    what: str, nginx: NginxServer, make_object: Make
) -> None:
    url = nginx.url(make_object(5 * MIB))
    with getm.Session() as session:
        parts = getattr(session, what)(url)
        next(parts)
        parts.close()
        for _ in range(2):
            with pytest.raises(ReaderClosed):
                next(parts)
        parts = getattr(session, what)(url)
        for _ in parts:
            pass
        parts.close()
        with pytest.raises(StopIteration):
            next(parts)


def test_case_47_whoever_is_inside_cleans_up_after_a_close() -> None:
    cleaned: list[int] = []
    use = Exclusive(lambda: cleaned.append(1))
    with use:
        use.close()
        assert cleaned == []
    assert cleaned == [1]
    with pytest.raises(ReaderBusy), use, use:
        pass


# Sessions that nobody holds ------------------------------------------------------------------------------------------


def test_case_14_a_reader_keeps_its_session_alive(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(30 * MIB)
    url = nginx.url(served)
    assert getm.Session().urlopen(url).read() == served.read()
    assert b"".join(map(bytes, getm.Session().iter_content(url))) == served.read()
    assert sum(len(view) for _, view in getm.Session().iter_content_unordered(url)) == served.size_bytes


async def test_case_14_an_asynchronous_iterator_keeps_its_session_alive(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(30 * MIB)
    parts = getm.Session().aiter_content(nginx.url(served))
    gc.collect()
    assert b"".join([bytes(part) async for part in parts]) == served.read()


def test_case_14_a_batch_keeps_its_session_alive(nginx: NginxServer, make_object: Make, tmp_path: Path) -> None:
    urls = [nginx.url(make_object(MIB, seed)) for seed in range(3)]
    results = getm.Session().download_all(urls, directory=tmp_path)
    gc.collect()
    assert len(list(results)) == 3
    assert getm.Session().download(urls[0], tmp_path / "one").size == MIB


def test_case_14_a_finalizer_never_waits_for_an_engine(nginx: NginxServer, make_object: Make) -> None:
    """The engine stands still, so whoever waited for its end would wait for the limit: 5 s, and then kill it."""
    session = getm.Session()
    session.read(nginx.url(make_object(1000)))
    (engine,) = engines()
    engine.suspend()
    del session
    gc.collect()
    assert engine.status() == "stopped"
    engine.resume()
    engine.wait()
