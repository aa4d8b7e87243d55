"""What a worker of an executor does: a portion of the downloads of a list, as a batch of its own.

Portions come as plain data, and so does what a worker returns. Its engines are kept for the next portion.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from getm.batch import event_streams
from getm.batch.entries import jobs_of
from getm.batch.scheduler import Batch, Post
from getm.batch.settings import BatchOptions
from getm.client.pool import EnginePool
from getm.core.environment import environment
from getm.core.units import MIB
from getm.events import Event, Failed, Finished, Skipped, Started
from getm.files.netrc import Logins
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


class Work(Struct, frozen=True):
    """What all portions have in common: what their requests have, the folder of their targets (an absolute path), the
    options of a worker's batch, the arguments of its `EnginePool`, and the logins of the caller's netrc file."""

    common: OpenRequest
    directory: str
    options: BatchOptions
    pool: tuple[Any, ...]
    logins: Logins | None


class Portion(Struct, frozen=True):
    """Downloads for one worker, with their positions in the list. `known`: what a receipt says of their targets.
    `cost`: what they are expected to cost, in bytes. `tries`: how often a worker was given them, this time included."""

    work: Work
    numbers: tuple[int, ...]
    entries: tuple[Entry, ...]
    known: dict[str, ReceiptEntry]
    cost: float
    tries: int = 1

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

    def start(post: Post) -> Batch:
        return Batch(jobs, pool, work.options, post, _Known(portion.known), wants_events=dry_run)

    kept = (*_ENDS, Started) if dry_run else _ENDS
    events = [_numbered(event, portion.numbers) for event in event_streams.events(start) if isinstance(event, kept)]
    return Done(events, time.monotonic() - began_s)


def _numbered(event: Any, numbers: tuple[int, ...]) -> Event:
    """The event with the position of its download in the whole list."""
    number = numbers[event.index]
    if getattr(event, "result", None) is not None:
        event = replace(event, result=replace(event.result, index=number))
    numbered: Event = replace(event, index=number)
    return numbered
