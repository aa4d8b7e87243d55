"""Lists over the workers of an executor, against one session, and how that is predicted.

Downloads of 16 KiB by one session ("getm"), and by one and two workers of a `ProcessPoolExecutor` and of a local Dask
cluster, all started before. "16 KiB": as fast as one machine can, so that workers, caller and nginx share its cores.
"40 ms away": each request is answered after 40 ms (`benchmarks/proxy.py`), 16 at once for each worker, so that workers
wait and do not compete, as those on machines of their own. "one file a list": what a list, or a portion of one, takes
beside its files. "workers do nothing": what the caller alone needs for a list. The caller's CPU time has that of Dask's
scheduler. "predicted" is `benchmarks/simulate.py`, from what the session alone and lists of one file took.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import sys
from typing import Any

from benchmarks.harness.bench import Bench, CommandLine
from benchmarks.harness.clusters import CLUSTERS
from benchmarks.harness.question import PEAK, Answer, Column, Question, Series, Values, find, wall_against
from benchmarks.harness.turns import Turn, Worker, take_turns
from benchmarks.link import Link
from benchmarks.proxy import shaped
from benchmarks.simulate import Costs, Work, simulate

FILES = 5_000
FAR_FILES = 1_000
FAR = Link(rtt_s=0.04)
FAR_JOBS = 16
LISTS = 50
FILE_BYTES = 16 * 1024
COUNTS = (10_000, 100_000)
ROUNDS = 5
ONE_OF = {"getm, 2 processes": "getm, 1 process", "getm, 2 Dask workers": "getm, 1 Dask worker"}
WORKERS = {**dict.fromkeys(ONE_OF.values(), 1), **dict.fromkeys(ONE_OF, 2)}
HERE, AWAY, ONE, IDLE = "16 KiB", "16 KiB, 40 ms away", "one file a list", "workers do nothing"


def measure(bench: Bench) -> Answer:
    served = bench.server.objects.write("cluster.bin", os.urandom(FILE_BYTES))
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(shaped(bench.server.http_port, FAR))
        url = bench.server.url(served)
        cases: dict[str, dict[str, Any]] = {
            HERE: {"lists": 1, "entries": bench.sized(FILES), "url": url, "jobs": "auto"},
            AWAY: {"lists": 1, "entries": bench.sized(FAR_FILES), "url": proxy.url(url), "jobs": FAR_JOBS},
            ONE: {"lists": bench.sized(LISTS), "entries": 1, "url": url, "jobs": "auto"},
        }
        turns = []
        for tool in CLUSTERS:
            contender = _ToFolder(bench, stack.enter_context(Worker({"cluster": tool})))
            for case, request in cases.items():
                amount = request["lists"] * request["entries"]
                turns.append(Turn(case, tool, amount, contender, {**request, "size": FILE_BYTES}))
        for count in map(bench.sized, COUNTS):
            command = [sys.executable, "-m", "benchmarks.harness.clusters", str(count)]
            turns.append(Turn(IDLE, f"getm, {count:,}", count, CommandLine(bench, command, lambda: None)))
        turns.sort(key=lambda turn: [*cases, IDLE].index(turn.case))
        answer = take_turns(turns, min(ROUNDS, bench.rounds), "cluster")
    _predict(answer)
    return answer


class _ToFolder:
    """A worker's turns, which write to the bench's output."""

    def __init__(self, bench: Bench, worker: Worker) -> None:
        self._bench = bench
        self._worker = worker

    @property
    def why_not(self) -> str | None:
        return self._worker.why_not

    def turn(self, request: dict[str, Any]) -> Values | None:
        with self._bench.emptied_output():
            os.sync()
            run = self._worker.turn({**request, "folder": str(self._bench.output)})
            if run is not None:
                sizes = [entry.stat().st_size for entry in os.scandir(self._bench.output)]
                if sizes != [FILE_BYTES] * (request["lists"] * request["entries"]):
                    self._worker.why_not = "failed: files are missing, or are not what was served"
            return run


def _predict(answer: Answer) -> None:
    """Add what the simulation says to the runs in which workers do not compete."""
    alone, one = find(answer.series, AWAY, "getm"), find(answer.series, ONE, "getm, 1 Dask worker")
    if alone is None or one is None:
        return
    for series in answer.series:
        workers = WORKERS.get(series.tool)
        if series.case != AWAY or workers is None:
            continue
        turns = math.ceil(alone.amount / FAR_JOBS) * FAR_JOBS
        costs = Costs(
            entry_s=statistics.median(alone.values["wall_s"]) / turns,
            byte_s=0.0,
            portion_s=_each(one, "wall_s"),
            caller_entry_s=_each(series, "caller_cpu_s"),
            caller_portion_s=_each(one, "caller_cpu_s"),
        )
        work = Work(int(series.amount), FILE_BYTES, sigma=0.0, jobs=FAR_JOBS)
        series.values["predicted_s"] = [simulate(work, costs, workers).seconds] * len(series.values["wall_s"])


def _each(series: Series, value: str) -> float:
    return statistics.median(series.values[value]) / series.amount


QUESTION = Question(
    name="cluster",
    title="What do workers of an executor cost, and bring?",
    how=__doc__,
    minutes=4,
    columns=(
        Column("ms for each", lambda run: 1000 * run["wall_s"] / run["amount"], digits=3, compared=True),
        Column("CPU ms for each", lambda run: 1000 * run["cpu_s"] / run["amount"], digits=3, compared=True),
        Column("caller's", lambda run: 1000 * run["caller_cpu_s"] / run["amount"], digits=3, compared=True),
        wall_against("getm"),
        Column("x 1 worker", lambda run: run["wall_s"], base=lambda series: (series.case, ONE_OF.get(series.tool, ""))),
        Column("predicted ms", lambda run: 1000 * run["predicted_s"] / run["amount"], digits=3, better="neither"),
        Column("predicted/measured", lambda run: run["predicted_s"] / run["wall_s"], better="neither"),
        PEAK,
    ),
    measure=measure,
    ours=lambda tool: tool.startswith("getm"),
    scaled_by_case=True,
)
