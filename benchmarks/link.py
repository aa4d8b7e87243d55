"""When bytes pass a simulated network path: pure decisions, without sockets or a clock, which proxy.py carries out.

A connection's bytes pass in pieces of some milliseconds. A piece is through when its last byte would be, at the rate of
its connection and at that of the link which all connections share; so a connection never gets ahead of its rate, and
there is one timer a piece. Pieces of several connections take the link in the order in which they come: who waits for
more of it gets more of it, as in a router's queue.

The whole round trip is spent on the way to the server. Who asks and waits cannot tell the difference, and no byte of a
response waits in a queue for it. Connecting takes a round trip of its own, before the first request is carried.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

_LATE_S = 0.02  # how late a timer may come without a loss of rate
_PIECE_S = 0.01  # of a connection's rate
_SHARED_PIECE_S = 0.002  # of the link's: this is how long each of the others waits for one piece
_MIN_PIECE_BYTES = 4096
_MAX_PIECE_BYTES = 1024 * 1024  # what fits into a pipe
_FIRST_WINDOW_BYTES = 10 * 1460  # RFC 6928


@dataclass(frozen=True)
class Link:
    """A network path.

    Args:
        rate: Bytes a second that each connection gets at most; None for no limit of its own.
        total_rate: Bytes a second that all connections get together; None for no limit.
        rtt_s: Round trip, in seconds: what connecting takes, and what each request takes before it is answered.
        jitter_s: Each request comes later by a random time up to this, and so does each piece of a response where there
            is a rate (which stays what it is).
        slow_start: Each connection begins with ten segments a round trip and doubles that until it reaches its rate.
        reset_bytes: Connections are reset after a random number of bytes, this many in the mean; None for never.
        seed: Of all that is random.
    """

    rate: float | None = None
    total_rate: float | None = None
    rtt_s: float = 0.0
    jitter_s: float = 0.0
    slow_start: bool = False
    reset_bytes: int | None = None
    seed: int = 0


@dataclass
class Bucket:
    """Bytes pass one after another: `take` says when so many more are through.

    Who asks up to `late_s` late, since its timer came late, loses nothing. Who has nothing to send for longer saves
    nothing up.
    """

    late_s: float
    _free_at: float = field(default=float("-inf"), init=False)

    def take(self, count: int, rate: float, now: float) -> float:
        start = self._free_at if now - self._free_at <= self.late_s else now
        self._free_at = start + count / rate
        return self._free_at


class Shared:
    """What the connections of one link have in common."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.random = Random(link.seed)
        self._bucket = Bucket(_LATE_S + link.jitter_s)

    def take(self, count: int, now: float) -> float | None:
        return None if self.link.total_rate is None else self._bucket.take(count, self.link.total_rate, now)

    def jitter(self) -> float:
        return self.random.uniform(0, self.link.jitter_s) if self.link.jitter_s else 0.0


class Path:
    """One connection over a link, from the moment when it is accepted. Times are seconds of any one clock."""

    def __init__(self, shared: Shared, now: float) -> None:
        self._shared = shared
        self._link = link = shared.link
        self._bucket = Bucket(_LATE_S + link.jitter_s)
        self._established_at = now + link.rtt_s
        self._last_request_at = 0.0
        self._carried_bytes = 0
        self._life_bytes = (
            None if link.reset_bytes is None else 1 + int(shared.random.expovariate(1 / link.reset_bytes))
        )

    def request_at(self, now: float) -> float:
        """When bytes that the client has just sent reach the server: never before those that it sent earlier."""
        due = max(now, self._established_at) + self._link.rtt_s + self._shared.jitter()
        self._last_request_at = max(due, self._last_request_at)
        return self._last_request_at

    def piece_bytes(self) -> int:
        """How much of a response to carry next; zero where the connection is to be reset."""
        link, piece = self._link, float(_MAX_PIECE_BYTES)
        if link.rate is not None:
            piece = min(piece, link.rate * _PIECE_S)
        if link.total_rate is not None:
            piece = min(piece, link.total_rate * _SHARED_PIECE_S)
        piece = max(piece, _MIN_PIECE_BYTES)
        if link.slow_start:
            piece = min(piece, self._window())
        if self._life_bytes is not None:
            piece = min(piece, self._life_bytes - self._carried_bytes)
        return int(piece)

    def response_at(self, count: int, now: float) -> float:
        """When a piece of `count` bytes, which has just come from the server, is at the client."""
        rate = self._rate()
        own = None if rate is None else self._bucket.take(count, rate, now)
        self._carried_bytes += count
        # In the past where a timer came late: only so is what was lost made up for.
        through = [at for at in (own, self._shared.take(count, now)) if at is not None]
        return max(through) + self._shared.jitter() if through else now

    def _window(self) -> int:
        return _FIRST_WINDOW_BYTES + self._carried_bytes

    def _rate(self) -> float | None:
        link = self._link
        if not link.slow_start or not link.rtt_s:
            return link.rate
        rate = self._window() / link.rtt_s
        return rate if link.rate is None else min(rate, link.rate)
