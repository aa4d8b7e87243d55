"""One object over a number of connections that changes while it comes.

It begins with one response, which brings a span to its end. When another connection is to help, the span is cut a
little ahead of where it is: others bring what follows, in parts and in order, and the first response is given up where
it meets them. So no byte is delivered twice, and an ordered reader gets the parts soon.

Whether the server grants ranges is not known at first: nothing was asked of it but the whole. So the first part is
requested while the first response goes on, which waits at the cut for the answer. Where there is none of use, it brings
the rest, as if nothing had been.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from getm import errors
from getm.core.retry import is_refusal
from getm.core.spans import Span
from getm.engine import counters
from getm.engine.attempts import Attempts, Failed
from getm.engine.hedge import Hedger, Watch, Watched
from getm.engine.host_load import HostLoad
from getm.engine.sources import Source
from getm.engine.span_fetch import Answer, SpanFetch

# The cut is so far ahead that the first response needs about this long, and the answers of some requests, to get there.
_AHEAD_S = 0.02
_AHEAD_LATENCIES = 3
_MAX_AHEAD_PARTS = 4
# How long the first part by another connection may take to begin: some servers answer one request after the other, and
# the first response may be waiting at the cut. So long, and some times what the first response took.
_PROOF_S = 2.0
_PROOF_LATENCIES = 3
# Where a response takes so long to begin, those connections that the proof decides about are opened during it.
_FAR_S = 0.02


class OpenSpan(Protocol):
    """Makes the fetch of a span. `alone`: of the only one at a time."""

    def __call__(self, span: Span, source: Source, answer: Answer | None, *, alone: bool) -> SpanFetch: ...


class Delegate(Protocol):
    """Has a helper engine fetch a span; False where there is none for that worker."""

    async def __call__(self, worker: int, span: Span, source: Source, watch: Watch) -> bool: ...


class Pieces:
    """The spans of an object that nobody has begun with, in order."""

    def __init__(self, spans: Iterable[Span], part_bytes: int) -> None:
        self._spans = [span for span in spans if len(span)][::-1]
        self._part_bytes = part_bytes

    @property
    def left(self) -> int:
        """Their bytes."""
        return sum(map(len, self._spans))

    def take(self, *, whole: bool) -> Span | None:
        """The first span, or a part of it; None where nothing is left."""
        if not self._spans:
            return None
        span = self._spans.pop()
        if whole or len(span) <= self._part_bytes:
            return span
        part = Span(span.start, span.start + self._part_bytes)
        self._spans.append(Span(part.stop, span.stop))
        return part

    def put_back(self, span: Span) -> None:
        """`span`, which comes before all others, is not brought by who took it."""
        if self._spans and self._spans[-1].start == span.stop:
            span = Span(span.start, self._spans.pop().stop)
        self._spans.append(span)


class _Worker:
    """Fetches one span after another."""

    def __init__(self, number: int, hedger: Hedger) -> None:
        self.number = number
        self._hedger = hedger
        self._part: Watched | None = None
        self._began_at = 0
        self._received = 0
        # How often its parts have waited for a slot.
        self._waits = 0

    @contextmanager
    def watch(self, part: Watched, hedge: Callable[[], None]) -> Iterator[None]:
        """A context for the time in which it fetches `part`; see `Hedger.watch`."""
        self._part, self._began_at = part, part.position
        try:
            with self._hedger.watch(part, hedge):
                yield
        finally:
            self._received = self.received
            self._waits += part.waits
            self._part = None

    @property
    def received(self) -> int:
        """Bytes, of all its parts."""
        return self._received + (0 if self._part is None else self._part.position - self._began_at)

    @property
    def waits(self) -> int:
        return self._waits + (0 if self._part is None else self._part.waits)

    @property
    def left(self) -> int:
        """Bytes of its part that have not come."""
        return 0 if self._part is None else len(self._part.remaining)


class AdaptiveFetch:
    """Fetches `spans` by one connection at first, and by up to `most`: see `run`.

    `open_span` makes the fetch of a span here; `delegate` has a helper engine fetch one. `adapted` is called with the
    number of connections, whenever it changes, and why. `proven`: the server is known to grant ranges.
    """

    def __init__(
        self,
        attempts: Attempts,
        load: HostLoad,
        spans: Iterable[Span],
        part_bytes: int,
        most: int,
        open_span: OpenSpan,
        delegate: Delegate,
        adapted: Callable[[int, str], None],
        hedger: Hedger,
        *,
        proven: bool,
    ) -> None:
        self.wanted: int = 1
        self.most: int = most
        self._attempts = attempts
        self._load = load
        self._pieces = Pieces(spans, part_bytes)
        self._part_bytes = part_bytes
        self._open_span = open_span
        self._delegate = delegate
        self._adapted = adapted
        self._hedger = hedger
        self._proven = proven
        self._proving = False
        self._source: Source
        self._group: asyncio.TaskGroup
        self._task: asyncio.Task[None] | None = None
        # Whether a worker has failed, which ends all others.
        self._failed = False
        self._workers: list[_Worker] = []
        self._numbers = itertools.count()
        # The fetch of a span that nobody else takes a part of yet, and since when.
        self._alone: SpanFetch | None = None
        self._alone_since_s = 0.0
        # Workers that were refused a connection, until another one ends.
        self._refused: deque[asyncio.Future[None]] = deque()
        # Of workers that have ended.
        self._received = self._waits = 0
        self._waits_seen = 0

    async def run(self, source: Source, answer: Answer) -> None:
        """Bring all spans, the first of them by `answer`, from `source`."""
        self._source = source
        self._task = asyncio.current_task()
        self._attempts.wait_for_others = self._wait_for_others
        self._load.join(self)
        first: Answer | None = answer
        try:
            while self._pieces.left:
                async with asyncio.TaskGroup() as self._group:
                    self._start(first)
                first = None
        except BaseExceptionGroup as several:
            # The first failure ended the others.
            raise several.exceptions[0] from None
        finally:
            self._attempts.wait_for_others = None
            self._load.leave(self)
            self._hedger.close()

    # What its host's load asks ----------------------------------------------------------------------------------------

    @property
    def bringing(self) -> int:
        return sum(worker.received > 0 for worker in self._workers)

    @property
    def received(self) -> int:
        return self._received + sum(worker.received for worker in self._workers)

    @property
    def left(self) -> int:
        return self._pieces.left + sum(worker.left for worker in self._workers)

    def take_held(self) -> bool:
        waits = self._waits + sum(worker.waits for worker in self._workers)
        held, self._waits_seen = waits > self._waits_seen, waits
        return held

    def take_latency_s(self) -> float | None:
        latency_s, self._attempts.latency_s = self._attempts.latency_s, None
        return latency_s

    def resize(self, connections: int, reason: str | None) -> None:
        if reason is not None:
            self._adapted(connections, reason)
        self.wanted = connections
        while len(self._workers) < connections and self._may_start():
            self._start(None)
            if self._proving and (self._attempts.counters.first_byte_s or 0.0) >= _FAR_S:
                self._open_ahead()

    def _open_ahead(self) -> None:
        """Open connections for the workers that begin once the proof is there. One more, where it may have that: the
        first response is given up with its connection."""
        connections = min(self.wanted + 1, self.most) - len(self._workers)
        self._attempts.open_ahead(self._source, min(connections, self._pieces.left // self._part_bytes))

    # Workers ----------------------------------------------------------------------------------------------------------

    def _may_start(self) -> bool:
        """Whether there is something to do for another worker, which is prepared."""
        if not self._workers or self._proving:
            # All is done; or what comes of this one decides about others.
            return False
        if self._failed or (self._task is not None and self._task.cancelling()):
            # It is ending: whoever began now would keep it from that.
            return False
        if self._alone is not None and not self._cut(self._alone):
            return False
        return self._pieces.left > 0

    def _cut(self, alone: SpanFetch) -> bool:
        """Leave what is ahead of the only fetch to others; False where that is not possible, or not worth it."""
        sink = alone.writer
        if not sink.may_cut:
            return False
        seconds = max(time.monotonic() - self._alone_since_s, _AHEAD_S)
        rate = (sink.position - alone.start) / seconds
        ahead_s = _AHEAD_S + _AHEAD_LATENCIES * (self._attempts.fastest_s or 0.0)
        stop = sink.border(
            sink.position + max(self._part_bytes, min(int(rate * ahead_s), _MAX_AHEAD_PARTS * self._part_bytes))
        )
        if stop + self._part_bytes <= sink.stop:
            self._pieces.put_back(Span(stop, sink.stop))
        elif self._pieces.left:
            # It stays what it is, and others begin with the next span.
            stop = sink.stop
        else:
            return False
        sink.cut(stop, hold=not self._proven)
        if self._proven:
            self._alone = None
        return True

    def _start(self, answer: Answer | None) -> None:
        worker = _Worker(next(self._numbers), self._hedger)
        self._workers.append(worker)
        # Where there are fewer again, their connections can help the slow ones: nobody sees more than there were.
        self._hedger.workers = max(self._hedger.workers, len(self._workers))
        self._proving = answer is None and not self._proven and len(self._workers) > 1
        self._group.create_task(self._work(worker, answer, proves=self._proving))

    async def _work(self, worker: _Worker, answer: Answer | None, *, proves: bool) -> None:
        # A timer may have started it, in the context of another transfer.
        counters.current.set(self._attempts.counters)
        try:
            if proves and not await self._prove(worker):
                return
            while len(self._workers) <= self.wanted or len(self._workers) == 1 or not self._proven:
                alone = len(self._workers) == 1
                span = self._pieces.take(whole=alone and self.wanted == 1)
                if span is None:
                    return
                await self._fetch(worker, span, answer, alone=alone and self.wanted == 1)
                answer = None
        except BaseException:
            self._failed = True
            raise
        finally:
            self._workers.remove(worker)
            self._received += worker.received
            self._waits += worker.waits
            self._wake_one()

    async def _fetch(self, worker: _Worker, span: Span, answer: Answer | None, *, alone: bool) -> None:
        source = self._source
        if answer is None and self._proven and self._attempts.certain:
            source = self._attempts.sources.spread()
        if not alone and answer is None and await self._delegate(worker.number, span, source, worker):
            return
        fetch = self._open_span(span, source, answer, alone=alone)
        if alone:
            self._alone, self._alone_since_s = fetch, time.monotonic()
        try:
            await fetch.run(worker)
        finally:
            if self._alone is fetch:
                self._alone = None

    # The first part by another connection ---------------------------------------------------------------------------

    async def _prove(self, worker: _Worker) -> bool:
        """Bring a part by a range request, the first one, while the first response goes on; False where the server does
        not grant it."""
        span = self._pieces.take(whole=False)
        if span is None:
            self._proving = False
            return False
        fetch = self._open_span(span, self._source, None, alone=False)
        limit_s = _PROOF_S + _PROOF_LATENCIES * (self._attempts.counters.first_byte_s or 0.0)
        try:
            async with asyncio.timeout(limit_s):
                await fetch.prove()
        except (Failed, errors.GetmError, TimeoutError) as caught:
            self._proving = False
            self._disproved(span, caught.error if isinstance(caught, Failed) else caught)
            return False
        self._proving, self._proven, self._attempts.in_parts = False, True, True
        alone, self._alone = self._alone, None
        if alone is not None:
            alone.writer.resume()
        self.resize(self.wanted, None)
        await fetch.run(worker)
        return True

    def _disproved(self, span: Span, error: Exception) -> None:
        """Let the first response bring the rest, as far as it goes."""
        if isinstance(error, errors.GetmError) and is_refusal(error):
            self._load.refused()
        else:
            self.most = 1
        self._pieces.put_back(span)
        alone = self._alone
        if alone is not None and (rest := self._pieces.take(whole=True)) is not None:
            alone.writer.resume(rest.stop)

    # Refused connections ----------------------------------------------------------------------------------------------

    async def _wait_for_others(self, limit_s: float) -> bool:
        """A worker was refused a connection: wait until another one has ended, `limit_s` seconds at most. False where
        there is none that brings anything."""
        if len(self._workers) <= self.wanted:
            # Otherwise that is known, and the workers are about to become fewer.
            self._load.refused()
        if len(self._refused) + 1 >= len(self._workers):
            return False
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._refused.append(woken)
        try:
            async with asyncio.timeout(limit_s):
                await woken
        except TimeoutError:
            pass
        finally:
            if woken in self._refused:
                self._refused.remove(woken)
        return True

    def _wake_one(self) -> None:
        """A worker has ended: its connection may be what a refused one lacks."""
        while self._refused:
            woken = self._refused.popleft()
            if not woken.done():
                woken.set_result(None)
                return
