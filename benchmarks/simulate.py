"""How long a list takes on many machines, and what limits it: a simulation of `download_all(executor=)`.

    python -m benchmarks.simulate           # the table of docs/explanation/scale.md
    python -m benchmarks.simulate --machines 32 64 --entries 2000000 --bytes 40M --lost-after 7

Three things take time: workers, which do one portion after another; the caller, which makes portions and takes what
they return, one at a time (with Dask, its scheduler too); and machines that are lost. A portion is as large as
`getm.batch.executors` makes it. What each step takes was measured on one machine (`python -m benchmarks --only
cluster,scale`); sizes of objects and losses of machines are random, and the same in each run.

`python -m benchmarks --only cluster` compares it with real workers: it is to be right within a quarter.
"""

from __future__ import annotations

import argparse
import math
import statistics
from bisect import bisect_left
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate
from random import Random

from benchmarks.harness.environment import ROOT
from benchmarks.harness.question import Answer, Series, find
from benchmarks.harness.results import Result
from benchmarks.harness.sizes import size_argument
from benchmarks.harness.tables import markdown_table
from getm.batch import executors
from getm.batch.portions import COST_EACH
from getm.core.retry import Retries

# Where the costs of a machine are from.
RESULTS = ("2026-11-28-2240-642f1a9.json", "2026-11-29-0505-d833e86.json")

_SEED = 13
_SIZES = 2**16  # different ones, again and again


@dataclass(frozen=True)
class Costs:
    """What was measured on one machine, in seconds.

    Args:
        entry_s: A small file, by one worker that downloads several at once.
        byte_s: A byte of a large file.
        portion_s: A portion, from the caller to a worker and back, beside its files.
        caller_entry_s: A file, in the caller's process (and Dask's scheduler).
        caller_portion_s: A portion, there.
    """

    entry_s: float
    byte_s: float
    portion_s: float
    caller_entry_s: float
    caller_portion_s: float


@dataclass(frozen=True)
class Work:
    """A list of so many objects. Their sizes are log-normal, with this mean in bytes and this standard deviation of the
    logarithm; `jobs` of them are downloaded at once by a worker."""

    entries: int
    mean_bytes: float
    sigma: float = 1.0
    jobs: int = 1


@dataclass(frozen=True)
class Losses:
    """A machine is lost after `after_s` seconds in the mean; `found_s` later what it did is begun again, by another."""

    after_s: float = math.inf
    found_s: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How it went: in `seconds`, in so many portions, of which `lost` were done again. `caller_busy` and `workers_busy`
    are the shares of that time in which the caller, and a worker in the mean, had something to do."""

    seconds: float
    portions: int
    lost: int
    caller_busy: float
    workers_busy: float


class _List:
    """The objects of a list, in order; their sizes come again after a while."""

    def __init__(self, work: Work) -> None:
        random = Random(_SEED)
        drawn = [random.lognormvariate(0, work.sigma) for _ in range(min(_SIZES, work.entries))]
        scale = work.mean_bytes / statistics.fmean(drawn)
        # Twice, so that a portion need not begin again in its middle.
        sizes = [each * scale for each in drawn] * 2
        self._bytes = [0.0, *accumulate(sizes)]
        self._costs = [0.0, *accumulate(size + COST_EACH for size in sizes)]
        self._round, self._first, self._left = len(drawn), 0, work.entries

    def take(self, cost: float) -> tuple[int, float, float]:
        """The objects of the next portion, which is to have that cost: how many, their bytes, and what they cost."""
        first = self._first
        enough = bisect_left(self._costs, self._costs[first] + cost, lo=first)
        count = min(enough - first, executors.MAX_ENTRIES, self._left)
        self._left -= count
        self._first = (first + count) % self._round
        last = first + count
        return count, self._bytes[last] - self._bytes[first], self._costs[last] - self._costs[first]


def simulate(work: Work, costs: Costs, workers: int, losses: Losses | None = None) -> Outcome:
    """The list by so many workers."""
    losses = losses or Losses()
    entries, random = _List(work), Random(_SEED)
    caller_free_s, worker_free_s = 0.0, [0.0] * workers
    caller_s = busy_s = now_s = 0.0
    sent = lost = 0
    next_cost = executors.FIRST_COST
    # When portions end: at what time, whose, how long they took, and their costs.
    running: list[tuple[float, int, float, float]] = []

    def send(worker: int) -> None:
        nonlocal caller_free_s, caller_s, busy_s, sent, lost
        count, size, cost = entries.take(next_cost)
        if not count:
            return
        used_s = costs.caller_portion_s + count * costs.caller_entry_s
        caller_s += used_s
        caller_free_s = max(caller_free_s, now_s) + used_s
        turns = math.ceil(count / work.jobs) * work.jobs
        took_s = costs.portion_s + max(turns * costs.entry_s, size * costs.byte_s)
        end_s = max(caller_free_s, worker_free_s[worker]) + took_s
        if random.random() < -math.expm1(-took_s / losses.after_s):
            lost += 1
            end_s += losses.found_s + took_s
        busy_s += took_s
        sent += 1
        worker_free_s[worker] = end_s
        heappush(running, (end_s, worker, took_s, cost))

    for worker in list(range(workers)) * executors.PORTIONS_EACH:
        send(worker)
    while running:
        now_s, worker, took_s, cost = heappop(running)
        next_cost = executors.next_cost(cost, took_s, workers)
        send(worker)
    return Outcome(now_s, sent, lost, caller_s / now_s, busy_s / now_s / workers)


# The table ------------------------------------------------------------------------------------------------------------

LISTS = (Work(10**7, 100e6), Work(10**7, 100e3), Work(10**5, 10e9))
MACHINES = (1, 10, 100, 1000)
# A machine is lost once in so many days in the mean, and that is found after `worker-ttl` of distributed.yaml.
LOST_AFTER_DAYS = 1.0
FOUND_S = 300.0
DOLLARS_AN_HOUR = 0.0816
DOLLARS_A_REQUEST = 0.0004 / 1000
S3_REQUESTS_A_SECOND = 5500
# One in so many requests fails.
FAILS = 1 / 1000


def measured_costs() -> tuple[Costs, float]:
    """Of a machine, from the results in RESULTS; and the bytes that the caller needs for each object of a list."""
    answers: dict[str, Answer] = {}
    for name in RESULTS:
        answers |= Result.load(ROOT / "benchmarks" / "results" / name).answers

    def of(question: str, case: str, tool: str) -> Series:
        series = find(answers[question].series, case, tool)
        if series is None:
            raise LookupError(f"no result says what {tool} takes for {case}")
        return series

    def each(series: Series, value: str = "wall_s") -> float:
        return statistics.median(series.values[value]) / series.amount

    files, one = (of("cluster", case, "getm, 1 Dask worker") for case in ("16 KiB", "one file a list"))
    few, many = (of("cluster", "workers do nothing", f"getm, {count}") for count in ("10,000", "100,000"))
    costs = Costs(
        entry_s=each(of("scale", "files of 16 KiB", "getm, 100,000")),
        byte_s=each(of("scale", "GB in one file", "getm, 10")) / 1e9,
        portion_s=each(one),
        caller_entry_s=each(files, "caller_cpu_s"),
        caller_portion_s=each(one, "caller_cpu_s"),
    )
    grown = statistics.median(many.values["peak_bytes"]) - statistics.median(few.values["peak_bytes"])
    return costs, grown / (many.amount - few.amount)


def row(work: Work, machines: int, costs: Costs, caller_entry_bytes: float, losses: Losses) -> list[str]:
    """Of the table."""
    outcome = simulate(work, costs, machines, losses)
    size, hours = work.entries * work.mean_bytes, outcome.seconds / 3600
    requests = work.entries / outcome.seconds
    return [
        f"{work.entries:,} of {work.mean_bytes / 1e6:,g} MB",
        f"{machines:,}",
        f"{hours:,.2f}",
        f"{size / outcome.seconds / 1e9:,.1f}",
        f"{requests:,.0f}",
        f"{outcome.portions:,}",
        f"{100 * outcome.caller_busy:.0f}",
        f"{100 * outcome.workers_busy:.0f}",
        f"{work.entries * caller_entry_bytes / 1e9:.1f}",
        f"{outcome.lost:,}",
        f"{machines * hours:,.0f}",
        f"{machines * hours * DOLLARS_AN_HOUR + work.entries * DOLLARS_A_REQUEST:,.0f}",
        f"{math.ceil(requests / S3_REQUESTS_A_SECOND):,}",
    ]


def measured(costs: Costs, caller_entry_bytes: float) -> list[list[str]]:
    """The rows of the table of what was measured."""
    return [
        ["a worker: small files a second", f"{1 / costs.entry_s:,.0f}"],
        ["a worker: MB a second of a large file", f"{1e-6 / costs.byte_s:,.0f}"],
        ["a portion beside its files, there and back: ms", f"{1000 * costs.portion_s:.0f}"],
        ["the caller, with Dask's scheduler: CPU ms a portion", f"{1000 * costs.caller_portion_s:.1f}"],
        ["the caller, with Dask's scheduler: CPU ms a file", f"{1000 * costs.caller_entry_s:.3f}"],
        ["the caller: bytes a file", f"{caller_entry_bytes:.0f}"],
    ]


HEADS = (
    "objects",
    "machines",
    "hours",
    "GB/s",
    "objects/s",
    "portions",
    "caller busy %",
    "machines busy %",
    "caller's GB",
    "done again",
    "machine hours",
    "$",
    "S3 prefixes",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, help="so many objects, in place of the page's lists")
    parser.add_argument("--bytes", type=size_argument, default=10**8, help="their size in the mean (default 100M)")
    parser.add_argument("--machines", type=int, nargs="+", default=MACHINES, metavar="N")
    parser.add_argument("--lost-after", type=float, default=LOST_AFTER_DAYS, metavar="DAYS", help="a machine (mean)")
    options = parser.parse_args()
    works = LISTS if options.entries is None else [Work(options.entries, options.bytes)]
    losses, (costs, entry_bytes) = Losses(options.lost_after * 86400, FOUND_S), measured_costs()
    rows = [row(work, machines, costs, entry_bytes, losses) for work in works for machines in options.machines]
    print(markdown_table(("measured on one machine", ""), measured(costs, entry_bytes), left=1), end="\n\n")
    print(markdown_table(HEADS, rows, left=1))
    attempts = 1 + Retries().attempts
    entries = max(work.entries for work in works)
    print(
        f"\nOf {entries:,} downloads {entries * FAILS:,.0f} need a second request, where one in {1 / FAILS:,.0f} "
        f"fails; {entries * FAILS**attempts:.0e} fail {attempts} times in a row."
    )


if __name__ == "__main__":
    main()
