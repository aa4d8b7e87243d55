"""One object's transfer: acts on its plan, and sends the bytes to the consumer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from getm import errors
from getm.core.head import ResponseHead
from getm.core.spans import Span, lay_out
from getm.core.stats import Stats
from getm.core.version import Version
from getm.engine import counters
from getm.engine.adaptive import AdaptiveFetch
from getm.engine.attempts import Attempts
from getm.engine.file_target import FileTarget
from getm.engine.head_fetch import fetch_head
from getm.engine.hedge import Hedger, Watch
from getm.engine.helpers import HelperPipe
from getm.engine.host_load import MIN_SHARE_BYTES
from getm.engine.http.connections import Begun
from getm.engine.http.requests import Response
from getm.engine.placement import Placement
from getm.engine.plan import Order, Plan, decide
from getm.engine.sinks.segment import SegmentSink
from getm.engine.small_exchange import SmallSpans
from getm.engine.sources import Ranges, Source
from getm.engine.span_fetch import Answer, SpanFetch
from getm.engine.speeds import MIN_MEASURED_BYTES
from getm.engine.verification import Verification
from getm.integrity.verdict import Verdict, unverified
from getm.protocol.messages import (
    ADAPTED,
    END,
    HEAD,
    NOTE,
    AdaptedInfo,
    EndInfo,
    FolderEntry,
    HeadInfo,
    OpenRequest,
    Renewable,
    RenewedInfo,
)

if TYPE_CHECKING:
    from getm.engine.connection import EngineConnection


# How far receiving may be ahead of an ordered digest in one stream. It is faster than any of them, and without a limit
# the bytes would have left the processor's cache before they are hashed: with 4 slots sha256 takes a twentieth less
# time. CRCs keep up, and a limit would only make their threads sleep more often.
_MAX_UNHASHED_SLOTS = 4

# In a ring that is too small for parts of this size, since there was no memory for a larger one, one stream is faster:
# by parts of 16 KiB, eight connections bring less than a megabyte a second from a server that is 0.1 s away.
_MIN_PART_BYTES = 256 * 1024

# Larger ones are fetched as spans, which measures how fast they come.
_SMALL_BYTES = MIN_MEASURED_BYTES

# Smaller ones come over one connection, whatever it brings.
_MIN_ADAPTIVE_BYTES = 2 * MIN_SHARE_BYTES

# So many of the small spans of an object are fetched at once where nothing else was asked for, and as many as the
# consumer has thought of where each answer takes longer than this.
_SPANS_AT_ONCE = 16
_FAR_S = 0.005

# How long a failure waits for the disk to take what has come before it.
_LAST_WRITES_S = 5.0


class Fetch:
    """Serves one OPEN on a connection, from the first request, which may have `begun` at `began_s`, to END or an
    error."""

    def __init__(
        self,
        connection: EngineConnection,
        number: int,
        request: OpenRequest,
        begun: Begun | None = None,
        began_s: float | None = None,
    ) -> None:
        self._connection = connection
        self._number = number
        self._request = request
        note = partial(connection.send, NOTE, number)
        self._attempts = Attempts(connection.http, request, note, self._ask_for_urls, begun, began_s)
        # The answer to an EXPIRED.
        self._renewed: asyncio.Future[RenewedInfo] | None = None
        self.counters: counters.Counters = self._attempts.counters
        if began_s is not None:
            self.counters.response_s = time.monotonic() - began_s
        # What the thread had worked when the bytes began to come.
        self._busy_s: float | None = None
        self._verification = Verification(request, connection.hash_pool)
        self.task: asyncio.Task[None]
        # The last first response: its content may never be read.
        self._first: Response | None = None
        # The span that is fetched, where it is the only one at a time.
        self._alone: SpanFetch | None = None
        self._file = None if request.file is None else FileTarget(connection, number, request.file, self._stop)
        # Why it cannot be written.
        self._file_error: errors.TargetError | None = None
        self._placement = Placement()
        # Has further workers begin, where there may be any.
        self._widen: Callable[[], None] = lambda: None
        if request.delegated and request.place_from is not None:
            # It comes with the OPEN.
            self._placement.expect()
        # The head of a small one, which END will have.
        self._held: HeadInfo | None = None
        # Up to where the consumer wants the bytes, where it does not want them all at once, and when that has changed.
        self._wanted = request.first_bytes
        self._more = asyncio.Event() if request.first_bytes else None

    async def run(self) -> None:
        """Raises a `GetmError` that names the URL and the number of requests."""
        request = self._request
        counters.current.set(self.counters)
        try:
            if request.total_s is None:
                # A small object would feel the timeout that limits nothing.
                await self._run()
            else:
                async with asyncio.timeout(request.total_s):
                    await self._run()
        except errors.TargetError:
            # Nothing more can be written, and the head is of no use to the consumer.
            raise
        except errors.GetmError as error:
            await self._keep_what_came()
            raise self._attempts.annotate(error) from error.__cause__
        except asyncio.CancelledError:
            if self._file_error is None:
                raise
            raise self._file_error from None
        except TimeoutError:
            await self._keep_what_came()
            limit_s = request.total_s or 0.0
            raise self._attempts.annotate(
                errors.TimedOut(f"the transfer took longer than its {limit_s:g} s", phase="total", timeout_s=limit_s)
            ) from None
        finally:
            self._verification.cancel()
            self._placement.close()
            if self._file is not None:
                self._file.close()
            if self._first is not None:
                # Refused because of its head: its content was never read. Harmless where it was.
                self._first.raw.close()

    async def _run(self) -> None:
        request = self._request
        if request.delegated:
            total, verdict = await self._serve_span(), unverified("a span: the whole object is verified elsewhere")
        else:
            if request.delay_s:
                await asyncio.sleep(request.delay_s)
                self.counters.retry_s += request.delay_s
            if request.head_only:
                await self._serve_head()
                return
            if self._file is not None:
                self._file.open_folder()
            plan, response, source = await self._begin()
            if plan.unchanged:
                await response.discard()
                self._send_only(HeadInfo(response.head, plan.version))
                return
            total = await self._execute(plan, response, source)
            if request.size is not None and total != request.size:
                raise errors.SizeMismatch.of(request.size, total, self._attempts.at)
            verdict = await self._verify(total)
        if self._file is not None:
            if self._held is not None:
                self._file.store()
            else:
                began_s = time.monotonic()
                await self._file.finish()
                self.counters.last_disk_s = time.monotonic() - began_s
        elif not await self._placement.let_go():
            self._connection.log.warning("object %d: something still refers to its memory", self._number)
        self._connection.send(END, self._number, EndInfo(total, verdict, self.stats(), self._held))

    async def _verify(self, total: int) -> Verdict:
        """The verdict on all `total` bytes, which have come."""
        if self._verification.hasher is None:
            return await self._verification.verdict(total, self._connection.call)
        began_s = time.monotonic()
        verdict = await self._verification.verdict(total, self._connection.call)
        self.counters.last_hashing_s = time.monotonic() - began_s
        return verdict

    def stats(self) -> Stats:
        """What was counted so far."""
        counted = self.counters
        counted.waited_s = self._connection.waited_s(self._number)
        counted.hashed_by = tuple([declared.checksum.algorithm for declared in self._verification.declared])
        if self._busy_s is not None:
            counted.cpu_s = self._connection.http.loads.busy_s() - self._busy_s
        return counted.stats()

    # The first response -----------------------------------------------------------------------------------------------

    async def _begin(self) -> tuple[Plan, Response, Source]:
        """The plan, the first response that makes one, and its source."""
        request, spans = self._request, tuple([Span(*span) for span in self._request.spans])
        part_bytes, ranged_from = self._connection.part_bytes, self._request.ranged_from
        # With a number that adapts, one response brings all until more are worth it.
        adaptive = request.adaptive and len(spans) == 1
        concurrency = request.concurrency if part_bytes >= _MIN_PART_BYTES and not adaptive else 1
        order = Order(
            spans, request.version, request.or_whole, concurrency, part_bytes, ranged_from, request.first_bytes
        )
        while True:
            response, source = await self._attempts.run(
                self._attempts.sources.living[0], partial(self._first_response, *order.first())
            )
            found = decide(order, response.head)
            if isinstance(found, Plan):
                return found, response, source
            await response.discard()
            order = found

    async def _first_response(self, span: Span | None, if_range: str | None, source: Source) -> tuple[Response, Source]:
        self._first = await self._attempts.get(source, span, if_range, may_skip=True)
        return self._first, source

    def _announce(self, plan: Plan, response: Response, source: Source) -> None:
        """Send the head to the consumer, and prepare to verify what it declares."""
        self.counters.answered()
        size = plan.version.size
        notes = self._verification.find([*response.redirects, response.head], size)
        self._attempts.answered(source, response, size, certain=self._verification.certain and not plan.partial)
        declared = tuple([(str(each.checksum), each.source) for each in self._verification.declared])
        placed = self._is_placed(plan)
        info = HeadInfo(
            response.head,
            plan.version,
            ranged=not plan.stream,
            notes=notes,
            resumed=plan.resumed,
            declared=declared,
            placed=placed,
        )
        if placed:
            self._placement.expect(plan.brings)
        self._held = info
        if self._file is None or not self._file.is_small(plan):
            self._send_head()
        self._verification.begin(size, resumed=plan.resumed, partial=plan.partial)

    def _send_head(self) -> None:
        """Send the head that is held back, if there is one."""
        held, self._held = self._held, None
        if held is not None:
            self._connection.send(HEAD, self._number, held)

    def emit(self, offset: int, slot: int, length: int, new: int, *, full: bool) -> None:
        """See `Emit`; full slots go to the hasher as well."""
        self._attempts.delivered(new)
        if self._file is not None:
            if not full:
                # It comes slowly: its progress is of interest, and is kept.
                self._send_head()
            self._file.add(offset, slot, length, new)
            if full:
                self._connection.keep(self._number, offset, slot, length, self._verification.hasher)
            return
        self._send_head()
        if full:
            self._connection.part(self._number, offset, slot, length, self._verification.hasher)
        else:
            self._connection.prefix(self._number, offset, slot, length)

    # Memory of its own ------------------------------------------------------------------------------------------------

    def _is_placed(self, plan: Plan) -> bool:
        """Whether the bytes go to memory of their own: exactly those that are wanted, as the consumer will find."""
        size, place_from = plan.version.size, self._request.place_from
        if place_from is None or size is None or not plan.brings or sum(map(len, plan.brings)) < place_from:
            return False
        return plan.brings == lay_out([Span(*span) for span in self._request.spans], size)

    def place(self, descriptor: int | None, size: int) -> None:
        """The consumer has memory for the object: `size` bytes. The descriptor is this object's to close."""
        self._placement.come(descriptor, size)

    def _on_block(self, offset: int, view: memoryview) -> None:
        self._attempts.delivered(len(view))
        if self._request.delegated:
            self._send_head()
            self._connection.written(self._number, offset, len(view))
        elif self._verification.hasher is not None:
            self._verification.hasher.feed(offset, view, lambda: None)

    # New URLs -------------------------------------------------------------------------------------------------------

    async def _ask_for_urls(self, serial: int) -> RenewedInfo:
        self._renewed = asyncio.get_running_loop().create_future()
        began_s = time.monotonic()
        self._connection.expired(self._number, serial)
        try:
            return await self._renewed
        finally:
            self.counters.retry_s += time.monotonic() - began_s

    def renewed(self, info: RenewedInfo) -> None:
        """The consumer has answered an EXPIRED."""
        if self._renewed is not None and not self._renewed.done():
            self._renewed.set_result(info)

    # The file -------------------------------------------------------------------------------------------------------

    async def _keep_what_came(self) -> None:
        """Before a failure: the consumer, which may continue, gets the head, and the file what has come for it."""
        self._send_head()
        if self._file is not None:
            with suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(_LAST_WRITES_S):
                    await self._file.finish()

    def write_to(self, entry: FolderEntry) -> None:
        """The consumer names the file."""
        if self._file is None:
            raise errors.ProtocolError("WRITE for an object that was not opened with a file")
        self._file.name(entry)

    def _stop(self, error: errors.TargetError) -> None:
        self._file_error = error
        self.task.cancel()

    # The plan -------------------------------------------------------------------------------------------------------

    async def _execute(self, plan: Plan, response: Response, source: Source) -> int:
        """Bring all that the plan names; returns the object's size."""
        size = plan.version.size
        self._announce(plan, response, source)
        source.version = plan.version
        await self._placement.wait()
        if plan.got is None:
            await response.discard()
            return size or 0
        if plan.stream and size is not None and self._placement.memory is None and self._came_whole(response, size):
            self.counters.received_bytes += size
            return size
        self._busy_s = self._connection.http.loads.busy_s()
        answer = Answer(response, source, plan.got.start, plan.got.stop)
        if self._request.first_bytes and not plan.stream:
            await self._fetch_as_wanted(plan.got.stop, size or 0, source, answer)
            return size or 0
        if plan.workers == 1 and self._may_adapt(plan, response, source):
            await self._adapt(plan, source, answer)
            return size or 0
        if plan.workers == 1:
            stop = await self._work(0, plan, source, answer)
            return stop if size is None else size
        self._attempts.in_parts = True
        longest = max(map(len, plan.brings), default=None) if plan.partial else None
        first = min(_SPANS_AT_ONCE, plan.workers) if self._request.adaptive else plan.workers
        tail, others = self._hedger(first, longest), iter(range(first, plan.workers))
        try:
            async with asyncio.TaskGroup() as group:

                def widen() -> None:
                    for worker in others:
                        tail.workers += 1
                        group.create_task(self._work(worker, plan, source, None, tail))

                self._widen = widen
                # In order: each worker claims the slots of its span before the next one does.
                group.create_task(self._work(0, plan, source, answer, tail))
                for worker in range(1, first):
                    group.create_task(self._work(worker, plan, source, None, tail))
        except BaseExceptionGroup as several:
            # The first failure ended the others.
            raise several.exceptions[0] from None
        finally:
            tail.close()
        return size or 0

    async def _fetch_as_wanted(self, stop: int, size: int, source: Source, answer: Answer) -> None:
        """Bring the bytes up to `stop` by `answer`, and the others when the consumer wants them."""
        await self._span(Span(0, stop), source, answer).run()
        while stop < size:
            while self._wanted <= stop and self._more is not None:
                self._more.clear()
                began_s = time.monotonic()
                await self._more.wait()
                self.counters.wanted_s += time.monotonic() - began_s
            start, stop = stop, min(self._wanted, size)
            await self._span(Span(start, stop), source).run()

    def more(self, stop: int) -> None:
        """The consumer wants the bytes up to `stop`."""
        self._wanted = max(self._wanted, stop)
        if self._more is not None:
            self._more.set()

    def _hedger(self, workers: int, part_bytes: int | None = None) -> Hedger:
        # With a rate limit, it is the limit that makes spans slow.
        tail_s = self._request.tail_s if self._connection.http.throttle is None else None
        return Hedger(workers, self._connection.slot_bytes, tail_s, part_bytes)

    def _may_adapt(self, plan: Plan, response: Response, source: Source) -> bool:
        """Whether further connections could help with what one response brings."""
        request, size = self._request, plan.version.size
        return (
            request.adaptive
            and request.concurrency > 1
            and size is not None
            and size >= max(_MIN_ADAPTIVE_BYTES, request.ranged_from)
            and plan.version.joinable
            and source.ranges is Ranges.GRANTED
            and (response.head.get("accept-ranges") or "").strip().lower() != "none"
            and self._connection.part_bytes >= _MIN_PART_BYTES
            # A rate limit is what is waited for.
            and self._connection.http.throttle is None
        )

    async def _adapt(self, plan: Plan, source: Source, answer: Answer) -> None:
        """Bring all that the plan names, over as many connections as are worth it."""

        async def delegate(worker: int, span: Span, source: Source, watch: Watch) -> bool:
            helper = self._helper(worker)
            if helper is None:
                return False
            await self._have_fetched(helper, span, source, plan.version, watch)
            return True

        def adapted(connections: int, reason: str) -> None:
            self._connection.send(ADAPTED, self._number, AdaptedInfo(connections, reason))

        await AdaptiveFetch(
            self._attempts,
            self._connection.http.loads.of(source.serving_host),
            plan.pieces,
            self._connection.part_bytes,
            self._request.concurrency,
            self._open_span,
            delegate,
            adapted,
            self._hedger(1),
            proven=not plan.stream,
        ).run(source, answer)

    def _came_whole(self, response: Response, size: int) -> bool:
        """Deliver a small object that came with its head, and return whether that was so. Most small ones do, and a
        span fetch with its waits, limits and retries would cost more than the bytes."""
        content = response.raw.content
        came = 0 < size < _SMALL_BYTES and content.is_eof() and content.total_bytes == size
        if not came or self._connection.http.throttle is not None:
            return False
        slot = self._connection.place(size, content.read_nowait)
        if slot is not None:
            self.emit(0, slot, size, size, full=True)
        return slot is not None

    def _span(self, span: Span, source: Source, answer: Answer | None = None, begun: Begun | None = None) -> SpanFetch:
        """The bytes of `span`, on their way to the consumer."""
        alone = self._request.delegated or not self._attempts.in_parts
        fetch = self._open_span(span, source, answer, begun, alone=alone)
        self._alone = fetch if alone else None
        return fetch

    def _open_span(
        self, span: Span, source: Source, answer: Answer | None, begun: Begun | None = None, *, alone: bool
    ) -> SpanFetch:
        if source.error is not None:
            # It failed for an earlier span.
            source = self._attempts.sources.spread()
        if self._placement.memory is not None:
            shift = self._placement.of(span.start) - span.start
            sink = SegmentSink(self._placement.memory, span, shift, self._on_block)
            return SpanFetch(self._attempts, source, sink, answer, begun)
        hasher = self._verification.hasher
        lags = hasher is not None and hasher.ordered
        # Several at once: later ones wait for their turn to be hashed, and no limit may block an earlier one.
        max_unhashed = None if not alone else _MAX_UNHASHED_SLOTS if lags else self._connection.slots
        ring = self._connection.sink(self._number, span, self.emit, max_unhashed=max_unhashed)
        return SpanFetch(self._attempts, source, ring, answer, begun)

    async def _work(
        self, worker: int, plan: Plan, source: Source, answer: Answer | None, tail: Hedger | None = None
    ) -> int:
        """Fetch one piece after the other, here or by a helper engine, until none is left: the first one by `answer`,
        the others from any mirror where wrong bytes would be noticed, else from `source`. Returns where the last one
        ended."""
        helper, stop = self._helper(worker), 0
        while True:
            if answer is None and self._attempts.in_parts and self._attempts.certain:
                source = self._attempts.sources.spread()
            begun: Begun | None = None
            if answer is None and helper is None and plan.partial:
                span, begun = await self._small_spans(plan.pieces, source, tail)
            else:
                span = next(plan.pieces, None)
            if span is None:
                return stop
            if helper is None or tail is None:
                stop = await self._span(span, source, answer, begun).run(tail)
                answer = None
            else:
                await self._have_fetched(helper, span, source, plan.version, tail)

    async def _small_spans(
        self, spans: Iterator[Span], source: Source, tail: Hedger | None
    ) -> tuple[Span | None, Begun | None]:
        """Fetch small ones, in the way in which nearly all of them come, until one takes more; see `SmallSpans.run`."""
        connection, memory = self._connection, self._placement.memory
        slots: list[int] = []

        def begin(span: Span) -> bool:
            if memory is not None:
                return True
            if not slots and (slot := connection.take(len(span))) is not None:
                slots.append(slot)
            return bool(slots)

        def put(span: Span, content: memoryview) -> None:
            if memory is None:
                slot = slots.pop()
                connection.fill(slot, content)
                self.emit(span.start, slot, len(content), len(content), full=True)
            else:
                if (self._attempts.fastest_s or 0.0) > _FAR_S:
                    self._widen()
                start = self._placement.of(span.start)
                memory.write(start, content)
                self._on_block(span.start, memory.bytes(start, start + len(content)))

        small = SmallSpans(self._attempts, source, spans, begin, put)
        try:
            with nullcontext() if tail is None else tail.watch(small, lambda: None):
                return await small.run()
        finally:
            for slot in slots:
                connection.drop(slot)

    async def _have_fetched(
        self, helper: HelperPipe, span: Span, source: Source, version: Version, watch: Watch
    ) -> None:
        """Have a helper engine fetch `span`."""
        request = self._delegate(span, source, version)
        if self._placement.memory is not None:
            await helper.fetch_placed(request, source, self._placement.memory, self._on_block, self._attempts, watch)
            self._attempts.part_ended(complete=True)
            return
        claim = self._connection.claim(self._number, span)
        await helper.fetch(request, source, claim, self.emit, self._attempts, watch)
        self._attempts.part_ended(complete=True)

    def _helper(self, worker: int) -> HelperPipe | None:
        """The helper engine for this worker, if any: they know no other places in memory than the offsets."""
        return self._connection.helper(worker) if self._placement.are_offsets else None

    def _delegate(self, span: Span, source: Source, version: Version) -> OpenRequest:
        """The request that a helper engine gets for one span."""
        mirrors = [each for each in self._attempts.sources.living if each is not source and self._attempts.certain]
        renewable = Renewable(0) if self._attempts.renewal.may_renew(source) else None
        return msgspec.structs.replace(
            self._request,
            url=source.origin.url,
            mirrors=tuple(mirror.origin.url for mirror in mirrors),
            total_s=self._attempts.left_s,
            spans=((span.start, span.stop),),
            # A mirror that has not answered yet has its own validators; the size must be the same.
            version=source.version if source.version.joinable else Version(version.size),
            or_whole=False,
            delegated=True,
            file=None,
            place_from=None if self._placement.memory is None else 0,
            route=source.route,
            renewable=renewable,
        )

    async def _serve_span(self) -> int:
        """As a helper of another engine: a span of an object that is known already."""
        request, source = self._request, self._attempts.sources.given
        span = Span(*request.spans[0])
        source.version = request.version or Version()
        self._attempts.size = source.version.size
        await self._placement.wait()
        placed = self._placement.memory is not None
        info = HeadInfo(ResponseHead(206, request.url), source.version, ranged=True, placed=placed)
        # Sent with the first bytes: alone it would wake the consumer in vain.
        self._held = info
        await self._span(span, source).run()
        return len(span)

    async def _serve_head(self) -> None:
        self._send_only(await fetch_head(self._attempts))

    def _send_only(self, info: HeadInfo) -> None:
        """The head is the whole answer."""
        self.counters.answered()
        self._connection.send(HEAD, self._number, info)
        verdict = unverified("only the head came")
        self._connection.send(END, self._number, EndInfo(info.size or 0, verdict, self.stats()))

    def hedge(self) -> None:
        """As a helper: the lead finds the span slow."""
        if self._alone is not None:
            self._alone.hedge()
