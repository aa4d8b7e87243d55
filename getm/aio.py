"""The asynchronous face: iterators of parts that never block the loop and need no thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

from getm.client.receiver import ChunkReader, Receiver, ResponseInfo

__all__ = ["AsyncContentIterator", "AsyncUnorderedIterator"]


async def readable(transfer: Receiver, timeout_s: float | None = None) -> bool:
    """Wait until the engine has sent something; False where that took longer than `timeout_s`.

    The descriptor is with the loop only while this waits: an iterator that is dropped leaves nothing behind.
    """
    loop = asyncio.get_running_loop()
    came: asyncio.Future[None] = loop.create_future()
    descriptor = transfer.fileno()
    if descriptor < 0:
        # Closed, as `pump` will tell.
        return True
    loop.add_reader(descriptor, _settle, came)
    try:
        async with asyncio.timeout(timeout_s):
            await came
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
    return True


def _settle(came: asyncio.Future[None]) -> None:
    if not came.done():
        came.set_result(None)


async def wait(transfer: Receiver) -> None:
    """Wait until the engine has sent something. Raises `SlotsExhausted` where it cannot."""
    if transfer.starved():
        grace_s = transfer.grace_s(other_tasks=len(asyncio.all_tasks()) > 1)
        if transfer.still_starved(await readable(transfer, grace_s)):
            raise transfer.exhausted()
    await readable(transfer)
    transfer.pump(wait=False)


T = TypeVar("T")


class _Parts(ResponseInfo, AsyncIterator[T]):
    """An asynchronous iterator that opens its URL when it is first asked, or entered as a context."""

    def __init__(self, opener: Callable[[], Awaitable[Receiver]]) -> None:
        super().__init__(None)
        self._opener = opener
        self._over = False

    async def _open(self) -> Receiver:
        if self._transfer_ is None:
            self._transfer_ = await self._opener()
        return self._transfer_

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    async def aclose(self) -> None:
        """Stop the transfer. Views that were given out stay valid."""
        self._close()

    def _close(self) -> None:
        self._over = True
        if self._transfer_ is not None:
            self._transfer_.close()

    def __del__(self) -> None:
        # An abandoned loop: the engine must not go on filling slots for nobody.
        self._close()


class AsyncContentIterator(_Parts[memoryview]):
    """The object in order, as read-only views of `chunk_size` bytes, the last one shorter. Nothing to release."""

    def __init__(self, opener: Callable[[], Awaitable[Receiver]], chunk_size: int | None) -> None:
        super().__init__(opener)
        self._chunk_size = chunk_size
        self._assembler: ChunkReader | None = None

    async def __anext__(self) -> memoryview:
        if self._over:
            raise StopAsyncIteration
        if self._assembler is None:
            self._assembler = ChunkReader(await self._open())
        while (view := self._assembler.try_read_chunk(self._chunk_size)) is None:
            await wait(self._transfer)
        if not view:
            self._close()
            raise StopAsyncIteration
        return view

    def _close(self) -> None:
        if self._assembler is not None:
            self._assembler.clear()
        super()._close()


class AsyncUnorderedIterator(_Parts[tuple[int, memoryview]]):
    """Pairs of an offset and a read-only view, as they arrive. Together they cover the object exactly."""

    async def __anext__(self) -> tuple[int, memoryview]:
        while not self._over:
            transfer = await self._open()
            part = transfer.next_part(ordered=False)
            if part is not None:
                return part.offset, part.view
            if transfer.finished:
                self._close()
            else:
                await wait(transfer)
        raise StopAsyncIteration
