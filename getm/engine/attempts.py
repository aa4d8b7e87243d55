"""The requests of one transfer: where they go, what refuses them, and when they are made again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from getm import errors
from getm.core.head import retry_after_s
from getm.core.redact import redact
from getm.core.retry import Retry, cause
from getm.core.spans import Span
from getm.engine.counters import Counters
from getm.engine.http.requests import HttpClient, Response, Route
from getm.engine.http.responses import WHOLE, refusal
from getm.engine.sources import Source, Sources
from getm.protocol.messages import NoteInfo, OpenRequest

# What a signed URL answers when its time is over: 401 or 403 by the book, 400 by S3 for an expired token.
_EXPIRED = frozenset({400, 401, 403})

# What counts as progress between two failures: a server that gives a few bytes each time would be asked for ever.
_PROGRESS_BYTES = 64 * 1024

_T = TypeVar("_T")


class Requests:
    """Makes the requests of one OPEN, and counts them in `counters`; `note` is told of each that is made again."""

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
        self._tally = counters
        self._note = note
        self._clock = asyncio.get_running_loop().time
        self._deadline = None if request.total_s is None else self._clock() + request.total_s
        self.sources: Sources = Sources(request, http.speeds)
        # Whether a request was answered before: a helper's lead has seen to that.
        self._answered = request.span is not None
        # Whether another source may go on where one fails.
        self.may_switch = may_switch

    @property
    def at(self) -> str:
        """The URL as it may stand in errors and logs."""
        return redact(self._request.url)

    @property
    def left_s(self) -> float | None:
        """Seconds until the whole must be there, None where there is no limit."""
        return None if self._deadline is None else self._deadline - self._clock()

    def answered(self, source: Source, response: Response) -> None:
        """The first response of the object is there: where its redirects led, the later requests go at once."""
        if response.redirects:
            source.route = response.route
        self._answered = True

    async def get(self, source: Source, span: Span | None, if_range: str | None = None) -> Response:
        """One request. Raises `Answered` for a status that brings nothing of the object, apart from those that answer
        the range (416) and the condition (412), which the caller reads."""
        route = source.route
        response = await self._ask(route, span, if_range)
        if response.head.status in _EXPIRED and route is not source.origin:
            await response.discard()
            response = await self._resolve_again(source, route, span, if_range)
        head = response.head
        refused = refusal(head, span, if_range, answered=self._answered, proxy=response.proxy)
        if refused is None:
            return response
        await response.discard()
        raise Answered(refused, retry_after_s(head, time.time()))

    def _ask(self, route: Route, span: Span | None, if_range: str | None) -> Awaitable[Response]:
        self._tally.requests += 1
        range_header = None if span is None else span.range_header()
        return self._http.get(self._request, route, range_header=range_header, if_range=if_range)

    async def _resolve_again(self, source: Source, expired: Route, span: Span | None, if_range: str | None) -> Response:
        """What redirects led to refuses us now: its signature has run out. Ask the caller's URL for another one; parts
        that find out at the same time wait for the first of them, and use what it got."""
        async with source.resolving:
            if source.route is expired:
                response = await self._ask(source.origin, span, if_range)
                if response.head.status in (*WHOLE, 206):
                    source.route = response.route
                return response
        return await self._ask(source.route, span, if_range)

    def after(self, source: Source, error: errors.GetmError) -> Source:
        """Whom to ask now that `source` has failed for good. Raises the first one's error where all have, and `error`
        where nobody may go on."""
        self.sources.give_up(source, error)
        if not self.may_switch():
            raise error from None
        others = self._others(source)
        if not others:
            raise self.sources.all_failed() from None
        self.again("mirror", 1, 0.0, f"{error}; going on with {redact(others[0].origin.url)}")
        return others[0]

    def _others(self, source: Source) -> list[Source]:
        return self.sources.others(source) if self.may_switch() else []

    async def retry(self, source: Source, attempt: Callable[[], Awaitable[_T]], progress: Callable[[], int]) -> _T:
        """Call `attempt` until it succeeds or the policy gives up on `source`; returns what it does. `progress` tells
        the bytes so far: enough new ones count the attempts from the start again. What is wrong with an answer is not
        waited for where there is somebody else to ask."""
        failures, seen = 0, progress()
        while True:
            try:
                return await attempt()
            except (errors.GetmError, Answered) as caught:
                error = caught.error if isinstance(caught, Answered) else caught
                wait_s = caught.retry_after_s if isinstance(caught, Answered) else None
                if progress() - seen >= _PROGRESS_BYTES:
                    failures, seen = 0, progress()
                failures += 1
                if isinstance(error, errors.HTTPStatusError | errors.BadResponse) and self._others(source):
                    raise error from None
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


class Answered(Exception):
    """An error status, with what the server said of when to come back."""

    def __init__(self, error: errors.HTTPStatusError, retry_after_s: float | None) -> None:
        super().__init__(error)
        self.error = error
        self.retry_after_s = retry_after_s
