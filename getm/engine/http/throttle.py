"""The limit on the rate of one engine: a bucket of tokens, one for each byte, that all its transfers share.

Bytes are paid before they are read (or, where aiohttp has read them already, before they are passed on): a reader gets
an allowance, reads no more than that, and pauses when it is used up until a timer gives it the next one. Waiting
readers are served in turn. So the bytes read never exceed what the bucket gave, and nothing polls. The sender is held
back by the kernel's window.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

# An allowance lasts for about so long: short enough that a slow transfer looks steady, long enough that timers and
# small reads cost little.
_ALLOWANCE_S = 0.05
_MIN_ALLOWANCE_BYTES = 256
# A read does not go beyond a slot.
_MAX_ALLOWANCE_BYTES = 1024 * 1024
# Tokens are fractions of bytes, and so many of them are lost to rounding.
_ROUNDING = 1e-6


class TokenBucket:
    """`rate` tokens a second flow in, at most `burst` are kept. Times are seconds by any one clock.

    Within t seconds it gives at most `burst + rate * t` tokens, those that were put back not counted.
    """

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def _fill(self, now: float) -> None:
        # A clock that runs backwards gives nothing, and takes nothing.
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = max(self._at, now)

    def take(self, count: int, now: float) -> bool:
        """Take `count` tokens, at most `burst`; False, with none taken, where there are not so many yet."""
        self._fill(now)
        if self._tokens + _ROUNDING < count:
            return False
        self._tokens = max(0.0, self._tokens - count)
        return True

    def wait_s(self, count: int, now: float) -> float:
        """Seconds until `count` tokens, at most `burst`, can be taken."""
        self._fill(now)
        return max(0.0, count - self._tokens) / self._rate

    def put_back(self, count: int) -> None:
        """Put back tokens that were taken and not used."""
        self._tokens = min(self._burst, self._tokens + count)


class Throttle:
    """Gives out allowances at `rate` bytes a second over all its meters."""

    def __init__(self, rate: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.allowance: int = int(min(max(rate * _ALLOWANCE_S, _MIN_ALLOWANCE_BYTES), _MAX_ALLOWANCE_BYTES))
        self._bucket = TokenBucket(rate, self.allowance, self._loop.time())
        self._waiting: deque[Meter] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, meter: Meter) -> int:
        """An allowance in bytes, or 0: then the meter is called back when it has one."""
        if not self._waiting and self._bucket.take(self.allowance, self._loop.time()):
            return self.allowance
        self._waiting.append(meter)
        self._wait()
        return 0

    def _wait(self) -> None:
        if self._waiting and self._timer is None:
            wait_s = self._bucket.wait_s(self.allowance, self._loop.time())
            self._timer = self._loop.call_later(wait_s, self._serve)

    def _serve(self) -> None:
        self._timer = None
        while self._waiting and self._bucket.take(self.allowance, self._loop.time()):
            self._waiting.popleft().give(self.allowance)
        self._wait()

    def leave(self, meter: Meter, unused: int) -> None:
        """The meter is done: it no longer waits, and did not use so many bytes of its allowance."""
        self._bucket.put_back(unused)
        if meter in self._waiting:
            self._waiting.remove(meter)
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Meter:
    """The account of one response. `allowed` bytes may be read."""

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self.allowed: int = 0
        self._on_allowed: Callable[[], None] | None = None

    def ready(self, on_allowed: Callable[[], None]) -> bool:
        """Whether something may be read now; otherwise `on_allowed()` is called once when that is so."""
        if not self.allowed and self._on_allowed is None:
            self.allowed = self._throttle.ask(self)
        self._on_allowed = None if self.allowed else on_allowed
        return self.allowed > 0

    def give(self, count: int) -> None:
        self.allowed = count
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

    def used(self, count: int) -> None:
        """So many of the bytes that were allowed have been read."""
        self.allowed -= count

    def close(self) -> None:
        """The response is over, complete or not."""
        self._on_allowed = None
        self._throttle.leave(self, self.allowed)
        self.allowed = 0
