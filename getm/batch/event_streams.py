"""The two faces of a batch: its events, in order, for a `for` or an `async for` loop."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import AsyncGenerator, Callable, Generator

from getm.batch.scheduler import Batch, Post
from getm.events import Event


def events(start: Callable[[Post], Batch]) -> Generator[Event, None, None]:
    """What happens in the batch that `start(post)` makes, until it ends. Leaving the loop early stops it.

    Raises what ended the batch as a whole; what ended single downloads comes as `Failed`.
    """
    outbox: queue.SimpleQueue[list[Event]] = queue.SimpleQueue()
    batch = start(outbox.put)
    try:
        batch.start()
        while turn := outbox.get():
            yield from turn
    finally:
        batch.stop()
    if batch.error is not None:
        raise batch.error


async def aevents(start: Callable[[Post], Batch]) -> AsyncGenerator[Event, None]:
    """`events` for `async for`."""
    # Whoever calls this has it loaded; a synchronous program need not.
    import asyncio

    loop = asyncio.get_running_loop()
    outbox: asyncio.Queue[list[Event]] = asyncio.Queue()

    def post(turn: list[Event]) -> None:
        with contextlib.suppress(RuntimeError):
            # The loop was closed under the batch: nobody reads any more.
            loop.call_soon_threadsafe(outbox.put_nowait, turn)

    batch = start(post)
    try:
        batch.start()
        while turn := await outbox.get():
            for event in turn:
                yield event
    finally:
        # A second cancellation must not leave the thread to itself.
        await asyncio.shield(asyncio.to_thread(batch.stop))
    if batch.error is not None:
        raise batch.error
