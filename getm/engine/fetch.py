"""One object's transfer: acts on its plan, and sends the bytes to the consumer."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from getm import errors
from getm.core.head import ResponseHead
from getm.core.spans import Span
from getm.core.version import Version
from getm.engine import counters
from getm.engine.attempts import Attempts
from getm.engine.hedge import Hedger
from getm.engine.http.limits import ReadLimits
from getm.engine.http.requests import Response
from getm.engine.http.responses import require_size
from getm.engine.plan import Ask, Order, Plan, decide
from getm.engine.sources import Source
from getm.engine.span_fetch import Answer, SpanFetch
from getm.engine.speeds import MIN_MEASURED_BYTES
from getm.engine.verification import Verification
from getm.protocol.messages import EndInfo, HeadInfo, OpenRequest
from getm.results import Stats

if TYPE_CHECKING:
    from getm.engine.connection import EngineConnection


# How far receiving may be ahead of an ordered digest in one stream. It is faster than any of them, and without a limit
# the bytes would have left the processor's cache before they are hashed: with 4 slots sha256 takes a twentieth less
# time. CRCs keep up, and a limit would only make their threads sleep more often.
_MAX_UNHASHED_SLOTS = 4

# Larger ones are fetched as spans, which measures how fast they come.
_SMALL_BYTES = MIN_MEASURED_BYTES


class Fetch:
    """Serves one OPEN on a connection, from the first request to END or an error."""

    def __init__(self, connection: EngineConnection, number: int, request: OpenRequest) -> None:
        self._connection = connection
        self._number = number
        self._request = request
        self._counters = counters.Counters()
        self._attempts = Attempts(
            connection.http, request, self._counters, partial(connection.note, number), self._may_switch
        )
        self._verification = Verification(request, connection.hash_pool)
        self._order = Order(
            tuple(Span(*span) for span in request.spans),
            request.version,
            request.or_whole,
            request.concurrency,
            connection.part_bytes,
            request.ranged_from,
        )
        # The last first response: its content may never be read.
        self._first: Response | None = None
        # The object's size once it is known, and whether the consumer has the head, and bytes.
        self._total: int | None = None
        self._announced = False
        self._delivered = False
        # The span that is fetched, where it is the only one at a time.
        self._alone: SpanFetch | None = None

    async def run(self) -> None:
        """Raises a `GetmError` that names the URL and the number of requests."""
        request = self._request
        counters.current.set(self._counters)
        try:
            if request.total_s is None:
                await self._run()
            else:
                async with asyncio.timeout(request.total_s):
                    await self._run()
        except errors.GetmError as error:
            raise self._attempts.annotate(error) from error.__cause__
        except TimeoutError:
            limit_s = request.total_s or 0.0
            raise self._attempts.annotate(
                errors.TimedOut(f"the transfer took longer than its {limit_s:g} s", phase="total", timeout_s=limit_s)
            ) from None
        finally:
            self._verification.cancel()
            # It refers to this transfer: this way no garbage collection is needed to free them.
            self._attempts.may_switch = _never
            if self._first is not None:
                # Refused because of its head: its content was never read. Harmless where it was.
                self._first.raw.close()

    async def _run(self) -> None:
        request = self._request
        if request.delay_s:
            await asyncio.sleep(request.delay_s)
        if request.delegated:
            total = await self._serve_span()
        else:
            total = await self._execute(*await self._begin())
        if request.size is not None and total != request.size:
            raise errors.SizeMismatch.of(request.size, total, self._attempts.at)
        verdict = await self._verification.verdict(total, self._connection.call)
        self._connection.end(
            self._number,
            EndInfo(total, verdict, self.stats()),
        )

    def stats(self) -> Stats:
        """The statistics until now."""
        return self._counters.stats()

    def _may_switch(self) -> bool:
        """Whether a mirror may continue where a source fails: before the consumer has anything; or where the size shows
        that it is the same object, and nothing of another one has come or wrong bytes would be noticed at the end."""
        if self._request.delegated or not self._announced:
            return True
        nothing_yet = not self._delivered and self._alone is not None and not self._alone.position
        return self._total is not None and (self._verification.certain or nothing_yet)

    # The first response -----------------------------------------------------------------------------------------------

    async def _begin(self) -> tuple[Plan, Response, Source]:
        """The plan, the first response that makes one, and its source."""
        order = self._order
        while True:
            ask = order.first()
            response, source = await self._attempts.run(
                self._attempts.sources.living[0], partial(self._first_response, ask)
            )
            found = decide(order, ask, response.head)
            if isinstance(found, Plan):
                self._attempts.answered(source, response)
                return found, response, source
            await response.discard()
            self._order = order = found

    async def _first_response(self, ask: Ask, source: Source) -> tuple[Response, Source]:
        response = self._first = await self._attempts.get(source, ask.span, ask.if_range, may_skip=True)
        try:
            require_size(self._request.size, response.head)
        except errors.GetmError:
            response.raw.close()
            raise
        return response, source

    def _announce(self, response: Response, plan: Plan) -> None:
        """Send the head to the consumer, and prepare to verify what it declares."""
        self._counters.answered()
        size = self._total = plan.version.size
        notes = self._verification.find(response, size)
        self._announced = True
        self._connection.head(
            self._number,
            HeadInfo(
                head=response.head,
                version=plan.version,
                ranged=not plan.stream,
                notes=notes,
                resumed=plan.resumed,
                declared=tuple([(str(each.checksum), each.source) for each in self._verification.declared]),
            ),
        )
        if plan.resumed:
            self._verification.leave()
        else:
            self._verification.begin(size)

    def emit(self, offset: int, slot: int, length: int, *, full: bool) -> None:
        """See `Emit`; full slots go to the hasher as well."""
        self._delivered = True
        self._attempts.delivered()
        if full:
            self._connection.part(self._number, offset, slot, length, self._verification.hasher)
        else:
            self._connection.prefix(self._number, offset, slot, length)

    # The plan -------------------------------------------------------------------------------------------------------

    async def _execute(self, plan: Plan, response: Response, source: Source) -> int:
        """Bring all that the plan names; returns the object's size."""
        size = plan.version.size
        self._announce(response, plan)
        source.version = plan.version
        if plan.first is None:
            await response.discard()
            return size or 0
        if plan.stream and size is not None and self._came_whole(response, size):
            return size
        got = plan.got or plan.first
        answer = Answer(response, source, got.start, None if plan.stream and size is None else got.stop)
        if plan.workers > 1 or (not plan.stream and not plan.resumed):
            await self._in_parallel(plan, answer)
            return size or 0
        stop = await self._span(plan.first, source, answer, alone=True, size=size).run()
        for span in plan.others:
            await self._span(span, source, alone=True, size=size).run()
        return stop if size is None else size

    def _came_whole(self, response: Response, size: int) -> bool:
        """Deliver a small object that came with its head, and return whether that was so. Most small ones do, and a
        span fetch with its waits, limits and retries would cost more than the bytes."""
        content = response.raw.content
        if (
            not 0 < size < _SMALL_BYTES
            or not content.is_eof()
            or content.total_bytes != size
            or self._connection.throttle is not None
        ):
            return False
        self._delivered = self._connection.deliver(self._number, size, content.read_nowait, self._verification.hasher)
        if self._delivered:
            self._counters.received_bytes += size
        return self._delivered

    def _span(
        self, span: Span, source: Source, answer: Answer | None = None, *, alone: bool, size: int | None
    ) -> SpanFetch:
        """The bytes of `span`, on their way to the consumer; to the end where `size` is None. `alone`: no other span of
        the object is being fetched."""
        request = self._request
        # Several at once: later ones wait for their turn to be hashed, and no limit may block an earlier one.
        max_unhashed = None
        if alone:
            hasher = self._verification.hasher
            lags = hasher is not None and hasher.ordered
            max_unhashed = _MAX_UNHASHED_SLOTS if lags else self._connection.slots
        stop = None if size is None else span.stop
        sink = self._connection.sink(self._number, span.start, stop, self.emit, max_unhashed=max_unhashed)
        if source.error is not None:
            # It failed for an earlier span.
            source = self._attempts.sources.spread()
        fetch = SpanFetch(
            self._attempts,
            source,
            sink,
            answer,
            total=self._total,
            may_skip=alone and not request.delegated,
            # A span without siblings, here or at another engine, is not hedged.
            alternate=None if alone and not request.delegated else self._alternate,
            read_limits=ReadLimits(request.stall_s, request.floor_bytes_s, request.floor_window_s),
            throttle=self._connection.throttle,
            counters=self._counters,
        )
        self._alone = fetch if alone else None
        return fetch

    def _alternate(self, source: Source) -> Source:
        """The source to ask for what comes too slowly from `source`."""
        if self._request.delegated or self._verification.certain:
            return self._attempts.sources.spread()
        return source

    # Several spans at once ------------------------------------------------------------------------------------------

    async def _in_parallel(self, plan: Plan, answer: Answer) -> None:
        """The spans of the plan, `workers` at once: `first`, whose first bytes `answer` brings, and the others."""
        first, source, size = plan.first, answer.source, plan.version.size
        self._attempts.in_parts = True
        if first is None:
            return
        # With a rate limit, it is the limit that makes spans slow.
        tail_s = self._request.tail_s if self._connection.throttle is None else None
        tail = Hedger(plan.workers, self._connection.slot_bytes, tail_s)

        async def fetch_first() -> None:
            await self._span(first, source, answer, alone=False, size=size).run(tail)
            await self._work(0, plan, source, tail)

        try:
            async with asyncio.TaskGroup() as group:
                # In order: each worker claims the slots of its span before the next one does.
                group.create_task(fetch_first())
                for worker in range(1, plan.workers):
                    group.create_task(self._work(worker, plan, source, tail))
        except BaseExceptionGroup as several:
            # The first failure ended the others.
            raise several.exceptions[0] from None
        finally:
            tail.close()

    async def _work(self, worker: int, plan: Plan, source: Source, tail: Hedger) -> None:
        """Fetch one span after the other, here or by a helper engine, until none is left: from any mirror where wrong
        bytes would be noticed, else from `source`."""
        helper = self._connection.helper(worker)
        for span in plan.others:
            if self._verification.certain:
                source = self._attempts.sources.spread()
            if helper is None:
                await self._span(span, source, alone=False, size=plan.version.size).run(tail)
                continue
            claim = self._connection.claim(self._number, span.start, span.stop)
            request = self._delegate(span, source, plan.version)
            try:
                with self._attempts.attempt(source):
                    took = await helper.fetch(request, claim, self.emit, self._attempts.note, tail)
            except errors.GetmError as error:
                if error.stats is not None:
                    self._counters.add(error.stats)
                raise
            self._attempts.part_ended()
            self._counters.add(took)

    def _delegate(self, span: Span, source: Source, version: Version) -> OpenRequest:
        """The request that a helper engine gets for one span."""
        route = source.led_to
        mirrors = self._attempts.sources.others(source) if self._verification.certain else []
        return msgspec.structs.replace(
            self._request,
            url=source.origin.url,
            mirrors=tuple(mirror.origin.url for mirror in mirrors),
            concurrency=1,
            checksums=None,
            strict=False,
            size=None,
            delay_s=0.0,
            total_s=self._attempts.left_s,
            spans=((span.start, span.stop),),
            # A mirror that has not answered yet has its own validators; the size must be the same.
            version=source.version if source.version.joinable else Version(version.size),
            or_whole=False,
            route=None if route is None else (route.url, route.user_headers),
        )

    async def _serve_span(self) -> int:
        """As a helper of another engine: a span of an object that is known already."""
        request, source = self._request, self._attempts.sources.given
        (span,) = self._order.spans
        source.version = request.version or Version()
        self._total = source.version.size
        self._connection.head(self._number, HeadInfo(ResponseHead(206, request.url), source.version, ranged=True))
        await self._span(span, source, alone=True, size=self._total).run()
        return len(span)

    def hedge(self) -> None:
        """As a helper: the lead finds the span slow."""
        if self._alone is not None:
            self._alone.hedge()


def _never() -> bool:
    return False
