"""Asks a provider where its object is: when it is opened, and again when the URL expires.

A provider runs in a thread of its own, so that nothing waits for it but what needs its answer: a program may be waiting
for the bytes in its only thread, or in its event loop. What is awaitable is awaited in the event loop of the caller.
"""

from __future__ import annotations

import contextvars
import inspect
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from copy import copy
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from getm import errors
from getm.core.redact import redact_text
from getm.core.signed_url import find_signature
from getm.core.text import brief
from getm.options import validate_headers
from getm.protocol.messages import NO_URLS, OpenRequest, Renewable, RenewedInfo, Route
from getm.resolve.advice import advised
from getm.resolve.pages import Fetch, Get, getter, use
from getm.resolve.request import UnlocatedRequest
from getm.resolve.resource import Provider, Resource

if TYPE_CHECKING:
    import asyncio

    from getm.files.logins import Logins


class Found(Struct, frozen=True):
    """What a provider has returned, as its `serial`-th answer. `expires_s`: in seconds since the epoch; None where that
    is not known."""

    resource: Resource
    serial: int
    expires_s: float | None

    @property
    def urls(self) -> tuple[str, ...]:
        return self.resource.url, *self.resource.mirrors

    @property
    def renewable(self) -> Renewable:
        """As an engine is to know it."""
        return Renewable(self.serial, len(self.urls), self.expires_s)


class Locator:
    """Knows where one object is, by its `provider`.

    `name`: of the object, wherever it is, without secrets; None where it has none. `label`: what to call it in
    messages. `resolves`: the provider resolves `name`.
    """

    def __init__(
        self, provider: Provider, name: str | None, label: str, logins: Logins | None = None, *, resolves: bool = False
    ) -> None:
        self.name: str | None = name
        self.label: str = label
        self._provider = provider
        self._resolves = resolves
        self._logins = logins
        self._loop: asyncio.AbstractEventLoop | None = None
        self._get: Get | None = None
        self._lock = threading.Lock()
        self._found: Found | None = None
        self._flight: Future[Found] | None = None
        # Why there was no answer the last time.
        self._failure: errors.GetmError | None = None

    def locate(
        self, request: OpenRequest, fetch: Fetch, loop: asyncio.AbstractEventLoop | None = None
    ) -> Future[Found]:
        """Where the object of `request` is. The provider is asked, for `stall_s` seconds at most, unless its last
        answer has not expired. `fetch`: makes the requests of a resolver, with the limits of this one. `loop`: the
        event loop of the caller, in which awaitables are awaited.

        The future has `ResolveFailed` where there is no answer; `InvalidInput` where the name cannot be one of its
        scheme, and `MissingExtra` where its resolver lacks a package.
        """
        self._loop = loop or self._loop
        if self._get is None:
            # What nobody waits for any more ends by itself.
            self._get = getter(request, fetch, self._logins, total_s=request.stall_s)
        serial = 0 if self._found is None else self._found.serial
        return self._ask(serial - 1 if self.is_current else serial, request.stall_s)

    @property
    def is_current(self) -> bool:
        """Whether it is known where the object is, as far as the clock says."""
        found = self._found
        return found is not None and (found.expires_s is None or found.expires_s > time.time())

    def renew(self, request: OpenRequest, serial: int, answer: Callable[[RenewedInfo], None]) -> None:
        """The URLs of the answer `serial`, with which `request` was sent, have expired: call `answer`, in any thread,
        with those that follow."""

        def done(future: Future[Found]) -> None:
            info = NO_URLS
            if not future.cancelled() and future.exception() is None:
                try:
                    info = _renewed(self.applied(request))
                except errors.GetmError as error:
                    self._failure = _failure(error, self.label)
            answer(info)

        self._ask(serial, request.stall_s).add_done_callback(done)

    def _ask(self, after: int, limit_s: float | None) -> Future[Found]:
        """The answer after the one with that serial number: one call of the provider for all who want it."""
        with self._lock:
            if self._found is not None and self._found.serial > after:
                future: Future[Found] = Future()
                future.set_result(self._found)
                return future
            if self._flight is not None and not self._flight.done():
                return self._flight
            flight: Future[Found] = Future()
            self._flight = flight
        _call(self._provider, self._get, self._loop, limit_s, flight, lambda answer: self._answered(flight, answer))
        return flight

    def _answered(self, flight: Future[Found], answer: str | Resource | BaseException) -> None:
        """In any thread, perhaps more than once: the first answer counts."""
        failure: errors.GetmError | None = None
        with self._lock:
            if flight.done() or flight is not self._flight:
                return
            if self._resolves and isinstance(answer, errors.InvalidInput | errors.MissingExtra):
                failure = answer
                failure.url = failure.url or self.name
            elif isinstance(answer, BaseException):
                failure = _failure(answer, self.label)
            else:
                try:
                    resource = Resource(answer) if isinstance(answer, str) else answer
                    if not isinstance(resource, Resource):
                        raise errors.InvalidInput(
                            f"it returned a {type(resource).__name__}, expected a URL or a getm.Resource"
                        )
                    serial = 1 if self._found is None else self._found.serial + 1
                    self._found = Found(resource, serial, _expires_s(resource))
                except errors.InvalidInput as error:
                    failure = _failure(error, self.label)
            self._failure, self._flight, found = failure, None, self._found
        try:
            if failure is not None:
                flight.set_exception(failure)
            elif found is not None:
                flight.set_result(found)
        except InvalidStateError:
            # It was cancelled just then.
            return

    def applied(self, request: OpenRequest) -> OpenRequest:
        """`request` with what the provider has returned last; what the caller said himself takes precedence."""
        found = self._found
        known = request.renewable
        if found is None or (known is not None and known.serial == found.serial):
            return request
        resource = found.resource
        changes: dict[str, Any] = {}
        if request.delegated:
            # A span of a version that is known.
            renewable = Renewable(found.serial, 1, found.expires_s)
        else:
            others = request.mirrors[0 if known is None else known.count - 1 :]
            mirrors = (*resource.mirrors, *(each for each in others if each not in resource.mirrors))
            checksums = resource.texts() if request.checksums == () else request.checksums
            size = resource.size if request.size is None else request.size
            changes = {"mirrors": mirrors, "checksums": checksums, "size": size}
            renewable = found.renewable
        if not resource.session_headers:
            changes["headers"] = ()
        urls = (resource.url, *changes.get("mirrors", ()))
        # What a name leads to was not named by the caller; what his own function returns was.
        named = resource.session_headers and not self._resolves
        return replace(
            request.located() if isinstance(request, UnlocatedRequest) else request,
            url=resource.url,
            own_headers=_own_headers(resource),
            renewable=renewable,
            route=None,
            logins=() if self._logins is None else self._logins.of(urls, named=named),
            **changes,
        )

    def explain(self, error: errors.GetmError) -> errors.GetmError:
        """`error`, or why there is no new URL, where that is what ended the transfer; with what to do, where the
        provider has said so."""
        if self._failure is None:
            return error if self._found is None else advised(error, self._found.resource.advice)
        if not isinstance(error, errors.URLExpired | errors.HTTPStatusError):
            return error
        failure = copy(self._failure)
        failure.__cause__ = self._failure.__cause__
        failure.url, failure.stats = error.url, error.stats
        if isinstance(failure, errors.NetworkError):
            failure.attempts = error.attempts
        return failure


def _own_headers(resource: Resource) -> tuple[str, tuple[tuple[str, str], ...]] | None:
    headers = validate_headers(resource.headers)
    return (resource.url, headers) if headers else None


def _expires_s(resource: Resource) -> float | None:
    """When it expires: as it says, or as its signature does. A time that has passed already says nothing: whose clock
    is wrong, the server decides."""
    signature = find_signature(resource.url)
    expires_s = resource.expires_s or (None if signature is None else signature.expires_s)
    return None if expires_s is None or expires_s <= time.time() else expires_s


def _renewed(request: OpenRequest) -> RenewedInfo:
    known = request.renewable or Renewable(0)
    urls = (request.url, *request.mirrors)[: known.count]
    routes = tuple([Route(url, request.headers_for(url)) for url in urls])
    return RenewedInfo(routes, known.serial, known.expires_s)


def _failure(cause: BaseException, label: str) -> errors.ResolveFailed:
    # With the URL of a resolver's own request, but not the text that was to be one.
    said = brief(redact_text(cause.message if isinstance(cause, errors.InvalidInput) else str(cause)))
    what = said if isinstance(cause, errors.GetmError | TimeoutError) else f"{type(cause).__name__}: {said}"
    failure = errors.ResolveFailed(f"no URL could be had from {label}: {what.removesuffix(': ')}")
    failure.__cause__ = cause
    return failure


_Answer = Callable[["str | Resource | BaseException"], None]


def _call(
    provider: Provider,
    get: Get | None,
    loop: asyncio.AbstractEventLoop | None,
    limit_s: float | None,
    flight: Future[Found],
    answer: _Answer,
) -> None:
    """Call `provider` in a thread, and `answer` with what it returns or raises; or, after `limit_s`, with an error."""

    timer: threading.Timer | None = None

    def run() -> None:
        if get is not None:
            use(get)
        try:
            result: Any = provider()
            if inspect.isawaitable(result):
                result = _await(result, loop, flight)
        except BaseException as error:
            result = error
        if timer is not None:
            # Before the answer: nothing is left behind after it.
            timer.cancel()
            timer.join()
        try:
            answer(result)
        except BaseException as error:
            answer(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="getm-resolve", daemon=True)
    try:
        if limit_s is not None:
            said = TimeoutError(f"it took longer than {limit_s:g} s")
            timer = threading.Timer(limit_s, lambda: answer(said))
            timer.name, timer.daemon = "getm-resolve-limit", True
            timer.start()
            # Where nobody waits any more.
            flight.add_done_callback(lambda _: timer.cancel())
        thread.start()
    except RuntimeError as error:
        # The system has no thread for it, or the interpreter is shutting down.
        answer(error)


def _await(awaitable: Any, loop: asyncio.AbstractEventLoop | None, flight: Future[Found]) -> Any:
    """The result of an awaitable, in that loop; cancelled where `flight` ends before."""
    if loop is None:
        getattr(awaitable, "close", lambda: None)()
        raise errors.InvalidInput(
            "it returned an awaitable: only the asynchronous functions (aread, adownload, ...) can await it"
        )
    # Whoever has a loop has imported it.
    from asyncio import run_coroutine_threadsafe

    async def wait() -> Any:
        return await awaitable

    waiting = run_coroutine_threadsafe(wait(), loop)
    flight.add_done_callback(lambda _: waiting.cancel())
    return waiting.result()
