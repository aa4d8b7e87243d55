"""One request and the head of its answer, over a connection of aiohttp's pool.

Below `ClientSession`: what that does for each request (cookies, tracing, middlewares, redirects, its own timers, and
objects for all of them) getm either has of its own or never wants, and for a small object it is a third of the
engine's work. aiohttp's are the connector with its pool, proxies and tunnels, the parser, and the reader of contents.
What is sent is the same to the byte: `aiohttp.ClientRequest` makes the header fields, once for all requests that differ
only in what they ask the same server for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from getm._version import __version__

# Signed redirects (CloudFront, Hugging Face) have Locations of several KiB.
_MAX_HEADER_BYTES = 64 * 1024
_MAX_HEADERS = 256
_READ_BYTES = 64 * 1024
# How many servers are remembered, each with the header fields that go there.
_MAX_WAYS = 64
_OWN_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": f"getm/{__version__}"}
_URL = re.compile(r"([^:]+://[^/?#]*)([^?#]*)((?:\?[^#]*)?)(?:#.*)?", re.DOTALL)
# RFC 9110, section 5.5.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

HeaderFields = tuple[tuple[str, str], ...]


def split_url(url: str) -> tuple[str, str]:
    """Scheme and authority of an http or https URL, and what is asked for there (RFC 9112, section 3.2.1), both as
    they are written. Raises ValueError where it is no such URL."""
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError("it has no host")
    origin, path, query = found.groups()
    return origin, (path or "/") + query


class Reply:
    """The answer to one request: its head, and its content on the way.

    Owns its connection until the content has ended, and then gives it back to the pool; or until `close`.
    """

    __slots__ = ("_message", "connection", "content")

    def __init__(self, connection: Connection, message: RawResponseMessage, content: aiohttp.StreamReader) -> None:
        self._message = message
        self.content = content
        self.connection: Connection | None = connection
        """None once the content has ended, or was given up."""
        content.on_eof(self._release)

    @property
    def status(self) -> int:
        return self._message.code

    @property
    def reason(self) -> str:
        return self._message.reason or ""

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        return self._message.headers

    @property
    def raw_headers(self) -> Iterable[tuple[bytes, bytes]]:
        """Names and values as they came, in the order of the wire."""
        return self._message.raw_headers

    def _release(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.release()

    def close(self) -> None:
        """Give up what is still to come, and the connection with it. Harmless afterwards."""
        connection, self.connection = self.connection, None
        if connection is None:
            return
        if self.content.exception() is None:
            # Somebody may be reading it.
            self.content.set_exception(aiohttp.ClientConnectionError("Connection closed"))
        connection.close()


class _Way:
    """To one server, with the same header fields each time. `proxy`: the URL of one, None without."""

    def __init__(self, origin: str, headers: HeaderFields, proxy: str | None) -> None:
        self._origin = URL(origin, encoded=True)
        self._headers = CIMultiDict(_OWN_HEADERS)
        for name in {name.lower() for name, _ in headers}:
            # A user's header goes out in place of ours, however often it comes.
            self._headers.pop(name, None)
        self._headers.extend(headers)
        self._proxy = None if proxy is None else URL(proxy)
        if self._origin.raw_user is not None and "Authorization" in self._headers:
            raise ValueError("the URL holds a user name, and the headers an Authorization: give one of them")
        self._request: aiohttp.ClientRequest | None = None
        self._fields = b""
        # A proxy that speaks HTTP with us is asked for the whole URL (RFC 9112, section 3.2.2).
        scheme, _, authority = origin.partition("://")
        whole = proxy is not None and self._origin.scheme == "http"
        self._before_target = f"{scheme}://{authority.rpartition('@')[2]}" if whole else ""

    def request(self) -> aiohttp.ClientRequest:
        """What the connector is asked with: it does not look at what is asked for behind the host."""
        if self._request is not None:
            return self._request
        if self._proxy is None:
            self._request = aiohttp.ClientRequest("GET", self._origin, headers=self._headers)
            return self._request
        # The connector adds to it what the proxy wants to know: a new one each time.
        return aiohttp.ClientRequest(
            "GET", self._origin, headers=self._headers, proxy=self._proxy, proxy_headers=CIMultiDict(_OWN_HEADERS)
        )

    def encode(self, request: aiohttp.ClientRequest, target: str, wanted: HeaderFields) -> bytes:
        """The request for `target` as it goes on the wire, with further fields."""
        line = f"GET {self._before_target}{target} HTTP/1.1"
        if _CONTROL.search(line):
            raise ValueError("the URL holds a control character")
        fields = self._fields
        if not fields:
            fields = _encode(request.headers.items())
            if request is self._request:
                self._fields = fields
        return b"%b\r\n%b%b\r\n" % (line.encode(), fields, _encode(wanted))


def _encode(fields: Iterable[tuple[str, str]]) -> bytes:
    lines = []
    for name, value in fields:
        line = f"{name}: {value}"
        if _CONTROL.search(line):
            raise ValueError(f"the header {name!r} holds a control character")
        lines.append(f"{line}\r\n")
    return "".join(lines).encode()


class Exchanges:
    """Makes requests over the connections of `connector`, which it owns until `close`."""

    def __init__(self, connector: aiohttp.BaseConnector) -> None:
        self._connector = connector
        self._way = lru_cache(maxsize=_MAX_WAYS)(_Way)

    async def close(self) -> None:
        await self._connector.close()

    async def get(
        self,
        origin: str,
        target: str,
        headers: HeaderFields,
        wanted: HeaderFields,
        proxy: str | None,
        limits: aiohttp.ClientTimeout,
    ) -> Reply:
        """The answer to a GET of `target` from `origin` (see `split_url`), whatever it says. `headers` are those that
        other requests to the same server have as well, `wanted` those of this one.

        Raises aiohttp's errors, `ValueError` for what cannot be sent. As RFC 9112, section 9.3.1 allows, a connection
        that ends without an answer, most often one that was kept alive, is replaced once without a word.
        """
        way = self._way(origin, headers, proxy)
        try:
            return await self._ask(way, target, wanted, limits)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            return await self._ask(way, target, wanted, limits)

    async def _ask(self, way: _Way, target: str, wanted: HeaderFields, limits: aiohttp.ClientTimeout) -> Reply:
        request = way.request()
        try:
            connection = await self._connector.connect(request, [], limits)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError("no connection in time") from error
        try:
            protocol, transport = connection.protocol, connection.transport
            if protocol is None or transport is None:
                raise aiohttp.ServerDisconnectedError
            protocol.set_response_params(
                read_until_eof=True,
                auto_decompress=False,
                read_bufsize=_READ_BYTES,
                max_line_size=_MAX_HEADER_BYTES,
                max_field_size=_MAX_HEADER_BYTES,
                max_headers=_MAX_HEADERS,
            )
            transport.write(way.encode(request, target, wanted))
            while True:
                message, content = await protocol.read()
                # An interim response comes before the answer (RFC 9110, section 15.2); after 101 there is no other.
                if not 100 <= message.code < 200 or message.code == 101:
                    return Reply(connection, message, content)
        except BaseException:
            connection.close()
            raise
