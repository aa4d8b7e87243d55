"""The engines and channels of a session, and what becomes of them at the end and after a fork."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque

from getm import ending, errors
from getm.buffers import available_bytes
from getm.client.channel import Channel
from getm.client.engines import Engine, ProcessEngine, ThreadEngine
from getm.options import Geometry, plan_ring


class EnginePool:
    """The engines and channels of one session, within one budget of shared memory."""

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
        self._channels: list[Channel] = []
        # Channels come back from finalisers too, which may take no lock: appending is atomic, the next user sorts them.
        self._returned: deque[Channel] = deque()
        self._free: list[Channel] = []
        self.closed = False
        _pools.add(self)

    def acquire(self, chunk_bytes: int, concurrency: int | None, *, jobs: int = 1) -> Channel:
        """A channel for one transfer, or for `jobs` at once; `release` it afterwards. Starts engines as needed."""
        _refuse_at_the_end()
        with self._lock:
            if self.closed:
                raise errors.ReaderClosed("the session is closed; open another one")
            self._collect()
            width = concurrency or 1
            private = concurrency is None
            wanted = plan_ring(chunk_bytes, width, self._max_memory, jobs=jobs)
            # Where there are several transfers, each is one engine's: that keeps all of them busy without their help.
            helpers = 0 if private or jobs > 1 else min(self.processes, width) - 1
            for channel in list(self._free):
                if (
                    # Mostly the very same object: `plan_ring` remembers.
                    (channel.geometry is wanted or channel.geometry == wanted)
                    and channel.helpers == helpers
                    and isinstance(channel.engine, ThreadEngine) is private
                    and channel.with_engine * 2 >= wanted.slots
                ):
                    self._free.remove(channel)
                    if channel.alive:
                        return channel
                    channel.close()
                    self._channels.remove(channel)
            return self._create(chunk_bytes, width, jobs, helpers, private)

    def _collect(self) -> None:
        """Sort out what came back: channels that are quiet and alive may serve again."""
        for _ in range(len(self._returned)):
            channel = self._returned.popleft()
            if not channel.closed:
                self._free.append(channel)
        closed = False
        for channel in self._free:
            if not channel.idle:
                # The last words of an object that was cancelled. One that is idle has nothing to say.
                try:
                    channel.pump(wait=False)
                except errors.GetmError:
                    channel.close()
            closed = closed or channel.closed
        if closed:
            self._free = [channel for channel in self._free if not channel.closed]
        self._channels = [channel for channel in self._channels if not channel.closed]
        if len(self._free) > 1:
            # Those whose cancelled object has not ended yet come last.
            self._free.sort(key=lambda channel: not channel.idle)

    def _create(self, chunk_bytes: int, width: int, jobs: int, helpers: int, private: bool) -> Channel:
        room = self._room()
        if room < self._max_memory // 4:
            self._make_way()
            room = self._room()
        while True:
            geometry = plan_ring(chunk_bytes, width, room, jobs=jobs)
            if geometry.total_bytes > room:
                raise errors.MemoryUnavailable(
                    f"no room for another ring: {len(self._channels)} transfers hold {self._max_memory - room} of "
                    f"{self._max_memory} bytes; close some, or give the session a larger max_memory",
                    wanted=geometry.total_bytes,
                    available=room,
                )
            try:
                channel = self._connect(geometry, helpers, private)
            except errors.MemoryUnavailable:
                # Less than the system said.
                if self._free:
                    self._make_way()
                elif geometry.slots <= 2:
                    raise
                else:
                    # What is left may do for a smaller ring.
                    room = geometry.total_bytes // 2
                continue
            self._channels.append(channel)
            return channel

    def _make_way(self) -> None:
        """Give up the rings that nobody uses."""
        for channel in self._free:
            channel.make_way()
            self._channels.remove(channel)
        self._free.clear()

    def _room(self) -> int:
        used = sum(channel.geometry.total_bytes for channel in self._channels)
        room = self._max_memory - used
        available = available_bytes()
        # Never more than half of what is left to the machine: others want to live too.
        return room if available is None else min(room, available // 2)

    def _connect(self, geometry: Geometry, helpers: int, private: bool) -> Channel:
        for attempt in range(2):
            if private:
                if self._thread_engine is None or not self._thread_engine.alive:
                    self._thread_engine = ThreadEngine(self._limit_rate)
                team: list[Engine] = [self._thread_engine]
            else:
                team = self._team(helpers + 1)
            try:
                return Channel(team[0], team[1:], geometry, private=private)
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

    def release(self, channel: Channel) -> None:
        """The transfer on it is over, complete or cancelled. Any thread, no lock."""
        if not self.closed:
            self._returned.append(channel)

    def close(self) -> None:
        """End all transfers and engines. Views stay valid."""
        with self._lock:
            self.closed = True
            for channel in self._channels:
                channel.close()
            engines: list[Engine] = [*self._engines]
            if self._thread_engine is not None:
                engines.append(self._thread_engine)
            self._channels, self._free, self._engines, self._thread_engine = [], [], [], None
            self._returned.clear()
        for engine in engines:
            engine.tell_to_stop()
        for engine in engines:
            engine.stop()

    def abandon(self) -> None:
        """In a forked child: everything here is the parent's."""
        self._lock = threading.Lock()
        for channel in self._channels:
            channel.close()
        for engine in [*self._engines, self._thread_engine]:
            if engine is not None:
                engine.abandon()
        self._channels, self._free, self._engines, self._thread_engine = [], [], [], None
        self._returned.clear()


_pools: weakref.WeakSet[EnginePool] = weakref.WeakSet()


def _refuse_at_the_end() -> None:
    if ending.begun():
        # What still runs is functions that were registered with atexit before getm was imported, and finalisers, in
        # which nothing can be imported or started anyway.
        raise errors.ReaderClosed(ending.REFUSAL)


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool.abandon()


def _close_pools() -> None:
    for pool in list(_pools):
        pool.close()


ending.at_end(_close_pools)
os.register_at_fork(after_in_child=_after_fork_in_child)
