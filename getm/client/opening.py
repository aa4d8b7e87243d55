"""A transfer to be started: its request, and the pool that gives it a connection."""

from __future__ import annotations

from typing import NamedTuple

from getm.client.connection import ClientConnection
from getm.client.pool import EnginePool, Wanted
from getm.client.receiver import Receiver
from getm.core.url import is_tls
from getm.protocol.messages import OpenRequest


class Opening(NamedTuple):
    """`owner` closes the pool when it is dropped: this, and the transfer that it starts, keep it alive."""

    owner: object
    pool: EnginePool
    request: OpenRequest
    chunk_bytes: int
    concurrency: int | None

    def wanted(self) -> Wanted:
        """The connection that it needs."""
        adaptive, tls = self.request.adaptive, is_tls(self.request.url)
        return self.pool.wanted(self.chunk_bytes, self.concurrency, adaptive=adaptive, tls=tls)

    def start(self) -> Receiver:
        """Send the request over a connection of the pool. Raises `EngineDied` where an engine ended just then."""
        return self.start_on(self.acquire())

    def acquire(self) -> ClientConnection:
        """A connection of the pool for it."""
        wanted = self.wanted()
        return self.pool.take_idle(wanted) or self.pool.acquire(wanted)

    def start_on(self, connection: ClientConnection) -> Receiver:
        """Send the request over `connection`, which was acquired for it."""
        return Receiver(connection, self.request, self._release)

    def _release(self, connection: ClientConnection) -> None:
        # A method of this, not of the pool.
        self.pool.release(connection)
