"""What the caller of a download gets from the events of its batch: results, in place of a loop over events."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import TYPE_CHECKING

from getm.core.lazy import importing
from getm.errors import ReaderClosed
from getm.events import Event, Failed, Finished, Progressed, Skipped
from getm.results import DownloadFailure, DownloadResult

if TYPE_CHECKING:
    from getm.files.receipt import Receipt

ProgressCallback = Callable[[int, int | None], None]
EventCallback = Callable[[Event], None]


def result(
    events: Generator[Event, None, None], on_progress: ProgressCallback | None, receipt: Receipt | None
) -> DownloadResult:
    """The result of a single download.

    Raises:
        GetmError: What it failed with; `ReaderClosed` where the session was closed under it.
    """
    return _only(list(results(events, _progress_only(on_progress), False, receipt)))


async def aresult(
    events: AsyncGenerator[Event, None], on_progress: ProgressCallback | None, receipt: Receipt | None
) -> DownloadResult:
    """`result` for `await`."""
    return _only([outcome async for outcome in aresults(events, _progress_only(on_progress), False, receipt)])


def _progress_only(on_progress: ProgressCallback | None) -> EventCallback:
    last: tuple[int, int | None] | None = None

    def on_event(event: Event) -> None:
        nonlocal last
        if isinstance(event, Progressed):
            now: tuple[int, int | None] = event.done_bytes, event.total_bytes
        elif isinstance(event, Finished | Skipped) and event.result is not None:
            now = event.result.size, event.result.size
        else:
            return
        if on_progress is not None and now != last:
            last = now
            on_progress(*now)

    return on_event


def _only(outcomes: list[DownloadResult | DownloadFailure]) -> DownloadResult:
    for outcome in outcomes:
        if isinstance(outcome, DownloadResult):
            return outcome
    raise ReaderClosed("the session was closed while its data was being read")


class _Outcomes:
    """What the events of many downloads give to the loop over their results. `failure`: the first one, which ended the
    batch; those that come after it, from files that were being finished, still count."""

    def __init__(self, on_event: EventCallback | None, continue_after_error: bool, receipt: Receipt | None) -> None:
        self.failure: DownloadFailure | None = None
        self._receipt = receipt
        self._on_event = on_event
        self._continue_after_error = continue_after_error

    def of(self, event: Event) -> DownloadResult | DownloadFailure | None:
        if self._receipt is not None:
            self._receipt.on_event(event)
        if self._on_event is not None:
            self._on_event(event)
        if isinstance(event, Finished | Skipped):
            return event.result
        if not isinstance(event, Failed):
            return None
        failure = DownloadFailure(event.index, event.url, event.path, event.error)
        if self._continue_after_error:
            return failure
        self.failure = self.failure or failure
        return None


def results(
    events: Generator[Event, None, None],
    on_event: EventCallback | None,
    continue_after_error: bool,
    receipt: Receipt | None,
) -> Iterator[DownloadResult | DownloadFailure]:
    """The results of many downloads as they finish. Raises the first failure, unless it is to continue after errors."""
    outcomes = _Outcomes(on_event, continue_after_error, receipt)
    # The receipt is open before anything begins.
    with receipt or contextlib.nullcontext(), contextlib.closing(events):
        for event in events:
            if (outcome := outcomes.of(event)) is not None:
                yield outcome
    if outcomes.failure is not None:
        raise outcomes.failure.error


async def aresults(
    events: AsyncGenerator[Event, None],
    on_event: EventCallback | None,
    continue_after_error: bool,
    receipt: Receipt | None,
) -> AsyncIterator[DownloadResult | DownloadFailure]:
    """`results` for `async for`."""
    outcomes = _Outcomes(on_event, continue_after_error, receipt)
    async with _aopened(receipt), contextlib.aclosing(events):
        async for event in events:
            if (outcome := outcomes.of(event)) is not None:
                yield outcome
    if outcomes.failure is not None:
        raise outcomes.failure.error


@contextlib.asynccontextmanager
async def _aopened(receipt: Receipt | None) -> AsyncGenerator[None, None]:
    """A context in which the receipt is open: reading it, and the files that it has still to read, takes its time."""
    if receipt is None:
        yield
        return
    # A caller of this has imported it; a synchronous program need not.
    with importing:
        import asyncio

    hurry = True
    try:
        await asyncio.to_thread(receipt.open)
        yield
        hurry = False
    finally:
        # Even a second cancellation waits for the thread.
        await asyncio.shield(asyncio.to_thread(receipt.close, hurry=hurry))
