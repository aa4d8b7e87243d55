"""What limits a transfer: decided from what was measured, without I/O or a clock; and the line that says so."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from getm.core.stats import Times

__all__ = ["Bottleneck"]

# From this share of the time on, the thread that receives the bytes is the limit, and not who sends them: while it
# waits for a processor, the sender has to wait as well, for room in the socket's buffer, and is then late itself.
_BUSY = 2 / 3
# Less than this is of no interest, whatever it was.
_LEAST_S = 1e-6


class Bottleneck(Struct, frozen=True, gc=False):
    """What limits a transfer. As text it is one line: "limited by the disk: getm waited 80 % of the time for it".

    Attributes:
        stage: a name of `Times.stages`, or "cpu".
        share: its part of the whole time, from 0 to 1.
        text: the line.
    """

    stage: str
    share: float
    text: str

    def __str__(self) -> str:
        return self.text


def find_bottleneck(times: Times, *, received_bytes: int, requests: int, connections: int) -> Bottleneck | None:
    """What took most of the time; None where nothing has taken any.

    The thread that receives the bytes is the limit where it was never idle while they were waited for: then more would
    have come. `received_bytes`, `requests`, `connections` (opened): of the same transfers.
    """
    stage, share = limiting_stage(times)
    if stage is None:
        return None
    found = _Found(times, share, received_bytes, requests, connections)
    return Bottleneck(stage, share, f"limited by {_TEXTS[stage](found)}")


def limiting_stage(times: Times) -> tuple[str | None, float]:
    """What took most of the time, and its share; None where nothing has taken any."""
    stages = times.stages()
    stage = max(stages, key=stages.__getitem__)
    if stages[stage] < _LEAST_S:
        return None, 0.0
    total_s = sum(stages.values())
    if stage in _OF_THE_THREAD and times.cpu_s >= _BUSY * total_s:
        return "cpu", min(1.0, times.cpu_s / total_s)
    return stage, stages[stage] / total_s


class _Found(Struct, frozen=True, gc=False):
    """What a line is made of."""

    times: Times
    share: float
    received_bytes: int
    requests: int
    connections: int

    @property
    def percent(self) -> str:
        return f"{100 * self.share:.0f} % of the time"

    @property
    def at_once(self) -> float:
        """How many connections there were at the same time, in the mean."""
        times = self.times
        return max(1.0, times.connection_s / times.network_s) if times.network_s >= _LEAST_S else 1.0

    def each(self, seconds: float, count: int, what: str) -> str:
        """`seconds` that `count` times something took together, some at the same time."""
        if count < 2:
            return seconds_text(seconds)
        return f"{seconds_text(seconds * self.at_once / count)} for each of {count:,} {what}"


def _network(found: _Found) -> str:
    # Equal, or more, but for a caller's own values.
    seconds = found.times.connection_s or found.times.network_s
    rate, count = rate_text(found.received_bytes / seconds), round(found.at_once)
    over = "one connection" if count == 1 else f"each of {count} connections"
    return f"the server or the network: {rate} on {over}"


def _hashing(found: _Found) -> str:
    names = list(found.times.hashed_by)
    # All threads share the work of a CRC.
    ordered = sum(not name.startswith("crc") for name in names)
    if ordered:
        names.append("one thread" if len(names) == 1 else "one thread each")
    by = f" ({', '.join(names)})" if names else ""
    return f"hashing{by}: getm waited {found.percent} for it"


_OF_THE_THREAD = ("network", "first byte")
_TEXTS: dict[str, Callable[[_Found], str]] = {
    "lookup": lambda found: f"name lookup: {found.each(found.times.lookup_s, found.connections, 'connections')}",
    "connect": lambda found: f"connecting: {found.each(found.times.connect_s, found.connections, 'connections')}",
    "tls": lambda found: f"TLS handshakes: {found.each(found.times.tls_s, found.connections, 'connections')}",
    "first byte": lambda found: (
        f"the time to the first byte: {found.each(found.times.response_s, found.requests, 'requests')}"
    ),
    "network": _network,
    "cpu": lambda found: f"this machine's CPU: a thread of getm was busy {found.percent}",
    "hashing": _hashing,
    "disk": lambda found: f"the disk: getm waited {found.percent} for it",
    "consumer": lambda found: f"your consumer: getm waited {found.percent} for it",
    "store": lambda found: f"the store that it goes to: getm waited {found.percent} for it",
    "rate limit": lambda found: f"--limit-rate (limit_rate): it held back {found.percent}",
    "retries": lambda found: f"retries: getm paused {found.percent} before them",
}


def rate_text(rate: float) -> str:
    """`rate` bytes a second, in a unit of which it has up to three digits before the point."""
    for unit in ("bytes", "kB", "MB"):
        if rate < 999.95:
            return f"{rate:.{0 if unit == 'bytes' else 1}f} {unit}/s"
        rate /= 1000
    return f"{rate:.1f} GB/s"


def seconds_text(seconds: float) -> str:
    """Seconds, or milliseconds below one, with three digits that count."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 999.5 else f"{seconds:,.0f} s"
