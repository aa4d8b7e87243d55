"""The engines and connections of a session, and what becomes of them at the end and after a fork."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque

from getm import errors
from getm.buffers import available_bytes
from getm.buffers.layout import RingLayout, plan_layout
from getm.client.connection import ClientConnection
from getm.client.engines import Engine, ProcessEngine, ThreadEngine
from getm.core import shutdown


class EnginePool:
    """The engines and connections of one session, within one budget of shared memory."""

    def __init__(self, processes: int, max_memory: int, limit_rate: float | None = None) -> None:
        _refuse_at_the_end()
        self.processes = processes
        # Engines do not know of each other's bytes: each has its share.
        self._limit_rate = None if limit_rate is None else limit_rate / processes
        self._max_memory = max_memory
        self._lock = threading.Lock()
        self._engines: list[ProcessEngine] = []
        self._thread_engine: ThreadEngine | None = None
        self._turn = 0
        self._connections: list[ClientConnection] = []
        # Channels come back from finalisers too, which may take no lock: appending is atomic, the next user sorts them.
        self._returned: deque[ClientConnection] = deque()
        self._free: list[ClientConnection] = []
        self.closed = False
        _pools.add(self)

    def acquire(self, chunk_bytes: int, concurrency: int | None, *, jobs: int = 1) -> ClientConnection:
        """A connection for one transfer, or for `jobs` at once; `release` it afterwards. Starts engines as needed."""
        _refuse_at_the_end()
        with self._lock:
            if self.closed:
                raise errors.ReaderClosed("the session is closed; open another one")
            self._collect()
            width = concurrency or 1
            private = concurrency is None
            wanted = plan_layout(chunk_bytes, width, self._max_memory, jobs=jobs)
            # Where there are several transfers, each is one engine's: that keeps all of them busy without their help.
            helpers = 0 if private or jobs > 1 else min(self.processes, width) - 1
            for connection in list(self._free):
                if (
                    # Mostly the very same object: `plan_layout` remembers.
                    (connection.layout is wanted or connection.layout == wanted)
                    and connection.helpers == helpers
                    and isinstance(connection.engine, ThreadEngine) is private
                    and connection.with_engine * 2 >= wanted.slots
                ):
                    self._free.remove(connection)
                    if connection.alive:
                        return connection
                    connection.close()
                    self._connections.remove(connection)
            return self._create(chunk_bytes, width, jobs, helpers, private)

    def _collect(self) -> None:
        """Sort out what came back: connections that are quiet and alive may serve again."""
        for _ in range(len(self._returned)):
            connection = self._returned.popleft()
            if not connection.closed:
                self._free.append(connection)
        closed = False
        for connection in self._free:
            if not connection.idle:
                # The last words of an object that was cancelled. One that is idle has nothing to say.
                try:
                    connection.pump(wait=False)
                except errors.GetmError:
                    connection.close()
            closed = closed or connection.closed
        if closed:
            self._free = [connection for connection in self._free if not connection.closed]
        self._connections = [connection for connection in self._connections if not connection.closed]
        if len(self._free) > 1:
            # Those whose cancelled object has not ended yet come last.
            self._free.sort(key=lambda connection: not connection.idle)

    def _create(self, chunk_bytes: int, width: int, jobs: int, helpers: int, private: bool) -> ClientConnection:
        room = self._room()
        if room < self._max_memory // 4:
            self._make_way()
            room = self._room()
        while True:
            layout = plan_layout(chunk_bytes, width, room, jobs=jobs)
            if layout.total_bytes > room:
                raise errors.MemoryUnavailable(
                    f"no room for another ring: {len(self._connections)} transfers hold {self._max_memory - room} of "
                    f"{self._max_memory} bytes; close some, or give the session a larger max_memory",
                    wanted=layout.total_bytes,
                    available=room,
                )
            try:
                connection = self._connect(layout, helpers, private)
            except errors.MemoryUnavailable:
                # Less than the system said.
                if self._free:
                    self._make_way()
                elif layout.slots <= 2:
                    raise
                else:
                    # What is left may do for a smaller ring.
                    room = layout.total_bytes // 2
                continue
            self._connections.append(connection)
            return connection

    def _make_way(self) -> None:
        """Give up the rings that nobody uses."""
        for connection in self._free:
            connection.make_way()
            self._connections.remove(connection)
        self._free.clear()

    def _room(self) -> int:
        used = sum(connection.layout.total_bytes for connection in self._connections)
        room = self._max_memory - used
        available = available_bytes()
        # Never more than half of what is left to the machine: others want to live too.
        return room if available is None else min(room, available // 2)

    def _connect(self, layout: RingLayout, helpers: int, private: bool) -> ClientConnection:
        for attempt in range(2):
            if private:
                if self._thread_engine is None or not self._thread_engine.alive:
                    self._thread_engine = ThreadEngine(self._limit_rate)
                team: list[Engine] = [self._thread_engine]
            else:
                team = self._team(helpers + 1)
            try:
                return ClientConnection(team[0], team[1:], layout, private=private)
            except errors.EngineDied:
                # One that had ended by itself when idle: `_team` replaces it.
                if attempt:
                    raise
        raise errors.EngineDied("no engine could be started")

    def _team(self, count: int) -> list[Engine]:
        """`count` living engines, each time another one first."""
        for engine in list(self._engines):
            if not engine.alive:
                engine.stop()
                self._engines.remove(engine)
        # One more engine for each stream, up to the limit: a stream whose turn it is does not share before that.
        while len(self._engines) < min(self.processes, max(count, self._turn + 1)):
            self._engines.append(ProcessEngine(self._limit_rate))
        start, self._turn = self._turn, (self._turn + 1) % self.processes
        return [self._engines[(start + index) % len(self._engines)] for index in range(count)]

    def release(self, connection: ClientConnection) -> None:
        """The transfer on it is over, complete or cancelled. Any thread, no lock."""
        if not self.closed:
            self._returned.append(connection)

    def close(self) -> None:
        """End all transfers and engines. Views stay valid."""
        with self._lock:
            self.closed = True
            for connection in self._connections:
                connection.close()
            engines: list[Engine] = [*self._engines]
            if self._thread_engine is not None:
                engines.append(self._thread_engine)
            self._connections, self._free, self._engines, self._thread_engine = [], [], [], None
            self._returned.clear()
        for engine in engines:
            engine.tell_to_stop()
        for engine in engines:
            engine.stop()

    def abandon(self) -> None:
        """In a forked child: everything here is the parent's."""
        self._lock = threading.Lock()
        for connection in self._connections:
            connection.close()
        for engine in [*self._engines, self._thread_engine]:
            if engine is not None:
                engine.abandon()
        self._connections, self._free, self._engines, self._thread_engine = [], [], [], None
        self._returned.clear()


_pools: weakref.WeakSet[EnginePool] = weakref.WeakSet()


def _refuse_at_the_end() -> None:
    if shutdown.begun():
        # What still runs is functions that were registered with atexit before getm was imported, and finalisers, in
        # which nothing can be imported or started anyway.
        raise errors.ReaderClosed(shutdown.REFUSAL)


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool.abandon()


def _close_pools() -> None:
    for pool in list(_pools):
        pool.close()


shutdown.at_end(_close_pools)
os.register_at_fork(after_in_child=_after_fork_in_child)
