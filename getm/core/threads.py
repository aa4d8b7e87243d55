"""Daemon threads for work that releases the GIL: hashing, waiting for the disk."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Self

from getm.core.log import get_logger

_log = get_logger()

_Task = Callable[[], None]


class WorkerThreads:
    """Runs tasks in the order given, in up to `threads` daemon threads, which are started for the first task.

    A child made by `fork` starts threads of its own when it needs them. After `close()` a task runs in the thread that
    submits it, so that no callback is ever lost.
    """

    def __init__(self, name: str, threads: int) -> None:
        # How many tasks can run at once.
        self.threads = threads
        self._name = name
        self._closed = False
        self._forget()
        _all.add(self)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._workers: list[threading.Thread] = []

    def submit(self, task: _Task) -> None:
        """Queue a task; it must not raise (what it raises is logged)."""
        with self._lock:  # so that no task is queued after the threads' end, where nobody would run it
            if not self._closed and (self._workers or self._start()):
                self._queue.put(task)
                return
        _run(task)

    def close(self) -> None:
        """Finish the queued tasks and end the threads. Waits for them, except from within one of them."""
        with self._lock:
            self._closed = True
            workers, self._workers = self._workers, []
            _end(self._queue, len(workers))
        for thread in workers:
            if thread is not threading.current_thread():
                thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _start(self) -> bool:
        """Start the threads; the lock is held. False where the system gives none (limits, or shutting down)."""
        for number in range(self.threads):
            thread = threading.Thread(target=_work, args=(self._queue,), name=f"{self._name}-{number}", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                _log.warning("only %d of %d threads %s could be started", number, self.threads, self._name)
                break
            self._workers.append(thread)
        if self._workers:
            weakref.finalize(self, _end, self._queue, len(self._workers)).atexit = False
        return bool(self._workers)


def _end(queue: SimpleQueue[_Task | None], threads: int) -> None:
    for _ in range(threads):
        queue.put(None)


def _work(queue: SimpleQueue[_Task | None]) -> None:
    # The thread knows the queue and not the pool, so that a pool that nobody holds can be collected.
    while True:
        task = queue.get()
        if task is None:
            return
        _run(task)
        del task  # it may hold views; an idle thread must not keep their slots from being reused


def _run(task: _Task) -> None:
    try:
        task()
    except Exception:
        _log.exception("a task failed")


class ForkSafeLock:
    """A lock that may be held for long, such as for a request: in a child made by `fork` it is free, whichever thread
    of the parent held it."""

    def __init__(self) -> None:
        self._forget()
        _all.add(self)

    def _forget(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()


_all: weakref.WeakSet[WorkerThreads | ForkSafeLock] = weakref.WeakSet()


def _forget_threads() -> None:
    # Threads do not survive fork, and the locks may have been held by one of them then.
    for each in list(_all):
        each._forget()


os.register_at_fork(after_in_child=_forget_threads)
