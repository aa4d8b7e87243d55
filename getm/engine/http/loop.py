"""uvloop's event loop, with getm's TLS for client connections."""

from __future__ import annotations

import asyncio
import socket
import ssl as tls
from collections.abc import Callable
from typing import Any

import uvloop

from getm.engine import counters
from getm.engine.http.tls import open_tls


class EngineLoop(uvloop.Loop):
    """The event loop of an engine: TLS over a given socket, which is how aiohttp opens it, is getm's, everything else
    uvloop's. It counts the connections that it opens for a transfer."""

    async def getaddrinfo(self, *args: Any, type: int = 0, **kwargs: Any) -> Any:
        """uvloop's `sock_connect` calls this, without a type, with the address that it was given. Without a type,
        uvloop asks the resolver in a thread of libuv's: a detour for each connection, and where the first of these
        threads cannot be started, libuv aborts the process."""
        return await super().getaddrinfo(*args, type=type or socket.SOCK_STREAM, **kwargs)

    async def create_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *args: Any,
        ssl: tls.SSLContext | bool | None = None,
        sock: socket.socket | None = None,
        **kwargs: Any,
    ) -> Any:
        made: Any
        if isinstance(ssl, tls.SSLContext) and sock is not None:
            made = await open_tls(self, protocol_factory, sock, ssl, kwargs.get("server_hostname"))
        else:
            made = await super().create_connection(protocol_factory, *args, ssl=ssl, sock=sock, **kwargs)
        counted = counters.current.get(None)
        if counted is not None:
            counted.connections += 1
        return made
