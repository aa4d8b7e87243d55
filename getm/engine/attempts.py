"""The requests of one transfer: where they go, what refuses them, and when they are retried."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from getm import errors
from getm.core.head import retry_after_s
from getm.core.redact import redact
from getm.core.retry import Fail, Retry, cause, is_transient
from getm.core.spans import Span
from getm.engine.counters import Counters
from getm.engine.http.requests import HttpClient, Response, Route
from getm.engine.http.responses import WHOLE, refusal
from getm.engine.sources import Source, Sources
from getm.protocol.messages import NoteInfo, OpenRequest

# The statuses for an expired signed URL: usually 401 or 403, 400 by S3 for an expired token.
_EXPIRED = frozenset({400, 401, 403})

# Error statuses that never mean that a server refuses ranges: they are about who asks, when, how often, or for which
# range.
_NOT_OF_RANGES = frozenset({401, 408, 425, 429})

# What counts as progress between two failures: fewer bytes do not, or a server that sends a few each time would be
# asked for ever.
_PROGRESS_BYTES = 64 * 1024

# Bytes that came so long ago show that the object still flows.
_FLOWING_S = 1.0

_T = TypeVar("_T")


class Attempts:
    """Makes the requests of one OPEN, and counts them in `counters`; `note` is called for each retry."""

    def __init__(
        self,
        http: HttpClient,
        request: OpenRequest,
        counters: Counters,
        note: Callable[[NoteInfo], None],
        may_switch: Callable[[], bool],
    ) -> None:
        self._http = http
        self._request = request
        self._counters = counters
        self.note = note
        self._clock = asyncio.get_running_loop().time
        self._deadline = None if request.total_s is None else self._clock() + request.total_s
        self.sources: Sources = Sources(request, http.speeds)
        # Whether a request was answered before; by a helper's lead, it was.
        self._answered = request.delegated
        # Whether another source may continue where one fails.
        self.may_switch = may_switch
        # Whether several parts are fetched at once, how many ask or receive now, and how often bytes have come.
        self.in_parts = request.delegated
        self._active = 0
        self._deliveries = 0
        self._delivered_at = 0.0
        # Set when bytes have come for any part or an attempt has ended, and when a part has: a server that allows few
        # connections then has one for another part.
        self._changed, self._part_ended = asyncio.Event(), asyncio.Event()

    @property
    def at(self) -> str:
        """The URL as it may be shown in errors and logs."""
        return redact(self._request.url)

    @property
    def left_s(self) -> float | None:
        """Seconds until the deadline; None where there is none."""
        return None if self._deadline is None else self._deadline - self._clock()

    def answered(self, source: Source, response: Response) -> None:
        """The first response of the object has come: later requests go directly to where its redirects led."""
        if response.redirects:
            source.route = response.route
        self._answered = True

    # One request ----------------------------------------------------------------------------------------------------

    async def get(self, source: Source, span: Span | None, if_range: str | None, *, may_skip: bool) -> Response:
        """One request, and one more where the server is found not to grant what the first one asked for. Raises
        `Answered` for a status that brings nothing of the object, apart from those that answer the range (416) and the
        condition (412), which the caller reads.

        `may_skip`: a response from the object's start on can be used as well (RFC 9110, section 14.2: a server may
        ignore Range; some refuse it by an error). Where it is not, and the server sends nothing but such a one, that is
        `RangesRefused`.
        """
        if may_skip and not source.grants_ranges:
            span = if_range = None
            source.owes_whole = False
        if not source.takes_if_range:
            if_range = None
        try:
            response = await self._current(source, span, if_range)
        except errors.Truncated:
            if span is not None and may_skip:
                self._doubt_ranges(source)
            raise
        if span is not None and self._may_refuse_ranges(response, if_range, may_skip=may_skip):
            if may_skip and len(self.sources.living) > 1:
                source.grants_ranges, source.owes_whole = False, True
            elif may_skip:
                # First, so that its connection is not lost where the next request fails.
                await response.discard()
                whole = await self._current(source, None, None)
                if whole.head.status in WHOLE:
                    source.grants_ranges = False
                    return whole
                await whole.discard()
            else:
                await response.discard()
                if await self._grants_whole(source):
                    raise self._refused(f"it answered {response.head.status} to a range, and 200 to the whole")
        elif span is not None and if_range is not None and _is_whole_of(source, response):
            # A few servers send the whole object whenever If-Range is present.
            response.raw.close()
            source.takes_if_range = False
            response = await self._current(source, span, None)
        refused = refusal(response.head, span, if_range, answered=self._answered, proxy=response.proxy)
        if refused is None:
            return response
        if span is not None and may_skip and response.head.status not in _NOT_OF_RANGES:
            self._doubt_ranges(source)
        await response.discard()
        raise Answered(refused, retry_after_s(response.head, time.time()))

    def _may_refuse_ranges(self, response: Response, if_range: str | None, *, may_skip: bool) -> bool:
        """Whether the answer to a request for a range may mean that the server takes none, whatever status it has for
        that. What may pass is waited for first."""
        status = response.head.status
        if status < 400 or status in _NOT_OF_RANGES or (status == 412 and if_range is not None):
            return False
        if status in self._request.retries.statuses:
            return False
        return not may_skip or status != 416

    def _doubt_ranges(self, source: Source) -> None:
        """A request for a range has failed in a way that may pass. Where it does so again, the next one is for the
        whole: it may have been the range."""
        if source.failures:
            source.grants_ranges = False

    def _refused(self, why: str) -> errors.RangesRefused:
        return errors.RangesRefused(
            f"the server granted range requests and stopped to: {why}; read it with concurrency=1", url=self.at
        )

    async def _grants_whole(self, source: Source) -> bool:
        """Whether the source sends the object to a request without Range; asked once for all parts."""
        async with source.resolving:
            if source.grants_whole is None:
                source.grants_whole = False
                with contextlib.suppress(errors.NetworkError):
                    whole = await self._ask(source.route, None, None)
                    whole.raw.close()
                    source.grants_whole = whole.head.status in WHOLE
        return source.grants_whole

    async def _current(self, source: Source, span: Span | None, if_range: str | None) -> Response:
        """The response from where the source is now; if the target of a redirect refuses us, the redirect is followed
        again."""
        route = source.route
        response = await self._ask(route, span, if_range)
        if response.head.status in _EXPIRED and route is not source.origin:
            await response.discard()
            response = await self._resolve_again(source, route, span, if_range)
        return response

    def _ask(self, route: Route, span: Span | None, if_range: str | None) -> Awaitable[Response]:
        self._counters.requests += 1
        range_header = None if span is None else span.range_header()
        return self._http.get(self._request, route, range_header=range_header, if_range=if_range)

    async def _resolve_again(self, source: Source, expired: Route, span: Span | None, if_range: str | None) -> Response:
        """The target of the redirects refuses us: its signature has expired. Ask the caller's URL for another one;
        parts that notice at the same time wait for the first of them, and use its result."""
        async with source.resolving:
            if source.route is expired:
                response = await self._ask(source.origin, span, if_range)
                if response.head.status in (*WHOLE, 206):
                    source.route = response.route
                return response
        return await self._ask(source.route, span, if_range)

    # Again, and elsewhere ---------------------------------------------------------------------------------------------

    async def run(
        self, source: Source, attempt: Callable[[Source], Awaitable[_T]], progress: Callable[[], int] = lambda: 0
    ) -> _T:
        """Call `attempt` with a source until it succeeds, and return what it does; raises what the policy gives up on.

        `progress` returns the bytes so far: after enough new ones, failures are counted from zero. After a failure
        another source comes first, where one may continue. While bytes come for other parts of the object, a transient
        failure ends nothing: a server may allow fewer connections than are requested.
        """
        seen = position = progress()
        deliveries = self._deliveries
        while True:
            try:
                return await attempt(source)
            except (errors.GetmError, Answered, CannotGoOn) as caught:
                error = caught if isinstance(caught, errors.GetmError) else caught.error
                if not isinstance(error, errors.NetworkError | errors.SizeMismatch):
                    raise error from None
                if progress() - seen >= _PROGRESS_BYTES:
                    self.sources.forgive()
                    seen = progress()
                wait_s = caught.retry_after_s if isinstance(caught, Answered) else None
                final = isinstance(caught, CannotGoOn)
                # What came for this part says nothing of the others.
                since = deliveries if progress() == position else self._deliveries
                position, deliveries = progress(), self._deliveries
                source = await self._after(source, error, wait_s, final=final, since=since)

    async def _after(
        self,
        source: Source,
        error: errors.NetworkError | errors.SizeMismatch,
        retry_after_s: float | None,
        *,
        final: bool,
        since: int,
    ) -> Source:
        """The source to ask after `source` has failed, once it is time to. Raises where none is left."""
        why = cause(error)
        self._counters.stalls += why == "stall"
        source.failed(error)
        if final or not (source.owes_whole or is_transient(error, self._request.retries.statuses)):
            self.sources.give_up(source, error)
        may_switch = self.may_switch()
        candidates = self.sources.living if may_switch else [source] if source.error is None else []
        if not candidates:
            raise (self.sources.all_failed() if may_switch else error) from None
        best = min(candidates, key=lambda candidate: candidate.failures)
        if best.owes_whole or (best is not source and not best.failures):
            self.again("mirror", 1, 0.0, f"{error}; going on with {redact(best.origin.url)}")
            return best
        failure = best.last_error or error
        if best is not source:
            retry_after_s = None
        retries, number = self._request.retries, best.failures
        may_pass = is_transient(failure, retries.statuses)
        if number > retries.attempts > 0 and self.in_parts and may_pass and await self._others_progress(since):
            best.failures = number = 1
        verdict = retries.decide(
            failure, number, jitter=random.random(), retry_after_s=retry_after_s, left_s=self.left_s
        )
        if isinstance(verdict, Fail):
            if verdict.late:
                limit_s = self._request.total_s
                failure.message += f"; another attempt would come after the limit of {limit_s:g} s for the whole"
            if (
                self.in_parts
                and isinstance(failure, errors.HTTPStatusError | errors.BadResponse | errors.Truncated)
                and not (isinstance(failure, errors.HTTPStatusError) and failure.status in _NOT_OF_RANGES)
                and await self._grants_whole(best)
            ):
                raise self._refused(failure.message) from None
            for candidate in candidates:
                self.sources.give_up(candidate, candidate.last_error or error)
            raise (self.sources.all_failed() if may_switch else failure) from None
        self.again(cause(failure), best.failures, verdict.delay_s, str(failure))
        await self._pause(verdict, asked_for=retry_after_s is not None)
        return best

    async def _others_progress(self, since: int) -> bool:
        """Wait until more bytes have come for the object than when `since` had; False where none are asked for."""
        while self._active and self._deliveries == since:
            self._changed.clear()
            await self._changed.wait()
        if self._deliveries == since and self._clock() - self._delivered_at < _FLOWING_S:
            # Between two parts nobody asks for a moment.
            await asyncio.sleep(_FLOWING_S / 10)
            return True
        return self._deliveries > since

    async def _pause(self, retry: Retry, *, asked_for: bool) -> None:
        """Wait, but not after another part of the object has ended: its connection may be the one that this part
        lacks."""
        if asked_for:
            await asyncio.sleep(retry.delay_s)
            return
        self._part_ended.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(retry.delay_s):
                await self._part_ended.wait()

    def _others(self, source: Source) -> list[Source]:
        return self.sources.others(source) if self.may_switch() else []

    def delivered(self) -> None:
        """Bytes of the object have come, in whichever part."""
        self._deliveries += 1
        self._delivered_at = self._clock()
        self._changed.set()

    def part_ended(self) -> None:
        """A part has come to its end, or has failed."""
        self._part_ended.set()

    @contextlib.contextmanager
    def attempt(self, source: Source) -> Iterator[None]:
        """While a part asks `source`, and receives what it sends."""
        source.active += 1
        self._active += 1
        try:
            yield
        finally:
            source.active -= 1
            self._active -= 1
            self._changed.set()

    def again(self, why: str, attempt: int, delay_s: float, message: str) -> None:
        """Count and report a retry, after `delay_s` seconds."""
        self._counters.retried(why)
        self.note(NoteInfo(why, attempt, delay_s, message))

    def annotate(self, error: errors.GetmError) -> errors.GetmError:
        """The error as the caller gets it: with the URL and the number of requests."""
        if error.url is None:
            error.url = self.at
        if isinstance(error, errors.NetworkError) and not self._request.delegated:
            # A helper knows only its own: its lead counts all.
            count = error.attempts = self._counters.requests
            if count > 1:
                error.message = f"{error.message}, after {count} requests"
        return error


class Answered(Exception):
    """An error status, with the server's Retry-After."""

    def __init__(self, error: errors.HTTPStatusError, retry_after_s: float | None) -> None:
        super().__init__(error)
        self.error = error
        self.retry_after_s = retry_after_s


class CannotGoOn(Exception):
    """A failure after which this source cannot be asked for the rest: nothing would show that it is of the version that
    has come so far."""

    def __init__(self, error: errors.NetworkError) -> None:
        super().__init__(error)
        self.error = error


def _is_whole_of(source: Source, response: Response) -> bool:
    """Whether the response is the whole of the very version that the source has."""
    head, version = response.head, source.version
    return head.status in WHOLE and version.joinable and head.version(None).strong == version.strong
