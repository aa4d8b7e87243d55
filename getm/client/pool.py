"""The engines and connections of a session, until its end or a fork."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from getm import errors
from getm.buffers import available_bytes
from getm.buffers.layout import RingLayout, plan_layout
from getm.client import process
from getm.client.connection import ClientConnection
from getm.client.engines import Engine, ProcessEngine, ThreadEngine
from getm.core import shutdown
from getm.core.units import KIB

# One message takes the descriptors of a connection to its engine: the pipe's, the segment's, and one for each helper.
# Linux allows 253 in one.
_MAX_HELPERS = 253 - 2
# How long all engines together may take to release rings that are not used.
_MAKE_WAY_S = 1.0


# A ring gets the size that it wants as long as a quarter of the budget is left after it. The rest is for small rings,
# each a share of what is left, so that a session of 256 MiB has some 600 rings.
_SMALL_RINGS_SHARE = 4
_SMALL_RING_SHARE = 256
_SMALL_RING_BYTES = 64 * KIB
_MIN_RING_BYTES = 16 * KIB
# The end of a thread or a task that had a connection causes no event: a wait for its memory checks so often.
LOOK_S = 1.0


class Holder(NamedTuple):
    """The user of a connection, or who waits for one: a thread, and the asyncio task that runs in it, if any."""

    thread: threading.Thread
    task: Any

    @classmethod
    def current(cls) -> Holder:
        # Where asyncio was never imported, or is being imported, there is no task.
        current_task = getattr(sys.modules.get("asyncio"), "current_task", None)
        task = None
        if current_task is not None:
            with contextlib.suppress(RuntimeError):
                # No loop runs in this thread.
                task = current_task()
        return cls(threading.current_thread(), task)

    def may_let_go(self, waiter: Holder) -> bool:
        """Whether it may release what it has while `waiter` waits: it runs, and does not depend on `waiter`."""
        if self.task is not None and self.task.done():
            return False
        if self.thread is not waiter.thread:
            return self.thread.is_alive()
        # Other tasks of a thread run while one of them waits; if the thread itself waits, none of them runs.
        return waiter.task is not None and self.task is not None and self.task is not waiter.task


class Waiter:
    """A place in the queue for memory. `wake` is called whenever some may have become free: from any thread, even
    within a garbage collection, so it may take no lock."""

    def __init__(self, holder: Holder, wake: Callable[[], None]) -> None:
        self.holder = holder
        self.wake = wake
        # Whether it is waiting: then it releases nothing.
        self.blocked = False


class EnginePool:
    """The engines and connections of one session, within one budget of shared memory.

    Its lock is re-entrant: a signal's handler may use getm while the thread that it interrupts is in here. So every
    step leaves the lists consistent, and relies on nothing that an earlier step has seen.
    """

    def __init__(self, processes: int, max_memory: int, limit_rate: float | None = None) -> None:
        _refuse_at_the_end()
        self.processes = processes
        # Where no Python can be started, as in frozen programs.
        self._in_threads = process.python() is None
        # Engines do not know each other's bytes: each has its share.
        self._limit_rate = None if limit_rate is None else limit_rate / processes
        self._max_memory = max_memory
        self._lock = threading.RLock()
        self._engines: list[ProcessEngine] = []
        self._thread_engine: ThreadEngine | None = None
        self._turn = 0
        self._connections: list[ClientConnection] = []
        # Connections come back from finalizers as well, which may take no lock: appending is atomic, and the next user
        # sorts them.
        self._returned: deque[ClientConnection] = deque()
        self._free: list[ClientConnection] = []
        self._holders: dict[ClientConnection, Holder] = {}
        self._waiters: list[Waiter] = []
        self.closed: bool = False
        _pools.add(self)

    # For one transfer, or for several at once ------------------------------------------------------------------------

    def acquire(self, chunk_bytes: int, concurrency: int | None, *, jobs: int = 1) -> ClientConnection:
        """A connection for one transfer, or for `jobs` at once; `release` it afterwards. Starts engines as needed.

        Waits for memory where another thread may release some, and raises `MemoryUnavailable` where none can. In a
        coroutine see `aio.acquire`.
        """
        connection = self.try_acquire(chunk_bytes, concurrency, jobs=jobs)
        if connection is not None:
            return connection
        woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        # All of this thread waits, whatever task it runs.
        waiter = Waiter(Holder(threading.current_thread(), None), lambda: woken.put(None))
        with self.waiting(waiter):
            while (connection := self.try_acquire(chunk_bytes, concurrency, jobs=jobs)) is None:
                self.check_wait(waiter)
                with contextlib.suppress(queue.Empty):
                    woken.get(timeout=LOOK_S)
        return connection

    def try_acquire(
        self, chunk_bytes: int, concurrency: int | None, *, jobs: int = 1, holder: Holder | None = None
    ) -> ClientConnection | None:
        """`acquire` without waiting for memory: None where none is left. May take as long as an engine takes to start.
        `holder`: who will have it, if not the caller."""
        _refuse_at_the_end()
        _refuse_patched()
        with self._lock:
            self._refuse_closed()
            self._collect()
            private = concurrency is None or self._in_threads
            width = concurrency or 1
            # Of several transfers, each is served by one engine: that keeps all of them busy without helpers.
            helpers = 0 if private or jobs > 1 else min(self.processes, width, _MAX_HELPERS + 1) - 1
            try:
                connection = self._find(_Wanted(chunk_bytes, width, jobs, helpers, private))
                if connection is not None:
                    self._holders[connection] = holder or Holder.current()
            finally:
                if self.closed:
                    # By a signal's handler, while it was being made.
                    for engine in self._end():
                        engine.stop()
            self._refuse_closed()
            return connection

    def take_idle(self, chunk_bytes: int, concurrency: int | None) -> ClientConnection | None:
        """A free connection of full size; None where one would have to be made, or where another thread is using the
        pool. Never blocks."""
        if concurrency != 1 or self._in_threads or not self._lock.acquire(blocking=False):
            return None
        try:
            if self.closed or shutdown.begun():
                return None
            self._collect()
            connection = self._take_free(_Wanted(chunk_bytes, 1, 1, 0, private=False), at_least=self._max_memory)
            if connection is not None:
                self._holders[connection] = Holder.current()
            return connection
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def waiting(self, waiter: Waiter) -> Iterator[None]:
        """A context in which `waiter` is in the queue for memory. The first one is woken when some may be free."""
        self._waiters.append(waiter)
        try:
            yield
        finally:
            self._waiters.remove(waiter)
            # There may be enough for another one; or this one was woken and does not need it any more.
            self._wake()

    def check_wait(self, waiter: Waiter) -> None:
        """Raises `MemoryUnavailable` where `waiter` would wait only for itself and others who wait."""
        with self._lock:
            self._refuse_closed()
            if self._returned or self._free:
                # Released since `waiter` looked: there is something to take.
                return
            blocked = [other.holder for other in self._waiters if other.blocked and other is not waiter]
            holders = [holder for connection, holder in self._holders.items() if not connection.closed]
        waiter.blocked = any(each.may_let_go(waiter.holder) and each not in blocked for each in holders)
        if not waiter.blocked:
            used = self._used()
            raise errors.MemoryUnavailable(
                f"no memory for another ring: {len(holders)} transfers hold {used} of {self._max_memory} bytes; "
                "close some, or give the session a larger max_memory",
                wanted=_MIN_RING_BYTES,
                available=max(0, self._budget() - used),
            )

    def _wake(self) -> None:
        for waiter in list(self._waiters)[:1]:
            waiter.blocked = False
            waiter.wake()

    def _refuse_closed(self) -> None:
        if self.closed:
            raise errors.ReaderClosed("the session is closed; open another one")

    def _collect(self) -> None:
        """Sort the connections that came back: those that are idle and alive are reused."""
        while self._returned:
            with contextlib.suppress(IndexError):
                # Empty in the meantime: a signal's handler was faster.
                connection = self._returned.popleft()
                if not connection.closed:
                    self._free.append(connection)
        for connection in list(self._free):
            if not connection.idle:
                # The last messages of a cancelled object. An idle connection has none.
                with contextlib.suppress(errors.GetmError):
                    connection.pump(wait=False)
            if connection.closed:
                self._take(connection)
        self._forget_closed()

    def _forget_closed(self) -> None:
        for connection in [connection for connection in self._connections if connection.closed]:
            with contextlib.suppress(ValueError):
                self._connections.remove(connection)

    def _take(self, connection: ClientConnection) -> bool:
        """Remove it from the free ones; False where a signal's handler was faster."""
        try:
            self._free.remove(connection)
        except ValueError:
            return False
        return True

    def _take_free(self, wanted: _Wanted, *, at_least: int) -> ClientConnection | None:
        """The largest free ring that fits `wanted`; None where it is smaller than `at_least` and than the largest
        useful one."""
        largest = wanted.layout(self._max_memory)
        enough = min(at_least, largest.total_bytes)
        fitting = [
            connection
            for connection in self._free
            if connection.layout.total_bytes >= enough and wanted.fits(connection, self._max_memory)
        ]
        # Those whose cancelled object has not ended yet come last.
        fitting.sort(key=lambda connection: (not connection.idle, -connection.layout.total_bytes))
        for connection in fitting:
            if self._take(connection):
                if connection.alive:
                    return connection
                connection.close()
                self._forget_closed()
        return None

    def _find(self, wanted: _Wanted) -> ClientConnection | None:
        """A free ring or a new one; None where no memory is left."""
        # Mostly one is free that is as large as any would be: then nobody needs to ask how much memory is left.
        connection = self._take_free(wanted, at_least=wanted.layout(self._max_memory).total_bytes)
        if connection is not None:
            return connection
        ceiling = self._max_memory
        while True:
            budget = self._budget()
            used = self._used()
            left = budget - used
            generous = left - budget // _SMALL_RINGS_SHARE
            if generous >= max(_MIN_RING_BYTES, budget // 16):
                layout = wanted.layout(min(generous, ceiling))
                connection = self._take_free(wanted, at_least=layout.total_bytes)
            else:
                share = max(min(left, _SMALL_RING_BYTES), _power_of_two(left // _SMALL_RING_SHARE))
                layout = wanted.layout(max(_MIN_RING_BYTES, min(share, ceiling)))
                connection = self._take_free(wanted, at_least=0)
            if connection is None and self._free and layout.total_bytes < wanted.layout(self._max_memory).total_bytes:
                # A larger ring is better than idle ones that fit no request.
                self._make_way()
                continue
            if connection is not None:
                return connection
            if left < _MIN_RING_BYTES or layout.total_bytes > left:
                return None
            try:
                connection = self._connect(layout, wanted.helpers, wanted.private)
            except (errors.DescriptorsExhausted, errors.MemoryUnavailable) as error:
                # Less than the system said; and each unused ring has a descriptor.
                if self._free:
                    self._make_way()
                elif layout.slots <= 2 or isinstance(error, errors.DescriptorsExhausted):
                    raise
                else:
                    # What is left may be enough for a smaller ring.
                    ceiling = layout.total_bytes // 2
                continue
            self._connections.append(connection)
            return connection

    def _make_way(self) -> None:
        """Release the rings that are not used."""
        going = [connection for connection in list(self._free) if self._take(connection)]
        for connection in going:
            connection.begin_close()
        deadline = time.monotonic() + _MAKE_WAY_S
        for connection in going:
            connection.await_close(deadline)
        self._forget_closed()

    def _used(self) -> int:
        return sum(connection.layout.total_bytes for connection in self._connections)

    def _budget(self) -> int:
        """Bytes that all rings together may take, existing ones included."""
        available = available_bytes()
        # Never more than half of the machine's free memory, which others need as well.
        return self._max_memory if available is None else min(self._max_memory, self._used() + available // 2)

    def _connect(self, layout: RingLayout, helpers: int, private: bool) -> ClientConnection:
        for attempt in range(2):
            if private:
                team: list[Engine] = [self._thread()]
            else:
                team = self._team(helpers + 1)
            try:
                return ClientConnection(team[0], team[1:], layout, private=private)
            except errors.EngineDied:
                # One that had ended by itself when idle: `_team` replaces it.
                if attempt:
                    raise
        raise errors.EngineDied("no engine could be started")

    def _thread(self) -> ThreadEngine:
        if self._thread_engine is None or not self._thread_engine.alive:
            engine = ThreadEngine(self._limit_rate)
            if self._thread_engine is None or not self._thread_engine.alive:
                self._thread_engine = engine
            else:
                # A signal's handler was faster.
                engine.stop()
        return self._thread_engine

    def _team(self, count: int) -> list[Engine]:
        """`count` live engines, another one first each time."""
        for engine in list(self._engines):
            if not engine.alive:
                with contextlib.suppress(ValueError):
                    # A signal's handler was faster.
                    self._engines.remove(engine)
                engine.stop()
        # One more engine for each stream, up to the limit: streams share engines only beyond it.
        while len(engines := list(self._engines)) < min(self.processes, max(count, self._turn + 1)):
            engine = ProcessEngine(self._limit_rate)
            # Looked up only now: a signal's handler may have closed the pool, and `try_acquire` then ends what is here.
            self._engines.append(engine)
            self._refuse_closed()
        start, self._turn = self._turn, (self._turn + 1) % self.processes
        return [engines[(start + index) % len(engines)] for index in range(count)]

    def release(self, connection: ClientConnection) -> None:
        """The transfer on it is over, complete or cancelled. Any thread, no lock."""
        self._holders.pop(connection, None)
        if not self.closed:
            self._returned.append(connection)
        self._wake()

    def close(self) -> None:
        """End all transfers and engines, and wait until the engines have ended. Views stay valid."""
        with self._lock:
            engines = self._end()
        for engine in engines:
            engine.stop()

    def leave(self) -> None:
        """`close` for a finalizer, which may run in any thread at any moment: takes no lock and waits for nothing.

        Nobody uses the pool then: users hold the session whose end calls this.
        """
        for engine in self._end():
            engine.leave()

    def _end(self) -> list[Engine]:
        """End all transfers and return the engines, which the caller must end."""
        self.closed = True
        for connection in self._connections:
            connection.close()
        engines: list[Engine] = [*self._engines]
        if self._thread_engine is not None:
            engines.append(self._thread_engine)
        self._connections, self._free, self._engines, self._thread_engine = [], [], [], None
        self._returned.clear()
        self._holders.clear()
        for engine in engines:
            engine.tell_to_stop()
        for waiter in list(self._waiters):
            waiter.wake()
        return engines

    def abandon(self) -> None:
        """In a forked child: everything here is the parent's."""
        self._lock = threading.RLock()
        self._waiters.clear()
        self._holders.clear()
        for connection in self._connections:
            connection.abandon()
        for engine in [*self._engines, self._thread_engine]:
            if engine is not None:
                engine.abandon()
        self._connections, self._free, self._engines, self._thread_engine = [], [], [], None
        self._returned.clear()


class _Wanted(NamedTuple):
    """The connection that a transfer, or `jobs` of them, need."""

    chunk_bytes: int
    width: int
    jobs: int
    helpers: int
    private: bool

    def layout(self, budget_bytes: int) -> RingLayout:
        return plan_layout(self.chunk_bytes, self.width, budget_bytes, jobs=self.jobs)

    def fits(self, connection: ClientConnection, max_memory: int) -> bool:
        """Whether a new ring would have this size, and most of its slots are free."""
        layout = connection.layout
        return (
            layout == self.layout(min(max_memory, layout.total_bytes))
            and connection.helpers == self.helpers
            and isinstance(connection.engine, ThreadEngine) is self.private
            and connection.with_engine * 2 >= layout.slots
        )


def _power_of_two(number: int) -> int:
    """The next lower of a few sizes, so that rings can be reused. 0 for 0."""
    return 1 << number.bit_length() - 1 if number else 0


_pools: weakref.WeakSet[EnginePool] = weakref.WeakSet()


def _refuse_at_the_end() -> None:
    if shutdown.begun():
        # What still runs is functions that were registered with atexit before getm was imported, and finalisers, in
        # which nothing can be imported or started anyway.
        raise errors.ReaderClosed(shutdown.REFUSAL)


def _refuse_patched() -> None:
    """gevent and eventlet replace sockets, `select` and threads by their own: with those, waiting for an engine fails
    with EBADF, or never ends."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if (gevent is not None and gevent.is_module_patched("socket")) or (
        eventlet is not None and eventlet.is_monkey_patched("socket")
    ):
        raise errors.InvalidInput(
            "getm cannot be used where gevent or eventlet has patched the standard library (monkey.patch_all): use it "
            "in a process without that, or run the command `getm` as a subprocess"
        )


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool.abandon()


def _close_pools() -> None:
    for pool in list(_pools):
        pool.close()


shutdown.at_end(_close_pools)
os.register_at_fork(after_in_child=_after_fork_in_child)
