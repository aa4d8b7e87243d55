"""An HTTP server on 127.0.0.1 whose bytes come from an engine."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import aclosing

import uvloop
from aiohttp import web

from getm import errors
from getm.adapter.answers import Answer, decide, wanted_span
from getm.adapter.locations import Location, Locations
from getm.adapter.origin import IdleStreams, Origin
from getm.adapter.peers import is_of_this_user
from getm.adapter.sockets import HOST
from getm.client.read_ahead import MIN_BYTES
from getm.core.redact import redact
from getm.core.spans import Span
from getm.core.version import Version
from getm.resolve.resource import Provider
from getm.session import Session

# Seconds after which a program may try again, when the origin or this machine has too much to do.
_RETRY_AFTER_S = 10
# Objects of which more is kept than their version, which is kept of all: there may be 100,000 chunks of an array.
_MAX_ORIGINS = 1000
# Fields of the origin's response that describe the object.
_DESCRIBING = ("Content-Type", "ETag", "Last-Modified", "Content-Encoding", "Content-Language", "Content-Disposition")

_BESIDE_A_SIGNED_ONE = errors.InvalidInput(
    "it is not asked for: it is beside a signed URL, and a signature is for one object; give its URL, too (--with)"
)

_logger = logging.getLogger("getm.adapter")

# Is told of the object (its name, redacted) that could not be had, and why.
Report = Callable[[str, errors.GetmError], None]


def serve(adapter: Adapter, listener: socket.socket, watch: Callable[[Callable[[], None]], None]) -> None:
    """Let `adapter` answer by an event loop of its own, until the end: `watch`, which is called in the loop, gets what
    is to be called then."""

    async def run() -> None:
        ended = asyncio.Event()
        watch(ended.set)
        await adapter.start(listener)
        try:
            await ended.wait()
        finally:
            adapter.close()

    uvloop.run(run())


class Adapter:
    """Serves the objects of `locations` by `session`, to programs of this user.

    `report` is called where an object cannot be had, unless it is beside one that the user has named, and is not there
    or has no URL: programs look for what may be there. And where a body ends before its end. `provider_of`: what finds
    the URL for a name; None: the session does.
    """

    def __init__(
        self,
        session: Session,
        locations: Locations,
        report: Report,
        provider_of: Callable[[str], Provider] | None = None,
    ) -> None:
        self._session = session
        self._locations = locations
        self._report = report
        self._provider_of = provider_of
        self._idle = IdleStreams()
        self._origins: dict[str, Origin] = {}
        # Of those that were dropped.
        self._versions: dict[str, Version] = {}
        self._server: asyncio.Server | None = None
        self._told_of_signature = False
        self._hosts: frozenset[str] = frozenset()

    async def start(self, listener: socket.socket) -> None:
        """Answer from now on."""
        port = listener.getsockname()[1]
        self._hosts = frozenset((f"{HOST}:{port}", f"localhost:{port}"))
        # A program that hangs up ends what is done for it.
        protocol = _Server(self._handle, handler_cancellation=True, access_log=None, logger=_logger)
        self._server = await asyncio.get_running_loop().create_server(protocol, sock=listener)

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()
        self._idle.clear()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        location = None if self._is_of_another_host(request) else self._locations.find(request.rel_url.raw_path)
        if location is None:
            return _refusal(404)
        if request.method not in ("GET", "HEAD"):
            return _refusal(405, {"Allow": "GET, HEAD"})
        if location.is_refused and self._provider_of is None:
            if location.is_missed and not self._told_of_signature:
                self._told_of_signature = True
                self._report(redact(location.name), _BESIDE_A_SIGNED_ONE)
            return _refusal(404)
        origin = self._origin(location.name)
        origin.users += 1
        try:
            return await self._answer(request, location, origin)
        except errors.GetmError as error:
            status = status_of(error)
            if location.given or (status >= 500 and not isinstance(error, errors.ResolveFailed)):
                self._report(redact(location.name), error)
            return _refusal(status, {"Retry-After": str(_RETRY_AFTER_S)} if status == 503 else None)
        finally:
            origin.users -= 1

    def _origin(self, name: str) -> Origin:
        origin = self._origins.pop(name, None)
        if origin is None:
            url = name if self._provider_of is None else self._provider_of(name)
            origin = Origin(self._session, name, url, self._idle, self._versions.get(name))
            if len(self._origins) >= _MAX_ORIGINS:
                oldest = next((each for each in self._origins if not self._origins[each].users), None)
                if oldest is not None:
                    self._versions[oldest] = self._origins.pop(oldest).version
        # In the order in which they were used.
        self._origins[name] = origin
        return origin

    def _is_of_another_host(self, request: web.BaseRequest) -> bool:
        """Whether the request is of a page whose name leads to this machine ("DNS rebinding")."""
        host = request.headers.get("Host")
        return host is not None and host.lower() not in self._hosts

    async def _answer(self, request: web.BaseRequest, location: Location, origin: Origin) -> web.StreamResponse:
        fields = request.headers
        await origin.open(0 if request.method == "HEAD" else _first_bytes(wanted_span(fields)))
        answer = decide(fields, origin.version, in_parts=origin.why_whole is None)
        response = _response(answer, origin)
        if answer.span is None or request.method == "HEAD" or not len(answer.span):
            return response
        async with aclosing(origin.pieces(answer.span, is_open=answer.is_open)) as pieces:
            # The status is still to be told.
            first = await anext(pieces, memoryview(b""))
            if request.transport is not None:
                # A piece is sent before the next one is taken from the ring.
                request.transport.set_write_buffer_limits(0)
            await response.prepare(request)
            try:
                await response.write(first)
                async for piece in pieces:
                    await response.write(piece)
            except errors.GetmError as error:
                # All that HTTP has for this: an answer that ends before its end.
                self._report(redact(location.name), error)
                if request.transport is not None:
                    request.transport.abort()
                return response
        await response.write_eof()
        return response


class _Server(web.Server):
    """Hangs up on other users."""

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if peer is not None and not is_of_this_user(peer, own):
            transport.abort()


def _first_bytes(wanted: Span | None) -> int:
    """How many bytes from the start of an object an answer with that range, or with everything, begins by."""
    if wanted is None:
        return MIN_BYTES
    return 0 if wanted.start else min(MIN_BYTES, len(wanted))


def _response(answer: Answer, origin: Origin) -> web.StreamResponse:
    """The head of an answer."""
    size = origin.version.size
    response = web.StreamResponse(status=answer.status, headers={"Server": "getm"})
    for name in _DESCRIBING:
        if (value := origin.head.get(name.lower())) is not None:
            response.headers[name] = value
    response.headers.setdefault("Content-Type", "application/octet-stream")
    response.headers["Accept-Ranges"] = "bytes" if origin.why_whole is None else "none"
    if answer.status == 416:
        response.headers["Content-Range"] = f"bytes */{size}"
    elif answer.span is not None and size is not None:
        response.content_length = len(answer.span)
        if answer.status == 206:
            response.headers["Content-Range"] = f"bytes {answer.span.start}-{answer.span.stop - 1}/{size}"
    return response


def _refusal(status: int, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, headers={"Server": "getm", **(headers or {})})


def status_of(error: errors.GetmError) -> int:
    """The status for a program whose object cannot be had."""
    if isinstance(error, errors.HTTPStatusError):
        if error.status in (404, 410):
            return error.status
        return 403 if error.status in (401, 403) else 503 if error.status in (429, 503) else 502
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    return 502


_STATUSES: tuple[tuple[type[errors.GetmError], int], ...] = (
    (errors.URLExpired, 403),
    # It does not come back: programs try again after a 5xx.
    (errors.RemoteChanged, 410),
    (errors.TimedOut, 504),
    (errors.InvalidInput, 404),
    (errors.MissingExtra, 501),
    (errors.MemoryUnavailable, 503),
    (errors.DescriptorsExhausted, 503),
)
