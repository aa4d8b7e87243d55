"""When a connection is given up for its silence or its throughput."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from getm import errors
from getm.protocol.messages import OpenRequest

# How often within a limit the received bytes are checked: silence is noticed at most that much too late.
_LOOKS = 20


class StallMonitor:
    """Checks regularly how many bytes of a content have come, `progress()`, and ends it by `abort(error)` where it was
    silent for `stall_s` seconds, or has brought fewer than `floor_bytes_s` bytes a second over `floor_window_s`; None:
    no limit. Waiting for the consumer is not the server's fault: time between `pause` and `resume` does not count.
    """

    def __init__(
        self, request: OpenRequest, progress: Callable[[], int], abort: Callable[[errors.GetmError], None]
    ) -> None:
        self._limits = request
        self._progress = progress
        self._abort = abort
        self._loop = asyncio.get_running_loop()
        self._paused_at: float | None = None
        self._paused_s = 0.0
        windows = (request.stall_s, None if request.floor_bytes_s is None else request.floor_window_s)
        self._period_s = min((window for window in windows if window is not None), default=0.0) / _LOOKS
        self._total = self._window_total = 0
        # Seconds in which bytes were asked for, until the last pause, and since when they are now. Not by the loop's
        # clock, which does not advance while received bytes are copied.
        self.asked_s: float = 0.0
        self._asked_at: float | None = time.monotonic()
        self._changed_at = self._window_began_s = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        if self._period_s:
            self._look_later()

    def pause(self) -> None:
        """Nothing is requested: a slot or an allowance is waited for, or what was read is being passed on."""
        self._paused_at = self._loop.time()
        if self._asked_at is not None:
            self.asked_s += time.monotonic() - self._asked_at
            self._asked_at = None

    def resume(self) -> None:
        self._paused_s, self._paused_at = self._loop.time() - self._unpaused_s(), None
        self._asked_at = time.monotonic()

    def _unpaused_s(self) -> float:
        return (self._loop.time() if self._paused_at is None else self._paused_at) - self._paused_s

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(self._period_s, self._look)

    def _look(self) -> None:
        limits, now, total = self._limits, self._loop.time(), self._progress()
        if total != self._total or self._paused_at is not None:
            self._total, self._changed_at = total, now
        # A timer may come a little early.
        early_s = self._period_s / 2
        if limits.stall_s is not None and now - self._changed_at >= limits.stall_s - early_s:
            stalled = f"no byte came for {limits.stall_s:g} s"
            self._abort(errors.TimedOut(stalled, phase="body", timeout_s=limits.stall_s))
            return
        if (seconds := self._unpaused_s() - self._window_began_s) >= limits.floor_window_s - early_s:
            brought, floor = total - self._window_total, limits.floor_bytes_s
            if floor is not None and brought < floor * seconds:
                slow = f"the connection brought {brought / seconds:.0f} bytes a second, fewer than {floor:g}"
                message = f"{slow}, for {seconds:.0f} s"
                self._abort(errors.TimedOut(message, phase="pace", timeout_s=limits.floor_window_s))
                return
            self._window_total, self._window_began_s = total, self._window_began_s + seconds
        self._look_later()

    def cancel(self) -> None:
        """Stop watching; to be called once."""
        if self._asked_at is not None:
            self.asked_s += time.monotonic() - self._asked_at
        if self._timer is not None:
            self._timer.cancel()
        # They refer to each other: this way no garbage collection is needed to free them.
        del self._timer, self._progress, self._abort
