"""The counters of one transfer while it runs."""

from __future__ import annotations

import time
from collections import defaultdict
from contextvars import ContextVar

from getm.core.stats import Stats

# Those of the transfer of the current task. The event loop counts a connection when it opens one: aiohttp does not say
# which response came over a new one.
current: ContextVar[Counters] = ContextVar("counters")


class Counters:
    """Counts what `Stats` shows, from the moment it is made."""

    def __init__(self) -> None:
        # Not the loop's clock: uvloop's has milliseconds, and a small object takes less than one.
        self._began = time.monotonic()
        self.first_byte_s: float | None = None
        self.retries: defaultdict[str, int] = defaultdict(int)
        self.received_bytes: int = 0
        self.requests: int = 0
        self.connections: int = 0
        self.stalls: int = 0

    def answered(self) -> None:
        """The head of the response has come."""
        if self.first_byte_s is None:
            self.first_byte_s = time.monotonic() - self._began

    def add(self, helper: Stats) -> None:
        """Add what a helper engine counted for one part. The time is that of the whole."""
        self.received_bytes += helper.received_bytes
        self.requests += helper.requests
        self.connections += helper.connections
        self.stalls += helper.stalls
        for cause, count in helper.retries.items():
            self.retries[cause] += count

    def stats(self) -> Stats:
        seconds = time.monotonic() - self._began
        counts = self.received_bytes, self.requests, self.connections
        return Stats(*counts, dict(self.retries), self.stalls, self.first_byte_s, seconds)
