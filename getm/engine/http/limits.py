"""When a connection is given up for its silence or its throughput."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from getm import errors

# How often within a limit the received bytes are checked: silence is noticed at most that much too late.
_LOOKS = 20


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """When a connection is given up: after `stall_s` seconds of silence, or when it brings fewer than `floor_bytes_s`
    bytes a second over `floor_window_s` seconds. None: no limit."""

    stall_s: float | None
    floor_bytes_s: float | None
    floor_window_s: float

    def stalled(self) -> errors.TimedOut:
        limit_s = self.stall_s or 0.0
        return errors.TimedOut(f"no byte came for {limit_s:g} s", phase="body", timeout_s=limit_s)

    def too_slow(self, received: int, seconds: float) -> errors.TimedOut | None:
        """The error for `received` bytes in `seconds`, a whole window at least; None where that is fast enough."""
        if self.floor_bytes_s is None or received >= self.floor_bytes_s * seconds:
            return None
        return errors.TimedOut(
            f"the connection brought {received / seconds:.0f} bytes a second, fewer than {self.floor_bytes_s:g}, "
            f"for {seconds:.0f} s",
            phase="pace",
            timeout_s=self.floor_window_s,
        )


class Watched(Protocol):
    """What receives bytes, and may be paused."""

    received: int

    @property
    def paused(self) -> bool: ...
    def paused_s(self) -> float: ...
    def in_kernel(self) -> int: ...
    def abort(self, error: errors.GetmError) -> None: ...


class StallMonitor:
    """Checks the received bytes regularly, and ends what is silent or slow for too long. Waiting for the consumer is
    not the server's fault: time in which `sink` is paused does not count.
    """

    def __init__(self, sink: Watched, limits: ReadLimits) -> None:
        self._sink = sink
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        windows = (limits.stall_s, None if limits.floor_bytes_s is None else limits.floor_window_s)
        self._period_s = min((window for window in windows if window is not None), default=0.0) / _LOOKS
        self._total = self._window_total = 0
        self._changed_at = self._loop.time()
        self._window_began_s = self._unpaused_s()
        self._timer: asyncio.TimerHandle | None = None
        if self._period_s:
            self._look_later()

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(self._period_s, self._look)

    def _look(self) -> None:
        now, total = self._loop.time(), self._sink.received + self._sink.in_kernel()
        if total != self._total or self._sink.paused:
            self._total, self._changed_at = total, now
        failure = None
        # A timer may come a little early.
        early_s = self._period_s / 2
        if self._limits.stall_s is not None and now - self._changed_at >= self._limits.stall_s - early_s:
            failure = self._limits.stalled()
        elif (seconds := self._unpaused_s() - self._window_began_s) >= self._limits.floor_window_s - early_s:
            failure = self._limits.too_slow(total - self._window_total, seconds)
            self._window_total, self._window_began_s = total, self._window_began_s + seconds
        if failure is not None:
            self._sink.abort(failure)
        else:
            self._look_later()

    def _unpaused_s(self) -> float:
        return self._loop.time() - self._sink.paused_s()

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            # They refer to each other: this way no garbage collection is needed to free them.
            self._timer = None


class PulledContent:
    """A content that is read piece by piece, as `StallMonitor` watches it. `abort` ends the reading with an error."""

    def __init__(self, abort: Callable[[errors.GetmError], None]) -> None:
        self.abort = abort
        self.received = 0
        self._clock = asyncio.get_running_loop().time
        self._paused_at: float | None = None
        self._paused_s = 0.0

    def pause(self) -> None:
        """What was read is being passed on, and nothing more is requested."""
        self._paused_at = self._clock()

    def resume(self) -> None:
        self._paused_s, self._paused_at = self.paused_s(), None

    @property
    def paused(self) -> bool:
        return self._paused_at is not None

    def paused_s(self) -> float:
        return self._paused_s + (0.0 if self._paused_at is None else self._clock() - self._paused_at)

    def in_kernel(self) -> int:
        return 0
