"""From where connections are made, and to which addresses, where the caller says so."""

from __future__ import annotations

import socket
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from getm.core.connection_options import ConnectionOptions
from getm.engine.interface import bind_to

_FAMILIES = {None: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}


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


def connector_arguments(options: ConnectionOptions) -> dict[str, Any]:
    """What aiohttp's `TCPConnector` gets for these options."""
    arguments: dict[str, Any] = {"family": _FAMILIES[options.ip_version]}
    if options.addresses:
        arguments["resolver"] = GivenAddresses(options.addresses)
    if (interface := options.interface) is not None:
        # The first three of what `getaddrinfo` returns for an address.
        arguments["socket_factory"] = lambda info: bind_to(interface, socket.socket(*info[:3]))
    return arguments
