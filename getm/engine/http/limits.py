"""When a connection is given up for its silence or its pace."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from getm import errors
from getm.engine.timers import Limit, Timer, Timers

# A timer may come a little early.
_NEARLY = 0.95


@dataclass(slots=True)
class ReadLimits:
    """When a connection is given up: after `stall_s` seconds of silence, or when it brings fewer than `floor_bytes_s`
    bytes a second over `floor_window_s` seconds. None: no limit."""

    stall_s: float | None
    floor_bytes_s: float | None
    floor_window_s: float
    timers: Timers

    def listen(self) -> Limit:
        """A context in which a byte must come."""
        return self.timers.limit(self.stall_s)

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
    """What brings bytes, and may be paused meanwhile."""

    received: int
    paused: bool

    def paused_s(self) -> float: ...
    def in_kernel(self) -> int: ...
    def abort(self, error: errors.GetmError) -> None: ...


class StallMonitor:
    """Two timers that look, each a limit after its last look, at what has come meanwhile."""

    def __init__(self, sink: Watched, read_limits: ReadLimits) -> None:
        self._sink = sink
        self._patience = read_limits
        self._clock = asyncio.get_running_loop().time
        self._timers: dict[str, Timer] = {}
        self._look_for_silence(-1)
        self._look_at_pace(0, self._unpaused_s())

    def _total(self) -> int:
        return self._sink.received + self._sink.in_kernel()

    def _look_for_silence(self, before: int) -> None:
        if self._patience.stall_s is None:
            return
        now = self._total()
        # Waiting for the consumer is not the server's fault: a paused transfer cannot stall.
        if now == before and not self._sink.paused:
            self._sink.abort(self._patience.stalled())
            return
        seen = -1 if self._sink.paused else now
        self._timers["silence"] = self._patience.timers.call_later(
            self._patience.stall_s, lambda: self._look_for_silence(seen)
        )

    def _look_at_pace(self, before: int, unpaused_before_s: float) -> None:
        """Judge what has come since then as soon as it was not paused for a window: where others have the slots, a slow
        one may be paused for a moment again and again."""
        if self._patience.floor_bytes_s is None:
            return
        window_s = self._patience.floor_window_s
        now, unpaused_s = self._total(), self._unpaused_s()
        if unpaused_s - unpaused_before_s >= window_s * _NEARLY:
            failure = self._patience.too_slow(now - before, unpaused_s - unpaused_before_s)
            if failure is not None:
                self._sink.abort(failure)
                return
            before, unpaused_before_s = now, unpaused_s
        self._timers["pace"] = self._patience.timers.call_later(
            window_s, lambda: self._look_at_pace(before, unpaused_before_s)
        )

    def _unpaused_s(self) -> float:
        return self._clock() - self._sink.paused_s()

    def cancel(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        # They know this watch, and it them: neither waits for the collector of garbage to part them.
        self._timers.clear()
