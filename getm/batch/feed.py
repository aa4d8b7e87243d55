"""The downloads still to be started, from the caller's iterable to the batch's thread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from getm.batch.job import Job

# How many are read ahead at most, and at what number more are requested.
_MOST = 256
_LOW = 128
# How long reading ahead may keep the caller from its events, or an event loop from its tasks, at a time.
_SLICE_S = 0.005


class Feed:
    """A bounded queue of jobs. `fill` belongs to the caller's thread, since that is where the iterable must run (a
    database cursor works in one thread only, and waiting for it must not block transfers); `take` belongs to the
    batch's. `ask` has the caller's thread call `fill` soon; `wake` tells the batch of a job, or of the end of all.
    """

    def __init__(self, jobs: Iterable[Job], at_once: int, ask: Callable[[], None], wake: Callable[[], None]) -> None:
        self._jobs = iter(jobs)
        self._enough = min(at_once, _LOW)
        self._queue: deque[Job] = deque()
        self._ask = ask
        self._wake = wake
        self._asked = True
        self._ended = False

    def fill(self) -> None:
        """Read ahead for a short while. Raises what the iterable raises, which is its end, too."""
        self._asked = False
        stop_at = time.monotonic() + _SLICE_S
        while len(self._queue) < _MOST and not self._ended:
            try:
                job = next(self._jobs, None)
            except BaseException:
                self._ended = True
                raise
            if job is None:
                self._ended = True
            else:
                self._queue.append(job)
            if len(self._queue) <= 1:
                self._wake()
            if time.monotonic() >= stop_at:
                break
        if len(self._queue) < self._enough:
            self._ask_for_more()

    def take(self) -> Job | None:
        """The next job; None where there is none now."""
        job = self._queue.popleft() if self._queue else None
        if len(self._queue) < _LOW:
            self._ask_for_more()
        return job

    def upcoming(self, most: int) -> int:
        """How many more there are, or may be, up to `most`."""
        return min(most, len(self._queue)) if self._ended else most

    def _ask_for_more(self) -> None:
        if not self._asked and not self._ended:
            self._asked = True
            self._ask()

    @property
    def exhausted(self) -> bool:
        """Whether all jobs were taken. In this order: the last one comes before the end."""
        return self._ended and not self._queue
