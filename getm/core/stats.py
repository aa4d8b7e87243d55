"""The statistics of a transfer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, field

from getm.core.brief import brief_repr
from getm.core.lazy import importing

if TYPE_CHECKING:
    from getm.core.bottleneck import Bottleneck


class Times(Struct, frozen=True, gc=False):
    """Where the seconds of a transfer went. Of several connections at once each second counts once: all stages together
    are about the whole time.

    Attributes:
        lookup_s: looking up names (DNS).
        connect_s: opening connections: TCP, and the way through a proxy.
        tls_s: TLS handshakes.
        response_s: from requests to the first bytes of their responses.
        network_s: while bytes came, or were waited for.
        hashing_s: waiting for the threads that hash: bytes came faster.
        disk_s: waiting for the disk, at the end as well.
        consumer_s: waiting for the caller, who had what came and was not done with it; and from the last byte's arrival
            until the caller took it.
        store_s: waiting for the store that the object goes to, at the end as well.
        limit_s: waiting because of `limit_rate`.
        retry_s: pauses before requests that were sent again, or that a host limits.
        connection_s: `network_s` of all connections, added up.
        cpu_s: seconds in which the thread that receives had a processor or waited for one: for all transfers that it
            had at that time.
        hashed_by: the algorithms that were computed, where they were waited for.
    """

    lookup_s: float = 0.0
    connect_s: float = 0.0
    tls_s: float = 0.0
    response_s: float = 0.0
    network_s: float = 0.0
    hashing_s: float = 0.0
    disk_s: float = 0.0
    consumer_s: float = 0.0
    limit_s: float = 0.0
    retry_s: float = 0.0
    connection_s: float = 0.0
    cpu_s: float = 0.0
    hashed_by: tuple[str, ...] = ()
    store_s: float = 0.0

    def __repr__(self) -> str:
        return brief_repr(self)

    def __add__(self, other: Times) -> Times:
        """Those of two transfers, or of two attempts."""
        sums: dict[str, Any] = {name: getattr(self, name) + getattr(other, name) for name in _NUMBERS}
        return Times(**sums, hashed_by=tuple(dict.fromkeys((*self.hashed_by, *other.hashed_by))))

    def stages(self) -> dict[str, float]:
        """The seconds of each stage, by its name: "lookup", "connect", "tls", "first byte", "network", "hashing",
        "disk", "consumer", "store", "rate limit" and "retries"."""
        return {stage: getattr(self, name) for stage, name in _STAGES.items()}


_STAGES = {
    "lookup": "lookup_s",
    "connect": "connect_s",
    "tls": "tls_s",
    "first byte": "response_s",
    "network": "network_s",
    "hashing": "hashing_s",
    "disk": "disk_s",
    "consumer": "consumer_s",
    "store": "store_s",
    "rate limit": "limit_s",
    "retries": "retry_s",
}
_NUMBERS = (*_STAGES.values(), "connection_s", "cpu_s")


class Stats(Struct, frozen=True, gc=False):
    """The statistics of a transfer, over all its requests and engines.

    Before its end only `received_bytes` and `seconds` are known; the others have their defaults.

    Attributes:
        received_bytes: bytes of the object that came over the network.
        requests: requests sent, without those of redirects and those repeated because the server had just closed a
            kept-alive connection.
        connections: connections opened for them; a kept-alive one is not counted again.
        retries: how often the rest was requested again, by cause: "connect", "tls", "reset", "truncation", "stall",
            "slow", "status", "changed", "redirect", "bad response"; "mirror" where another URL was used instead of one
            that failed, "slow tail" where a slow connection was replaced by a faster one, "expired" where the request
            was made again with a new URL.
        stalls: how often a connection was silent for too long.
        first_byte_s: seconds until the head of the response, redirects and retries included; None where none came.
        seconds: seconds from the request to the verdict.
        measured: where they went, and what came after the verdict; None where all of it is in the two numbers above,
            and before the end. `times` has both.
    """

    received_bytes: int = 0
    requests: int = 0
    connections: int = 0
    retries: Mapping[str, int] = field(default_factory=dict)
    stalls: int = 0
    first_byte_s: float | None = None
    seconds: float = 0.0
    measured: Times | None = None

    def __repr__(self) -> str:
        return brief_repr(self)

    def __add__(self, later: Stats) -> Stats:
        """The statistics of two attempts, `later` after this one."""
        first_byte_s = self.first_byte_s
        if first_byte_s is None and later.first_byte_s is not None:
            first_byte_s = self.seconds + later.first_byte_s
        causes = [*self.retries, *(cause for cause in later.retries if cause not in self.retries)]
        return Stats(
            received_bytes=self.received_bytes + later.received_bytes,
            requests=self.requests + later.requests,
            connections=self.connections + later.connections,
            retries={cause: self.retries.get(cause, 0) + later.retries.get(cause, 0) for cause in causes},
            stalls=self.stalls + later.stalls,
            first_byte_s=first_byte_s,
            seconds=self.seconds + later.seconds,
            # Small spans are many, and bring no times.
            measured=self.times + later.times if later.seconds or later.measured else self.measured,
        )

    @property
    def times(self) -> Times:
        """Where the time went, stage by stage."""
        if self.measured is not None:
            return self.measured
        # One response over a connection that was there, and nothing that was waited for but the server.
        first_byte_s = self.first_byte_s or 0.0
        network_s = max(0.0, self.seconds - first_byte_s)
        return Times(response_s=first_byte_s, network_s=network_s, connection_s=network_s)

    def and_then(self, more: Times) -> Stats:
        """The same, and more seconds, which came after the verdict."""
        return msgspec.structs.replace(self, measured=self.times + more)

    def for_store(self, finishing_s: float) -> Stats:
        """The same, of an object that went to a store: who took the bytes was that. `finishing_s`: from the verdict
        until it was there."""
        times = self.times
        store_s = times.consumer_s + finishing_s
        return msgspec.structs.replace(self, measured=msgspec.structs.replace(times, consumer_s=0.0, store_s=store_s))

    def time_facts(self) -> tuple[str | None, dict[str, float]]:
        """The stage that took most of the time, or "cpu"; and the seconds of those that took any: for programs."""
        if self.measured is None:
            # Of many small objects.
            if not self.seconds:
                return None, {}
            first_byte_s = self.first_byte_s or 0.0
            network_s = max(0.0, self.seconds - first_byte_s)
            stage = "first byte" if first_byte_s > network_s else "network"
            return stage, {"first byte": first_byte_s, "network": network_s}
        with importing:
            from getm.core.bottleneck import limiting_stage
        seconds = {stage: each for stage, each in self.measured.stages().items() if each}
        return limiting_stage(self.measured)[0], seconds

    @property
    def bottleneck(self) -> Bottleneck | None:
        """What limits the transfer; as text one line, like "limited by the disk: getm waited 80 % of the time for
        it". None where nothing has taken any time.

        Example:
            >>> result = getm.download("https://data.example.org/reads.bam")
            >>> print(result.stats.bottleneck)
        """
        # Most programs never ask.
        with importing:
            from getm.core.bottleneck import find_bottleneck
        return find_bottleneck(
            self.times, received_bytes=self.received_bytes, requests=self.requests, connections=self.connections
        )

    @property
    def throughput(self) -> float:
        """Bytes a second, from the request to the verdict; 0.0 where no time has passed."""
        return self.received_bytes / self.seconds if self.seconds else 0.0
