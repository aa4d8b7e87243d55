"""Requests and the heads of their responses over connections of aiohttp's pool: the one module that uses aiohttp from
underneath (tests/unit/engine/http/test_seams.py has a test for each such use).

It replaces `ClientSession`, whose work for each request (cookies, tracing, middlewares, redirects, timers, and objects
for all of them) getm does itself or does not need, and would be a third of the engine's work for a small object.
aiohttp provides the connector with its pool, proxies and tunnels, the parser, and the reader of contents. What is sent
is the same to the byte: `aiohttp.ClientRequest` makes the header fields, once for all requests to a server that differ
only in their target.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import Any

from aiohttp import hdrs
from aiohttp.client_exceptions import (
    ClientConnectionError,
    ClientConnectorError,
    ClientOSError,
    ConnectionTimeoutError,
    ServerDisconnectedError,
)
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import BaseConnector, Connection, TCPConnector
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader
from msgspec import Struct

from getm.core.head import HeadError
from getm.engine.http.framing import decoded, frame, usual_length
from getm.engine.http.low_water import unread_bytes
from getm.engine.http.request_head import HeaderFields, RequestHeads

# Signed redirects (CloudFront, Hugging Face) have Locations of several KiB.
_MAX_HEADER_BYTES = 64 * 1024
# All of a head together: curl takes 300 KiB.
_MAX_HEAD_BYTES = 256 * 1024
_MAX_HEADERS = 256
_READ_BYTES = 64 * 1024
# How many servers are remembered, each with its header fields.
_MAX_SERVERS = 64


class _ResponseProtocol(ResponseHandler):
    """aiohttp's end of one connection, which gets each head whole and apart from what follows it. Whole, so that its
    framing can be normalised first: aiohttp's parser refuses some of what RFC 9112 permits, and passes on some of what
    it forbids. Apart, since the parser drops a message where an error comes after it in the same bytes: what is beyond
    the end of a response is about the connection, not about the response.
    """

    codings: tuple[str, ...] = ()
    """Transfer codings of the last response that are not decoded yet; see `Framing`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._head = bytearray()
        # Between `expect_head` and the head of a final response, which is the one answer to a request.
        self._in_head = False
        self._answered = False
        self._responses = 0
        # While another protocol receives the content instead of this one.
        self.bypassed = False

    def expect_head(self, *, alone: bool = False) -> None:
        """Expect the head of a response next. `alone`: it answers a HEAD, and no content follows, whatever it says
        (RFC 9112, section 6.3)."""
        self._in_head = True
        self._answered = False
        self._responses += 1
        self.set_response_params(
            skip_payload=alone,
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=_READ_BYTES,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            max_headers=_MAX_HEADERS,
        )

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        if self._answered:
            self._refuse(HeadError("another response came beyond the end of the response"))
            return
        self._answered = data[0].code >= 200 or data[0].code == 101
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        # One head after another: interim responses may come by the thousand.
        rest = self._take(data)
        while rest:
            rest = self._take(rest)

    def _take(self, data: bytes) -> bytes:
        """Receive `data` up to the end of one head; returns what is to be received after it."""
        if not self._in_head:
            if data and (self.bypassed or (self._payload is not None and self._payload.is_eof())):
                # It was not requested. Kept, it would be taken for the answer to the next request.
                self._refuse(HeadError("bytes came beyond the end of the response"))
            else:
                super().data_received(data)
            return b""
        seen = len(self._head)
        if seen:
            self._head += data
            data = bytes(self._head) if _head_end(self._head, seen - 2) else b""
        elif data[:1] in b"\r\n":
            data = data.lstrip(b"\r\n")
        stop = _head_end(data)
        if not stop:
            self._head += data
        if not b"HTTP/".startswith((self._head or data)[:5]) and self._responses > 1:
            # Late bytes beyond the end of the response before: another connection has the answer.
            self._refuse(ServerDisconnectedError())
            return b""
        if not stop:
            if not b"HTTP/".startswith(self._head[:5]):
                # Not HTTP: the parser says so, and need not see its end.
                self._pass_head_on()
            elif len(self._head) > _MAX_HEAD_BYTES:
                self._refuse(_too_long())
            return b""
        self._head.clear()
        self._in_head = False
        head = data[:stop]
        length = usual_length(head)
        if length is not None and len(data) - stop <= length and stop <= _MAX_HEAD_BYTES:
            self.codings = ()
            super().data_received(data)
            return b""
        try:
            if stop > _MAX_HEAD_BYTES:
                raise _too_long()
            framing = frame(head)
        except HeadError as error:
            self._refuse(error)
            return b""
        self.codings = framing.codings
        super().data_received(framing.head)
        if not framing.reusable:
            self.force_close()
        self._in_head = framing.interim
        return data[stop:]

    @property
    def out_of_step(self) -> bool:
        """Whether bytes wait that came after the last response, and before another request: they would be taken for its
        answer. (Over TLS they may be tickets of the session, RFC 8446, section 4.6.1.)"""
        if self._responses == 0 or self.transport is None or self.transport.get_extra_info("ssl_object") is not None:
            return False
        return unread_bytes(self.transport.get_extra_info("socket")) > 0

    async def read_head(self, limit_s: float | None) -> tuple[RawResponseMessage, StreamReader]:
        """The next head, and the content that follows it. Raises `TimeoutError` after `limit_s` seconds."""
        if limit_s is None:
            return await self.read()
        # A timer alone costs half of `asyncio.timeout`, which counts for a small object.
        timer = self._loop.call_later(limit_s, self.set_exception, TimeoutError())
        try:
            return await self.read()
        finally:
            timer.cancel()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._head:
            # The parser says what is wrong with it, if more than its end is missing.
            self._pass_head_on()
        super().connection_lost(exc)

    def _pass_head_on(self) -> None:
        head = bytes(self._head)
        self._head.clear()
        self._in_head = False
        super().data_received(head)

    def _refuse(self, error: Exception) -> None:
        self._head.clear()
        self._in_head = False
        if self.transport is not None:
            self.transport.close()
        self.set_exception(error)


def _head_end(data: bytes | bytearray, start: int = 0) -> int:
    """Where the head in `data` ends, 0 where it does not. A line may end without CR (RFC 9112, section 2.2)."""
    start = max(0, start)
    found = data.find(b"\n\r\n", start)
    bare = data.find(b"\n\n", start, len(data) if found < 0 else found)
    if bare >= 0:
        return bare + 2
    return 0 if found < 0 else found + 3


def _too_long() -> HeadError:
    return HeadError(f"the head is longer than {_MAX_HEAD_BYTES} bytes")


class Connector(TCPConnector):
    """aiohttp's pool of connections, each with our protocol."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(_ResponseProtocol, loop=self._loop)  # type: ignore[assignment]  # partial is invariant


class Reply:
    """The response to one request: its head, and its content as it arrives.

    Owns its connection until the content has ended, and then gives it back to the pool; or until `close`.
    """

    __slots__ = ("_protocol", "coded", "connection", "content", "message", "readany")

    def __init__(
        self,
        connection: Connection,
        protocol: _ResponseProtocol,
        message: RawResponseMessage,
        content: StreamReader,
    ) -> None:
        self.message: RawResponseMessage = message
        self.content: StreamReader = content
        self.connection: Connection | None = connection
        """None once the content has ended, or was given up."""
        self._protocol = protocol
        read: Callable[[], Awaitable[bytes]] = content.readany
        self.coded: bool = bool(protocol.codings)
        for coding in protocol.codings:
            read = partial(anext, decoded(coding, read), b"")
        self.readany: Callable[[], Awaitable[bytes]] = read
        """The content that has come, b"" at its end. Raises aiohttp's errors, and those of `decoded`."""
        content.on_eof(self._release)

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
        """The transport, and aiohttp's protocol on it, for another protocol that receives the rest of the content
        instead and then sets it again; None where that is no longer possible."""
        transport, content = self._protocol.transport, self.content
        if self.connection is None or transport is None or content.is_eof() or content.exception() is not None:
            return None
        if transport.is_closing():
            # Its end was announced to aiohttp's protocol: nothing would come to another one any more.
            return None
        self._protocol.bypassed = True
        return transport, self._protocol

    def end_bypass(self) -> None:
        """The last byte was received, and the protocol is set again: the content has ended."""
        self._protocol.bypassed = False
        self.content.feed_eof()

    def _release(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.release()

    def close(self, error: Exception | None = None) -> None:
        """Drop the rest, and the connection with it. Harmless afterwards. A reader of the content gets `error`."""
        connection, self.connection = self.connection, None
        if connection is None:
            return
        if self.content.exception() is None:
            self.content.set_exception(error or ClientConnectionError("Connection closed"))
        connection.close()


class _ConnectLimit(Struct, frozen=True):
    """What a connector reads of an `aiohttp.ClientTimeout`, whose module is the client that is not needed here.

    `connect`: seconds for a connection. aiohttp's read timeout would not see the bytes that bypass it, so it is off.
    Nor may it round limits up.
    """

    connect: float | None
    sock_connect: float | None = None
    total: float | None = None
    ceil_threshold: float = math.inf


class Exchanges:
    """Makes requests over the connections of `connector`, which it owns until `close`."""

    def __init__(self, connector: BaseConnector) -> None:
        self._connector = connector
        self._heads_for = lru_cache(maxsize=_MAX_SERVERS)(RequestHeads)

    async def close(self) -> None:
        await self._connector.close()

    async def get(
        self,
        origin: str,
        target: str,
        headers: HeaderFields,
        wanted: HeaderFields,
        proxy: str | None,
        connect_s: float | None,
        head_s: float | None,
        method: str = "GET",
    ) -> Reply:
        """The response to a GET, or a HEAD, of `target` from `origin` (see `split_url`), whatever it is. `headers` are
        those that other requests to the same server have as well, `wanted` those of this one. `connect_s` is for a
        connection (name, TCP, proxy, TLS), `head_s` for each head that comes over it, in seconds.

        Raises `aiohttp.ConnectionTimeoutError` and `TimeoutError` where these are over, other errors of aiohttp's, and
        `ValueError` for what cannot be sent. As RFC 9112, section 9.3.1 allows, a connection that ends without an
        answer, most often one that was kept alive, is replaced once silently; so is one that was kept alive and now
        brings what is no HTTP.
        """
        heads = self._heads_for(origin, headers, proxy)
        try:
            return await self._ask(heads, method, target, wanted, connect_s, head_s)
        except ClientConnectorError:
            raise
        except (ClientOSError, ServerDisconnectedError):
            return await self._ask(heads, method, target, wanted, connect_s, head_s)

    async def _ask(
        self,
        heads: RequestHeads,
        method: str,
        target: str,
        wanted: HeaderFields,
        connect_s: float | None,
        head_s: float | None,
    ) -> Reply:
        request = heads.request()
        try:
            limit: Any = _ConnectLimit(connect_s)
            connection = await self._connector.connect(request, [], limit)
        except TimeoutError as error:
            raise ConnectionTimeoutError("no connection in time") from error
        try:
            protocol, transport = connection.protocol, connection.transport
            if not isinstance(protocol, _ResponseProtocol) or transport is None or protocol.out_of_step:
                raise ServerDisconnectedError
            protocol.expect_head(alone=method == "HEAD")
            transport.write(heads.encode(request, method, target, wanted))
            while True:
                message, content = await protocol.read_head(head_s)
                # An interim response comes before the answer (RFC 9110, section 15.2); after 101 there is no other.
                if not 100 <= message.code < 200 or message.code == 101:
                    return Reply(connection, protocol, message, content)
        except BaseException:
            connection.close()
            raise
