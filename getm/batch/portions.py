"""What a worker of an executor does: a portion of the downloads of a list, as a batch of its own.

Portions come as plain data, and so does what a worker returns. Its engines are kept for the next portion.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from getm.batch import event_streams
from getm.batch.entries import jobs_of
from getm.batch.reports import Post
from getm.batch.scheduler import Batch
from getm.batch.settings import BatchOptions
from getm.client.pool import EnginePool
from getm.core.environment import environment
from getm.core.units import MIB
from getm.events import Event, Failed, Finished, Progressed, Skipped, Started
from getm.files.logins import Logins
from getm.files.receipt_lines import ReceiptEntry
from getm.manifests.entry import Entry
from getm.protocol.messages import OpenRequest

# What a download costs beside its bytes, in bytes; and that of an object whose size is not known.
COST_EACH = MIB
_COST_UNKNOWN = 8 * MIB

# How a download ends.
_ENDS = (Finished, Failed, Skipped)


def cost_of(entry: Entry) -> float:
    """What a download is expected to cost, in bytes."""
    return COST_EACH + (_COST_UNKNOWN if entry.size is None else entry.size)


Tell = Callable[[str, bytes], None]


class LiveExecutor(Executor):
    """An executor that has more ways between its workers and the caller than portions and what they return. Calls of
    `download_all` have names."""

    @abstractmethod
    def listen(self, call: str, hear: Callable[[bytes], None]) -> Tell:
        """Have `hear` called with what workers tell of a call, in any thread. Returns a function for workers, which can
        be pickled: `tell(call, what)`."""

    @abstractmethod
    def end(self, call: str) -> None:
        """Hear no more of a call."""

    @abstractmethod
    def stop(self, call: str, *, wait: bool) -> None:
        """Have all workers run `stop_portions(call)`; with `wait`, return when they have, or after some seconds."""


class Telling(Struct, frozen=True):
    """How the workers of a `LiveExecutor` tell of downloads that take long: by `tell`, after so many seconds each."""

    tell: Tell
    after_s: float


class Work(Struct, frozen=True):
    """What all portions have in common: what their requests have, the folder of their targets (an absolute path or a
    URL), the options of a worker's batch, the arguments of its `EnginePool`, and the logins of the caller's netrc file;
    with a `LiveExecutor` the name of the call and, if anybody hears that, how workers tell of downloads that take
    long."""

    common: OpenRequest
    directory: str
    options: BatchOptions
    pool: tuple[Any, ...]
    logins: Logins | None
    call: str = ""
    telling: Telling | None = None


class Portion(Struct, frozen=True):
    """Downloads for one worker, with their positions in the list. `known`: what a receipt says of their targets.
    `cost`: what they are expected to cost, in bytes. `tries`: how often a worker was given them, this time included."""

    work: Work
    numbers: tuple[int, ...]
    entries: tuple[Entry, ...]
    known: dict[str, ReceiptEntry]
    cost: float
    tries: int = 1

    @property
    def key(self) -> tuple[int, int]:
        """No other portion of the call has it."""
        return self.numbers[0], self.tries

    def halves(self) -> list[Portion]:
        """The same for two more workers."""
        middle = (len(self.numbers) + 1) // 2
        parts = slice(0, middle), slice(middle, None)
        halves = [
            replace(
                self,
                numbers=self.numbers[part],
                entries=self.entries[part],
                cost=sum(map(cost_of, self.entries[part])),
                tries=self.tries + 1,
            )
            for part in parts
        ]
        return [half for half in halves if half.numbers]


class Done(Struct, frozen=True):
    """What a worker returns: how the downloads of a portion ended, and how many seconds they took."""

    events: list[Event]
    seconds: float


class _Known:
    """A receipt of which only what it said is there."""

    def __init__(self, entries: dict[str, ReceiptEntry]) -> None:
        self._entries = entries

    def find(self, path: str) -> ReceiptEntry | None:
        return self._entries.get(path)


# Engines that are kept: starting them takes a quarter of a second. By the process, since those of a forked one are its
# own, and the pool's arguments.
_pools: dict[tuple[int, tuple[Any, ...]], EnginePool] = {}


def _pool(arguments: tuple[Any, ...]) -> EnginePool:
    key = os.getpid(), arguments
    # Of two threads that come at the same time, both get the same one.
    return _pools.get(key) or _pools.setdefault(key, EnginePool(*arguments))


def do_portion(portion: Portion) -> Done:
    """Do the downloads of a portion. Raises what ends a batch as a whole."""
    began_s = time.monotonic()
    work = portion.work
    # Proxies and certificates are those of the worker's machine.
    common = replace(work.common, environment=environment())
    jobs = partial(jobs_of, portion.entries, common, work.directory, work.logins)
    pool, dry_run = _pool(work.pool), work.options.dry_run
    wants_events = dry_run or work.telling is not None
    kept = (*_ENDS, Started) if dry_run else _ENDS
    teller = None if work.telling is None else _Teller(portion, work.telling)
    ends = []
    with contextlib.ExitStack() as stack:

        def start(post: Post) -> Batch:
            batch = Batch(jobs, pool, work.options, post, _Known(portion.known), wants_events=wants_events)
            stack.enter_context(_stoppable(work.call, batch))
            return batch

        for event in event_streams.events(start):
            numbered = _numbered(event, portion.numbers)
            if teller is not None:
                teller.note(numbered)
            if isinstance(event, kept):
                ends.append(numbered)
    return Done(ends, time.monotonic() - began_s)


def _numbered(event: Any, numbers: tuple[int, ...]) -> Event:
    """The event with the position of its download in the whole list."""
    number = numbers[event.index]
    if getattr(event, "result", None) is not None:
        event = replace(event, result=replace(event.result, index=number))
    numbered: Event = replace(event, index=number)
    return numbered


# While a portion is done ---------------------------------------------------------------------------------------------


class News(Struct, frozen=True):
    """What a worker tells of the downloads of a portion while it does it. `portion` is that one's `key`."""

    portion: tuple[int, int]
    events: list[Event]


class _Teller:
    """Tells the caller of downloads that take long: that they have started, and how far they are."""

    def __init__(self, portion: Portion, telling: Telling) -> None:
        self._portion = portion
        self._telling = telling
        self._started: dict[int, Event] = {}
        self._progressed: dict[int, Event] = {}
        self._told_s = time.monotonic()

    def note(self, event: Any) -> None:
        match event:
            case Started():
                self._started[event.index] = event
            case Progressed():
                self._progressed[event.index] = event
            case Finished() | Failed() | Skipped():
                self._started.pop(event.index, None)
                self._progressed.pop(event.index, None)
        now_s = time.monotonic()
        if self._progressed and now_s - self._told_s >= self._telling.after_s:
            self._told_s = now_s
            news = News(self._portion.key, [*self._started.values(), *self._progressed.values()])
            self._started.clear()
            self._progressed.clear()
            self._telling.tell(self._portion.work.call, pickle.dumps(news))


# The batches of portions by their calls, and the last calls that were stopped: a portion of one of them may yet come.
_batches: dict[str, list[Batch]] = {}
_stopped: deque[str] = deque(maxlen=256)
_lock = threading.Lock()


@contextlib.contextmanager
def _stoppable(call: str, batch: Batch) -> Iterator[None]:
    with _lock:
        _batches.setdefault(call, []).append(batch)
        if call in _stopped:
            batch.halt()
    try:
        yield
    finally:
        with _lock:
            _batches[call].remove(batch)
            if not _batches[call]:
                del _batches[call]


def stop_portions(call: str) -> None:
    """End the portions of a call here, and those that will come; what has arrived is kept for a later call."""
    with _lock:
        _stopped.append(call)
        for batch in _batches.get(call, ()):
            batch.halt()
