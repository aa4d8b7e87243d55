"""The events of a batch, in order, for a `for` or an `async for` loop; and its iterable, which runs in that loop."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Protocol

from getm.batch.reports import Post
from getm.core.lazy import importing
from getm.events import Event

if TYPE_CHECKING:
    import asyncio


class RunningBatch(Protocol):
    """What `start` makes: see `Batch`, and `ExecutorBatch`."""

    error: BaseException | None
    # That of the caller, for asynchronous providers.
    loop: asyncio.AbstractEventLoop | None

    def start(self) -> None: ...
    def read_on(self) -> None: ...
    def stop(self) -> None: ...


class Preparation(Protocol):
    """What is to be done before a batch, and may take its time."""

    def run(self) -> None: ...

    def stop(self) -> None:
        """Have `run` end soon. From any thread."""


def events(
    start: Callable[[Post], RunningBatch], preparation: Preparation | None = None
) -> Generator[Event, None, None]:
    """The events of the batch that `start(post)` makes, until it ends. Leaving the loop early stops it. Raises what the
    iterable of its downloads raised, or what ended the batch as a whole; failures of single downloads come as `Failed`.
    """
    if preparation is not None:
        preparation.run()
    outbox: queue.SimpleQueue[list[Event] | None] = queue.SimpleQueue()
    batch = start(outbox.put)
    try:
        batch.start()
        while (turn := outbox.get()) is not None:
            if not turn:
                batch.read_on()
            yield from turn
    finally:
        batch.stop()
    if batch.error is not None:
        raise batch.error


async def aevents(
    start: Callable[[Post], RunningBatch], preparation: Preparation | None = None
) -> AsyncGenerator[Event, None]:
    """`events` for `async for`."""
    # A caller of this has imported it; a synchronous program need not.
    with importing:
        import asyncio

    loop = asyncio.get_running_loop()
    outbox: asyncio.Queue[list[Event] | None] = asyncio.Queue()

    def post(turn: list[Event] | None) -> None:
        with contextlib.suppress(RuntimeError):
            # The loop was closed before the end of the batch: nothing reads the events any more.
            loop.call_soon_threadsafe(outbox.put_nowait, turn)

    if preparation is not None:
        try:
            await asyncio.to_thread(preparation.run)
        finally:
            # Where this was cancelled, the thread goes on.
            preparation.stop()
    batch = start(post)
    batch.loop = loop
    try:
        batch.start()
        while (turn := await outbox.get()) is not None:
            if not turn:
                batch.read_on()
            for event in turn:
                yield event
    finally:
        # Even a second cancellation waits for the thread.
        await asyncio.shield(asyncio.to_thread(batch.stop))
    if batch.error is not None:
        raise batch.error
