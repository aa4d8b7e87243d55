"""The head of a request as it is sent: aiohttp's header fields, made once for all requests to a server that differ only
in their target."""

from __future__ import annotations

import re
from collections.abc import Iterable

from aiohttp.client_reqrep import ClientRequest
from multidict import CIMultiDict
from yarl import URL

from getm._version import __version__
from getm.core.url import basic_credentials, host_field, split_authority, split_url

_OWN_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": f"getm/{__version__}"}
# RFC 9110, section 5.5.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

HeaderFields = tuple[tuple[str, str], ...]


class RequestHeads:
    """The heads of all requests to one server that have the same header fields. `proxy`: its URL, None for none."""

    def __init__(self, origin: str, headers: HeaderFields, proxy: str | None) -> None:
        scheme, userinfo, host = split_authority(origin)
        self._origin = URL(f"{scheme}://{host}", encoded=True)
        self.server: str | None = None if proxy is not None else f"{scheme}://{host}"
        """What its connections may be told by; None with a proxy, for which each request is completed by the connector
        that finds a connection to it."""
        self._headers = CIMultiDict(_OWN_HEADERS)
        if host_field(host) != host:
            self._headers["Host"] = host_field(host)
        for name in {name.lower() for name, _ in headers}:
            # A user's header replaces ours, however often it is given.
            self._headers.pop(name, None)
        self._headers.extend(headers)
        if userinfo:
            if "Authorization" in self._headers:
                raise ValueError("the URL has a user name, and the headers have an Authorization: give one of them")
            self._headers["Authorization"] = basic_credentials(userinfo)
        self._proxy: URL | None = None
        self._proxy_headers = dict(_OWN_HEADERS)
        if proxy is not None:
            proxy_scheme, login, proxy_host = split_authority(split_url(proxy)[0])
            self._proxy = URL(f"{proxy_scheme}://{proxy_host}", encoded=True)
            if login:
                # aiohttp makes Proxy-Authorization of it.
                self._proxy_headers["Authorization"] = basic_credentials(login)
        self._request: ClientRequest | None = None
        self._fields = b""
        # A proxy with which we speak HTTP is asked for the whole URL (RFC 9112, section 3.2.2).
        whole = proxy is not None and self._origin.scheme == "http"
        self._before_target = f"{scheme}://{host_field(host)}" if whole else ""

    def request(self) -> ClientRequest:
        """The request for the connector, which needs only the host of it."""
        if self._request is not None:
            return self._request
        through, headers = self._proxy, CIMultiDict(self._proxy_headers)
        request = ClientRequest("GET", self._origin, headers=self._headers, proxy=through, proxy_headers=headers)
        if through is None:
            # To one for a proxy the connector adds what that needs: a new one each time.
            self._request = request
        return request

    def encode(self, request: ClientRequest, method: str, target: str, wanted: HeaderFields) -> bytes:
        """The request for `target` as it is sent, with further fields."""
        line = f"{method} {self._before_target}{target} HTTP/1.1"
        if _CONTROL.search(line):
            raise ValueError("the URL has a control character")
        fields = self._fields or _encode(request.headers.items())
        if request is self._request:
            self._fields = fields
        return b"%b\r\n%b%b\r\n" % (line.encode(), fields, _encode(wanted))


def _encode(fields: Iterable[tuple[str, str]]) -> bytes:
    lines = []
    for name, value in fields:
        line = f"{name}: {value}"
        if _CONTROL.search(line):
            raise ValueError(f"the header {name!r} has a control character")
        lines.append(f"{line}\r\n")
    return "".join(lines).encode()
