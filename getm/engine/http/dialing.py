"""From where connections are made, to which addresses, and through what, where the caller says so."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from getm.core.connection_options import ConnectionOptions
from getm.engine.interface import bind_to
from getm.errors import InvalidInput

_FAMILIES = {None: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}
# What a SOCKS proxy says of the server and the way to it (RFC 1928, section 6). Other replies are of the proxy itself.
_OF_THE_SERVER = frozenset({1, 3, 4, 5, 6})
_SOCKS_PORT = 1080
# The caller has a limit of its own.
_NO_LIMIT_S = 1e6


class Dialer(Protocol):
    """Makes the sockets of connections, in place of aiohttp. `finds_hosts`: it wants names, and no addresses."""

    finds_hosts: bool

    async def __call__(self, host: str, port: int, addresses: Sequence[str]) -> socket.socket:
        """A connected socket that does not block. Raises `OSError`."""


class SocksReply(OSError):
    """A SOCKS proxy makes no connection. `number`: that of its reply, 0 where it wants another login; `strerror`: what
    that means. `final`: asked again it would say the same."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(errno.EIO, text)
        self.number: int = number
        self.final: bool = number not in _OF_THE_SERVER


class SocksDialer:
    """Connections through a SOCKS proxy, by the package python-socks."""

    def __init__(self, url: str, interface: str | None) -> None:
        if interface is not None:
            raise InvalidInput("there is no connection to a SOCKS proxy over a given interface: leave one of them out")
        scheme, _, rest = url.partition("://")
        self.finds_hosts: bool = scheme.lower() == "socks5h"
        host = rest.partition("/")[0]
        self._url = f"socks5://{host}" if urlsplit(url).port else f"socks5://{host}:{_SOCKS_PORT}"

    async def __call__(self, host: str, port: int, addresses: Sequence[str]) -> socket.socket:
        from python_socks import ProxyError
        from python_socks.async_.asyncio import Proxy

        proxy = Proxy.from_url(self._url, rdns=self.finds_hosts)
        for number, address in enumerate(several := [host] if self.finds_hosts else addresses, 1):
            try:
                return await proxy.connect(address, port, timeout=_NO_LIMIT_S)
            except ProxyError as error:
                reply = SocksReply(error.error_code or 0, f"{error}")
                if reply.final or number == len(several):
                    raise reply from error
        raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))


class UnixSocketDialer:
    """All connections go to one socket of this machine."""

    finds_hosts = True

    def __init__(self, path: bytes) -> None:
        self._path = path

    async def __call__(self, host: str, port: int, addresses: Sequence[str]) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, os.fsdecode(self._path))
        except BaseException:
            sock.close()
            raise
        return sock


class GivenAddresses(AbstractResolver):
    """The addresses that the caller gives for some hosts; those of all others by aiohttp's resolver."""

    def __init__(self, addresses: tuple[tuple[str, int, tuple[str, ...]], ...]) -> None:
        self._given = {(host, port): given for host, port, given in addresses}
        self._others = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        given = self._given.get((host.rstrip(".").lower(), port))
        if given is None:
            return await self._others.resolve(host, port, family)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
            for address in given
        ]

    async def close(self) -> None:
        await self._others.close()


def connector_arguments(options: ConnectionOptions, socks: str | None) -> dict[str, Any]:
    """What `Connector` gets for these options, and a SOCKS proxy. Raises `InvalidInput`."""
    arguments: dict[str, Any] = {"family": _FAMILIES[options.ip_version]}
    if options.addresses:
        arguments["resolver"] = GivenAddresses(options.addresses)
    if socks is not None:
        arguments["dialer"] = SocksDialer(socks, options.interface)
    elif options.unix_socket is not None:
        arguments["dialer"] = UnixSocketDialer(options.unix_socket)
    elif (interface := options.interface) is not None:
        # The first three of what `getaddrinfo` returns for an address.
        arguments["socket_factory"] = lambda info: bind_to(interface, socket.socket(*info[:3]))
    return arguments
