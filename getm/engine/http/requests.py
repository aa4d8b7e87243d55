"""Requests: connections, TLS, proxies, redirects."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Iterable
from functools import lru_cache, partial
from typing import Any
from urllib.parse import urlsplit

from aiohttp.client_exceptions import (
    ClientError,
)
from aiohttp.http_exceptions import HttpProcessingError
from msgspec import Struct

from getm import errors
from getm.core.connection_options import ConnectionOptions
from getm.core.head import HeadError, ResponseHead, decode_phrase, header_lines
from getm.core.lazy import importing
from getm.core.log import get_logger
from getm.core.proxy import Proxy, choose_proxy
from getm.core.redact import redact
from getm.core.text import brief
from getm.core.url import follow, is_tls, origin_of, split_url
from getm.engine import counters
from getm.engine.host_load import HostLoads
from getm.engine.http.certificates import Certificates
from getm.engine.http.connections import Begun, Connector, Exchanges, Reply, SpanRequests
from getm.engine.http.pacing import HostPaces, Tell, server_of
from getm.engine.http.request_head import HeaderFields
from getm.engine.http.response_protocol import WholeListener
from getm.engine.http.throttle import Throttle
from getm.engine.speeds import Speeds
from getm.integrity.declared.s3 import may_ask_checksums
from getm.protocol.messages import OpenRequest, Route

_log = get_logger("engine")

_MAX_REDIRECTS = 20
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Content of a redirect or an error up to this size is read to keep its connection alive.
_SMALL_CONTENT_BYTES = 64 * 1024
_SMALL_CONTENT_S = 0.5
_KEEPALIVE_S = 30.0
# Why a request that may be made later is not sent now: `get` says so. What is loaded on first use needs a descriptor.
_NOT_SENT = (errors.GetmError, ValueError, OSError, ImportError)
_IPV4 = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_CHECKSUM_MODE = "x-amz-checksum-mode"


class Response(Struct, frozen=True):
    """The response that answered, the redirects that led to it, in order, the route to it without them, and the proxy
    that it came through."""

    raw: Reply
    head: ResponseHead
    redirects: tuple[ResponseHead, ...]
    route: Route
    proxy: Proxy | None = None

    async def discard(self) -> bytes:
        """Drop the response: keep the connection where its content is small, otherwise close it. Returns what was read
        of it; of an error, which may say more than its status, also where its length is not declared."""
        try:
            length = self.head.content_length()
        except HeadError:
            length = None
        small = self.head.status >= 400 if length is None else length <= _SMALL_CONTENT_BYTES
        content = bytearray()
        try:
            if small:
                async with asyncio.timeout(_SMALL_CONTENT_S):
                    while len(content) <= _SMALL_CONTENT_BYTES and (piece := await self.raw.readany()):
                        content += piece
        except (ClientError, OSError, errors.GetmError) as error:
            # The rest is not needed (a TimeoutError is an OSError): only the connection is lost.
            _log.debug("the content of status %d could not be read: %s", self.head.status, error)
        finally:
            # Without effect where all of it was read.
            self.raw.close()
        return bytes(content)


class HttpClient:
    """The connections of one engine: a pool without TLS, one for each set of certificates, and those without checks;
    each once more for other ways of making connections."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[Certificates | None, ConnectionOptions | None, str | None], Exchanges] = {}
        self.speeds: Speeds = Speeds()
        self.loads: HostLoads = HostLoads()
        self.paces: HostPaces = HostPaces()
        # The limit on the rate of everything that the engine receives.
        self.throttle: Throttle | None = None

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self.loads.close()
        self.paces.close()

    def _session(self, request: OpenRequest, url: str, proxy: Proxy | None) -> Exchanges:
        """The connections for one hop. A context reads the system's certificates, which takes longer than a small
        object: where neither the URL nor its proxy wants TLS, there is none. (aiohttp's own, which such connections
        would fall back to, trusts either no certificates or those of the system.)"""
        tls = is_tls(url) or (proxy is not None and is_tls(proxy.url))
        socks = proxy.url if proxy is not None and proxy.socks else None
        certificates = Certificates.of(request) if tls else None
        session = self._sessions.get((certificates, request.connection, socks))
        if session is None:
            arguments: dict[str, Any] = {}
            if request.connection is not None or socks is not None:
                # Needed by few.
                from getm.engine.http.dialing import connector_arguments

                arguments = connector_arguments(request.connection or ConnectionOptions(), socks)
            context = True if certificates is None else certificates.context()
            connector = Connector(ssl=context, limit=0, keepalive_timeout=_KEEPALIVE_S, **arguments)
            session = Exchanges(connector, _KEEPALIVE_S, self.paces.limits)
            self._sessions[certificates, request.connection, socks] = session
        return session

    def begin(self, request: OpenRequest, route: Route, listener: WholeListener) -> Begun | None:
        """GET `route` over a connection that waits for a request; None where there is none, or where that cannot be
        sent (`get` says why). `listener` gets the response; where that is another one than expected, `get` goes on with
        what this returns."""
        try:
            session, origin, target, through = self._way(request, route)
            return session.begin(origin, target, _headers(route.url, route.user_headers), (), through, listener)
        except _NOT_SENT:
            return None

    def spans(self, request: OpenRequest, route: Route, if_range: str | None) -> SpanRequests | None:
        """`begin` for spans of what `route` leads to, on that condition; None where they cannot be sent."""
        try:
            session, origin, target, through = self._way(request, route)
            headers = _headers(route.url, route.user_headers, ranged=True)
            return session.spans(origin, target, headers, _wanted(None, if_range), through)
        except _NOT_SENT:
            return None

    def _way(self, request: OpenRequest, route: Route) -> tuple[Exchanges, str, str, str | None]:
        """The connections by which `route` is asked, its origin and target, and the URL of a proxy that gets requests,
        if any."""
        origin, target = split_url(route.url)
        proxy = _proxy(request, origin)
        return self._session(request, origin, proxy), origin, target, _in_http(proxy)

    def open_ahead(self, request: OpenRequest, route: Route, count: int) -> None:
        """Open `count` connections for requests for `route` that will soon be made: see `Exchanges.open_ahead`."""
        with contextlib.suppress(*_NOT_SENT):
            # Those requests say why.
            session, origin, _, through = self._way(request, route)
            session.open_ahead(origin, _headers(route.url, route.user_headers), through, request.connect_s, count)

    async def get(
        self,
        request: OpenRequest,
        route: Route,
        *,
        range_header: str | None = None,
        if_range: str | None = None,
        unless: tuple[str, str] | None = None,
        method: str = "GET",
        begun: Begun | None = None,
        tell: Tell | None = None,
    ) -> Response:
        """GET, or HEAD, `route`, following redirects. Returns the response whatever its final status is. User headers
        are sent only to the origin of the caller's URL (RFC 9110, section 15.4). `unless`: a further condition.
        `begun`: by `begin`, for this route. `tell`: see `HostPaces.turn`.
        """
        wanted = _wanted(range_header, if_range)
        if unless is not None:
            wanted = (*wanted, unless)
        url, user_headers = route.url, route.user_headers
        redirects: list[ResponseHead] = []
        while True:
            headers = _headers(url, user_headers, ranged=range_header is not None)
            server = server_of(url)
            if begun is None and self.paces.limits(server):
                await self._wait_for_turn(server, tell)
                try:
                    raw, proxy = await self._send(request, url, headers, wanted, method, None)
                finally:
                    self.paces.asked(server)
            else:
                raw, proxy = await self._send(request, url, headers, wanted, method, begun)
            begun = None
            lines, reason = header_lines(raw.message.raw_headers), decode_phrase(raw.message.reason)
            head = ResponseHead(raw.message.code, url, lines, range_header is not None, reason)
            self.paces.heard(server, head, raw, request.retries.cap_s)
            response = Response(raw, head, tuple(redirects), Route(url, user_headers) if redirects else route, proxy)
            if head.status == 407 and proxy is not None:
                await response.discard()
                with importing:
                    from getm.engine.http.failures import proxy_refused
                raise proxy_refused(proxy, head.status, head.reason, redact(url))
            if head.status not in _REDIRECTS:
                return response
            await response.discard()
            target = _redirect_target(head, raw.message.raw_headers)
            redirects.append(head)
            if len(redirects) > _MAX_REDIRECTS:
                message = f"gave up after {_MAX_REDIRECTS} redirects; the server may be sending them in a circle"
                raise errors.RedirectError(message, url=redact(request.url))
            if origin_of(target) != origin_of(url):
                user_headers = ()
            url = target

    async def _wait_for_turn(self, server: str, tell: Tell | None) -> None:
        counted, began_s = counters.current.get(None), time.monotonic()
        try:
            await self.paces.turn(server, tell)
        finally:
            if counted is not None:
                counted.retry_s += time.monotonic() - began_s

    async def _send(
        self,
        request: OpenRequest,
        url: str,
        headers: HeaderFields,
        wanted: HeaderFields,
        method: str,
        begun: Begun | None,
    ) -> tuple[Reply, Proxy | None]:
        proxy: Proxy | None = None
        try:
            origin, target = split_url(url)
            proxy = _proxy(request, origin)
            through = _in_http(proxy)
            _require_version(request, origin if through is None else through)
            session = self._session(request, origin, proxy)
            limits = request.connect_s, request.stall_s
            raw = await session.get(origin, target, headers, wanted, through, *limits, method=method, begun=begun)
            return raw, proxy
        except (errors.InvalidInput, errors.DescriptorsExhausted):
            # Certificates that cannot be loaded. (A ValueError, and an OSError.)
            raise
        except (ClientError, HttpProcessingError, OSError, ValueError) as error:
            with importing:
                from getm.engine.http.failures import translate
            translated = translate(error, urlsplit(url).hostname, request, proxy)
            translated.url = redact(url)
            raise translated from error


def _require_version(request: OpenRequest, at: str) -> None:
    """Raise `InvalidInput` where `at` has an address of another version of IP than is wanted: no name to look up."""
    wanted = None if request.connection is None else request.connection.ip_version
    host = urlsplit(at).hostname or ""
    version = 6 if ":" in host else 4 if _IPV4.fullmatch(host) else None
    if wanted is not None and version not in (None, wanted):
        raise errors.InvalidInput(
            f"{host} is an IPv{version} address, and only IPv{wanted} was asked for, by -{wanted} (ip_version) or "
            "an interface",
            url=redact(at),
        )


def _wanted(range_header: str | None, if_range: str | None) -> HeaderFields:
    """The header fields that ask for a part of an object."""
    wanted: HeaderFields = () if range_header is None else (("Range", range_header),)
    return wanted if if_range is None else (*wanted, ("If-Range", if_range))


def _headers(url: str, given: HeaderFields, *, ranged: bool = False) -> HeaderFields:
    """The header fields for a request that is given some."""
    if ".blob." in url:
        # Azure's, perhaps: few ask it.
        with importing:
            from getm.core.azure import VERSION, VERSION_FIELD, wants_version
        if wants_version(url, given):
            return (*given, (VERSION_FIELD, VERSION))
    # S3 declares its additional checksums only on request, and those of the whole object only without a Range. A
    # signature that covers the header requires it in any case.
    if (
        may_ask_checksums(url, given)
        and (not ranged or _CHECKSUM_MODE in url.lower())
        and not any(name.lower() == _CHECKSUM_MODE for name, _ in given)
    ):
        return (*given, (_CHECKSUM_MODE, "ENABLED"))
    return given


def _redirect_target(head: ResponseHead, raw_headers: Iterable[tuple[bytes, bytes]]) -> str:
    refused = partial(errors.RedirectError, url=redact(head.url))
    # The same Location twice is one.
    locations = {value.strip() for name, value in raw_headers if name.lower() == b"location"} - {b""}
    if len(locations) != 1:
        what = "several Locations that differ" if locations else "no Location to go to"
        raise refused(f"status {head.status} came with {what}")
    try:
        target = follow(head.url, locations.pop())
    except (errors.InvalidInput, ValueError) as error:
        reason = error.message if isinstance(error, errors.InvalidInput) else str(error)
        raise refused(f"a redirect that cannot be followed: {brief(reason)}") from None
    if is_tls(head.url) and not is_tls(target):
        raise refused(
            f"refused a redirect from https to {redact(target)}: what follows could be read and changed on the way"
        )
    return target


def _in_http(proxy: Proxy | None) -> str | None:
    """The URL of a proxy that gets requests; one of SOCKS only makes connections."""
    return None if proxy is None or proxy.socks else proxy.url


def _proxy(request: OpenRequest, origin: str) -> Proxy | None:
    options = request.connection
    if options is None:
        return _chosen(origin, tuple(request.environment.items()), None, None)
    if options.unix_socket is not None:
        return None
    return _chosen(origin, tuple(request.environment.items()), options.proxy, options.no_proxy)


@lru_cache(maxsize=256)
def _chosen(
    origin: str, environment: tuple[tuple[str, bytes], ...], proxy: str | None, no_proxy: str | None
) -> Proxy | None:
    return choose_proxy(origin, {name: os.fsdecode(value) for name, value in environment}, proxy, no_proxy)
