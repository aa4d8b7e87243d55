"""One object's transfer: its plan of requests, and the bytes on their way to the consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from getm import errors
from getm.core.head import Head
from getm.core.redact import redact
from getm.core.spans import MAX_POSITION, Span, plan_parts
from getm.engine import counters
from getm.engine.attempts import Requests
from getm.engine.hedge import Hedger
from getm.engine.http.limits import ReadLimits
from getm.engine.http.requests import Response
from getm.engine.http.responses import Identity, content_length, covered, require_size
from getm.engine.sources import Source
from getm.engine.span_fetch import Answer, Part
from getm.engine.speeds import MIN_MEASURED_BYTES
from getm.engine.verification import Verification
from getm.protocol.messages import EndInfo, HeadInfo, OpenRequest, ResumeInfo, header_lines
from getm.results import Stats

if TYPE_CHECKING:
    from getm.engine.connection import EngineConnection


# How far receiving may run ahead of an ordered digest in one stream. It is faster than any of these, and what it puts
# into the whole ring has left the processor's cache when its turn comes: with 4 slots sha256 takes a twentieth less
# time than without a limit. CRCs keep up, and a limit would only make their threads go to sleep more often.
_MAX_UNHASHED_SLOTS = 4

# Larger ones take the way of parts, which measures how fast they come.
_SMALL_BYTES = MIN_MEASURED_BYTES


class Fetch:
    """Serves one OPEN on a connection, from the first request to END or an error."""

    def __init__(self, connection: EngineConnection, number: int, request: OpenRequest) -> None:
        self._connection = connection
        self._number = number
        self._request = request
        self._tally = counters.Counters()
        # Told of what went wrong and was mended, so that the consumer hears it.
        self._note = partial(connection.note, number)
        self._requests = Requests(connection.http, request, self._tally, self._note, self._may_switch)
        self._verification = Verification(request, connection.hash_pool)
        self._first: Response | None = None
        # The object's size once it is known, and whether bytes went out.
        self._total: int | None = None
        self._announced = False
        self._delivered = False
        # Whether several parts are under way at once.
        self._in_parts = False
        # As a helper: the part that was asked for.
        self._served: Part | None = None

    async def run(self) -> None:
        """Raises a `GetmError` that names the URL and the number of requests."""
        counters.current.set(self._tally)
        try:
            if self._request.total_s is None or self._request.span is not None:
                # A helper only takes care not to wait beyond it: the time of the whole is its lead's to end.
                await self._run()
            else:
                async with asyncio.timeout(self._request.total_s):
                    await self._run()
        except errors.GetmError as error:
            raise self._requests.told(error) from error.__cause__
        except TimeoutError:
            limit_s = self._request.total_s or 0.0
            raise self._requests.told(
                errors.TimedOut(f"the transfer took longer than its {limit_s:g} s", phase="total", timeout_s=limit_s)
            ) from None
        finally:
            self._verification.cancel()
            # It knows this transfer: neither waits for the collector of garbage to part them.
            self._requests.may_switch = _never
            if self._first is not None:
                # Refused for what its head says: its content was never asked for. Harmless where it was read.
                self._first.raw.close()

    async def _run(self) -> None:
        request = self._request
        if request.span is not None:
            total = await self._serve_part(Span(*request.span))
        elif request.resume is not None:
            total = await self._resume(request.resume)
        else:
            total = await self._anew()
        if request.size is not None and total != request.size:
            raise errors.SizeMismatch.of(request.size, total, self._requests.at)
        verdict = await self._verification.verdict(total, self._connection.call)
        self._connection.end(
            self._number,
            EndInfo(
                total=total,
                verified=verdict.verified,
                checksum=None if verdict.checksum is None else str(verdict.checksum),
                source=verdict.source,
                reason=verdict.reason,
                computed=tuple(map(str, verdict.computed)),
                stats=self.stats(),
            ),
        )

    def stats(self) -> Stats:
        """What was done until now."""
        return self._tally.stats()

    def _may_switch(self) -> bool:
        """Whether a mirror may go on where a source fails: before anything is told; or where the size shows that it is
        the same object, and nothing of another one is delivered or wrong bytes would be noticed at the end."""
        if self._request.span is not None or not self._announced:
            return True
        nothing_yet = not self._delivered and not self._in_parts
        return self._total is not None and (self._verification.certain or nothing_yet)

    async def _anew(self) -> int:
        """The whole object."""
        if self._request.concurrency > 1:
            return await self._ranged()
        return await self._single(*await self._answer(None))

    async def _answer(self, span: Span | None, if_range: str | None = None) -> tuple[Response, Source]:
        """The first response of the object, whatever it takes, and who gave it."""
        requests = self._requests
        source = requests.sources.living[0]
        while True:
            try:
                first = self._first = await requests.retry(
                    source, partial(requests.get, source, span, if_range), _no_progress
                )
                require_size(self._request.size, first.head)
            except (errors.NetworkError, errors.SizeMismatch) as error:
                if self._first is not None:
                    # Refused for what its head says.
                    self._first.raw.close()
                source = requests.after(source, error)
            else:
                requests.answered(source, first)
                return first, source

    def _announce(self, response: Response, size: int | None, *, ranged: bool, resumed: bool = False) -> None:
        """Tell the consumer the head, and get ready to check what it declares."""
        self._tally.answered()
        head = response.head
        notes = self._verification.find(response, size)
        self._total, self._announced = size, True
        self._connection.head(
            self._number,
            HeadInfo(
                url=head.url,
                status=head.status,
                reason=head.reason,
                header_lines=header_lines(head.headers),
                size=size,
                ranged=ranged,
                notes=notes,
                resumed=resumed,
                declared=tuple([(str(each.checksum), each.source) for each in self._verification.declared]),
                etag=head.get("etag"),
                last_modified=head.get("last-modified"),
                if_range=head.strong_validator(),
            ),
        )
        if resumed:
            self._verification.leave()
        else:
            self._verification.begin(size)

    def emit(self, offset: int, slot: int, length: int, *, full: bool) -> None:
        """See `Emit`; what is full goes to the hasher, too."""
        self._delivered = True
        if full:
            self._connection.part(self._number, offset, slot, length, self._verification.hasher)
        else:
            self._connection.prefix(self._number, offset, slot, length)

    # One stream -----------------------------------------------------------------------------------------------------

    async def _single(self, response: Response, source: Source) -> int:
        """The whole object from one response; after a failure, the rest from the byte where it broke off."""
        size = content_length(response.head)
        self._announce(response, size, ranged=False)
        if size is not None and self._at_hand(response, size):
            return size
        source.identity = Identity.of(response.head, size)
        return await self._part(0, size, source, Answer(response, source, 0, size), alone=True).run()

    def _at_hand(self, response: Response, size: int) -> bool:
        """Whether the object was delivered: the short way of a small one that came with its head. Most do, and all
        that a part is made for, waiting, limits and retries, would cost more than the bytes."""
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
            self._tally.received_bytes += size
        return self._delivered

    def _part(self, start: int, stop: int | None, source: Source, answer: Answer | None = None, *, alone: bool) -> Part:
        """The bytes from `start` to `stop` (None: to the end), on their way to the consumer: see `Part`. `alone`: no
        other part of the object is under way."""
        request = self._request
        # Several parts at once: those ahead wait for their turn to be hashed, and no limit may hold up the one behind.
        max_unhashed = None
        if alone:
            hasher = self._verification.hasher
            lags = hasher is not None and hasher.ordered
            max_unhashed = _MAX_UNHASHED_SLOTS if lags else self._connection.slots
        writer = self._connection.sink(self._number, start, stop, self.emit, max_unhashed=max_unhashed)
        if source.error is not None:
            # It failed an earlier part.
            source = self._requests.sources.spread()
        return Part(
            self._requests,
            source,
            writer,
            answer,
            total=self._total,
            # Nobody hurries a part that has no siblings here, nor at another engine.
            alternate=None if alone and request.span is None else self._alternate,
            read_limits=ReadLimits(request.stall_s, request.floor_bytes_s, request.floor_window_s),
            throttle=self._connection.throttle,
            counters=self._tally,
        )

    def _alternate(self, source: Source) -> Source:
        """Who is to be asked for what comes too slowly from `source`."""
        if self._request.span is not None or self._verification.certain:
            return self._requests.sources.spread()
        return source

    # Ranges ---------------------------------------------------------------------------------------------------------

    async def _ranged(self) -> int:
        """The object by concurrent range requests, where the server grants them; else as one stream."""
        request = self._request
        part_bytes = request.part_slots * self._connection.slot_bytes
        wanted = Span(0, part_bytes)
        response, source = await self._answer(wanted)
        head = response.head
        if head.status == 416:
            return await self._empty(response)
        if head.status != 206:
            return await self._single(response, source)
        found = head.content_range()
        identity = Identity.of(head, None if found is None else found.total)
        if identity is None:
            # Nothing would show that two responses are of one version: they may not be joined.
            response.raw.close()
            return await self._single(*await self._answer(None))
        got, total = covered(head, wanted)[0], identity.total
        source.identity = identity
        self._announce(response, total, ranged=True)
        # Never a list: a server may claim any total.
        parts = plan_parts(Span(0, total), part_bytes)
        answer = Answer(response, source, got.start, got.stop)
        await self._parts(next(parts), parts, -(-total // part_bytes), answer)
        return total

    async def _parts(self, first: Span, parts: Iterator[Span], count: int, answer: Answer) -> None:
        """`count` parts, as many at once as may be: `first`, whose first bytes `answer` brings, and `parts` after
        it."""

        self._in_parts = True
        source, request = answer.source, self._request
        one = source.identity is not None and source.identity.total < request.ranged_from
        workers = 1 if one else min(request.concurrency, count)
        # Under a limit of the rate it is the limit that makes parts slow.
        tail_s = request.tail_s if self._connection.throttle is None else None
        tail = Hedger(workers, self._connection.slot_bytes, tail_s)

        async def fetch_first() -> None:
            await self._part(first.start, first.stop, source, answer, alone=False).run(tail)
            await self._work(0, parts, source, tail)

        try:
            async with asyncio.TaskGroup() as group:
                # In order: each worker claims the slots of its part before the next one does.
                group.create_task(fetch_first())
                for worker in range(1, workers):
                    group.create_task(self._work(worker, parts, source, tail))
        except BaseExceptionGroup as several:
            # The first failure ended the others.
            raise several.exceptions[0] from None
        finally:
            tail.close()

    async def _work(self, worker: int, parts: Iterator[Span], source: Source, tail: Hedger) -> None:
        """Fetch one part after the other, here or by a helper engine, until none is left: from any mirror where wrong
        bytes would be noticed, else from `source`."""
        helper = self._connection.helper(worker)
        for span in parts:
            if self._verification.certain:
                source = self._requests.sources.spread()
            if helper is not None:
                claim = self._connection.claim(self._number, span.start, span.stop)
                source.active += 1
                try:
                    took = await helper.fetch(self._part_request(span, source), claim, self.emit, self._note, tail)
                except errors.GetmError as error:
                    if error.stats is not None:
                        self._tally.add(error.stats)
                    raise
                finally:
                    source.active -= 1
                self._tally.add(took)
            else:
                await self._part(span.start, span.stop, source, alone=False).run(tail)

    async def _empty(self, response: Response) -> int:
        """A 416 to a request from byte 0 on: an empty object, or a server that cannot be right."""
        found = response.head.content_range()
        await response.discard()
        if found is not None and found.span is None and found.total == 0:
            self._announce(response, 0, ranged=True)
            return 0
        return await self._single(*await self._answer(None))

    def _part_request(self, span: Span, source: Source) -> OpenRequest:
        """The request that a helper engine gets for one part."""
        identity, route = source.identity, source.led_to
        mirrors = self._requests.sources.others(source) if self._verification.certain else []
        return msgspec.structs.replace(
            self._request,
            url=source.origin.url,
            mirrors=tuple(mirror.origin.url for mirror in mirrors),
            concurrency=1,
            checksums=None,
            strict=False,
            resume=None,
            size=None,
            total_s=self._requests.left_s,
            span=(span.start, span.stop),
            total=self._total,
            etag=None if identity is None else identity.etag,
            last_modified=None if identity is None else identity.last_modified,
            if_range=None if identity is None else identity.if_range,
            route=None if route is None else (route.url, route.user_headers),
        )

    async def _serve_part(self, span: Span) -> int:
        """As a helper of another engine: one part of an object that is known already."""
        request, source = self._request, self._requests.sources.given
        self._total = request.total or 0
        if request.if_range is not None:
            source.identity = Identity(self._total, request.etag, request.last_modified, request.if_range)
        self._connection.head(self._number, HeadInfo(request.url, 206, "", "", len(span), True, ()))
        self._served = self._part(span.start, span.stop, source, alone=True)
        await self._served.run()
        return len(span)

    def hedge(self) -> None:
        """As a helper: the lead finds the part slow."""
        if self._served is not None:
            self._served.hedge()

    # The rest of an object ------------------------------------------------------------------------------------------

    async def _resume(self, kept: ResumeInfo) -> int:
        """What is missing of an object that the caller has in part; all of it, where it is another one by now."""
        identity = Identity(kept.total, kept.etag, kept.last_modified, kept.if_range)
        part_bytes = MAX_POSITION
        if self._request.concurrency > 1:
            part_bytes = self._request.part_slots * self._connection.slot_bytes
        missing = [Span(*span) for span in kept.missing]
        parts = chain.from_iterable(plan_parts(span, part_bytes) for span in missing)
        count = sum(-(-len(span) // part_bytes) for span in missing)
        # With nothing missing, what stands behind its end: nothing, if it is still the same.
        wanted = next(parts, Span(kept.total, MAX_POSITION))
        response, source = await self._answer(wanted, identity.if_range)
        head = response.head
        if head.status not in (206, 412, 416):
            return await self._single(response, source)
        try:
            got = self._rest(head, wanted, identity, count)
        except errors.RemoteChanged:
            response.raw.close()
            return await self._anew()
        source.identity = identity
        self._announce(response, kept.total, ranged=count > 1, resumed=True)
        answer = Answer(response, source, got.start, got.stop)
        if self._request.concurrency > 1 and count:
            await self._parts(wanted, parts, count, answer)
        elif count:
            await self._part(wanted.start, wanted.stop, source, answer, alone=True).run()
            for span in parts:
                await self._part(span.start, span.stop, source, alone=True).run()
        else:
            await response.discard()
        return kept.total

    def _rest(self, head: Head, wanted: Span, identity: Identity, count: int) -> Span:
        """What the first answer to a resumption brings. Raises `RemoteChanged` where it is not of the same version."""
        if head.status in (412, 416):
            found = head.content_range()
            identity.check(head, None if found is None else found.total)
            if head.status == 416 and count == 0 and found is not None and found.total == identity.total:
                return Span(identity.total, identity.total)
        elif count:
            got, total = covered(head, wanted)
            identity.check(head, total)
            return got
        raise errors.RemoteChanged(
            f"the object was replaced: its size is not {identity.total} any more",
            url=redact(head.url),
            expected=str(identity.total),
        )


def _never() -> bool:
    return False


def _no_progress() -> int:
    return 0
