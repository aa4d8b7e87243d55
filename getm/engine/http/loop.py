"""uvloop's event loop, with getm's TLS for client connections."""

from __future__ import annotations

import asyncio
import socket
import ssl as tls
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import uvloop

from getm.engine import counters
from getm.engine.http.tls import open_tls

tunnelled: ContextVar[bool] = ContextVar("tunnelled", default=False)
"""Whether TLS to a server will be spoken within the TLS connection that is made."""


class EngineLoop(uvloop.Loop):
    """The event loop of an engine: TLS over a given socket, which is how aiohttp opens it, is getm's, everything else
    uvloop's. It counts the connections that it opens for a transfer, and the time of their TLS handshakes."""

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
        counted = counters.current.get(None)
        began_s = time.monotonic()
        # OpenSSL reads our sockets itself, and what it has decrypted cannot be a socket for TLS within it.
        if isinstance(ssl, tls.SSLContext) and sock is not None and not tunnelled.get():
            made = await open_tls(self, protocol_factory, sock, ssl, kwargs.get("server_hostname"))
        else:
            made = await super().create_connection(protocol_factory, *args, ssl=ssl, sock=sock, **kwargs)
        if counted is not None:
            counted.connections += 1
            if ssl:
                counted.tls_s += time.monotonic() - began_s
        return made

    async def start_tls(self, *args: Any, **kwargs: Any) -> Any:
        """Within the tunnel of a proxy."""
        counted = counters.current.get(None)
        began_s = time.monotonic()
        try:
            return await super().start_tls(*args, **kwargs)
        finally:
            if counted is not None:
                counted.tls_s += time.monotonic() - began_s
