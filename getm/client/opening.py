"""A transfer to be started: its request, and the pool that gives it a connection."""

from __future__ import annotations

from getm.client.connection import ClientConnection
from getm.client.pool import EnginePool
from getm.client.receiver import Receiver
from getm.protocol.messages import OpenRequest


class Opening:
    """`owner` closes the pool when it is dropped: this, and the transfer that it starts, keep it alive."""

    def __init__(
        self, owner: object, pool: EnginePool, request: OpenRequest, chunk_bytes: int, concurrency: int | None
    ) -> None:
        self.pool = pool
        self.chunk_bytes = chunk_bytes
        self.concurrency = concurrency
        self._owner = owner
        self._request = request

    def start(self) -> Receiver:
        """Send the request over a connection of the pool. Raises `EngineDied` where an engine ended just then."""
        wanted = self.chunk_bytes, self.concurrency
        return self.start_on(self.pool.take_idle(*wanted) or self.pool.acquire(*wanted))

    def start_on(self, connection: ClientConnection) -> Receiver:
        """Send the request over `connection`, which was acquired for it."""
        return Receiver(connection, self._request, self._release)

    def _release(self, connection: ClientConnection) -> None:
        # A method of this, not of the pool.
        self.pool.release(connection)
