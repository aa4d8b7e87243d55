"""What a report says of the rows of a receipt: counts, sums, and the few rows that are shown."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from statistics import median
from typing import TypeVar

from msgspec import Struct

from getm.cli.report.rows import Row, Rows
from getm.core.redact import host_of

_T = TypeVar("_T")

# As many rows as a page shows: with more, browsers become slow.
MOST_FILES, MOST_FAILURES, MOST_HOSTS, MOST_REASONS = 500, 200, 20, 12
_POINTS = 120


class Host(Struct, frozen=True):
    """`bytes_s`: the median over its files, None where none has one."""

    name: str
    files: int
    total_bytes: int
    failed: int
    retries: int
    bytes_s: float | None


class Bin(Struct, frozen=True):
    """So many values from `low` on, below `high`."""

    low: float
    high: float
    count: int


class Facts(Struct, frozen=True):
    """Everything that a page says. Counts are of files, and `*_s` are seconds."""

    total: int
    counts: Counter[str]  # by status
    total_bytes: int  # of "done" and "left"
    received_bytes: int  # of "done"
    verified: int
    unverified: int
    requests: int
    retries: int
    retried: int  # files with retries
    began: datetime | None
    ended: datetime | None
    verified_by: list[tuple[tuple[str, str], int]]  # algorithm and who declared it
    reasons: list[tuple[str, int]]  # why files are not verified
    causes: list[tuple[str, int]]  # of failures
    limits: list[tuple[str, int]]  # what took most of the time
    hosts: list[Host]
    sizes: list[Bin]
    speeds: list[Bin]
    arrived: list[tuple[datetime, int]]  # bytes that were there by then
    failures: list[Row]
    files: list[Row]
    changed: int  # names
    coded: int  # contents
    rows: Rows

    @property
    def seconds(self) -> float | None:
        """From the first start to the last end."""
        return None if self.began is None or self.ended is None else (self.ended - self.began).total_seconds()


def facts_of(rows: Rows) -> Facts:
    """The facts of these rows."""
    there = [row for row in rows.rows if row.status in ("done", "left")]
    failed = [row for row in rows.rows if row.status == "failed"]
    done = [row for row in there if row.status == "done"]
    checked = [row for row in there if row.verified_by is not None]
    unverified = [row for row in there if row.verified_by is None]
    arrivals = sorted((at, row.size or 0) for row in done if (at := row.ended_at) is not None)
    return Facts(
        total=len(rows.rows),
        counts=Counter(row.status for row in rows.rows),
        total_bytes=sum(row.size or 0 for row in there),
        received_bytes=sum(row.size or 0 for row in done),
        verified=len(checked),
        unverified=len(unverified),
        requests=sum(row.requests for row in rows.rows),
        retries=sum(row.retries for row in rows.rows),
        retried=sum(row.retries > 0 for row in rows.rows),
        began=min((at for row in done if (at := row.began_at) is not None), default=None),
        ended=arrivals[-1][0] if arrivals else None,
        verified_by=_counted((_algorithm(row), row.declared_by or "not said") for row in checked),
        reasons=_counted(row.reason or "not said" for row in unverified),
        causes=_counted(map(cause_of, failed)),
        limits=_counted(row.limited_by for row in done if row.limited_by is not None),
        hosts=_hosts(rows.rows),
        sizes=_bins([row.size for row in there if row.size]),
        speeds=_bins([speed for row in done if (speed := row.bytes_s) is not None]),
        arrived=_sums(arrivals),
        failures=failed[:MOST_FAILURES],
        # The largest: those that were waited for.
        files=heapq.nlargest(MOST_FILES, there, key=lambda row: row.size or 0),
        changed=sum(row.suggested_name is not None for row in there),
        coded=sum(row.content_coding is not None for row in there),
        rows=rows,
    )


def cause_of(row: Row) -> str:
    """Why a download failed, in a word or two."""
    return f"status {row.status_code}" if row.status_code is not None else row.error or "not said"


def _algorithm(row: Row) -> str:
    return (row.verified_by or "").partition(":")[0]


def _counted(values: Iterable[_T]) -> list[tuple[_T, int]]:
    """Each value and how often it comes, the most frequent first."""
    return Counter(values).most_common()


def _hosts(rows: Sequence[Row]) -> list[Host]:
    """The hosts, by what came from them."""
    by_name: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        name = row.host or host_of(row.url or "")
        if name is not None and row.status != "skipped":
            by_name[name].append(row)
    return sorted((_host(name, its) for name, its in by_name.items()), key=lambda host: -host.total_bytes)


def _host(name: str, rows: list[Row]) -> Host:
    done = [row for row in rows if row.status == "done"]
    speeds = [speed for row in done if (speed := row.bytes_s) is not None]
    return Host(
        name,
        files=len(rows),
        total_bytes=sum(row.size or 0 for row in done),
        failed=sum(row.status == "failed" for row in rows),
        retries=sum(row.retries for row in rows),
        bytes_s=median(speeds) if speeds else None,
    )


def _bins(values: Iterable[float]) -> list[Bin]:
    """How many values lie between powers of 2, without gaps; none for no values."""
    exponents = Counter(int(value).bit_length() - 1 for value in values if value >= 1)
    if not exponents:
        return []
    return [Bin(2.0**each, 2.0 ** (each + 1), exponents[each]) for each in range(min(exponents), max(exponents) + 1)]


def _sums(arrivals: Sequence[tuple[datetime, int]]) -> list[tuple[datetime, int]]:
    """The sum of what had arrived, at up to some hundred of these times, which are in order."""
    sums, total = [], 0
    step = max(1, len(arrivals) // _POINTS)
    for number, (at, count) in enumerate(arrivals, 1):
        total += count
        if number % step == 0 or number == len(arrivals):
            sums.append((at, total))
    return sums
