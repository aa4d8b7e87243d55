"""How many connections the downloads of a batch may open to a host."""

from __future__ import annotations


class Host:
    """Distributes the connections to one host: `limit`, fewer than `most` where the host refuses more. A host that
    refuses a connection while others to it are open probably allows fewer: its limit is then what the others have, and
    one more with each download that succeeds.

    `jobs`: how many have connections to it. `received_bytes`: what has come for all of them.
    """

    def __init__(self, most: int) -> None:
        self.jobs: int = 0
        self.received_bytes: int = 0
        self._most = self._limit = most
        self._used = 0

    @property
    def has_room(self) -> bool:
        return self._used < self._limit

    def share(self, others: int) -> int:
        """How many connections one job may have, so that as many are left for each of `others` more."""
        return max(1, (self._limit - self._used) // (1 + others))

    def take(self, wanted: int) -> int:
        """Take as many connections as are left, up to `wanted`, for one job; the number. `has_room` was true."""
        granted = min(wanted, self._limit - self._used)
        self._used += granted
        self.jobs += 1
        return granted

    def give_back(self, connections: int) -> None:
        self._used -= connections
        self.jobs -= 1

    def refused(self, connections: int) -> None:
        """The host has refused a job that was to have `connections`."""
        self._limit = max(1, self._used - connections)

    def succeeded(self) -> None:
        self._limit = min(self._most, self._limit + 1)
