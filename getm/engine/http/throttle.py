"""The limit on the rate of one engine: a bucket of tokens, one for each byte, that all its transfers share.

Bytes are paid before they are read (or, where aiohttp has read them already, before they are passed on): a reader gets
an allowance, reads no more than that, and pauses when it is used up until a timer gives it the next one. Waiting
readers are served in turn. So the bytes read never exceed what the bucket gave, and nothing polls. The sender is held
back by the kernel's window.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

# An allowance lasts for about so long: short enough that a slow transfer looks steady, long enough that timers and
# small reads cost little.
_ALLOWANCE_S = 0.05
_MIN_ALLOWANCE_BYTES = 256
# A read does not go beyond a slot.
_MAX_ALLOWANCE_BYTES = 1024 * 1024
# What was not used goes back as time, some of which is lost to rounding.
_ROUNDING_S = 1e-6


class Throttle:
    """Gives out allowances at `rate` bytes a second over all its meters: within t seconds at most one and `rate * t`
    bytes, what was not used not counted."""

    def __init__(self, rate: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._rate = rate
        self.allowance: int = int(min(max(rate * _ALLOWANCE_S, _MIN_ALLOWANCE_BYTES), _MAX_ALLOWANCE_BYTES))
        # When the bucket is full, and the next allowance can be given.
        self._full_at = self._loop.time()
        self._waiting: deque[Meter] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, meter: Meter) -> None:
        """Give the meter an allowance, now or when it is its turn."""
        self._waiting.append(meter)
        if self._timer is None:
            self._serve()

    def _serve(self) -> None:
        self._timer = None
        while self._waiting:
            now = self._loop.time()
            if self._full_at - now > _ROUNDING_S:
                self._timer = self._loop.call_later(self._full_at - now, self._serve)
                return
            self._full_at = now + self.allowance / self._rate
            self._waiting.popleft().give(self.allowance)

    def leave(self, meter: Meter, unused: int) -> None:
        """The meter is done: it no longer waits, and did not use so many bytes of its allowance."""
        self._full_at -= unused / self._rate
        if meter in self._waiting:
            self._waiting.remove(meter)
        if self._timer is not None:
            self._timer.cancel()
        self._serve()


class Meter:
    """The account of one response. `allowed` bytes may be read; who reads some takes them off. `waited_s`: how long it
    has waited for them, in seconds."""

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self.allowed: int = 0
        self.waited_s: float = 0.0
        self._waits_since_s = 0.0
        self._on_allowed: Callable[[], None] | None = None

    def ready(self, on_allowed: Callable[[], None]) -> bool:
        """Whether something may be read now; otherwise `on_allowed()` is called once when that is so."""
        if not self.allowed and self._on_allowed is None:
            self._waits_since_s = time.monotonic()
            self._throttle.ask(self)
        self._on_allowed = None if self.allowed else on_allowed
        return self.allowed > 0

    def give(self, count: int) -> None:
        self.allowed = count
        self.waited_s += time.monotonic() - self._waits_since_s
        on_allowed, self._on_allowed = self._on_allowed, None
        if on_allowed is not None:
            on_allowed()

    async def wait(self) -> int:
        """Wait until something may be read; returns how much."""
        if not self.allowed:
            allowed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if not self.ready(lambda: None if allowed.done() else allowed.set_result(None)):
                await allowed
        return self.allowed

    def close(self) -> None:
        """The response is over, complete or not."""
        self._on_allowed = None
        self._throttle.leave(self, self.allowed)
        self.allowed = 0
