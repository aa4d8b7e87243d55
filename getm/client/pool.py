"""The engines and connections of a session, until its end or a fork."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from getm import errors
from getm.buffers import available_bytes
from getm.buffers.layout import RingLayout, plan_layout
from getm.client import process
from getm.client.connection import ClientConnection
from getm.client.engines import Engine, ProcessEngine, ThreadEngine
from getm.client.process_count import ProcessCount
from getm.core import shutdown
from getm.core.this_process import usable_cpus
from getm.core.units import KIB

if TYPE_CHECKING:
    from concurrent.futures import Future

# One message takes the descriptors of a connection to its engine: the pipe's, the segment's, and one for each helper.
# Linux allows 253 in one.
_MAX_HELPERS = 253 - 2
# How long all engines together may take to release rings that are not used.
_MAKE_WAY_S = 1.0


# A ring gets the size that it wants as long as a quarter of the budget is left after it; that of a single stream, where
# there are some already, at most a share of what is left before that, so that dozens at once have rings of a MiB or
# more. The last quarter is for small rings, each a share of what is left: a session of 256 MiB has some 600 rings.
_SMALL_RINGS_SHARE = 4
_FULL_RINGS = 4
_STREAM_SHARE = 12
_MIN_STREAM_BYTES = 256 * KIB
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
        task = None
        # Where asyncio was never imported, or is being imported, there is no task.
        if (current_task := getattr(sys.modules.get("asyncio"), "current_task", None)) is not None:
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

    def __init__(self, processes: int | None, max_memory: int, limit_rate: float | None = None) -> None:
        """`processes`: engine processes at most; None: as many as pay. `limit_rate`: bytes a second, over all."""
        _refuse_at_the_end()
        if processes is None and limit_rate is not None:
            # A limit keeps no core busy, and is divided before it is known how many share it.
            processes = 1
        self._count = ProcessCount(processes, usable_cpus())
        # Where no Python can be started, as in frozen programs.
        self._in_threads = process.python() is None
        # Engines do not know each other's bytes: each has its share.
        self._limit_rate = None if limit_rate is None else limit_rate / self._count.most
        self._max_memory = max_memory
        self._lock = threading.RLock()
        self._engines: list[ProcessEngine | ThreadEngine] = []
        self._turn = 0
        self._connections: list[ClientConnection] = []
        # Who has each connection that is not free. Connections come back from finalizers as well, which may take no
        # lock: so it is read and changed by single calls, which are atomic.
        self._holders: dict[ClientConnection, Holder] = {}
        self._waiters: list[Waiter] = []
        # What finds URLs that something waits for.
        self._finding: set[Future[Any]] = set()
        self.closed: bool = False
        _pools.add(self)

    # For one transfer, or for several at once ------------------------------------------------------------------------

    def processes(self) -> int:
        """How many engine processes to use for what is started now."""
        if self._count.is_due(now_s := time.monotonic()):
            engines = [each for each in list(self._engines) if isinstance(each, ProcessEngine)]
            self._count.sample(now_s, {each.process.pid: each.cpu_s() for each in engines})
        return self._count.now

    def busiest(self) -> float:
        """The share of the time in which the engine was busy that was most so; 0.0 where there is none."""
        engines = [each for each in list(self._engines) if isinstance(each, ProcessEngine)]
        return max((engine.busy() for engine in engines), default=0.0)

    def wanted(
        self,
        chunk_bytes: int,
        concurrency: int | None,
        jobs: int = 1,
        *,
        adaptive: bool = False,
        tls: bool = False,
    ) -> Wanted:
        """What the caller needs for one transfer, or for `jobs` at once. `adaptive`: it starts with one connection, and
        `concurrency` is the most that it may have. `tls`: the one comes over TLS, of which several connections can fill
        a core."""
        private = concurrency is None or self._in_threads
        width = concurrency or 1
        # Of several transfers, each is served by one engine: that keeps all of them busy without helpers.
        engines = self.processes()
        if tls and not adaptive:
            engines = self._count.over_tls
        helpers = 0 if private or jobs > 1 else min(engines, width, _MAX_HELPERS + 1) - 1
        return Wanted(chunk_bytes, width, adaptive, jobs, helpers, private, Holder.current())

    def acquire(self, wanted: Wanted) -> ClientConnection:
        """A connection; `release` it afterwards. Starts engines as needed.

        Waits for memory where another thread may release some, and raises `MemoryUnavailable` where none can. In a
        coroutine see `aio.start`.
        """
        woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        # All of this thread waits, whatever task it runs.
        waiter = Waiter(wanted.holder._replace(task=None), lambda: woken.put(None))
        with self.waiting(waiter):
            while (connection := self.try_acquire(wanted)) is None:
                self.check_wait(waiter)
                with contextlib.suppress(queue.Empty):
                    woken.get(timeout=LOOK_S)
        return connection

    def try_acquire(self, wanted: Wanted) -> ClientConnection | None:
        """`acquire` without waiting for memory: None where none is left. May take as long as an engine's start."""
        _refuse_at_the_end()
        _refuse_patched()
        with self._lock:
            self._refuse_closed()
            self._collect()
            try:
                connection = self._find(wanted)
            finally:
                if self.closed:
                    # By a signal's handler, while it was being made.
                    self.close()
            self._refuse_closed()
            return connection

    def take_idle(self, wanted: Wanted) -> ClientConnection | None:
        """A free connection that is as large as a new one would be; None where one would have to be made, or where
        another thread is using the pool. Never blocks, and does not ask how much memory the system has."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            self._collect()
            connection = self._take_free(wanted, at_least=self._max_memory)
            if connection is None:
                # As `_find` does it, however much memory the system has.
                size, least = self._offer(wanted, self._max_memory, self._used())
                if size >= least:
                    connection = self._take_free(wanted, at_least=wanted.layout(size).total_bytes)
                elif sum(each.reserved_bytes for each in self._free()) < least:
                    connection = self._take_free(wanted, at_least=0)
            return connection
        finally:
            self._lock.release()

    def _used(self) -> int:
        """The memory that all rings have."""
        return sum(each.reserved_bytes for each in list(self._connections) if not each.closed)

    def _offer(self, wanted: Wanted, budget: int, used: int) -> tuple[int, int]:
        """How many bytes a new ring may have, at most, and at least: with fewer it is a small one."""
        size = budget - used - budget // _SMALL_RINGS_SHARE
        least = max(_MIN_RING_BYTES, budget // 16)
        if wanted.width == 1 and len(self._connections) >= _FULL_RINGS and size > 0:
            # One of a few sizes, so that rings can be reused.
            size = 1 << max(0, (size // _STREAM_SHARE).bit_length() - 1)
            least = min(least, _MIN_STREAM_BYTES)
        return size, least

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

    @contextlib.contextmanager
    def finding(self, future: Future[Any]) -> Iterator[None]:
        """A context in which something waits for `future`. Raises `ReaderClosed` where the session is closed in the
        meantime."""
        self.end_with(future)
        try:
            yield
        except BaseException:
            if future.cancelled():
                self._refuse_closed()
            raise

    def end_with(self, future: Future[Any]) -> None:
        """Cancel `future` where the session is closed before it is done."""
        self._finding.add(future)
        future.add_done_callback(self._finding.discard)
        if self.closed:
            future.cancel()

    def check_wait(self, waiter: Waiter) -> None:
        """Raises `MemoryUnavailable` where `waiter` would wait only for itself and others who wait."""
        with self._lock:
            self._refuse_closed()
            if self._free():
                # Released since `waiter` looked: there is something to take.
                return
            blocked = [other.holder for other in self._waiters if other.blocked and other is not waiter]
            holders = [holder for connection, holder in list(self._holders.items()) if not connection.closed]
        waiter.blocked = any(each.may_let_go(waiter.holder) and each not in blocked for each in holders)
        if not waiter.blocked:
            budget, used = self._budget()
            raise errors.MemoryUnavailable(
                f"no memory for another ring: {len(holders)} transfers hold {used} of {self._max_memory} bytes; "
                "close some, or give the session a larger max_memory",
                wanted=_MIN_RING_BYTES,
                available=max(0, budget - used),
            )

    def _wake(self) -> None:
        for waiter in list(self._waiters)[:1]:
            waiter.blocked = False
            waiter.wake()

    def _refuse_closed(self) -> None:
        if self.closed:
            raise errors.ReaderClosed("the session is closed; open another one")

    def _free(self) -> list[ClientConnection]:
        """Those that nobody has."""
        return [each for each in list(self._connections) if each not in self._holders and not each.closed]

    def _collect(self) -> None:
        """Receive the last messages of cancelled objects, and forget closed connections."""
        for connection in self._free():
            if not connection.idle:
                with contextlib.suppress(errors.GetmError):
                    connection.pump(wait=False)
        for connection in [each for each in self._connections if each.closed]:
            with contextlib.suppress(ValueError):
                # A signal's handler was faster.
                self._connections.remove(connection)

    def _take_free(self, wanted: Wanted, *, at_least: int) -> ClientConnection | None:
        """The largest free ring that fits `wanted`; None where it is smaller than `at_least` and than the largest
        that one would get."""
        most = self._max_memory - self._max_memory // _SMALL_RINGS_SHARE
        enough = min(at_least, wanted.layout(most).total_bytes)
        fitting = [
            connection
            for connection in self._free()
            if connection.layout.total_bytes >= enough and wanted.fits(connection, self._max_memory)
        ]
        # Those whose cancelled object has not ended yet come last.
        fitting.sort(key=lambda connection: (not connection.idle, -connection.layout.total_bytes))
        for connection in fitting:
            if not all(engine.alive for engine in connection.team):
                connection.close()
            elif self._holders.setdefault(connection, wanted.holder) is wanted.holder:
                # No signal's handler was faster.
                return connection
        return None

    def _find(self, wanted: Wanted) -> ClientConnection | None:
        """A free ring or a new one; None where no memory is left."""
        # Mostly one is free that is as large as any would be: then nobody needs to ask how much memory is left.
        ceiling = self._max_memory
        connection = self._take_free(wanted, at_least=ceiling)
        while connection is None:
            budget, used = self._budget()
            left = budget - used
            size, least = self._offer(wanted, budget, used)
            small = size < least
            if small:
                # One of a few sizes, so that rings can be reused.
                share = 1 << max(0, (left // _SMALL_RING_SHARE).bit_length() - 1)
                size = max(_MIN_RING_BYTES, min(left, _SMALL_RING_BYTES), share)
            layout = wanted.layout(min(size, ceiling))
            connection = self._take_free(wanted, at_least=least if small else layout.total_bytes)
            if connection is None and small and sum(each.reserved_bytes for each in self._free()) >= least:
                # Idle rings that do not fit have the memory: better than a ring that brings one span at a time.
                self._make_way()
                continue
            if connection is None and small:
                connection = self._take_free(wanted, at_least=0)
            if connection is not None:
                break
            if self._free() and layout.total_bytes < wanted.layout(self._max_memory).total_bytes:
                # A larger ring is better than idle ones that fit no request.
                self._make_way()
                continue
            if left < _MIN_RING_BYTES or layout.first_slots * layout.slot_bytes > left:
                return None
            try:
                connection = self._connect(layout, wanted.helpers, wanted.private)
            except (errors.DescriptorsExhausted, errors.MemoryUnavailable) as error:
                # Less than the system said; and each unused ring has a descriptor.
                if self._free():
                    self._make_way()
                elif layout.slots <= 2 or isinstance(error, errors.DescriptorsExhausted):
                    raise
                else:
                    # What is left may be enough for a smaller ring.
                    ceiling = layout.total_bytes // 2
                continue
            self._holders[connection] = wanted.holder
            self._connections.append(connection)
        return connection

    def _make_way(self) -> None:
        """Release the rings that are not used."""
        holder = Holder.current()
        going = [each for each in self._free() if self._holders.setdefault(each, holder) is holder]
        for connection in going:
            connection.begin_close()
        deadline = time.monotonic() + _MAKE_WAY_S
        for connection in going:
            connection.await_close(deadline)
            self._holders.pop(connection, None)

    def _budget(self) -> tuple[int, int]:
        """Bytes that all rings together may take, and those that they have."""
        used = self._used()
        available = available_bytes()
        # Never more than half of the machine's free memory, which others need as well.
        return self._max_memory if available is None else min(self._max_memory, used + available // 2), used

    def _may_take(self, count: int) -> bool:
        """Whether a ring may take so many more bytes. A share stays for small rings."""
        budget, used = self._budget()
        return count <= budget - used - budget // _SMALL_RINGS_SHARE

    def _connect(self, layout: RingLayout, helpers: int, private: bool) -> ClientConnection:
        try:
            with contextlib.suppress(errors.EngineDied):
                return ClientConnection(self._team(helpers + 1, private), layout, self._may_take, private=private)
            # One had ended by itself when idle: it is replaced.
            return ClientConnection(self._team(helpers + 1, private), layout, self._may_take, private=private)
        except OSError as error:
            raise errors.DescriptorsExhausted.found(error) or error from None

    def _team(self, count: int, private: bool) -> list[Engine]:
        """`count` live engines, another one first each time."""
        for engine in list(self._engines):
            if not engine.alive:
                with contextlib.suppress(ValueError):
                    # A signal's handler was faster.
                    self._engines.remove(engine)
                engine.stop()
        kind = ThreadEngine if private else ProcessEngine
        # One more engine for each stream, up to the limit: streams share engines only beyond it.
        processes = max(self._count.now, count)
        start = self._turn % processes
        most = 1 if private else min(processes, max(count, start + 1))
        while len(engines := [engine for engine in list(self._engines) if isinstance(engine, kind)]) < most:
            engine = kind(self._limit_rate)
            # Looked up only now: a signal's handler may have closed the pool, and `try_acquire` then ends what is here.
            self._engines.append(engine)
            self._refuse_closed()
        if not private:
            self._turn += 1
        return [engines[(start + index) % len(engines)] for index in range(count)]

    def release(self, connection: ClientConnection) -> None:
        """The transfer on it is over, complete or cancelled. Any thread, no lock."""
        self._holders.pop(connection, None)
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
        self._connections, self._engines = [], []
        self._holders.clear()
        for engine in engines:
            engine.tell_to_stop()
        for waiter in list(self._waiters):
            waiter.wake()
        for future in list(self._finding):
            future.cancel()
        return engines

    def abandon(self) -> None:
        """In a forked child: everything here is the parent's."""
        self._lock = threading.RLock()
        self._waiters.clear()
        self._holders.clear()
        for connection in self._connections:
            connection.abandon()
        for engine in self._engines:
            engine.abandon()
        self._connections, self._engines = [], []


class Wanted(NamedTuple):
    """The connection that a transfer, or `jobs` of them, need, and who will have it."""

    chunk_bytes: int
    width: int
    adaptive: bool
    jobs: int
    helpers: int
    private: bool
    holder: Holder

    def layout(self, budget_bytes: int) -> RingLayout:
        return plan_layout(self.chunk_bytes, self.width, budget_bytes, jobs=self.jobs, adaptive=self.adaptive)

    def fits(self, connection: ClientConnection, max_memory: int) -> bool:
        """Whether a new ring would have this size, and most of its slots are free."""
        layout = connection.layout
        return (
            layout == self.layout(min(max_memory, layout.total_bytes))
            and len(connection.team) == self.helpers + 1
            and isinstance(connection.team[0], ThreadEngine) is self.private
            and connection.with_engine * 2 >= connection.ready_slots
        )


_pools: weakref.WeakSet[EnginePool] = weakref.WeakSet()


def _refuse_at_the_end() -> None:
    if shutdown.begun():
        # What still runs is functions that were registered with atexit before getm was imported, and finalisers, in
        # which nothing can be imported or started anyway.
        raise errors.ReaderClosed(shutdown.REFUSAL)


def _refuse_patched() -> None:
    """gevent and eventlet replace sockets, `select` and threads by their own: with those, waiting for an engine fails
    with EBADF, or never ends."""
    for module, question in (("gevent.monkey", "is_module_patched"), ("eventlet.patcher", "is_monkey_patched")):
        is_patched = getattr(sys.modules.get(module), question, None)
        if is_patched is not None and is_patched("socket"):
            raise errors.InvalidInput(
                "getm cannot be used where gevent or eventlet has patched the standard library (monkey.patch_all): use "
                "it in a process without that, or run the command `getm` as a subprocess"
            )


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool.abandon()


def _close_pools() -> None:
    for pool in list(_pools):
        pool.close()


shutdown.at_end(_close_pools)
os.register_at_fork(after_in_child=_after_fork_in_child)
