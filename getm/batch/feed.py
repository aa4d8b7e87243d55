"""The downloads still to be started, from the caller's iterable to the batch's thread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from getm.batch.job import Call

# How many are read ahead at most, and at what number more are requested.
_MOST = 256
_LOW = 128
# How long reading ahead may keep the caller from its events, or an event loop from its tasks, at a time.
_SLICE_S = 0.005


class Feed:
    """A bounded queue of calls. `fill` belongs to the caller's thread, since that is where the iterable must run (a
    database cursor works in one thread only, and waiting for it must not block transfers); `take` belongs to the
    batch's.

    `wanted`: `fill` should be called. `ended`: nothing will be added any more; to be read before `take`, which then
    cannot miss the last call.
    """

    def __init__(self, calls: Iterable[Call], jobs: int) -> None:
        self._calls = iter(calls)
        self._enough = min(jobs, _LOW)
        self._queue: deque[Call] = deque()
        self.wanted: bool = True
        self.ended: bool = False

    def fill(self, wake: Callable[[], None], has_events: Callable[[], bool]) -> None:
        """Read ahead for a short while, but not beyond the call during which an event has come. `wake` is called where
        the batch may wait for a call, or for the end of all. Raises what the iterable raises, which is its end, too."""
        self.wanted = False
        stop_at = time.monotonic() + _SLICE_S
        while len(self._queue) < _MOST:
            try:
                call = next(self._calls, None)
            except BaseException:
                self.ended = True
                raise
            if call is None:
                self.ended = True
                wake()
                return
            self._queue.append(call)
            if len(self._queue) == 1:
                wake()
            if has_events() or time.monotonic() >= stop_at:
                break
        if len(self._queue) < self._enough:
            self.wanted = True

    def take(self) -> tuple[Call | None, bool]:
        """The next call, None where there is none now; and whether the caller must be woken to read more."""
        call = self._queue.popleft() if self._queue else None
        wake = not self.wanted and not self.ended and len(self._queue) < _LOW
        if wake:
            self.wanted = True
        return call, wake
