"""How many connections the downloads of a batch may open to each host."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Host:
    limit: int
    used: int = 0
    jobs: int = 0
    received_bytes: int = 0


class Hosts:
    """Distributes the connections to each host: `per_host` at most, and fewer where the host refuses more. A host that
    refuses a connection while others to it are open probably allows fewer: its limit is then what the others have, and
    one more with each download that succeeds.
    """

    def __init__(self, per_host: int) -> None:
        self._per_host = per_host
        self._hosts: dict[str | None, _Host] = {}

    def _get(self, host: str | None) -> _Host:
        return self._hosts.setdefault(host, _Host(self._per_host))

    def has_room(self, host: str | None) -> bool:
        known = self._hosts.get(host)
        return known is None or known.used < known.limit

    def take(self, host: str | None, wanted: int) -> int:
        """Take as many connections as are left, up to `wanted`, for one job; the number. `has_room` was true."""
        entry = self._get(host)
        granted = min(wanted, entry.limit - entry.used)
        entry.used += granted
        entry.jobs += 1
        return granted

    def give_back(self, host: str | None, connections: int) -> None:
        entry = self._get(host)
        entry.used -= connections
        entry.jobs -= 1
        if not entry.jobs and entry.limit == self._per_host:
            # A list may name a hundred thousand hosts.
            del self._hosts[host]

    def received(self, host: str | None, length: int) -> None:
        """Count bytes that came for a job of the host."""
        self._get(host).received_bytes += length

    def received_bytes(self, host: str | None) -> int:
        """How many bytes have come for its jobs together; only differences mean anything, while a job is active."""
        entry = self._hosts.get(host)
        return 0 if entry is None else entry.received_bytes

    def has_others(self, host: str | None) -> bool:
        """Whether a job other than the one that asks has connections to the host."""
        entry = self._hosts.get(host)
        return entry is not None and entry.jobs > 1

    def is_used(self, host: str | None) -> bool:
        """Whether any job has connections to the host."""
        entry = self._hosts.get(host)
        return entry is not None and entry.jobs > 0

    def refused(self, host: str | None, connections: int) -> None:
        """The host has refused a job that was to have `connections`."""
        entry = self._get(host)
        entry.limit = max(1, entry.used - connections)

    def succeeded(self, host: str | None) -> None:
        entry = self._hosts.get(host)
        if entry is not None:
            entry.limit = min(self._per_host, entry.limit + 1)
