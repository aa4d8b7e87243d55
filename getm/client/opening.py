"""A transfer to be started: its request, and the pool that gives it a connection."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from getm import errors
from getm.client.connection import ClientConnection
from getm.client.pool import EnginePool, Wanted
from getm.client.receiver import Receiver
from getm.core.lazy import importing
from getm.core.url import is_tls
from getm.protocol.messages import OpenRequest
from getm.resolve.request import locator_of

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

    from getm.resolve.locator import Found


class Opening(NamedTuple):
    """`owner` closes the pool when it is dropped: this, and the transfer that it starts, keep it alive."""

    owner: object
    pool: EnginePool
    request: OpenRequest
    chunk_bytes: int
    concurrency: int | None

    def wanted(self) -> Wanted:
        """The connection that it needs."""
        adaptive, tls = self.request.adaptive, is_tls(self._located().url)
        return self.pool.wanted(self.chunk_bytes, self.concurrency, adaptive=adaptive, tls=tls)

    def start(self) -> Receiver:
        """Send the request over a connection of the pool, once its URL is found. Raises `ResolveFailed`, and
        `EngineDied` where an engine ended just then."""
        if (finding := self.find()) is not None:
            with self.pool.finding(finding):
                finding.result()
        return self.start_on(self.acquire())

    def find(self, loop: asyncio.AbstractEventLoop | None = None) -> Future[Found] | None:
        """Ask where the object is; None where that is known. `loop`: that of the caller, in asyncio."""
        locator = locator_of(self.request)
        if locator is None:
            return None
        # Needed for names only.
        with importing:
            from getm.client.pages import fetch_page
        return locator.locate(self.request, partial(fetch_page, self.pool), loop)

    def _located(self) -> OpenRequest:
        locator = locator_of(self.request)
        return self.request if locator is None else locator.applied(self.request)

    def acquire(self) -> ClientConnection:
        """A connection of the pool for it."""
        wanted = self.wanted()
        return self.pool.take_idle(wanted) or self.pool.acquire(wanted)

    def start_on(self, connection: ClientConnection) -> Receiver:
        """Send the request over `connection`, which was acquired for it."""
        return Receiver(connection, self._located(), self._release, locator_of(self.request))

    def _release(self, connection: ClientConnection) -> None:
        # A method of this, not of the pool.
        self.pool.release(connection)


def open_transfer(opening: Opening) -> Receiver:
    """Start a transfer and wait for its head."""
    for last in (False, True):
        try:
            transfer = opening.start()
        except errors.EngineDied:
            # It had no request yet: another one is started.
            if last:
                raise
            continue
        try:
            while not transfer.has_head():
                transfer.pump(wait=True)
            return transfer
        except BaseException:
            transfer.close()
            if last or not transfer.never_answered:
                raise
    raise errors.EngineDied("the engine ended twice before it answered")
