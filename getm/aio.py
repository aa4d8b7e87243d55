"""The asynchronous API: iterators of parts that never block the loop and need no thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from getm.client.connection import ClientConnection
from getm.client.exclusive import Exclusive
from getm.client.opening import Opening
from getm.client.parts import Parts, WholeObject
from getm.client.pool import LOOK_S, EnginePool, Waiter, Wanted
from getm.client.receiver import Receiver, ResponseInfo
from getm.errors import ReaderClosed

if TYPE_CHECKING:
    from getm.client.collected_spans import CollectedSpans


async def start(opening: Opening) -> Receiver:
    """`Opening.start` that never blocks the loop: what may take long (an engine's start, memory for a ring) is done in
    a thread of the loop's executor, and waits for the memory of others are in the loop, as are those for a URL."""
    pool = opening.pool
    if (finding := opening.find(asyncio.get_running_loop())) is not None:
        with pool.finding(finding):
            await asyncio.wrap_future(finding)
    return opening.start_on(await acquire(opening))


async def acquire(opening: Opening) -> ClientConnection:
    """`Opening.acquire` that never blocks the loop."""
    wanted = opening.wanted()
    return opening.pool.take_idle(wanted) or await _acquire(opening.pool, wanted)


async def _acquire(pool: EnginePool, wanted: Wanted) -> ClientConnection:
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    waiter = Waiter(wanted.holder, lambda: _call_soon(loop, woken.set))
    try_acquire = partial(pool.try_acquire, wanted)
    with pool.waiting(waiter):
        while True:
            try:
                acquiring = loop.run_in_executor(None, try_acquire)
            except RuntimeError:
                # The main thread has ended: executors take nothing any more.
                acquiring = loop.create_future()
                acquiring.set_result(try_acquire())
            try:
                connection = await asyncio.shield(acquiring)
            except asyncio.CancelledError:
                # The thread continues: what it gets is for others.
                acquiring.add_done_callback(partial(_give_back, pool))
                raise
            if connection is not None:
                return connection
            while not woken.is_set():
                pool.check_wait(waiter)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await woken.wait()
            woken.clear()


def _give_back(pool: EnginePool, acquiring: asyncio.Future[ClientConnection | None]) -> None:
    if not acquiring.cancelled() and acquiring.exception() is None:
        connection = acquiring.result()
        if connection is not None:
            pool.release(connection)


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):
        # The loop is closed: nothing waits in it.
        loop.call_soon_threadsafe(call)


async def readable(transfer: Receiver, timeout_s: float | None = None) -> bool:
    """Wait until the engine has sent something, or until `transfer` is closed; False where that took longer than
    `timeout_s`.

    The loop has the descriptor only while this waits: an iterator that is dropped leaves nothing behind.
    """
    loop = asyncio.get_running_loop()
    came: asyncio.Future[None] = loop.create_future()
    transfer.begin_wait()
    try:
        descriptor = transfer.connection.fileno()
        loop.add_reader(descriptor, _settle, came)
        try:
            async with asyncio.timeout(timeout_s):
                await came
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(descriptor)
    finally:
        # Only now may the descriptor be closed: the loop would forget it, or take another one with its number for it.
        transfer.connection.end_wait()
    return True


def _settle(came: asyncio.Future[None]) -> None:
    if not came.done():
        came.set_result(None)


async def acollect_spans(transfer: Receiver, spans: CollectedSpans) -> None:
    """Wait until all of `spans` are there."""
    while not spans.collect(transfer):
        await wait(transfer)


async def aread_all(transfer: Receiver) -> memoryview:
    """Read the whole object."""
    whole = WholeObject(transfer)
    while (view := whole.try_read()) is None:
        await wait(transfer)
    return view


async def wait(transfer: Receiver) -> None:
    """Wait until the engine has sent something. Raises `SlotsExhausted` where it cannot."""
    if transfer.starved():
        grace_s = transfer.grace_s(other_tasks=len(asyncio.all_tasks()) > 1)
        if transfer.still_starved(await readable(transfer, grace_s)):
            raise transfer.exhausted()
    await readable(transfer)
    transfer.pump(wait=False)


_T = TypeVar("_T")
# Opens the URL. It calls its argument with the transfer as soon as there is one, and returns that when the head has
# come.
Opener = Callable[[Callable[[Receiver], None]], Awaitable[Receiver]]


class _Iterator(ResponseInfo, AsyncIterator[_T]):
    """An asynchronous iterator that opens its URL when it is first used, or entered as a context.

    For one task at a time: a second one gets `ReaderBusy`. Any task or thread may close it: a wait for its next part
    then raises `ReaderClosed`.
    """

    def __init__(self, opener: Opener, parts_of: Callable[[Receiver], Parts[_T]]) -> None:
        super().__init__(None)
        self._opener = opener
        self._parts_of = parts_of
        self._parts: Parts[_T] | None = None
        self._use = Exclusive(self._clean_up)

    async def _open(self) -> Parts[_T]:
        if self._parts is None:
            if self._use.closed:
                raise ReaderClosed("closed: open the URL again")
            self._parts = self._parts_of(await self._opener(self._started))
        return self._parts

    def _started(self, transfer: Receiver) -> None:
        # Kept before its head has come, so that a close ends the wait for it.
        self._transfer_ = transfer
        if self._use.closed:
            transfer.close()

    async def __anext__(self) -> _T:
        with self._use:
            parts = await self._open()
            while not parts.complete:
                if (part := parts.next()) is not None:
                    return part
                if not parts.complete:
                    await wait(self._transfer)
            self._transfer.close()
            raise StopAsyncIteration

    def _clean_up(self) -> None:
        if self._parts is not None:
            self._parts.clear()

    async def __aenter__(self) -> Self:
        with self._use:
            await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    async def aclose(self) -> None:
        """Stop the transfer, and every wait for its next part. Views that were given out stay valid."""
        self._close()

    def _close(self) -> None:
        self._use.close()
        if self._transfer_ is not None:
            self._transfer_.close()

    def __del__(self) -> None:
        # The loop over it was left: the engine must not fill slots that nobody reads.
        self._close()


class AsyncContentIterator(_Iterator[memoryview]):
    """The object in order, as read-only views of `chunk_size` bytes, the last one shorter. Nothing to release."""


class AsyncUnorderedIterator(_Iterator[tuple[int, memoryview]]):
    """Pairs of an offset and a read-only view, as they arrive. Together they cover the object exactly."""
