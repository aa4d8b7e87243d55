"""One object's transfer: its plan of requests, and the bytes on their way to the consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from getm import errors
from getm.engine import tally
from getm.engine.body import receive
from getm.engine.http import Response
from getm.engine.patience import Patience
from getm.engine.requests import Requests
from getm.engine.responses import Identity, content_length, covered
from getm.engine.verification import Verification
from getm.engine.writer import PartWriter
from getm.spans import Span, plan_parts
from getm.stats import Stats
from getm.wire import EndInfo, HeadInfo, NoteInfo, OpenRequest

if TYPE_CHECKING:
    from getm.engine.channel import Channel


# How far receiving may run ahead of hashing in one stream. It is faster than any hash, and what it puts into the whole
# ring has left the processor's cache when its turn comes: with 4 slots sha256 takes a tenth less time than with 16.
_MAX_UNHASHED_SLOTS = 4


class Transfer:
    """Serves one OPEN on a channel, from the first request to END or an error."""

    def __init__(self, channel: Channel, number: int, request: OpenRequest) -> None:
        self._channel = channel
        self._number = number
        self._request = request
        self._tally = tally.Tally()
        self._requests = Requests(channel.http, request, self._tally, self.note)
        self._verification = Verification(request, channel.hash_pool)
        self._first: Response | None = None

    async def run(self) -> None:
        """Raises a `GetmError` that names the URL and the number of requests."""
        tally.current.set(self._tally)
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
                errors.Timeout(f"the transfer took longer than its {limit_s:g} s", phase="total", timeout_s=limit_s)
            ) from None
        finally:
            self._verification.cancel()
            if self._first is not None:
                # Refused for what its head says: its content was never asked for. Harmless where it was read.
                self._first.raw.close()

    async def _run(self) -> None:
        request = self._request
        if request.span is not None:
            total = await self._serve_part(Span(*request.span))
        elif request.concurrency > 1:
            total = await self._ranged()
        else:
            total = await self._single(await self._answer(None))
        verdict = await self._verification.verdict(total, self._channel.call_soon)
        self._channel.end(
            self._number,
            EndInfo(
                total=total,
                verified=verdict.verified,
                checksum=None if verdict.checksum is None else str(verdict.checksum),
                source=verdict.source,
                reason=verdict.reason,
                stats=self.stats(),
            ),
        )

    def stats(self) -> Stats:
        """What was done until now."""
        return self._tally.stats()

    def note(self, info: NoteInfo) -> None:
        """Tell the consumer what went wrong and was mended."""
        self._channel.note(self._number, info)

    async def _answer(self, span: Span | None) -> Response:
        """The first response of the object, whatever it takes."""
        answers: list[Response] = []

        async def attempt() -> None:
            answers.append(await self._requests.first(span))
            self._first = answers[0]

        await self._requests.persist(attempt, lambda: 0)
        return answers[0]

    def _announce(self, response: Response, size: int | None, ranged: bool) -> None:
        """Tell the consumer the head, and get ready to check what it declares."""
        self._tally.answered()
        head = response.head
        notes = self._verification.find(response, size)
        self._channel.head(
            self._number,
            HeadInfo(
                url=head.url,
                status=head.status,
                reason=head.reason,
                headers=head.headers,
                size=size,
                ranged=ranged,
                notes=notes,
            ),
        )
        self._verification.begin(size)

    def emit(self, offset: int, slot: int, length: int) -> None:
        """A slot is full: to the consumer with it, and to the hasher."""
        self._channel.part(self._number, offset, slot, length, self._verification.hasher)

    # One stream -----------------------------------------------------------------------------------------------------

    async def _single(self, response: Response) -> int:
        """The whole object from one response; after a failure, the rest from the byte where it broke off."""
        size = content_length(response.head)
        self._announce(response, size, ranged=False)
        return await self._fill(0, size, Identity.of(response.head, size), response, size, alone=True)

    async def _fill(
        self,
        start: int,
        stop: int | None,
        identity: Identity | None,
        response: Response | None,
        length: int | None,
        *,
        alone: bool,
    ) -> int:
        """Bring the bytes from `start` to `stop` (None: to the end) to the consumer; returns where they ended.

        The first `length` of them come by `response` where there is one, the rest by requests of their own. Without an
        identity nothing would tell whether the rest is of the same version: then a failure is final. `alone`: no other
        part of the object is under way.
        """
        # A lead engine grants a helper just the slots that the part fills.
        prompt = self._request.span is None
        # Several parts at once: those ahead wait for their turn to be hashed, and no limit may hold up the one behind.
        max_unhashed = _MAX_UNHASHED_SLOTS if alone else None
        writer = self._channel.writer(self._number, start, stop, self.emit, prompt=prompt, max_unhashed=max_unhashed)
        current = response

        async def attempt() -> None:
            nonlocal current
            if current is not None:
                answer, current = current, None
                await self._receive(answer, writer, length)
            if identity is not None:
                await self._fetch_rest(writer, identity)

        try:
            await writer.begin()
            if identity is None:
                await attempt()
            else:
                await self._requests.persist(attempt, lambda: writer.position)
            return writer.position
        finally:
            self._tally.received_bytes += writer.position - start
            if current is not None:
                current.raw.close()
            writer.close()

    async def _receive(self, response: Response, writer: PartWriter, length: int | None) -> None:
        try:
            request = self._request
            patience = Patience(request.stall_s, request.floor_bytes_s, request.floor_window_s)
            await receive(response.raw, writer, length, patience, self._channel.throttle)
        finally:
            # A content that was not read to its end leaves a connection that cannot be used again.
            if not response.raw.content.at_eof():
                response.raw.close()

    async def _fetch_rest(self, writer: PartWriter, identity: Identity) -> None:
        """Request what `writer` still lacks, until it is complete."""
        while writer.remaining:
            wanted = writer.remaining
            response = await self._requests.get(wanted, identity.if_range)
            try:
                if response.head.status == 200:
                    # By If-Range, a full response means another version; the same one means Range is ignored now.
                    identity.check(response.head, content_length(response.head))
                found, total = covered(response.head, wanted)
                identity.check(response.head, total)
            except errors.GetmError:
                response.raw.close()
                raise
            await self._receive(response, writer, len(found))

    # Ranges ---------------------------------------------------------------------------------------------------------

    async def _ranged(self) -> int:
        """The object by concurrent range requests, where the server grants them; else as one stream."""
        request = self._request
        part_bytes = request.part_slots * self._channel.slot_bytes
        wanted = Span(0, part_bytes)
        response = await self._answer(wanted)
        head = response.head
        if head.status == 416:
            return await self._empty(response)
        if head.status != 206:
            return await self._single(response)
        found = head.content_range()
        identity = Identity.of(head, None if found is None else found.total)
        if identity is None:
            # Nothing would show that two responses are of one version: they may not be joined.
            response.raw.close()
            return await self._single(await self._answer(None))
        got, total = covered(head, wanted)[0], identity.total
        self._announce(response, total, ranged=True)
        # Shared by the workers, and never a list: a server may claim any total.
        parts = plan_parts(Span(0, total), part_bytes)
        first = next(parts)
        count = -(-total // part_bytes)

        async def fetch_first() -> None:
            await self._fill(first.start, first.stop, identity, response, len(got), alone=False)
            await self._work(0, parts, identity)

        try:
            async with asyncio.TaskGroup() as group:
                # In order: each worker claims the slots of its part before the next one does.
                group.create_task(fetch_first())
                for worker in range(1, min(request.concurrency, count)):
                    group.create_task(self._work(worker, parts, identity))
        except BaseExceptionGroup as several:
            # The first failure ended the others.
            raise several.exceptions[0] from None
        return total

    async def _work(self, worker: int, parts: Iterator[Span], identity: Identity) -> None:
        """Fetch one part after the other, here or by a helper engine, until none is left."""
        helper = self._channel.helper(worker)
        for span in parts:
            if helper is not None:
                claim = self._channel.claim(self._number, span.start, span.stop)
                try:
                    took = await helper.fetch(self._part_request(span, identity), claim, self.emit, self.note)
                except errors.GetmError as error:
                    if error.stats is not None:
                        self._tally.add(error.stats)
                    raise
                self._tally.add(took)
            else:
                await self._fill(span.start, span.stop, identity, None, 0, alone=False)

    async def _empty(self, response: Response) -> int:
        """A 416 to a request from byte 0 on: an empty object, or a server that cannot be right."""
        found = response.head.content_range()
        await response.discard()
        if found is not None and found.span is None and found.total == 0:
            self._announce(response, 0, ranged=True)
            return 0
        return await self._single(await self._answer(None))

    def _part_request(self, span: Span, identity: Identity) -> OpenRequest:
        """The request that a helper engine gets for one part."""
        route = self._requests.led_to
        return msgspec.structs.replace(
            self._request,
            concurrency=1,
            checksum=None,
            strict=False,
            total_s=self._requests.left_s,
            span=(span.start, span.stop),
            total=identity.total,
            etag=identity.etag,
            last_modified=identity.last_modified,
            if_range=identity.if_range,
            route=None if route is None else (route.url, route.user_headers),
        )

    async def _serve_part(self, span: Span) -> int:
        """As a helper of another engine: one part of an object that is known already."""
        request = self._request
        identity = Identity(request.total or 0, request.etag, request.last_modified, request.if_range or "")
        self._channel.head(self._number, HeadInfo(request.url, 206, "", (), len(span), True, ()))
        await self._fill(span.start, span.stop, identity, None, 0, alone=True)
        return len(span)
