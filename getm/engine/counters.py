"""The counters and clocks of one transfer while it runs."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType

from getm.core.stats import Stats, Times
from getm.engine.sinks.slots import Holder

# Those of the transfer of the current task. The event loop counts a connection when it opens one: aiohttp does not say
# which response came over a new one.
current: ContextVar[Counters] = ContextVar("counters")


class Counters:
    """Counts what `Stats` shows, from the moment it is made.

    Seconds are those of all connections together, apart from `last_hashing_s` and `last_disk_s`, when no connection is
    needed any more. `opening_s`: of connections, with the names and TLS. `wanted_s`: until the consumer wanted more.
    `waited_s`: for slots, by who had them.
    """

    # Most transfers need few of them.
    lookup_s: float = 0.0
    opening_s: float = 0.0
    tls_s: float = 0.0
    response_s: float = 0.0
    network_s: float = 0.0
    limit_s: float = 0.0
    retry_s: float = 0.0
    wanted_s: float = 0.0
    last_hashing_s: float = 0.0
    last_disk_s: float = 0.0
    cpu_s: float = 0.0
    hashed_by: tuple[str, ...] = ()
    waited_s: Mapping[Holder, float] = MappingProxyType({})
    helpers: Times | None = None

    def __init__(self, began_s: float | None = None) -> None:
        # Not the loop's clock: uvloop's has milliseconds, and a small object takes less than one.
        self._began = time.monotonic() if began_s is None else began_s
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
        self.helpers = helper.times if self.helpers is None else self.helpers + helper.times

    def stats(self) -> Stats:
        seconds = time.monotonic() - self._began
        counts = self.received_bytes, self.requests, self.connections
        return Stats(*counts, dict(self.retries), self.stalls, self.first_byte_s, seconds, self._measured(seconds))

    def _measured(self, seconds: float) -> Times | None:
        """Where the time went; None where `Stats` itself says so, as of most small objects."""
        waited_s, helpers = self.waited_s, self.helpers or Times()
        others = self.opening_s, self.limit_s, self.retry_s, self.wanted_s, self.last_hashing_s, self.last_disk_s
        if not (any(others) or waited_s or self.network_s or self.helpers):
            return None
        connection_s = self.network_s + helpers.network_s
        # Of all connections, at the same time or not.
        each = (
            self.lookup_s + helpers.lookup_s,
            self.opening_s - self.lookup_s - self.tls_s + helpers.connect_s,
            self.tls_s + helpers.tls_s,
            self.response_s + helpers.response_s,
            connection_s,
            waited_s.get(Holder.HASHING, 0.0),
            waited_s.get(Holder.DISK, 0.0),
            waited_s.get(Holder.CONSUMER, 0.0) + self.wanted_s,
            self.limit_s + helpers.limit_s,
            self.retry_s + helpers.retry_s,
        )
        # How many there were at the same time, in the mean.
        at_once = max(1.0, sum(each) / max(seconds - self.last_hashing_s - self.last_disk_s, 1e-9))
        lookup_s, connect_s, tls_s, response_s, network_s, hashing_s, disk_s, consumer_s, limit_s, retry_s = (
            part / at_once for part in each
        )
        hashing_s += self.last_hashing_s
        return Times(
            lookup_s,
            max(0.0, connect_s),
            tls_s,
            response_s,
            network_s,
            hashing_s,
            disk_s + self.last_disk_s,
            consumer_s,
            limit_s,
            retry_s,
            connection_s,
            self.cpu_s,
            self.hashed_by if hashing_s else (),
        )
