"""Transfers by the thousand, several at a time, each with its own seed; what came of them is counted and judged."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import uvloop

import getm
from getm import errors
from tests.chaos.consume import Consumer, Held, Left
from tests.chaos.plan import IN_PARTS, TO_DISK, Plan, make_plan, transfer_seed
from tests.chaos.stage import Stage
from tests.support import leaks
from tests.support.certificates import Authority

_WORKERS = 4
# Servers and sessions are new for each round, and what the last one left behind is looked for.
_ROUND = 150
_HANG_S = 60.0
# How long a transfer whose engines were all killed may still take to notice.
_LAST_WORD_S = 15.0
_KEPT_TRANSFERS = 6
# What allocators keep for themselves, with a wide margin: what leaks is more than that within a few rounds.
_GROWTH_BYTES = 64 * 1024 * 1024
_M_MMAP_THRESHOLD = -3
_ENGINE_BYTES = 256 * 1024 * 1024


@dataclass
class Counters:
    """What a run did. `wrong`, `hangs` and `leaks` are what must not be: a sentence for each."""

    transfers: int = 0
    complete: int = 0
    left: int = 0
    resumed: int = 0
    bytes: int = 0
    requests: int = 0
    kills: int = 0
    parent_bytes: int = 0
    engine_bytes: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.wrong or self.hangs or self.leaks)

    def lines(self) -> Iterator[str]:
        yield f"transfers     {self.transfers}: {self.complete} complete, {self.left} left midway"
        yield f"files         {self.resumed} gone on with by another call"
        yield f"bytes         {self.bytes:,}"
        yield f"requests      {self.requests}"
        yield f"faults        {_listed(self.faults)}"
        yield f"retries       {_listed(self.retries)}"
        yield f"engine kills  {self.kills}"
        yield f"errors        {_listed(self.errors)}"
        yield f"memory        this process {self.parent_bytes >> 20} MiB, an engine up to {self.engine_bytes >> 20} MiB"
        yield f"wrong         {len(self.wrong)}"
        yield f"hangs         {len(self.hangs)}"
        yield f"leaks         {len(self.leaks)}"
        yield from self.leaks


def _listed(counter: Counter[str]) -> str:
    return f"{sum(counter.values())}: " + ", ".join(f"{name} {count}" for name, count in counter.most_common())


class Run:
    """A run by one seed. `say` gets a line for whatever goes wrong, as it does."""

    def __init__(self, seed: int, say: Callable[[str], None]) -> None:
        self.counters = Counters()
        self._seed = seed
        self._say = say
        self._lock = threading.Lock()

    def for_seconds(self, seconds: float) -> Counters:
        """Transfers until the time is over: those that have begun are brought to their end."""
        until = time.monotonic() + seconds
        return self._rounds(lambda number: time.monotonic() < until)

    def count(self, transfers: int) -> Counters:
        return self._rounds(lambda number: number < transfers)

    def only(self, seed: int) -> Counters:
        """One transfer, alone."""
        with _own_folder() as folder:
            self._round(Authority(folder / "authority"), folder, iter([seed]))
        return self.counters

    def _rounds(self, go_on: Callable[[int], bool]) -> Counters:
        with _own_folder() as folder:
            authority = Authority(folder / "authority")
            number, settled_bytes = 0, None
            while go_on(number):
                first = number

                def seeds(first: int = first) -> Iterator[int]:
                    nonlocal number
                    while number < first + _ROUND and go_on(number):
                        number += 1
                        yield transfer_seed(self._seed, number - 1)

                self._round(authority, folder, seeds())
                now_bytes = _settled_bytes()
                self.counters.parent_bytes = max(self.counters.parent_bytes, now_bytes)
                if settled_bytes is None:
                    settled_bytes = now_bytes
                elif now_bytes > settled_bytes + _GROWTH_BYTES:
                    self.counters.leaks.append(f"memory grew from {settled_bytes} to {now_bytes} bytes")
                    break
        return self.counters

    def _round(self, authority: Authority, folder: Path, seeds: Iterator[int]) -> None:
        before = leaks.snapshot()
        with Stage(authority, folder) as stage:
            workers = [
                threading.Thread(target=self._work, args=(stage, seeds), name=f"worker {number}")
                for number in range(_WORKERS)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            for engine in stage.engines():
                used = engine.memory_full_info().uss
                self.counters.engine_bytes = max(self.counters.engine_bytes, used)
                if used > _ENGINE_BYTES:
                    self.counters.leaks.append(f"an engine holds {used} bytes after its round")
            self.counters.kills += stage.kills
        gc.collect()
        self.counters.leaks += leaks.left_behind(before)

    def _work(self, stage: Stage, seeds: Iterator[int]) -> None:
        kept: deque[tuple[int, Held]] = deque()
        while True:
            with self._lock:
                seed = next(seeds, None)
            if seed is None:
                break
            plan = make_plan(seed)
            kept.append((seed, self._transfer(stage, plan)))
            if len(kept) > _KEPT_TRANSFERS:
                self._let_go(*kept.popleft())
        while kept:
            self._let_go(*kept.popleft())

    def _let_go(self, seed: int, held: Held) -> None:
        """The views that a transfer kept must still hold what stood in them."""
        if held.changed():
            self._report(seed, "a view that was held has changed")

    def _transfer(self, stage: Stage, plan: Plan) -> Held:
        served, urls = stage.serve(plan)
        began = time.monotonic()
        # The first tells of a hang and ends what can be ended. A transfer that does not see even this would keep the
        # run from ever telling its result.
        watchdogs = [
            threading.Timer(_HANG_S, self._hang, [stage, plan]),
            threading.Timer(_HANG_S + _LAST_WORD_S, self._give_up),
        ]
        for watchdog in watchdogs:
            watchdog.start()
        error: BaseException | None = None
        with stage.session(plan) as session:
            consumer = Consumer(served, session, urls, stage.folder)
            try:
                consumer.run()
            except BaseException as caught:
                error = caught
        for watchdog in watchdogs:
            watchdog.cancel()
            watchdog.join()
        kind = "complete" if error is None else type(error).__name__
        if error is None and plan.way not in (*TO_DISK, *IN_PARTS):
            consumer.received.complete(consumer.verified)
        complaints = list(consumer.received.wrong)
        sentence = complaint(plan, error, stage.disturbed_since(began))
        if sentence is not None:
            complaints.append(sentence)
        if error is not None:
            # Its traceback holds the views of this transfer.
            traceback.clear_frames(error.__traceback__)
        stage.forget(served)
        stats = consumer.stats if error is None else getattr(error, "stats", None)
        with self._lock:
            counters = self.counters
            counters.transfers += 1
            counters.bytes += consumer.received.bytes
            counters.requests += served.requests
            counters.faults += served.injected
            counters.resumed += consumer.resumed
            if stats is not None:
                counters.retries.update(stats.retries)
            if error is None:
                counters.complete += 1
            elif isinstance(error, Left):
                counters.left += 1
            else:
                counters.errors[kind] += 1
        for text in complaints:
            self._report(plan.seed, text)
        return consumer.held

    def _report(self, seed: int, text: str) -> None:
        with self._lock:
            self.counters.wrong.append(text)
        self._say(f"transfer {seed}: {text}\n    again: python -m tests.chaos --only {seed}\n    {make_plan(seed)}")

    def _hang(self, stage: Stage, plan: Plan) -> None:
        """In the watchdog's thread: tell where everything stands, and end what can be ended."""
        with self._lock:
            self.counters.hangs.append(f"transfer {plan.seed}")
        self._say(f"transfer {plan.seed} has taken {_HANG_S:g} s: {plan}")
        faulthandler.dump_traceback(all_threads=True)
        for engine in stage.engines():
            engine.kill()

    def _give_up(self) -> None:
        for line in self.counters.lines():
            self._say(line)
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(1)


def complaint(plan: Plan, error: BaseException | None, disturbed: frozenset[str] = frozenset()) -> str | None:
    """What is wrong with the way a transfer ended, when that had been done to engines; None where nothing is."""
    if error is None:
        return "it succeeded, which no client can do here" if plan.must_fail else None
    if isinstance(error, Left):
        return None if plan.leave_at is not None else "the consumer left without a plan to"
    told = f"{type(error).__name__}: {error}"
    if not isinstance(error, errors.GetmError):
        return f"no error of getm's: {''.join(traceback.format_exception(error))}"
    if type(error) is errors.GetmError or isinstance(error, errors.ProtocolError | errors.InvalidInput):
        return f"a bug of getm's own: {told}"
    if "secret" in str(error):
        return f"a secret in an error: {told}"
    if isinstance(error, errors.EngineDied) and "engine killed" not in disturbed:
        return f"nobody killed an engine: {told}"
    scarce = isinstance(error, errors.MemoryUnavailable | errors.SlotsExhausted) and "little memory" in plan.where
    if plan.must_succeed and not disturbed - {"engine stopped"} and not scarce:
        return f"a client should have mended this: {told}"
    return None


def _return_large_blocks() -> None:
    """glibc raises the size from which memory goes back to the system as soon as it is freed: with objects of tens of
    MiB in many threads, what it keeps would look like a leak. Here the limit stays (mallopt(3), M_MMAP_THRESHOLD)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 128 * 1024)


class _own_folder:
    """A temporary folder that everything temporary goes to, so that what is left in it is ours."""

    def __enter__(self) -> Path:
        leaks.mark_environment()
        _return_large_blocks()
        # libuv keeps one pipe for signals, whatever the number of loops.
        uvloop.new_event_loop().close()
        self._folder = tempfile.TemporaryDirectory(prefix="getm-chaos-")
        self._before = tempfile.tempdir
        tempfile.tempdir = self._folder.name
        # It stays there once processes have met in it (`shared(once=True)`).
        (Path(self._folder.name) / f"getm-{os.geteuid()}").mkdir(mode=0o700)
        return Path(self._folder.name)

    def __exit__(self, *_: object) -> None:
        getm.close()
        tempfile.tempdir = self._before
        self._folder.cleanup()


def _settled_bytes() -> int:
    """Memory of this process alone."""
    gc.collect()
    return int(psutil.Process().memory_full_info().uss)
