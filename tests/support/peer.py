"""A server whose every connection is in the test's hands, and what asks it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from getm.engine.http.connections import Connector, Exchanges, Reply

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole"


@dataclass
class Peer:
    """A server whose every connection is in the test's hands."""

    origin: str
    readers: list[asyncio.StreamReader] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def head(self, number: int = 0) -> bytes:
        while len(self.readers) <= number:
            await self.came.wait()
            self.came.clear()
        return await self.readers[number].readuntil(b"\r\n\r\n")


@contextlib.asynccontextmanager
async def peer() -> AsyncIterator[Peer]:
    found = Peer("")

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.readers.append(reader)
        found.writers.append(writer)
        found.came.set()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    found.origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        server.close()
        for writer in found.writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def exchanges() -> AsyncIterator[Exchanges]:
    opened = Exchanges(Connector(limit=0), 30.0, lambda server: False)
    try:
        yield opened
    finally:
        await opened.close()


async def ask(pool: Exchanges, server: Peer, answer: bytes, number: int = 0, proxy: str | None = None) -> Reply:
    asked = asyncio.create_task(pool.get(server.origin, "/x", (), (), proxy, 10.0, 10.0))
    await server.head(number)
    server.writers[number].write(answer)
    return await asked
