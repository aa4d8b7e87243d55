"""How fast hosts were, over all transfers of one engine."""

from __future__ import annotations

# The weight of the latest transfer in the speed of a host.
_WEIGHT = 0.3
# Less than this says more about the latency of the host than about its speed.
MIN_MEASURED_BYTES = 64 * 1024


class Speeds:
    """Bytes a second of each host, as an exponentially weighted mean; 0 where it failed the last time."""

    def __init__(self) -> None:
        self._speeds: dict[str, float] = {}

    def of(self, host: str) -> float | None:
        """None where nothing is known."""
        return self._speeds.get(host)

    def measured(self, host: str, received: int, seconds: float) -> None:
        """The host sent so many bytes in that time."""
        if seconds > 0 and received >= MIN_MEASURED_BYTES:
            now, before = received / seconds, self._speeds.get(host)
            self._speeds[host] = before + _WEIGHT * (now - before) if before else now

    def failed(self, host: str) -> None:
        self._speeds[host] = 0.0
