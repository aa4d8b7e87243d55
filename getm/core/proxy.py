"""Which proxy a request goes through: the one that the caller names, or that of the usual environment variables, as
curl and the standard library read them.

`http_proxy` and `https_proxy` are for one scheme, `all_proxy` for both; lower case takes precedence over upper case,
and an empty one means none. `no_proxy` names hosts that are connected to directly.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import quote_from_bytes, urlsplit

from msgspec import Struct

from getm.core.redact import host_of, redact
from getm.core.text import brief
from getm.core.url import DEFAULT_PORTS
from getm.errors import InvalidInput, MissingExtra

_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
# The proxy looks up the names of servers with the second one, we with the first one, as in curl.
_SOCKS = ("socks5", "socks5h")
_SCHEMES = frozenset({*DEFAULT_PORTS, *_SOCKS})

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Proxy(Struct, frozen=True):
    """`url` with its secrets; `named_by` is the variable or the argument that named it."""

    url: str
    named_by: str

    @property
    def socks(self) -> bool:
        """Whether it speaks SOCKS, and not HTTP."""
        return self.url.partition("://")[0].lower() in _SOCKS

    def __str__(self) -> str:
        return f"the proxy {host_of(self.url)} (from {self.named_by})"


def choose_proxy(
    origin: str, environment: Mapping[str, str], proxy: str | None = None, no_proxy: str | None = None
) -> Proxy | None:
    """The proxy for requests to `origin` (scheme and authority), None for none.

    `proxy`, `no_proxy`: what the caller names in place of the variables; an empty `proxy` means none, an empty
    `no_proxy` exempts nobody.

    Raises `InvalidInput` for a proxy that cannot be used, before anything is sent.
    """
    parts = urlsplit(origin)
    found = ("proxy", proxy) if proxy is not None else None
    found = found or _set(f"{parts.scheme}_proxy", environment) or _set("all_proxy", environment)
    if no_proxy is None:
        no_proxy = (_set("no_proxy", environment) or ("", ""))[1]
    if found is None or not found[1] or _is_exempt(parts.hostname or "", parts.port, parts.scheme, no_proxy):
        return None
    return parse_proxy(found[1], found[0])


def parse_proxy(value: str, named_by: str) -> Proxy:
    """The proxy that `value` names: a URL, or HOST:PORT of one that speaks HTTP. Raises `InvalidInput`; `MissingExtra`
    for one that speaks SOCKS, where its package is not installed."""
    url = quote_from_bytes(value.encode("utf-8", "surrogateescape"), safe=_PRINTABLE)
    url = url if "://" in url else f"http://{url}"
    scheme = url.partition("://")[0].lower()
    if scheme not in _SCHEMES:
        socks = "of SOCKS only version 5 is supported" if scheme.startswith("socks") else "its scheme is another one"
        raise InvalidInput(
            f"{named_by} names the proxy {brief(redact(url))}: {socks}; name one by http://, https://, socks5:// or "
            "socks5h://, or exempt the host by no_proxy"
        )
    if host_of(url) is None:
        raise InvalidInput(f"{named_by} names no proxy that could be connected to: {brief(redact(url))!r}; correct it")
    proxy = Proxy(url, named_by)
    if proxy.socks and not _knows_socks():
        raise MissingExtra('a SOCKS proxy needs the package python-socks: pip install "getm[socks]"')
    return proxy


def _knows_socks() -> bool:
    # Needed by few.
    from importlib.util import find_spec

    return find_spec("python_socks") is not None


def _set(name: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Name and value of a variable that is set, in lower case or else, where it is not empty, in upper case."""
    if name in environment:
        return name, environment[name].strip()
    upper = name.upper()
    if upper == "HTTP_PROXY" and "REQUEST_METHOD" in environment:
        # In a CGI program it comes from a client's "Proxy" header: CVE-2016-1000110, "httpoxy".
        return None
    value = environment.get(upper, "").strip()
    return (upper, value) if value else None


def _is_exempt(host: str, port: int | None, scheme: str, listed: str) -> bool:
    host = host.partition("%")[0].rstrip(".").lower()
    address = _address(host)
    for entry in re.split(r"[,\s]+", listed.lower()):
        name, of_port = _split_port(entry)
        if entry and of_port in (None, port or DEFAULT_PORTS.get(scheme)) and _matches(name, host, address):
            return True
    return False


def _split_port(entry: str) -> tuple[str, int | None]:
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::([0-9]{1,5}))?", entry)
    named = bracketed or re.fullmatch(r"([^:]*):([0-9]{1,5})", entry)
    if named is None:
        return entry, None
    return named[1], None if named[2] is None else int(named[2])


def _matches(name: str, host: str, address: Address | None) -> bool:
    if name == "*":
        return True
    if address is not None:
        # An address, or a network by CIDR.
        with contextlib.suppress(ValueError):
            return address in ipaddress.ip_network(name, strict=False)
        return False
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _address(host: str) -> Address | None:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host)
    return None
