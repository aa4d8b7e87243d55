"""Requests and the heads of their responses over aiohttp's connections: with `response_protocol` and `idle`, the one
place that uses aiohttp from underneath (tests/unit/engine/http/test_seams.py has a test for each such use).

It replaces `ClientSession`, whose work for each request (cookies, tracing, middlewares, redirects, timers, and objects
for all of them) getm does itself or does not need, and would be a third of the engine's work for a small object.
aiohttp provides the connector, with proxies, tunnels and the pool of connections to those, the parser, and the reader
of contents. What is sent is the same to the byte: `aiohttp.ClientRequest` makes the header fields, once for all
requests to a server that differ only in their target.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache, partial
from socket import AF_INET
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs
from aiohttp.abc import ResolveResult
from aiohttp.client_exceptions import (
    ClientConnectionError,
    ClientConnectorError,
    ClientError,
    ClientOSError,
    ConnectionTimeoutError,
    ServerDisconnectedError,
)
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import BaseConnector, Connection, TCPConnector
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader
from msgspec import Struct

from getm.core.head import HeadError
from getm.core.spans import Span
from getm.engine import counters
from getm.engine.http.framing import decoded
from getm.engine.http.idle import IdleConnections
from getm.engine.http.loop import tunnelled
from getm.engine.http.request_head import HeaderFields, RequestHeads
from getm.engine.http.response_protocol import ResponseProtocol, WholeListener, receive_buffer

if TYPE_CHECKING:
    from getm.engine.http.dialing import Dialer

# Each gives the server more time: one that sends them for ever would never be given up.
_MAX_INTERIM = 100
# So long an address that did not answer in time is tried after all others of its host.
_LAST_S = 300.0
# How many servers are remembered, each with its header fields.
_MAX_SERVERS = 64


class Connector(TCPConnector):
    """aiohttp's pool of connections, each with our protocol. `dialer` makes their sockets; None, aiohttp does: it
    tries another address of a host after a quarter of a second (RFC 8305)."""

    def __init__(self, *, dialer: Dialer | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._dialer = dialer
        # Addresses that are tried last, and until when.
        self._last: dict[str, float] = {}
        factory = partial(ResponseProtocol, loop=self._loop, buffer=receive_buffer())
        self._factory = factory  # type: ignore[assignment]  # partial is invariant

    async def _resolve_host(self, host: str, port: int, traces: Sequence[Any] | None = None) -> Any:
        """Measured here: a name that another connection looks up is waited for as well."""
        if self._dialer is not None and self._dialer.finds_hosts:
            # One address, so that it is asked for one connection.
            return [ResolveResult(hostname=host, host="0.0.0.0", port=port, family=AF_INET, proto=0, flags=0)]
        began_s = time.monotonic()
        try:
            found = await super()._resolve_host(host, port, traces)
            now_s = time.monotonic()
            return sorted(found, key=lambda each: self._last.get(each["host"], 0.0) > now_s) if self._last else found
        finally:
            counted = counters.current.get(None)
            if counted is not None:
                counted.lookup_s += time.monotonic() - began_s

    async def _create_proxy_connection(self, req: ClientRequest, *arguments: Any) -> Any:
        token = tunnelled.set(req.is_ssl())
        try:
            return await super()._create_proxy_connection(req, *arguments)
        finally:
            tunnelled.reset(token)

    async def _wrap_create_connection(
        self,
        *arguments: Any,
        addr_infos: list[Any],
        req: ClientRequest,
        **options: Any,
    ) -> tuple[asyncio.Transport, Any]:
        if self._dialer is None:
            addresses = [info[4][0] for info in addr_infos]
            made = await super()._wrap_create_connection(*arguments, addr_infos=addr_infos, req=req, **options)
            self._learn(addresses, made[0])
            return made
        host, port = req.url.raw_host or "", req.port or 0
        try:
            sock = await self._dialer(host, port, [info[4][0] for info in addr_infos])
        except OSError as error:
            raise ClientConnectorError(req.connection_key, error) from error
        finally:
            # All of them were tried.
            addr_infos.clear()
        return await self._wrap_existing_connection(*arguments, sock=sock, req=req, **options)

    def _learn(self, addresses: list[str], transport: asyncio.Transport) -> None:
        """The next connection need not wait for those of `addresses` that this one has waited for."""
        peer = transport.get_extra_info("peername")
        if not peer or peer[0] == addresses[0] or peer[0] not in addresses:
            return
        now_s = time.monotonic()
        self._last = {address: until_s for address, until_s in self._last.items() if until_s > now_s}
        self._last.update(dict.fromkeys(addresses[: addresses.index(peer[0])], now_s + _LAST_S))


class Reply:
    """The response to one request: its head, and its content as it arrives.

    Owns its connection until the content has ended, and then passes it to `keep`; or until `close`.
    """

    __slots__ = ("_keep", "_protocol", "coded", "connection", "content", "message", "on_end", "readany")

    def __init__(
        self,
        connection: Connection,
        protocol: ResponseProtocol,
        message: RawResponseMessage,
        content: StreamReader,
        keep: Callable[[Connection], None],
    ) -> None:
        self._keep = keep
        self.message: RawResponseMessage = message
        self.content: StreamReader = content
        self.connection: Connection | None = connection
        """None once the content has ended, or was given up."""
        self.on_end: Callable[[], None] | None = None
        """Called then."""
        self._protocol = protocol
        read: Callable[[], Awaitable[bytes]] = content.readany
        self.coded: bool = bool(protocol.codings)
        for coding in protocol.codings:
            read = partial(anext, decoded(coding, read), b"")
        self.readany: Callable[[], Awaitable[bytes]] = read
        """The content that has come, b"" at its end. Raises aiohttp's errors, and those of `decoded`."""
        content.on_eof(self._release)

    @property
    def broken_by(self) -> OSError | None:
        """What broke the connection; None where nothing has."""
        return self._protocol.broken_by

    def end_of_connection(self) -> asyncio.Future[None] | None:
        """A function that returns how the connection ended, for a content that ends with it (RFC 9112, section 6.3).
        None for other contents, and where it has ended already."""
        headers = self.message.headers
        if self.connection is None or hdrs.TRANSFER_ENCODING in headers or hdrs.CONTENT_LENGTH in headers:
            return None
        ended = self._protocol.closed
        if ended is not None:
            # Retrieved: otherwise the exception would be reported.
            ended.add_done_callback(lambda future: future.exception())
        return ended

    def begin_bypass(self) -> tuple[asyncio.Transport, asyncio.BaseProtocol] | None:
        """The transport, and the protocol on it, for another protocol that receives the rest of the content instead and
        then sets it again; None where that is no longer possible."""
        transport, content = self._protocol.transport, self.content
        if self.connection is None or transport is None or content.is_eof() or content.exception() is not None:
            return None
        if transport.is_closing():
            # Its end was announced to aiohttp's protocol: nothing would come to another one any more.
            return None
        self._protocol.bypassed = True
        return transport, self._protocol.receiving

    def end_bypass(self) -> None:
        """The last byte was received, and the protocol is set again: the content has ended."""
        self._protocol.bypassed = False
        self.content.feed_eof()

    def _release(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            self._keep(connection)
            self._ended()

    def _ended(self) -> None:
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end()

    def close(self, error: Exception | None = None) -> None:
        """Drop the rest, and the connection with it. Harmless afterwards. A reader of the content gets `error`."""
        connection, self.connection = self.connection, None
        if connection is None:
            return
        if self.content.exception() is None:
            self.content.set_exception(error or ClientConnectionError("Connection closed"))
        connection.close()
        self._ended()


class _ConnectLimit(Struct, frozen=True):
    """What a connector reads of an `aiohttp.ClientTimeout`, whose module is the client that is not needed here.

    `connect`: seconds for a connection. aiohttp's read timeout would not see the bytes that bypass it, so it is off.
    Nor may it round limits up.
    """

    connect: float | None
    sock_connect: float | None = None
    total: float | None = None
    ceil_threshold: float = math.inf


class Begun(Struct, frozen=True):
    """A request that is sent, and its response awaited, over a connection of its own."""

    connection: Connection
    protocol: ResponseProtocol
    transport: asyncio.Transport
    # Where the connection goes when all of the response has come.
    keep: Callable[[Connection], None]


class Exchanges:
    """Makes requests over the connections of `connector`, which it owns until `close`. One that is not used for
    `keep_s` seconds is closed. `limits`: whether requests to a server must wait for their turns."""

    def __init__(self, connector: BaseConnector, keep_s: float, limits: Callable[[str], bool]) -> None:
        self._connector = connector
        self._limits = limits
        self._idle = IdleConnections(keep_s)
        self._heads_for = lru_cache(maxsize=_MAX_SERVERS)(RequestHeads)
        # Connections that are opened ahead: all of them, and by server those that no request waits for.
        self._opening: set[asyncio.Task[None]] = set()
        self._unclaimed: defaultdict[str, deque[asyncio.Task[None]]] = defaultdict(deque)

    async def close(self) -> None:
        opening = list(self._opening)
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        self._idle.close()
        await self._connector.close()

    def begin(
        self,
        origin: str,
        target: str,
        headers: HeaderFields,
        wanted: HeaderFields,
        proxy: str | None,
        listener: WholeListener,
    ) -> Begun | None:
        """GET a target that is probably small, over a connection that waits for a request; None where there is none.
        `listener` gets the response, and `get` goes on with what this returns where that is another one than expected.
        The arguments: as for `get`. Raises `ValueError`."""
        heads = self._heads_for(origin, headers, proxy)
        return self.send(heads, heads.encode(heads.request(), "GET", target, wanted), listener)

    def spans(
        self, origin: str, target: str, headers: HeaderFields, wanted: HeaderFields, proxy: str | None
    ) -> SpanRequests:
        """`begin` for many spans of one target. Raises `ValueError`."""
        heads = self._heads_for(origin, headers, proxy)
        return SpanRequests(self, heads, heads.encode(heads.request(), "GET", target, wanted))

    def send(self, heads: RequestHeads, head: bytes, listener: WholeListener, least: int = 0) -> Begun | None:
        """Send `head` over a connection that waits for a request; None where there is none, or where the request must
        wait for its turn. `least`: how many bytes the response that `listener` expects has at least."""
        if heads.server is None or self._limits(heads.server):
            return None
        begun = self._take(heads)
        if begun is not None:
            begun.protocol.expect_whole(listener, least)
            begun.transport.write(head)
        return begun

    def _take(self, heads: RequestHeads) -> Begun | None:
        """A connection that waits for a request, and may carry one; None where there is none."""
        while heads.server is not None and (connection := self._idle.take(heads.server)) is not None:
            with contextlib.suppress(ServerDisconnectedError):
                return self._begun(heads, connection)
        return None

    def _begun(self, heads: RequestHeads, connection: Connection) -> Begun:
        """A connection to which the request can be written now. Raises `ServerDisconnectedError`, and closes it, where
        it may not carry one."""
        protocol, transport = connection.protocol, connection.transport
        if not isinstance(protocol, ResponseProtocol) or transport is None or protocol.out_of_step:
            connection.close()
            raise ServerDisconnectedError
        return Begun(connection, protocol, transport, partial(self._keep, heads))

    def open_ahead(
        self, origin: str, headers: HeaderFields, proxy: str | None, connect_s: float | None, count: int
    ) -> None:
        """Open `count` connections for requests that will soon be made, which then need not wait for that. Not through
        a proxy. The other arguments: as for `get`. Raises `ValueError`."""
        heads = self._heads_for(origin, headers, proxy)
        if heads.server is None:
            return
        for _ in range(count):
            task = asyncio.create_task(self._open_idle(heads, heads.server, connect_s))
            self._opening.add(task)
            self._unclaimed[heads.server].append(task)
            task.add_done_callback(partial(self._opened, heads.server))

    async def _open_idle(self, heads: RequestHeads, server: str, connect_s: float | None) -> None:
        # Nobody waits for it yet: it is counted, and not its time.
        counted, own = counters.current.get(None), counters.Counters()
        counters.current.set(own)
        # A request that finds none opens one itself, and reports what is wrong.
        with contextlib.suppress(ClientError, OSError):
            self._idle.put(server, await self._connect(heads.request(), connect_s))
            if counted is not None:
                counted.connections += own.connections

    def _opened(self, server: str, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        unclaimed = self._unclaimed[server]
        if task in unclaimed:
            unclaimed.remove(task)
        if not unclaimed:
            del self._unclaimed[server]

    async def _opened_ahead(self, heads: RequestHeads) -> Begun | None:
        """A connection that was opened ahead, as soon as it is there; None where there is none."""
        while heads.server is not None and (unclaimed := self._unclaimed.get(heads.server)):
            # Goes on where this request is cancelled.
            await asyncio.wait([unclaimed.popleft()])
            if (begun := self._take(heads)) is not None:
                return begun
        return None

    def _keep(self, heads: RequestHeads, connection: Connection) -> None:
        if heads.server is None:
            connection.release()
        else:
            self._idle.put(heads.server, connection)

    async def get(
        self,
        origin: str,
        target: str,
        headers: HeaderFields,
        wanted: HeaderFields,
        proxy: str | None,
        connect_s: float | None,
        head_s: float | None,
        *,
        method: str = "GET",
        begun: Begun | None = None,
    ) -> Reply:
        """The response to a GET, or a HEAD, of `target` from `origin` (see `split_url`), whatever it is. `headers` are
        those that other requests to the same server have as well, `wanted` those of this one. `connect_s` is for a
        connection (name, TCP, proxy, TLS), `head_s` for each head that comes over it, in seconds. `begun`: this very
        request, which was sent before.

        Raises `aiohttp.ConnectionTimeoutError` and `TimeoutError` where these are over, other errors of aiohttp's, and
        `ValueError` for what cannot be sent. As RFC 9112, section 9.3.1 allows, a connection that ends without an
        answer, most often one that was kept alive, is replaced once silently; so is one that was kept alive and now
        brings what is no HTTP.
        """
        heads = self._heads_for(origin, headers, proxy)
        try:
            if begun is None:
                begun = await self._ask(heads, method, target, wanted, connect_s)
            return await self._answer(begun, head_s)
        except ClientConnectorError:
            raise
        except (ClientOSError, ServerDisconnectedError):
            return await self._answer(await self._ask(heads, method, target, wanted, connect_s), head_s)

    async def _ask(
        self, heads: RequestHeads, method: str, target: str, wanted: HeaderFields, connect_s: float | None
    ) -> Begun:
        request = heads.request()
        begun = self._take(heads)
        if begun is None:
            counted, began_s = counters.current.get(None), time.monotonic()
            try:
                begun = await self._opened_ahead(heads)
                if begun is None:
                    begun = self._begun(heads, await self._connect(request, connect_s))
            finally:
                if counted is not None:
                    counted.opening_s += time.monotonic() - began_s
        try:
            begun.protocol.expect_head(alone=method == "HEAD")
            begun.transport.write(heads.encode(request, method, target, wanted))
        except BaseException:
            begun.connection.close()
            raise
        return begun

    async def _connect(self, request: ClientRequest, connect_s: float | None) -> Connection:
        try:
            limit: Any = _ConnectLimit(connect_s)
            return await self._connector.connect(request, [], limit)
        except TimeoutError as error:
            raise ConnectionTimeoutError("no connection in time") from error

    async def _answer(self, begun: Begun, head_s: float | None) -> Reply:
        connection, protocol = begun.connection, begun.protocol
        counted, began_s = counters.current.get(None), time.monotonic()
        try:
            # Interim responses come before the answer (RFC 9110, section 15.2); after 101 there is no other.
            for _ in range(_MAX_INTERIM + 1):
                message, content = await protocol.read_head(head_s)
                if not 100 <= message.code < 200 or message.code == 101:
                    return Reply(connection, protocol, message, content, begun.keep)
            raise HeadError(f"more than {_MAX_INTERIM} interim responses (1xx) came, and no final one")
        except BaseException:
            connection.close()
            raise
        finally:
            if counted is not None:
                counted.response_s += time.monotonic() - began_s


class SpanRequests:
    """Requests for spans of one target, which differ only in their Range (RFC 9110, section 14.2)."""

    def __init__(self, exchanges: Exchanges, heads: RequestHeads, head: bytes) -> None:
        self._exchanges = exchanges
        self._heads = heads
        # Without the line that ends it.
        self._head = head[:-2]
        # Whether the last response was as long as the span: otherwise the next one may be short as well, and the loop
        # is to wake up for it at once.
        self.usual: bool = True

    def begin(self, span: Span, listener: WholeListener) -> Begun | None:
        """Ask for `span` over a connection that waits for a request; see `Exchanges.begin`."""
        head = b"%bRange: %b\r\n\r\n" % (self._head, span.range_header().encode())
        return self._exchanges.send(self._heads, head, listener, len(span) if self.usual else 0)
