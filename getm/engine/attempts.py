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
from getm.core.retry import PACED, TOO_MANY_STATUSES, Fail, cause, is_refusal, is_transient, short_reason
from getm.core.signed_url import expired_by_clock, utc_text
from getm.core.spans import Span
from getm.engine.counters import Counters
from getm.engine.http.connections import Begun
from getm.engine.http.requests import HttpClient, Response
from getm.engine.http.responses import REFUSED, WHOLE, refusal, url_expired, wrong_size
from getm.engine.renewal import Ask, Renewal
from getm.engine.sources import Ranges, Source, Sources
from getm.protocol.messages import NoteInfo, OpenRequest, Route

# Error statuses that never mean that a server refuses ranges: they are about who asks, when, how often, or for which
# range.
_NOT_OF_RANGES = frozenset({401, 408, 425, 429})

# What counts as progress between two failures: fewer bytes do not, or a server that sends a few each time would be
# asked for ever.
_PROGRESS_BYTES = 64 * 1024

# Bytes that came so long ago show that the object still flows.
_FLOWING_S = 1.0

# How long a refused connection waits for another one to end, before the retry policy decides.
_MAX_WAIT_S = 30.0

# How many refusals in a row, without progress, do not count as failures where the host grants others meanwhile: finding
# out how often it may be asked takes a few.
_MAX_UNCOUNTED = 16

_T = TypeVar("_T")


class Failed(Exception):
    """The failure of a request: `error`, with the server's Retry-After. `final`: its source cannot be asked for the
    rest, since nothing would show that it is of the version that has come so far."""

    def __init__(
        self,
        error: errors.NetworkError | errors.SizeMismatch,
        retry_after_s: float | None = None,
        *,
        final: bool = False,
    ) -> None:
        super().__init__(error)
        self.error = error
        self.retry_after_s = retry_after_s
        self.final = final


class Attempts:
    """Makes the requests of one OPEN, and counts them in `counters`; `note` is called for each retry, and `ask` for new
    URLs. `begun`: the first of them, where it was sent before, at `began_s`; see `HttpClient.begin`."""

    def __init__(
        self,
        http: HttpClient,
        request: OpenRequest,
        note: Callable[[NoteInfo], None],
        ask: Ask,
        begun: Begun | None = None,
        began_s: float | None = None,
    ) -> None:
        self.http = http
        self.request = request
        self.counters: Counters = Counters(began_s)
        self.note = note
        self._begun = begun
        self._clock = asyncio.get_running_loop().time
        self._deadline = None if request.total_s is None else self._clock() + request.total_s
        self.sources: Sources = Sources(request, http.speeds)
        self.renewal: Renewal = Renewal(request, self.sources, ask)
        # Whether a request was answered before, and the consumer has the head; with a helper's lead, that is so.
        self._answered = request.delegated
        # The object's size once it is known, and whether wrong bytes would be noticed at the end.
        self.size: int | None = None
        self.certain: bool = False
        # Whether several parts are fetched at once, how many ask or receive now, how often enough bytes have come to
        # count, when they last did, and how many have come since; and whether none has come at all.
        self.in_parts: bool = request.delegated
        self._active = 0
        # How long responses took to begin: the fastest, and the last; None: none yet, or none since it was cleared.
        self.fastest_s: float | None = None
        self.latency_s: float | None = None
        # Waits until another connection to the host has ended, for one that was refused, a number of seconds at most;
        # False where there is none to wait for. None: by the retry policy alone.
        self.wait_for_others: Callable[[float], Awaitable[bool]] | None = None
        self._deliveries = 0
        self._delivered_at = 0.0
        self._uncounted_bytes = 0
        self._untouched = True
        # How a source failed that cannot be asked for the rest: whoever can start over must hear of it, whatever others
        # have answered.
        self._broken_off: errors.NetworkError | errors.SizeMismatch | None = None
        # Set when bytes have come for any part or an attempt has begun or ended, and when a part has ended: a server
        # that allows few connections then has one for another part.
        self._changed, self._part_ended = asyncio.Event(), asyncio.Event()

    @property
    def at(self) -> str:
        """The URL as it may be shown in errors and logs."""
        return redact(self.request.url)

    @property
    def left_s(self) -> float | None:
        """Seconds until the deadline; None where there is none."""
        return None if self._deadline is None else self._deadline - self._clock()

    def answered(self, source: Source, response: Response, size: int | None, *, certain: bool) -> None:
        """The first response of the object has come, and the consumer gets its head: later requests go directly to
        where its redirects led."""
        source.route = response.route
        self._answered, self.size, self.certain = True, size, certain

    def _may_switch(self, position: int) -> bool:
        """Whether a mirror may continue where a source fails: before the consumer has the head; or where the size shows
        that it is the same object, and nothing of another one has come or wrong bytes would be noticed at the end."""
        if self.request.delegated or not self._answered:
            return True
        nothing_yet = self._untouched and not (self.in_parts or position)
        return self.size is not None and (self.certain or nothing_yet)

    # One request ----------------------------------------------------------------------------------------------------

    def open_ahead(self, source: Source, count: int) -> None:
        """Open `count` connections for parts that will probably be requested from `source`."""
        self.http.open_ahead(self.request, source.route, count)

    async def get(
        self,
        source: Source,
        span: Span | None,
        if_range: str | None,
        *,
        may_skip: bool,
        proves: bool = False,
        begun: Begun | None = None,
    ) -> Response:
        """One request, and one more where the server is found not to grant what the first one asked for, or where the
        URL has expired and another one can be had. Raises `Failed` for a status that brings nothing of the object,
        apart from those that answer the range (416) and the condition (412), which the caller reads.

        `may_skip`: a response from the object's start on can be used as well (RFC 9110, section 14.2: a server may
        ignore Range; some refuse it by an error). Where it is not, and the server sends nothing but such a one, that is
        `RangesRefused`. `proves`: whether ranges are granted is not known, and nothing relies on it. `begun`: this very
        request, which was sent before.
        """
        while True:
            origin = source.origin
            try:
                response = await self._get(source, span, if_range, may_skip=may_skip, proves=proves, begun=begun)
            except Failed as failed:
                if not await self.renewal.renew(source, failed.error, origin):
                    raise
                begun = None
                self.again(NoteInfo("expired", 1, 0.0, f"{failed.error}; going on with a new URL"))
            else:
                self.renewal.succeeded()
                return response

    async def _get(
        self,
        source: Source,
        span: Span | None,
        if_range: str | None,
        *,
        may_skip: bool,
        proves: bool,
        begun: Begun | None,
    ) -> Response:
        self._check_not_expired(source)
        if may_skip and source.ranges is not Ranges.GRANTED:
            source.ranges = Ranges.REFUSED
            span = if_range = None
        if not source.takes_if_range:
            if_range = None
        try:
            response = await self._current(source, span, if_range, begun)
            head = response.head
        except errors.Truncated:
            if span is not None and may_skip:
                source.doubt_ranges()
            raise
        content: bytes | None = None
        if span is not None and self._may_refuse_ranges(head.status, if_range, may_skip=may_skip):
            # First, so that its connection is not lost where the next request fails.
            content = await response.discard()
            expired = self._refusal(source, response, content, span, if_range, answered=False)
            asks = self.renewal.may_mean_expiry(source, head.status)
            if expired is not None and (asks or isinstance(expired, errors.URLExpired)):
                raise Failed(expired)
            if not may_skip:
                if not proves and await self._grants_whole(source):
                    raise self._refused(f"it answered {head.status} to a range, and 200 to the whole")
            elif len(self.sources.living) > 1:
                source.ranges = Ranges.UNDECIDED
            else:
                whole = await self._current(source, None, None)
                if whole.head.status in WHOLE or whole.head.status in self.request.retries.statuses:
                    # One that may pass is retried, for the whole.
                    source.ranges, response, span, content = Ranges.REFUSED, whole, None, None
                else:
                    await whole.discard()
        elif if_range and head.status in WHOLE and if_range == source.version.strong == head.strong_validator():
            # A few servers send the whole object whenever If-Range is present.
            response.raw.close()
            source.takes_if_range = False
            response = await self._current(source, span, None)
        head = response.head
        if head.status == 304 and self._unless(source.route) is not None:
            return response
        failure = refusal(head, span, if_range) or wrong_size(self.request.size, head)
        if failure is None:
            return response
        if span is not None and may_skip and head.status not in _NOT_OF_RANGES:
            source.doubt_ranges()
        if content is None:
            content = await response.discard()
        refused = self._refusal(source, response, content, span, if_range, answered=self._answered)
        raise Failed(refused or failure, retry_after_s(head, time.time()))

    def _refusal(
        self,
        source: Source,
        response: Response,
        content: bytes,
        span: Span | None,
        if_range: str | None,
        *,
        answered: bool,
    ) -> errors.HTTPStatusError | errors.URLExpired | None:
        """The error of a response of `source` whose content was read; None where its status is none."""
        return refusal(
            response.head,
            span,
            if_range,
            answered=answered,
            proxy=response.proxy,
            content=content,
            headers=response.route.user_headers,
            redirected=response.route.url != source.origin.url,
        )

    def _check_not_expired(self, source: Source) -> None:
        """Raises `Failed` for a signed URL that needs no request to be known as expired. What has been answered is
        requested again, unless another URL can be had: that server seems not to mind."""
        if source.route != source.origin:
            return
        url, now_s = source.origin.url, time.time()
        expired_s = self.renewal.expired_s(source, now_s)
        if expired_s is None and not self._answered:
            expired_s = expired_by_clock(url, now_s)
        if expired_s is not None:
            why = f"no request was made: it is {utc_text(now_s)} by the clock of this machine"
            raise Failed(url_expired(url, expired_s, why))

    def _may_refuse_ranges(self, status: int, if_range: str | None, *, may_skip: bool) -> bool:
        """Whether the answer to a request for a range may mean that the server takes none, whatever status it has for
        that. What may pass is waited for first, where there are retries."""
        retries = self.request.retries
        may_pass = retries.statuses if retries.attempts or not may_skip else ()
        others = _NOT_OF_RANGES.union(may_pass)
        return (
            status >= 400
            and status not in others
            and not (status == 412 and if_range is not None)
            and not (status == 416 and may_skip)
        )

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

    async def _current(
        self, source: Source, span: Span | None, if_range: str | None, begun: Begun | None = None
    ) -> Response:
        """The response from where the source is now; if the target of a redirect refuses us, the redirect is followed
        again."""
        route = source.route
        response = await self._ask(route, span, if_range, begun)
        if response.head.status in REFUSED and route != source.origin:
            await response.discard()
            response = await self._resolve_again(source, route, span, if_range)
        return response

    def head(self, source: Source) -> Awaitable[Response]:
        """One HEAD, whatever the answer is."""
        if not self.renewal.may_renew(source):
            self._check_not_expired(source)
        self.counters.requests += 1
        return self.http.get(self.request, source.route, method="HEAD", tell=self._waits)

    def _ask(
        self, route: Route, span: Span | None, if_range: str | None, begun: Begun | None = None
    ) -> Awaitable[Response]:
        self.counters.requests += 1
        range_header = None if span is None else span.range_header()
        if begun is None:
            begun, self._begun = self._begun, None
        return self.http.get(
            self.request,
            route,
            range_header=range_header,
            if_range=if_range,
            unless=self._unless(route),
            begun=begun,
            tell=self._waits,
        )

    def _unless(self, route: Route) -> tuple[str, str] | None:
        """The condition of the first request. Validators are those of the server that sent them: a mirror gets none."""
        unless, given = self.request.unless, self.sources.given
        return None if unless is None or self._answered or route is not given.route else unless.condition()

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
            except (errors.NetworkError, errors.SizeMismatch, Failed) as caught:
                failed = caught if isinstance(caught, Failed) else Failed(caught)
            if progress() - seen >= _PROGRESS_BYTES:
                self.sources.forgive()
                seen = progress()
            came = progress() != position
            # What came for this part says nothing of the others.
            since = self._deliveries if came else deliveries
            position, deliveries = progress(), self._deliveries
            began_s = time.monotonic()
            try:
                source = await self._after(source, failed, position, since, came)
            finally:
                self.counters.retry_s += time.monotonic() - began_s

    async def _after(self, source: Source, failed: Failed, position: int, since: int, came: bool) -> Source:
        """The source to ask after `source` has failed at `position`, once it is time to; `came`: it had brought
        something. Raises where none is left."""
        error, retries = failed.error, self.request.retries
        self.counters.stalls += cause(error) == "stall"
        source.failures += 1
        source.last_error = error
        if failed.final:
            self._broken_off = error
        # Nothing but a single response can use the whole.
        owes_whole = source.ranges is Ranges.UNDECIDED and not self.in_parts
        if failed.final or not (owes_whole or is_transient(error, retries.statuses)):
            self.sources.give_up(source, error)
        may_switch = self._may_switch(position)
        candidates = self.sources.living if may_switch else [source] if source.error is None else []
        if not candidates:
            # Whoever can start over must learn that this one cannot be continued.
            raise (self._broken_off or (self.sources.all_failed() if may_switch else error)) from None
        best = min(candidates, key=lambda candidate: candidate.failures)
        if (best.ranges is Ranges.UNDECIDED and not self.in_parts) or (best is not source and not best.failures):
            self.again(NoteInfo("mirror", 1, 0.0, f"{error}; going on with {redact(best.origin.url)}"))
            return best
        failure = best.last_error or error
        if self.wait_for_others is not None and best is source and not came and is_refusal(error):
            left_s = self.left_s
            if await self.wait_for_others(_MAX_WAIT_S if left_s is None else min(_MAX_WAIT_S, left_s)):
                source.failures -= 1
                self.again(NoteInfo(cause(error), 1, 0.0, f"{error}; going on as another connection has ended"))
                return source
        if best is source and self._refused_for_others(source, failed):
            source.failures -= 1
            text = f"{error}; {self.http.paces.describe(source.route.url) or 'it grants others'}"
            number = source.failures + 1
            delay_s = min(failed.retry_after_s or 0.0, retries.cap_s)
            self.again(NoteInfo(cause(error), number, delay_s, text, short_reason(error), retries.attempts))
            return source
        asked_for_s = failed.retry_after_s if best is source else None
        spent = best.failures > retries.attempts > 0 and is_transient(failure, retries.statuses)
        if spent and self.in_parts and await self._others_progress(since):
            best.failures = 1
        verdict = retries.decide(
            failure, best.failures, jitter=random.random(), retry_after_s=asked_for_s, left_s=self.left_s
        )
        if isinstance(verdict, Fail):
            if verdict.late:
                limit_s = self.request.total_s
                failure.message += f"; another attempt would come after the limit of {limit_s:g} s for the whole"
            elif "; " not in failure.message and is_transient(failure, retries.statuses):
                # Others say what to do.
                later = " later" if isinstance(failure, errors.HTTPStatusError) else ""
                failure.message += f"; try again{later}"
            of_ranges = isinstance(failure, errors.HTTPStatusError | errors.BadResponse | errors.Truncated)
            of_ranges = of_ranges and getattr(failure, "status", None) not in _NOT_OF_RANGES
            if self.in_parts and of_ranges and await self._grants_whole(best):
                raise self._refused(failure.message) from None
            for candidate in candidates:
                self.sources.give_up(candidate, candidate.last_error or error)
            raise (self._broken_off or (self.sources.all_failed() if may_switch else failure)) from None
        why = NoteInfo(
            cause(failure), best.failures, verdict.delay_s, str(failure), short_reason(failure), retries.attempts
        )
        self.again(why)
        # Not after another part of the object has ended: its connection may be the one that this part lacks.
        await _came(self._part_ended if asked_for_s is None else asyncio.Event(), verdict.delay_s)
        return best

    def _refused_for_others(self, source: Source, failed: Failed) -> bool:
        """Whether `source` has refused a request as one too many, as was to be expected while it grants others of this
        user's: it is asked again when its turn comes, and that is no failure."""
        error = failed.error
        if not isinstance(error, errors.HTTPStatusError) or error.status not in TOO_MANY_STATUSES:
            return False
        if error.status != 429 and failed.retry_after_s:
            # That is not waited for with the others.
            return False
        source.answers, expected = self.http.paces.explain(source.route.url, source.answers)
        retries = self.request.retries
        if not (expected and retries.attempts and error.status in retries.statuses):
            return False
        source.uncounted += 1
        return source.uncounted <= _MAX_UNCOUNTED

    async def _others_progress(self, since: int) -> bool:
        """Wait until more bytes have come for the object than when `since` had, or, while no other part is asked for,
        until the last ones came so long ago that it no longer flows. False where that was before."""
        while self._deliveries == since:
            left_s = None if self._active else self._delivered_at + _FLOWING_S - self._clock()
            if left_s is not None and left_s <= 0:
                return False
            if not await _came(self._changed, left_s):
                return True
        return True

    def began(self, seconds: float) -> None:
        """A response has begun, after so long."""
        self.latency_s = seconds
        self.fastest_s = min(self.fastest_s or seconds, seconds)

    def delivered(self, count: int) -> None:
        """So many bytes of the object have come, in whichever part."""
        self._untouched = False
        self._uncounted_bytes += count
        if self._uncounted_bytes >= _PROGRESS_BYTES:
            self._count_delivery()

    def _count_delivery(self) -> None:
        self._uncounted_bytes = 0
        self._deliveries += 1
        self._delivered_at = self._clock()
        self._changed.set()
        # A helper engine may have had them, by a URL that none of our own requests was answered for.
        self.renewal.succeeded()

    def part_ended(self, *, complete: bool) -> None:
        """A part has come to its end, `complete`, or has failed."""
        if complete:
            # However few its last bytes were: it has a connection to spare.
            self._count_delivery()
        self._part_ended.set()

    def alternate(self, source: Source) -> Source:
        """The source to ask for what comes too slowly from `source`."""
        return self.sources.spread() if self.request.delegated or self.certain else source

    @contextlib.contextmanager
    def attempt(self, source: Source) -> Iterator[None]:
        """While a part asks `source`, and receives what it sends."""
        source.active += 1
        self._active += 1
        self._changed.set()
        try:
            yield
        finally:
            source.active -= 1
            self._active -= 1
            self._changed.set()

    def again(self, note: NoteInfo) -> None:
        """Count and report a retry."""
        self.counters.retries[note.cause] += 1
        self.note(note)

    def _waits(self, wait_s: float, why: str) -> None:
        """A request waits for its turn."""
        self.note(NoteInfo(PACED, 0, wait_s, why))

    def annotate(self, error: errors.GetmError) -> errors.GetmError:
        """The error as the caller gets it: with the URL and the number of requests."""
        if error.url is None:
            error.url = self.at
        if isinstance(error, errors.NetworkError) and not self.request.delegated:
            # A helper knows only its own: its lead counts all.
            count = error.attempts = self.counters.requests
            if count > 1:
                error.message = f"{error.message} (after {count} requests)"
        return error


async def _came(event: asyncio.Event, limit_s: float | None) -> bool:
    """Wait for the event, not longer than `limit_s`; whether it came."""
    event.clear()
    try:
        async with asyncio.timeout(limit_s):
            return await event.wait()
    except TimeoutError:
        return False
