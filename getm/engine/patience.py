"""When a connection is given up for its silence or its pace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from getm import errors
from getm.engine.timers import Limit, Timer, Timers


@dataclass(slots=True)
class Patience:
    """When a connection is given up: after `stall_s` seconds of silence, or when it brings fewer than `floor_bytes_s`
    bytes a second over `floor_window_s` seconds. None: no limit."""

    stall_s: float | None
    floor_bytes_s: float | None
    floor_window_s: float
    timers: Timers

    def listen(self) -> Limit:
        """A context in which a byte must come."""
        return self.timers.limit(self.stall_s)

    def stalled(self) -> errors.Timeout:
        limit_s = self.stall_s or 0.0
        return errors.Timeout(f"no byte came for {limit_s:g} s", phase="body", timeout_s=limit_s)

    def too_slow(self, received: int, seconds: float) -> errors.Timeout | None:
        """The error for `received` bytes in `seconds`, a whole window at least; None where that is fast enough."""
        if self.floor_bytes_s is None or received >= self.floor_bytes_s * seconds:
            return None
        return errors.Timeout(
            f"the connection brought {received / seconds:.0f} bytes a second, fewer than {self.floor_bytes_s:g}, "
            f"for {seconds:.0f} s",
            phase="pace",
            timeout_s=self.floor_window_s,
        )


class Watched(Protocol):
    """What brings bytes. `was_paused`: at any time since it was last cleared."""

    received: int
    paused: bool
    was_paused: bool

    def in_kernel(self) -> int: ...
    def abort(self, error: errors.GetmError) -> None: ...


class Watch:
    """Two timers that look, each a limit after its last look, at what has come meanwhile."""

    def __init__(self, sink: Watched, patience: Patience) -> None:
        self._sink = sink
        self._patience = patience
        self._timers: dict[str, Timer] = {}
        self._look_for_silence(-1)
        self._look_at_pace(None)

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

    def _look_at_pace(self, before: int | None) -> None:
        if self._patience.floor_bytes_s is None:
            return
        now, window_s = self._total(), self._patience.floor_window_s
        if before is not None and not self._sink.was_paused:
            failure = self._patience.too_slow(now - before, window_s)
            if failure is not None:
                self._sink.abort(failure)
                return
        self._sink.was_paused = self._sink.paused
        self._timers["pace"] = self._patience.timers.call_later(window_s, lambda: self._look_at_pace(now))

    def cancel(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        # They know this watch, and it them: neither waits for the collector of garbage to part them.
        self._timers.clear()
