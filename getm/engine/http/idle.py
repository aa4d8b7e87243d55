"""Connections that wait for the next request to their server."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from aiohttp.connector import Connection


class _Idle(NamedTuple):
    connection: Connection
    since_s: float


class IdleConnections:
    """Connections that were kept alive, by their server; one that is not used for `keep_s` seconds is closed.

    The last one to come is the first one to go: it is most likely to be open still. In place of the connector's own
    pool: a request finds its connection without a task that waits for one.
    """

    def __init__(self, keep_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._keep_s = keep_s
        self._idle: dict[str, deque[_Idle]] = {}
        # Set while any wait.
        self._timer: asyncio.TimerHandle | None = None

    def take(self, server: str) -> Connection | None:
        """A connection to `server` (its scheme, name and port), which is the caller's now; None where none waits."""
        waiting = self._idle.get(server)
        while waiting:
            connection = waiting.pop().connection
            if not connection.closed:
                return connection
            # The server has closed it.
            connection.close()
        return None

    def put(self, server: str, connection: Connection) -> None:
        """All of a response has come over it: it waits for the next request, if it may carry one."""
        protocol = connection.protocol
        if protocol is None or protocol.should_close:
            connection.close()
            return
        self._idle.setdefault(server, deque()).append(_Idle(connection, self._loop.time()))
        if self._timer is None:
            self._timer = self._loop.call_later(self._keep_s, self._expire)

    def _expire(self) -> None:
        """Close those that have waited for too long, and look again when the next one may have."""
        self._timer = None
        before_s = self._loop.time() - self._keep_s
        for server, waiting in list(self._idle.items()):
            while waiting and (waiting[0].since_s <= before_s or waiting[0].connection.closed):
                waiting.popleft().connection.close()
            if not waiting:
                del self._idle[server]
        if self._idle:
            oldest_s = min(waiting[0].since_s for waiting in self._idle.values())
            self._timer = self._loop.call_later(oldest_s - before_s, self._expire)

    def close(self) -> None:
        """Close all of them."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for waiting in self._idle.values():
            for idle in waiting:
                idle.connection.close()
        self._idle.clear()
