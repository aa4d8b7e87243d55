"""The requests of one transfer: where they go, what refuses them, and when they are made again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from getm import errors
from getm.engine.http import HttpClient, Response, Route
from getm.engine.tally import Tally
from getm.head import retry_after_s
from getm.redact import redact
from getm.retry import Retry, cause
from getm.spans import Span
from getm.wire import NoteInfo, OpenRequest

# What a signed URL answers when its time is over: 401 or 403 by the book, 400 by S3 for an expired token.
_EXPIRED = frozenset({400, 401, 403})

# What counts as progress between two failures: a server that gives a few bytes each time would be asked for ever.
_PROGRESS_BYTES = 64 * 1024


class Requests:
    """Makes the requests of one OPEN, and counts them in `tally`; `note` is told of each that is made again."""

    def __init__(self, http: HttpClient, request: OpenRequest, tally: Tally, note: Callable[[NoteInfo], None]) -> None:
        self._http = http
        self._request = request
        self._tally = tally
        self._note = note
        self._clock = asyncio.get_running_loop().time
        self._deadline = None if request.total_s is None else self._clock() + request.total_s
        self._origin = Route(request.url, request.headers)
        # Redirects are followed once for all parts: the origin may be slow, or count requests.
        self._route = self._origin if request.route is None else Route(*request.route)
        self._resolving = asyncio.Lock()

    @property
    def at(self) -> str:
        """The URL as it may stand in errors and logs."""
        return redact(self._request.url)

    @property
    def left_s(self) -> float | None:
        """Seconds until the whole must be there, None where there is no limit."""
        return None if self._deadline is None else self._deadline - self._clock()

    @property
    def led_to(self) -> Route | None:
        """Where redirects led, None where there were none."""
        return None if self._route is self._origin else self._route

    async def first(self, span: Span | None) -> Response:
        """The first response of the object: where its redirects led, the later requests go at once."""
        response = await self.get(span)
        if response.redirects:
            self._route = response.route
        return response

    async def get(self, span: Span | None, if_range: str | None = None) -> Response:
        """One request. Raises `_Answered` for an error status, apart from a 416, which the caller reads."""
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
        self._tally.requests += 1
        range_header = None if span is None else span.range_header()
        return await self._http.get(self._request, route, range_header=range_header, if_range=if_range)

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

    async def persist(self, attempt: Callable[[], Awaitable[None]], progress: Callable[[], int]) -> None:
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
                why = cause(error)
                self._tally.stalls += why == "stall"
                verdict = self._request.retries.decide(
                    error, failures, jitter=random.random(), retry_after_s=wait_s, left_s=self.left_s
                )
                if not isinstance(verdict, Retry):
                    if verdict.late:
                        limit_s = self._request.total_s
                        error.message += f"; another attempt would come after the limit of {limit_s:g} s for the whole"
                    raise error from None
                self.again(why, failures, verdict.delay_s, str(error))
                await asyncio.sleep(verdict.delay_s)

    def again(self, why: str, attempt: int, delay_s: float, message: str) -> None:
        """Count and tell that something is asked for again, after `delay_s` seconds."""
        self._tally.retried(why)
        self._note(NoteInfo(why, attempt, delay_s, message))

    def told(self, error: errors.GetmError) -> errors.GetmError:
        """The error as the caller sees it: with the URL and the number of requests made."""
        if error.url is None:
            error.url = self.at
        if isinstance(error, errors.NetworkError) and self._request.span is None:
            # A helper knows only its own: its lead tells of all.
            count = error.attempts = self._tally.requests
            if count > 1:
                error.message = f"{error.message}, after {count} requests"
        return error


class _Answered(Exception):
    """An error status, with what the server said of when to come back."""

    def __init__(self, error: errors.HTTPStatusError, retry_after_s: float | None) -> None:
        super().__init__(error)
        self.error = error
        self.retry_after_s = retry_after_s
