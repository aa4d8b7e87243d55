"""uvloop's event loop, with our TLS for client connections."""

from __future__ import annotations

import asyncio
import socket
import ssl as tls
from collections.abc import Callable
from typing import Any, cast

import uvloop

from getm.engine.tls import open_tls


class EngineLoop(uvloop.Loop):
    """The loop of an engine: TLS over a given socket, which is how aiohttp opens it, is ours; all else is uvloop's."""

    async def create_connection(  # type: ignore[override]  # one signature for what uvloop declares as overloads
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *args: Any,
        ssl: tls.SSLContext | bool | None = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        **kwargs: Any,
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        if isinstance(ssl, tls.SSLContext) and sock is not None:
            return await open_tls(self, protocol_factory, sock, ssl, server_hostname)
        made = await super().create_connection(
            protocol_factory, *args, ssl=ssl, sock=sock, server_hostname=server_hostname, **kwargs
        )
        return cast("tuple[asyncio.BaseTransport, asyncio.BaseProtocol]", made)
