"""A batch that is done by the workers of a `concurrent.futures.Executor`: other processes, or other machines.

The downloads are divided into portions (`portions.py`), which are sent to the workers. A worker returns how each
download of its portion ended. Portions are so large that a worker is busy with one for about a second: what it returns
then comes soon, and sending it costs little.

A portion whose worker is lost is done again, in two halves.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from typing import TYPE_CHECKING

from msgspec.structs import replace

from getm import errors
from getm.batch.entries import small_first
from getm.batch.portions import Done, LiveExecutor, News, Portion, Telling, Work, cost_of, do_portion
from getm.batch.reports import Post
from getm.batch.targets import Targets
from getm.core.units import MIB
from getm.core.url_path import is_url
from getm.events import Event, Failed, Finished, Progressed
from getm.files.receipt_lines import ReceiptEntry, Received
from getm.manifests.entry import Entry

if TYPE_CHECKING:
    import asyncio

# A portion is to take a worker about so long; many workers longer, so that all of them together do not return one more
# often than that: it takes the caller, with Dask's scheduler, 6 ms. The first ones are small, the next ones at most so
# many times as large as one that was done, and none is larger than that.
_PORTION_S = 1.0
_PORTION_EACH_S = 0.02
FIRST_COST = 64.0 * MIB
_FASTER = 2.0
_MAX_COST = 64 * 1024.0 * MIB
MAX_ENTRIES = 4096
# Each worker has a portion that it does and one that waits for it.
PORTIONS_EACH = 2
# How many workers are assumed where the executor does not say.
_WORKERS = 8
# How often a download is given to a worker, if its workers are lost.
_MAX_TRIES = 3
# Workers tell of downloads that take long after so many seconds; all workers together not more often than that.
_TELL_S = 0.5
_TELL_EACH_S = 0.01
# How long reading the entries may keep the caller from its events.
_SLICE_S = 0.005


def next_cost(cost: float, seconds: float, workers: int) -> float:
    """What the next portions are to cost, after one of that cost took one of so many workers so long."""
    wanted_s = max(_PORTION_S, _PORTION_EACH_S * workers)
    return min(_MAX_COST, cost * min(_FASTER, wanted_s / max(seconds, 1e-3)))


class ExecutorBatch:
    """Has the downloads of `entries` done by the workers of `executor`; see `Batch`, whose `start`, `read_on`, `stop`
    and `error` it has. `receipt`: what earlier runs have received. `wants_events`: whether anything reads more than how
    downloads ended."""

    def __init__(
        self,
        entries: Iterable[Entry | str],
        executor: Executor,
        work: Work,
        post: Post,
        receipt: Received | None = None,
        *,
        wants_events: bool = False,
    ) -> None:
        self.error: BaseException | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._entries: Iterator[tuple[int, Entry]] = small_first(entries)
        self._executor = executor
        self._workers = _workers(executor)
        self._live = executor if isinstance(executor, LiveExecutor) else None
        self._work = work if self._live is None else self._named(work, self._live, wants_events)
        self._post = post
        self._receipt = receipt
        self._most_portions = PORTIONS_EACH * self._workers
        self._cost = FIRST_COST
        self._targets = Targets()
        # Futures call back in any thread, also within `submit`.
        self._lock = threading.RLock()
        self._running: dict[Future[Done], Portion] = {}
        self._keys: set[tuple[int, int]] = set()
        self._again: deque[Portion] = deque()
        self._exhausted = False
        self._stopping = False
        self._asked = False
        self._ended = False

    def _named(self, work: Work, live: LiveExecutor, wants_events: bool) -> Work:
        call, telling = uuid.uuid4().hex, None
        if wants_events:
            after_s = max(_TELL_S, _TELL_EACH_S * self._workers)
            telling = Telling(live.listen(call, self._hear), after_s)
        return replace(work, call=call, telling=telling)

    def start(self) -> None:
        """Send the first portions."""
        self.read_on()

    def read_on(self) -> None:
        """Send as many portions as there is room for, in the caller's thread, for a short while."""
        self._asked = False
        stop_at = time.monotonic() + _SLICE_S
        try:
            while self._has_room() and (portion := self._next_portion()) is not None:
                self._submit(portion)
                if time.monotonic() >= stop_at:
                    break
        except Exception as error:
            self._fail(error)
        self._look()

    def stop(self) -> None:
        """End it: portions that no worker has begun are not done. Those that one has are stopped by a `LiveExecutor`,
        and done by another, without anybody to hear of it. Harmless afterwards."""
        with self._lock:
            self._stopping = True
            running = list(self._running)
        for future in running:
            future.cancel()
        if self._live is not None:
            if running:
                self._live.stop(self._work.call, wait=True)
            self._live.end(self._work.call)

    def _has_room(self) -> bool:
        return not self._stopping and len(self._running) < self._most_portions

    def _submit(self, portion: Portion) -> None:
        try:
            future = self._executor.submit(do_portion, portion)
        except BrokenExecutor as error:
            raise _broken(error) from error
        with self._lock:
            self._running[future] = portion
            self._keys.add(portion.key)
        future.add_done_callback(self._on_done)

    def _next_portion(self) -> Portion | None:
        with self._lock:
            if self._again:
                return self._again.popleft()
        chosen: list[tuple[int, Entry]] = []
        known: dict[str, ReceiptEntry] = {}
        cost = 0.0
        while cost < self._cost and len(chosen) < MAX_ENTRIES:
            found = next(self._entries, None)
            if found is None:
                self._exhausted = True
                break
            number, entry = found
            _check_provider(entry)
            path = self._target(number, entry)
            if path is None:
                continue
            if self._receipt is not None and (line := self._receipt.find(path)) is not None:
                known[path] = line
            chosen.append(found)
            cost += cost_of(entry)
        if not chosen:
            return None
        numbers, entries = zip(*chosen, strict=True)
        return Portion(self._work, numbers, entries, known, cost)

    def _target(self, number: int, entry: Entry) -> str | None:
        """The path of its file, as far as it is known now; None where another download of the list has it: the two
        could meet in different workers."""
        folder = self._work.directory
        target = entry.target(folder)
        path = f"{folder.rstrip('/')}/{target}" if is_url(folder) else os.path.join(folder, target)  # noqa: PTH118
        try:
            self._targets.take(path, number)
        except errors.TargetError as error:
            self._report([Failed(number, entry.label, None, error)])
            return None
        return path

    # What comes back, in any thread -----------------------------------------------------------------------------------

    def _on_done(self, future: Future[Done]) -> None:
        with self._lock:
            portion = self._running[future]
            self._keys.discard(portion.key)
        try:
            done = future.result()
        except CancelledError:
            # By `stop`; or by somebody else, who does not want it either.
            self._stopping = True
        except BrokenExecutor as error:
            self._fail(_broken(error))
        except errors.GetmError as error:
            # What is wrong with the arguments, or with a worker's machine, ends a batch as a whole.
            self._fail(error)
        except BaseException as error:
            self._lost(portion, error)
        else:
            self._cost = next_cost(portion.cost, done.seconds, self._workers)
            # For displays, since nothing was heard of these on their way.
            sizes = [(event.index, event.result.size) for event in done.events if isinstance(event, Finished)]
            self._report([*(Progressed(index, size, size) for index, size in sizes), *done.events])
        with self._lock:
            del self._running[future]
        self._look()

    def _report(self, events: list[Event]) -> None:
        if events:
            self._post(events)
        if not self._work.options.continue_after_error and any(isinstance(event, Failed) for event in events):
            self._stopping = True
            if self._live is not None:
                self._live.stop(self._work.call, wait=False)

    def _hear(self, told: bytes) -> None:
        """What a worker tells of downloads that take long, in any thread."""
        news: News = pickle.loads(told)
        with self._lock:
            # Not of a portion that has ended, or whose worker was lost.
            if news.portion in self._keys:
                self._post(news.events)

    def _lost(self, portion: Portion, error: BaseException) -> None:
        """The executor lives, and the worker that had the portion does not."""
        if portion.tries < _MAX_TRIES:
            with self._lock:
                self._again.extend(portion.halves())
            return
        lost = errors.WorkerLost(f"{portion.tries} workers that tried it were lost ({type(error).__name__}: {error})")
        pairs = zip(portion.numbers, portion.entries, strict=True)
        self._report([Failed(number, entry.label, None, lost) for number, entry in pairs])

    def _fail(self, error: BaseException) -> None:
        self.error = self.error or error
        self._stopping = True

    def _look(self) -> None:
        """Ask the caller's thread for more, or tell it the end."""
        with self._lock:
            more = not self._exhausted or bool(self._again)
            if not self._running and (self._stopping or not more):
                if not self._ended:
                    self._ended = True
                    self._post(None)
            elif more and self._has_room() and not self._asked:
                self._asked = True
                self._post([])


def _check_provider(entry: Entry) -> None:
    """Raise `InvalidInput` for an entry whose provider no worker can get."""
    if entry.provider is not None:
        try:
            pickle.dumps(entry.provider)
        except Exception as error:  # what a class raises that cannot be pickled
            raise errors.InvalidInput(
                f"{entry.place}: its provider cannot be sent to a worker ({error}); give a function of a module"
            ) from error


def _broken(error: BaseException) -> errors.WorkerLost:
    return errors.WorkerLost(
        f"a worker was lost, and its executor takes no more work ({error}); run the same again with a new executor: "
        'with existing="verify" or "keep", what is done is not done again'
    )


def _workers(executor: Executor) -> int:
    """How many workers it has, as far as it says so: the standard library's, loky's, mpi4py's, Dask's."""
    for name in ("_max_workers", "num_workers"):
        count = getattr(executor, name, None)
        if isinstance(count, int) and count > 0:
            return count
    threads = getattr(getattr(executor, "_client", None), "nthreads", None)
    return sum(threads().values()) or _WORKERS if callable(threads) else _WORKERS
