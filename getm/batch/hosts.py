"""How many downloads of a batch may run at once from a host, and how many connections they may open to it."""

from __future__ import annotations

# With a number of downloads that adapts: small files come many at once, since each is over before its connection is
# fast, and large ones few. So many bytes are on their way at once, by the sizes that are known.
_ENOUGH_BYTES = 64 * 1024 * 1024
# How many there are whatever their sizes, and while none is known.
FEW = 3
_UNKNOWN = 8
# The weight of the latest size in the mean, by which unknown ones are judged.
_WEIGHT = 0.1


class Host:
    """Distributes the connections to one host: `limit`, fewer than `most` where the host refuses more. A host that
    refuses a connection while others to it are open probably allows fewer: its limit is then what the others have, and
    one more with each download that succeeds.

    `adaptive`: large downloads are few at a time. `few`: how many there are of the largest.

    `jobs`: how many have connections to it. `received_bytes`: what has come for all of them.
    """

    def __init__(self, most: int, *, adaptive: bool = False, few: int = FEW) -> None:
        self.jobs: int = 0
        self.received_bytes: int = 0
        self._most = self._limit = most
        self._used = 0
        self._adaptive = adaptive
        self._few = few
        # The sizes of all jobs that run, as far as they are known, and how many of them are not.
        self._known_bytes = 0
        self._unknown = 0
        self._mean_bytes: float | None = None

    @property
    def has_room(self) -> bool:
        """Whether another job may have a connection."""
        if self._used >= self._limit:
            return False
        return not self._adaptive or self.jobs < self._few or self._more_jobs(None) > 0

    def _more_jobs(self, size: int | None) -> int:
        """How many more jobs of such a size there may be; None: of unknown size."""
        if self._mean_bytes is None and size is None:
            return _UNKNOWN - self.jobs
        usual = self._mean_bytes or 0.0
        left = _ENOUGH_BYTES - self._known_bytes - self._unknown * usual
        each = max(1.0, usual if size is None else float(size))
        return max(self._few - self.jobs, int(left // each) if left >= each else int(left > 0))

    def share(self, size: int | None, others: int) -> int:
        """How many connections one job of that size may have, so that as many are left for each of `others` more, as
        far as they may run beside it."""
        if self._adaptive:
            others = min(others, max(0, self._more_jobs(size) - 1))
        return max(1, (self._limit - self._used) // (1 + others))

    def take(self, wanted: int, size: int | None = None) -> int:
        """Take as many connections as are left, up to `wanted`, for one job of that size, None where it is not known;
        the number. `has_room` was true."""
        granted = min(wanted, self._limit - self._used)
        self._used += granted
        self.jobs += 1
        self._count(size, 1)
        return granted

    def _count(self, size: int | None, jobs: int) -> None:
        if size is None:
            self._unknown += jobs
        else:
            self._known_bytes += jobs * size

    def sized(self, before: int | None, size: int) -> None:
        """The size of a job that runs has become known; `before`: what it was taken for."""
        self._count(before, -1)
        self._count(size, 1)
        mean = self._mean_bytes
        self._mean_bytes = float(size) if mean is None else mean + _WEIGHT * (size - mean)

    def give_back(self, connections: int, size: int | None = None) -> None:
        """A job that was to have that size, as far as it is known, has ended."""
        self._used -= connections
        self.jobs -= 1
        self._count(size, -1)

    def refused(self, connections: int) -> None:
        """The host has refused a job that was to have `connections`."""
        self._limit = max(1, self._used - connections)

    def succeeded(self) -> None:
        self._limit = min(self._most, self._limit + 1)
