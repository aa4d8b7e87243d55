"""Timers that are nearly always cancelled: one of the loop's for all that wait equally long.

A small object is fetched within a millisecond, under limits of seconds. A timer of the loop for each limit would be
made, sorted in and taken out again for nothing, and `asyncio.timeout` costs five times as much.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

# The clock of uvloop ticks in milliseconds: what is due within the same tick is due.
_TICK_S = 0.001


class Timer:
    """One that runs; see `Timers.call_later`."""

    __slots__ = ("_waiting", "call", "due")

    def __init__(self, waiting: dict[Timer, None], due: float, call: Callable[[], Any]) -> None:
        self._waiting = waiting
        self.due = due
        self.call = call

    def cancel(self) -> None:
        """It does not call any more. Harmless where it has."""
        self._waiting.pop(self, None)


class _Line:
    """All timers of one length, in the order in which they are due: that is the order in which they were set."""

    __slots__ = ("delay_s", "lines", "loop", "ringing", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, delay_s: float, lines: dict[float, _Line]) -> None:
        self.loop = loop
        self.delay_s = delay_s
        self.lines = lines
        self.waiting: dict[Timer, None] = {}
        # The loop's timer: set for the first, and left to run where that is cancelled.
        self.ringing = loop.call_later(delay_s, self._ring)

    def _ring(self) -> None:
        now = self.loop.time() + _TICK_S
        try:
            while (first := next(iter(self.waiting), None)) is not None and first.due <= now:
                del self.waiting[first]
                first.call()
        finally:
            first = next(iter(self.waiting), None)
            if first is not None:
                self.ringing = self.loop.call_at(first.due, self._ring)
            else:
                del self.lines[self.delay_s]


class Timers:
    """The timers of one event loop, to be used in it."""

    def __init__(self) -> None:
        self._lines: dict[float, _Line] = {}

    def call_later(self, delay_s: float, call: Callable[[], Any]) -> Timer:
        """Call `call()` in `delay_s` seconds."""
        line = self._lines.get(delay_s)
        if line is None:
            line = self._lines[delay_s] = _Line(asyncio.get_running_loop(), delay_s, self._lines)
        timer = Timer(line.waiting, line.loop.time() + delay_s, call)
        line.waiting[timer] = None
        return timer

    def limit(self, delay_s: float | None) -> Limit:
        """A context in which the current task may be for `delay_s` seconds (None: for ever): see `Limit`."""
        return Limit(self, delay_s)

    def close(self) -> None:
        """Nothing is called any more."""
        for line in self._lines.values():
            line.ringing.cancel()
            line.waiting.clear()
        self._lines.clear()


class Limit:
    """`asyncio.timeout` by these timers: what stands under it ends with `TimeoutError` when its time is over."""

    __slots__ = ("_cancelling", "_delay_s", "_expired", "_task", "_timer", "_timers")

    def __init__(self, timers: Timers, delay_s: float | None) -> None:
        self._timers = timers
        self._delay_s = delay_s
        self._timer: Timer | None = None
        self._expired = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if self._delay_s is not None and task is not None:
            self._task, self._cancelling = task, task.cancelling()
            self._timer = self._timers.call_later(self._delay_s, self._expire)
        return self

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            # Each knows the other: the collector of garbage is not needed to part them.
            self._timer = None
        # Where somebody else has cancelled the task as well, it is cancelled, late or not.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
