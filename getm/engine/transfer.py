"""One object's transfer: requests, checks of what answers, retries, and the bytes on their way to the consumer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from getm import errors
from getm.engine.body import receive
from getm.engine.http import Response, Route
from getm.engine.patience import Patience
from getm.engine.writer import PartWriter
from getm.head import Head, HeadError, retry_after_s
from getm.integrity import Declared, PartsHasher, Verdict, discover, parse_checksum, unverified
from getm.redact import redact
from getm.retry import Retry, RetryPolicy
from getm.spans import Span, plan_parts
from getm.wire import EndInfo, HeadInfo, OpenRequest

if TYPE_CHECKING:
    from getm.engine.channel import Channel


# What a signed URL answers when its time is over: 401 or 403 by the book, 400 by S3 for an expired token.
_EXPIRED = frozenset({400, 401, 403})

# How far receiving may run ahead of hashing in one stream. It is faster than any hash, and what it puts into the whole
# ring has left the processor's cache when its turn comes: with 4 slots sha256 takes a tenth less time than with 16.
_MAX_UNHASHED_SLOTS = 4

# What counts as progress between two failures: a server that gives a few bytes each time would be asked for ever.
_PROGRESS_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """What every further response must agree with, so that bytes of two versions are never joined."""

    total: int
    etag: str | None
    last_modified: str | None
    if_range: str

    def check(self, head: Head, total: int | None) -> None:
        """Raises `RemoteChanged` where `head` is of another version of the object."""
        theirs = head.validator()
        for name, ours, other in (
            ("size", str(self.total), None if total is None else str(total)),
            ("ETag", self.etag, theirs.etag),
            ("Last-Modified", self.last_modified, theirs.last_modified),
        ):
            if ours is not None and other is not None and ours != other:
                raise errors.RemoteChanged(
                    f"the object was replaced while it was read: its {name} was {ours} and is now {other}; "
                    "read it again",
                    url=redact(head.url),
                    expected=ours,
                    actual=other,
                )


class Transfer:
    """Serves one OPEN on a channel, from the first request to END or an error."""

    def __init__(self, channel: Channel, number: int, request: OpenRequest) -> None:
        self._channel = channel
        self._number = number
        self._request = request
        self._policy = RetryPolicy(retries=request.retries)
        self._origin = Route(request.url, request.headers)
        # Redirects are followed once for all parts: the origin may be slow, or count requests.
        self._route = self._origin if request.route is None else Route(*request.route)
        self._resolving = asyncio.Lock()
        self._first: Response | None = None
        self._hasher: PartsHasher | None = None
        self._reason = ""
        self._requests = 0
        self._retries = 0

    @property
    def _at(self) -> str:
        """The URL as it may stand in errors and logs."""
        return redact(self._request.url)

    async def run(self) -> None:
        """Raises a `GetmError` that names the URL and the number of requests."""
        try:
            if self._request.total_s is None:
                await self._run()
            else:
                async with asyncio.timeout(self._request.total_s):
                    await self._run()
        except errors.GetmError as error:
            raise self._told(error) from error.__cause__
        except TimeoutError:
            limit_s = self._request.total_s or 0.0
            raise self._told(
                errors.Timeout(f"the transfer took longer than its {limit_s:g} s", phase="total", timeout_s=limit_s)
            ) from None
        finally:
            if self._hasher is not None:
                self._hasher.cancel()
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
        self._channel.end(self._number, await self._verdict(total))

    # Requests -------------------------------------------------------------------------------------------------------

    async def _get(self, span: Span | None, if_range: str | None = None) -> Response:
        """One request. Raises `HTTPStatusError` for an error status, apart from a 416, which the caller reads."""
        route = self._route
        response = await self._ask(route, span, if_range)
        if response.head.status in _EXPIRED and route is not self._origin:
            await response.discard()
            response = await self._resolve_again(route, span, if_range)
        head = response.head
        if head.status < 400 or (head.status == 416 and span is not None):
            return response
        await response.discard()
        kind = errors.HTTPStatusError
        advice = ""
        if if_range is not None and head.status in (401, 403):
            # The same request was answered before: what changed is the time.
            kind, advice = errors.URLExpired, "; the URL has probably expired: ask its issuer for a new one"
        raise _Answered(
            kind(
                f"the server answered {head.status} {head.reason}".rstrip() + advice,
                url=redact(head.url),
                status=head.status,
                reason=head.reason,
            ),
            retry_after_s(head),
        )

    async def _ask(self, route: Route, span: Span | None, if_range: str | None) -> Response:
        self._requests += 1
        range_header = None if span is None else span.range_header()
        return await self._channel.http.get(self._request, route, range_header=range_header, if_range=if_range)

    async def _resolve_again(self, expired: Route, span: Span | None, if_range: str | None) -> Response:
        """What redirects led to refuses us now: its signature has run out. Ask the caller's URL for another one; parts
        that find out at the same time wait for the first of them, and use what it got."""
        async with self._resolving:
            if self._route is expired:
                response = await self._ask(self._origin, span, if_range)
                if response.head.status < 400:
                    self._route = response.route
                return response
        return await self._ask(self._route, span, if_range)

    async def _persist(self, attempt: Callable[[], Awaitable[None]], progress: Callable[[], int]) -> None:
        """Call `attempt` until it succeeds or the policy gives up. `progress` tells the bytes so far: enough new ones
        count the attempts from the start again."""
        failures, seen = 0, progress()
        while True:
            try:
                await attempt()
                return
            except (errors.GetmError, _Answered) as caught:
                error = caught.error if isinstance(caught, _Answered) else caught
                wait_s = caught.retry_after_s if isinstance(caught, _Answered) else None
                if progress() - seen >= _PROGRESS_BYTES:
                    failures, seen = 0, progress()
                failures += 1
                verdict = self._policy.decide(error, failures, jitter=random.random(), retry_after_s=wait_s)
                if not isinstance(verdict, Retry):
                    raise error from None
                self._retries += 1
                self._channel.log.info("retry %d of %s in %.1f s: %s", failures, self._at, verdict.delay_s, error)
                await asyncio.sleep(verdict.delay_s)

    def _told(self, error: errors.GetmError) -> errors.GetmError:
        """The error as the caller sees it: with the URL and the number of requests made."""
        if error.url is None:
            error.url = self._at
        if isinstance(error, errors.NetworkError) and error.attempts is None:
            error.attempts = self._requests
            if self._requests > 1:
                error.message = f"{error.message}, after {self._requests} requests"
        return error

    async def _answer(self, span: Span | None) -> Response:
        """The first response of the object, whatever it takes."""
        answers: list[Response] = []

        async def attempt() -> None:
            answers.append(await self._get(span))
            self._first = answers[0]
            if answers[0].redirects:
                self._route = answers[0].route

        await self._persist(attempt, lambda: 0)
        return answers[0]

    # What the head says ---------------------------------------------------------------------------------------------

    def _announce(self, response: Response, size: int | None, ranged: bool) -> None:
        """Tell the consumer the head, and get ready to check what it declares."""
        head = response.head
        expected: list[Declared] = []
        notes: tuple[str, ...] = ()
        if self._request.checksum is None:
            self._reason = "checksum=None: no verification was asked for"
        elif self._request.checksum == "auto":
            found = discover([*response.redirects, head], size=size)
            # The strongest; the weaker ones would cost time and add nothing.
            expected = list(found.declared[:1])
            self._reason, notes = found.reason, found.notes
        else:
            expected = [Declared(parse_checksum(self._request.checksum), "caller")]
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
        if expected:
            self._hasher = PartsHasher(expected, size=size, pool=self._channel.hash_pool)
        elif self._request.strict:
            raise errors.Unverified(
                f"strict was asked for and nothing can verify the bytes: {self._reason}; give a checksum",
                url=self._at,
                reason=self._reason,
            )

    def _length(self, head: Head) -> int | None:
        """The length of a response's content in bytes, None where only its end tells."""
        if head.is_chunked():
            return None
        try:
            return head.content_length()
        except HeadError as error:
            raise errors.BadResponse(f"{error}", url=redact(head.url)) from None

    def _covered(self, head: Head, wanted: Span) -> tuple[Span, int | None]:
        """The span and total of a 206 to a request for `wanted`: it must start there and go no further."""
        if head.status != 206:
            raise errors.BadResponse(
                f"expected 206 for bytes {wanted.start} to {wanted.stop}, got {head.status}", url=redact(head.url)
            )
        found = head.content_range()
        if found is None or found.span is None:
            raise errors.BadResponse(
                f"a 206 without one valid Content-Range: {head.get('content-range')!r}", url=redact(head.url)
            )
        length = self._length(head)
        if found.span.start != wanted.start or found.span.stop > wanted.stop or length not in (None, len(found.span)):
            raise errors.BadResponse(
                f"asked for bytes {wanted.start} to {wanted.stop}, got {found.span.start} to {found.span.stop} "
                f"with a Content-Length of {length}",
                url=redact(head.url),
            )
        return found.span, found.total

    # One stream -----------------------------------------------------------------------------------------------------

    async def _single(self, response: Response) -> int:
        """The whole object from one response; after a failure, the rest from the byte where it broke off."""
        head = response.head
        size = self._length(head)
        self._announce(response, size, ranged=False)
        if_range = head.strong_validator()
        identity = None
        if size is not None and if_range is not None:
            validator = head.validator()
            identity = Identity(size, validator.etag, validator.last_modified, if_range)
        return await self._fill(0, size, identity, response, size)

    async def _fill(
        self, start: int, stop: int | None, identity: Identity | None, response: Response | None, length: int | None
    ) -> int:
        """Bring the bytes from `start` to `stop` (None: to the end) to the consumer; returns where they ended.

        The first `length` of them come by `response` where there is one, the rest by requests of their own. Without an
        identity nothing would tell whether the rest is of the same version: then a failure is final.
        """
        # A lead engine grants a helper just the slots that the part fills.
        prompt = self._request.span is None
        # Several parts at once: those ahead wait for their turn to be hashed, and no limit may hold up the one behind.
        max_pinned = _MAX_UNHASHED_SLOTS if self._request.concurrency == 1 else None
        writer = self._channel.writer(self._number, start, stop, self.emit, prompt=prompt, max_pinned=max_pinned)
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
                await self._persist(attempt, lambda: writer.position)
            return writer.position
        finally:
            if current is not None:
                current.raw.close()
            writer.close()

    async def _receive(self, response: Response, writer: PartWriter, length: int | None) -> None:
        try:
            request = self._request
            patience = Patience(request.stall_s, request.floor_bytes_s, request.floor_window_s)
            await receive(response.raw, writer, length, patience)
        finally:
            # A content that was not read to its end leaves a connection that cannot be used again.
            if not response.raw.content.at_eof():
                response.raw.close()

    async def _fetch_rest(self, writer: PartWriter, identity: Identity) -> None:
        """Request what `writer` still lacks, until it is complete."""
        while writer.remaining:
            wanted = writer.remaining
            response = await self._get(wanted, identity.if_range)
            try:
                if response.head.status == 200:
                    # By If-Range, a full response means another version; the same one means Range is ignored now.
                    identity.check(response.head, self._length(response.head))
                covered, total = self._covered(response.head, wanted)
                identity.check(response.head, total)
            except errors.GetmError:
                response.raw.close()
                raise
            await self._receive(response, writer, len(covered))

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
        if_range = head.strong_validator()
        if found is None or found.total is None or if_range is None:
            # Nothing would show that two responses are of one version: they may not be joined.
            response.raw.close()
            return await self._single(await self._answer(None))
        covered, total = self._covered(head, wanted)[0], found.total
        validator = head.validator()
        identity = Identity(total, validator.etag, validator.last_modified, if_range)
        self._announce(response, total, ranged=True)
        # Shared by the workers, and never a list: a server may claim any total.
        parts = plan_parts(Span(0, total), part_bytes)
        first = next(parts)
        count = -(-total // part_bytes)

        async def fetch_first() -> None:
            await self._fill(first.start, first.stop, identity, response, len(covered))
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
                await helper.fetch(self._part_request(span, identity), claim, self.emit)
            else:
                await self._fill(span.start, span.stop, identity, None, 0)

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
        request = self._request
        return OpenRequest(
            url=request.url,
            headers=request.headers,
            concurrency=1,
            part_slots=request.part_slots,
            checksum=None,
            strict=False,
            connect_s=request.connect_s,
            stall_s=request.stall_s,
            total_s=None,
            floor_bytes_s=request.floor_bytes_s,
            floor_window_s=request.floor_window_s,
            retries=request.retries,
            cacert=request.cacert,
            environment=request.environment,
            span=(span.start, span.stop),
            total=identity.total,
            etag=identity.etag,
            last_modified=identity.last_modified,
            if_range=identity.if_range,
            route=None if self._route is self._origin else (self._route.url, self._route.user_headers),
        )

    async def _serve_part(self, span: Span) -> int:
        """As a helper of another engine: one part of an object that is known already."""
        request = self._request
        identity = Identity(request.total or 0, request.etag, request.last_modified, request.if_range or "")
        self._channel.head(self._number, HeadInfo(request.url, 206, "", (), len(span), True, ()))
        await self._fill(span.start, span.stop, identity, None, 0)
        return len(span)

    # Verification ---------------------------------------------------------------------------------------------------

    def emit(self, offset: int, slot: int, length: int) -> None:
        """A slot is full: to the consumer with it, and to the hasher."""
        self._channel.part(self._number, offset, slot, length, self._hasher)

    async def _verdict(self, total: int) -> EndInfo:
        """What the bytes turned out to be. Raises `ChecksumMismatch`, or `Unverified` where strict."""
        verdict = unverified(self._reason)
        if self._hasher is not None:
            loop = asyncio.get_running_loop()
            decided: asyncio.Future[Verdict] = loop.create_future()
            self._hasher.finish(total, lambda found: self._channel.call_soon(_settle, decided, found))
            verdict = await decided
        if verdict.mismatch is not None:
            raise verdict.mismatch.as_error(self._at)
        if self._request.strict and not verdict.verified:
            raise errors.Unverified(
                f"strict was asked for and nothing verified the bytes: {verdict.reason}",
                url=self._at,
                reason=verdict.reason,
            )
        return EndInfo(
            total=total,
            verified=verdict.verified,
            checksum=None if verdict.checksum is None else str(verdict.checksum),
            source=verdict.source,
            reason=verdict.reason,
            requests=self._requests,
            retries=self._retries,
        )


class _Answered(Exception):
    """An error status, with what the server said of when to come back."""

    def __init__(self, error: errors.HTTPStatusError, retry_after_s: float | None) -> None:
        super().__init__(error)
        self.error = error
        self.retry_after_s = retry_after_s


def _settle(future: asyncio.Future[Verdict], verdict: Verdict) -> None:
    if not future.done():
        future.set_result(verdict)
