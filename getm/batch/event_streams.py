"""The events of a batch, in order, for a `for` or an `async for` loop; and its iterable, which runs in that loop."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import AsyncGenerator, Callable, Generator

from getm.batch.scheduler import Batch, Post
from getm.core.lazy import importing
from getm.events import Event


def events(start: Callable[[Post], Batch]) -> Generator[Event, None, None]:
    """The events of the batch that `start(post)` makes, until it ends. Leaving the loop early stops it. Raises what the
    iterable of its downloads raised, or what ended the batch as a whole; failures of single downloads come as `Failed`.
    """
    outbox: queue.SimpleQueue[list[Event] | None] = queue.SimpleQueue()
    batch = start(outbox.put)
    source = _Source(batch, outbox)
    try:
        batch.start()
        while True:
            while source.wanted and outbox.empty():
                source.read()
            turn = outbox.get()
            if turn is None:
                break
            for event in turn:
                yield event
                if source.wanted:
                    source.read()
    finally:
        batch.stop()
    source.check()


async def aevents(start: Callable[[Post], Batch]) -> AsyncGenerator[Event, None]:
    """`events` for `async for`."""
    # A caller of this has imported it; a synchronous program need not.
    with importing:
        import asyncio

    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    outbox: queue.SimpleQueue[list[Event] | None] = queue.SimpleQueue()

    def post(turn: list[Event] | None) -> None:
        outbox.put(turn)
        with contextlib.suppress(RuntimeError):
            # The loop was closed before the end of the batch: nothing reads the events any more.
            loop.call_soon_threadsafe(arrived.set)

    batch = start(post)
    source = _Source(batch, outbox)
    try:
        batch.start()
        while True:
            while source.wanted and outbox.empty():
                source.read()
                # The loop's other tasks run between two slices.
                await asyncio.sleep(0)
            while outbox.empty():
                await arrived.wait()
                arrived.clear()
            turn = outbox.get()
            if turn is None:
                break
            for event in turn:
                yield event
                if source.wanted:
                    source.read()
                    await asyncio.sleep(0)
    finally:
        # Even a second cancellation waits for the thread.
        await asyncio.shield(asyncio.to_thread(batch.stop))
    source.check()


class _Source:
    """Reads the iterable of a batch's downloads, in the thread that waits for its events."""

    def __init__(self, batch: Batch, outbox: queue.SimpleQueue[list[Event] | None]) -> None:
        self._batch = batch
        self._outbox = outbox
        self._error: Exception | None = None

    @property
    def wanted(self) -> bool:
        return self._batch.feed.wanted

    def read(self) -> None:
        """Read on for a short while. What the iterable raises ends the batch, and is raised by `check`."""
        try:
            self._batch.feed.fill(self._batch.awaken, self._has_events)
        except Exception as error:
            self._error = error
            self._batch.halt()

    def _has_events(self) -> bool:
        return not self._outbox.empty()

    def check(self) -> None:
        """Raise what has ended the batch as a whole."""
        error = self._error or self._batch.error
        if error is not None:
            raise error
