"""A server that gives each connection a rate, and one object over several of them, by commands.

512 MiB from a server that gives each connection 20 MiB/s, without a burst and across requests, through a proxy that
knows the limits (`benchmarks/proxy.py`); whole commands, their start included. "getm" has no options. "best getm -x" is
the fastest of the fixed numbers.
"""

from __future__ import annotations

import dataclasses

from benchmarks.harness.bench import Bench, download
from benchmarks.harness.question import (
    AT_ONCE,
    CONNECTIONS,
    CPU_PER_GB,
    PEAK,
    RATE,
    WALL,
    Answer,
    Question,
    Series,
    Spread,
    wall_against,
)
from benchmarks.harness.turns import take_turns
from benchmarks.link import Link
from benchmarks.proxy import shaped

SIZE_BYTES = 512 * 1024 * 1024
RATE_BYTES = 20 * 1024 * 1024
CASE = "20 MiB/s a connection"
FIXED = (8, 16, 32)
BEST = "best getm -x"
TOOLS: tuple[tuple[str, int | None], ...] = (
    ("getm", None),
    *(("getm", count) for count in FIXED),
    ("aria2c", 16),
    ("axel", 16),
)


def best_fixed(every: list[Series]) -> Series | None:
    """The number of connections, of those that were tried, that took the least time, as a series of its own."""
    fixed = [series for series in every if series.tool.startswith("getm -x")]
    if not fixed:
        return None
    best = min(fixed, key=lambda series: Spread.of(series.values["wall_s"]).median)
    return dataclasses.replace(best, tool=BEST)


def measure(bench: Bench) -> Answer:
    served = bench.server.objects.make(bench.sized(SIZE_BYTES))
    with shaped(bench.server.http_port, Link(rate=RATE_BYTES)) as proxy:
        url = proxy.url(bench.server.url(served))
        turns = [
            turn
            for tool, connections in TOOLS
            for turn in download(bench, CASE, tool, served, url, connections=connections, count=proxy.counted)
        ]
        answer = take_turns(turns, bench.rounds, "capped")
    best = best_fixed(answer.series)
    if best is not None:
        answer.series.append(best)
    return answer


QUESTION = Question(
    name="capped",
    title="How soon is it found out that connections are capped?",
    how=__doc__,
    minutes=2,
    columns=(RATE, WALL, CPU_PER_GB, wall_against(BEST), wall_against("aria2c -x 16"), CONNECTIONS, AT_ONCE, PEAK),
    measure=measure,
)
