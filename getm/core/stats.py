"""The statistics of a transfer."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field


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
            that failed, "slow tail" where a slow connection was replaced by a faster one.
        stalls: how often a connection was silent for too long.
        first_byte_s: seconds until the head of the response, redirects and retries included; None where none came.
        seconds: seconds from the request to the verdict.
    """

    received_bytes: int = 0
    requests: int = 0
    connections: int = 0
    retries: Mapping[str, int] = field(default_factory=dict)
    stalls: int = 0
    first_byte_s: float | None = None
    seconds: float = 0.0

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
        )

    @property
    def throughput(self) -> float:
        """Bytes a second, from the request to the verdict; 0.0 where no time has passed."""
        return self.received_bytes / self.seconds if self.seconds else 0.0
