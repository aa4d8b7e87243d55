"""The connections of a batch to engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from getm import errors
from getm.batch.settings import DEFAULT_JOBS, BatchOptions
from getm.client.connection import ClientConnection
from getm.client.pool import LOOK_S, EnginePool, Holder, Waiter
from getm.options import DEFAULT_CHUNK_BYTES, MAX_AUTO_CONCURRENCY


class Connections:
    """Takes connections from the pool, as many as there are engines, and gives them back.

    Args:
        pool: That they belong to.
        options: Of the batch.
        awaken: Wakes the batch's thread. Called in any thread.
    """

    def __init__(self, pool: EnginePool, options: BatchOptions, awaken: Callable[[], None]) -> None:
        self._pool = pool
        self._options = options
        self._awaken = awaken
        # The thread or task that waits for the batch, and so releases nothing while that waits for memory.
        self._caller = Holder.current()
        self._all: list[ClientConnection] = []

    def __iter__(self) -> Iterator[ClientConnection]:
        return iter(tuple(self._all))

    def choose(self, *, tls: bool, wait: Callable[[float], bool]) -> ClientConnection | None:
        """The connection with the fewest objects; a new one while there are engines without any.

        Args:
            tls: Whether it is for an https URL.
            wait: Called with seconds while there is no memory for the first one; returns whether to go on waiting.

        Returns:
            The connection; None where `wait` says so.

        Raises:
            MemoryUnavailable: There is none, and none will be released.
            DescriptorsExhausted: This process can open no more of them.
            ReaderClosed: The session was closed.
        """
        options = self._options
        wanted = 1 if options.concurrency is None else min(self._pool.processes(), options.most_jobs)
        if len(self._all) >= wanted:
            return self._least_loaded()
        try:
            connection = self._acquire(tls, wait)
        except (errors.DescriptorsExhausted, errors.MemoryUnavailable):
            if not self._all:
                raise
            connection = None
        if connection is None:
            return self._least_loaded()
        # As long as the batch's thread has it: `close` in another one then ends the pipe, and not the descriptor.
        if not connection.begin_wait():
            raise errors.ReaderClosed("the session was closed")
        connection.corked = True
        self._all.append(connection)
        return connection

    def _acquire(self, tls: bool, wait: Callable[[float], bool]) -> ClientConnection | None:
        concurrency, jobs = self._options.concurrency, self._options.jobs
        most = MAX_AUTO_CONCURRENCY if concurrency == "auto" else concurrency
        wanted = self._pool.wanted(
            DEFAULT_CHUNK_BYTES,
            None if most is None else min(most, self._options.per_host),
            # Many at once are small, and need few slots.
            DEFAULT_JOBS if jobs == "auto" else jobs,
            adaptive=concurrency == "auto",
            tls=tls,
        )
        waiter = Waiter(self._caller, self._awaken)
        with self._pool.waiting(waiter):
            while (connection := self._pool.try_acquire(wanted)) is None:
                if self._all:
                    return None
                self._pool.check_wait(waiter)
                if not wait(LOOK_S):
                    return None
        return connection

    def _least_loaded(self) -> ClientConnection | None:
        if len(self._all) < 2:
            return next(iter(self._all), None)
        return min(self._all, key=lambda connection: connection.open_objects)

    def lose(self, connection: ClientConnection) -> None:
        """Its engine is gone."""
        connection.close()
        self._all.remove(connection)
        self._give_back(connection)

    def release(self) -> None:
        """Give all back."""
        for connection in self._all:
            self._give_back(connection)
        self._all.clear()

    def _give_back(self, connection: ClientConnection) -> None:
        connection.end_wait()
        self._pool.release(connection)
