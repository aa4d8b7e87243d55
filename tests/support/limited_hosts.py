"""Servers that limit requests, simulated, and clients that share what they learn of them."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from getm.core.pace import HostPace
from getm.core.rate_limit import StatedLimit

_START_S = 1000.0


class Limit(Protocol):
    def grants(self, at_s: float) -> bool: ...
    def ended(self) -> None: ...


@dataclass
class LeakyBucket:
    """As nginx's limit_req without a burst: not sooner than 1 / `rate` after the last one."""

    rate: float
    last_s: float = -1e9

    def grants(self, at_s: float) -> bool:
        granted = at_s - self.last_s >= 1 / self.rate
        if granted:
            self.last_s = at_s
        return granted

    def ended(self) -> None: ...


@dataclass
class FixedWindow:
    """So many in each second of the server's clock."""

    count: int
    phase_s: float = 0.0
    window: int = -1
    used: int = 0

    def grants(self, at_s: float) -> bool:
        window = int(at_s + self.phase_s)
        if window != self.window:
            self.window, self.used = window, 0
        self.used += 1
        return self.used <= self.count

    def ended(self) -> None: ...

    def stated(self, at_s: float) -> StatedLimit:
        """What it says with each response: the reset in whole seconds."""
        left_s = self.window + 1 - (at_s + self.phase_s)
        return StatedLimit(max(0, self.count - self.used), float(math.ceil(left_s)), self.count)


@dataclass
class SlidingWindow:
    """So many within any second."""

    count: int
    times: list[float] = field(default_factory=list)

    def grants(self, at_s: float) -> bool:
        self.times = [time_s for time_s in self.times if time_s > at_s - 1]
        granted = len(self.times) < self.count
        if granted:
            self.times.append(at_s)
        return granted

    def ended(self) -> None: ...


@dataclass
class TokenBucket:
    rate: float
    burst: float
    tokens: float = 0.0
    last_s: float = 0.0

    def grants(self, at_s: float) -> bool:
        self.tokens = min(self.burst, self.tokens + (at_s - self.last_s) * self.rate)
        self.last_s = at_s
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def ended(self) -> None: ...


@dataclass
class AtOnce:
    """As nginx's limit_conn."""

    count: int
    used: int = 0

    def grants(self, at_s: float) -> bool:
        granted = self.used < self.count
        self.used += granted
        return granted

    def ended(self) -> None:
        self.used -= 1


@dataclass
class Outcome:
    """When requests were granted, and refused, in seconds from the start; and what is known at the end."""

    granted_s: list[float]
    refused_s: list[float]
    pace: HostPace

    def rate(self, from_s: float, to_s: float) -> float:
        return sum(from_s <= at_s < to_s for at_s in self.granted_s) / (to_s - from_s)

    def refused_after(self, at_s: float) -> int:
        return sum(each > at_s for each in self.refused_s)


def simulate(
    limit: Limit,
    chance: random.Random,
    *,
    clients: int = 16,
    seconds: float = 15.0,
    round_trip_s: float = 0.005,
    response_s: float = 0.0,
    late_s: float = 0.003,
    broken: float = 0.0,
    states: FixedWindow | None = None,
) -> Outcome:
    """`clients` that each make one request after another. `response_s`: how long a response takes. `late_s`: how late a
    client is at most when it wakes up. `broken`: such a share is refused whatever the limit is. `states`: the limit,
    where it says what is left."""
    pace, order = HostPace(), itertools.count()
    events: list[tuple[float, int, str, bool]] = []
    granted_s: list[float] = []
    refused_s: list[float] = []
    asking = under_way = 0
    # All take equally long: they arrive in the order in which they were made.
    said: deque[StatedLimit] = deque()

    def later(at_s: float, what: str, *, took_turn: bool = False) -> None:
        heapq.heappush(events, (at_s, next(order), what, took_turn))

    for _ in range(clients):
        later(chance.uniform(0, 0.05), "ask")
    while events and events[0][0] < seconds:
        at_s, _, what, took_turn = heapq.heappop(events)
        now_s = _START_S + at_s
        match what:
            case "ask" if (limited := pace.is_limited(now_s)) and (
                wait_s := pace.take_turn(now_s, asking + under_way)
            ) > 0:
                later(at_s + wait_s + chance.uniform(0, late_s), "ask")
            case "ask":
                asking += limited
                later(at_s + 0.0005, "arrive", took_turn=limited)
            case "arrive":
                granted = chance.random() >= broken and limit.grants(at_s)
                later(at_s + round_trip_s, "granted" if granted else "refused", took_turn=took_turn)
                if states is not None:
                    said.append(states.stated(at_s))
            case "granted":
                asking -= took_turn
                under_way += 1
                pace.answered(now_s, under_way)
                granted_s.append(at_s)
                if said:
                    pace.told(now_s, said.popleft())
                later(at_s + response_s * chance.uniform(0.5, 1.5), "end")
            case "end":
                under_way -= 1
                limit.ended()
                later(at_s, "ask")
            case "refused":
                asking -= took_turn
                pace.refused(now_s, under_way)
                refused_s.append(at_s)
                if said:
                    pace.told(now_s, said.popleft())
                later(at_s + chance.uniform(0, 0.1), "ask")
    return Outcome(granted_s, refused_s, pace)
