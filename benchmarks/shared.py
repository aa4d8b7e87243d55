"""A link that all connections share, by commands.

300 MB over a link of 100 MB/s that all connections share (`benchmarks/proxy.py`); whole commands, their start included.
"getm" has no options. Each connection beyond the first costs the server and gains nothing.
"""

from __future__ import annotations

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
    wall_against,
)
from benchmarks.harness.turns import take_turns
from benchmarks.link import Link
from benchmarks.proxy import shaped

SIZE_BYTES = 300 * 10**6
RATE_BYTES = 100 * 10**6
TOOLS: tuple[tuple[str, int | None], ...] = (
    ("getm", None),
    ("getm", 1),
    ("curl", None),
    ("aria2c", 16),
)


def measure(bench: Bench) -> Answer:
    served = bench.server.objects.make(bench.sized(SIZE_BYTES))
    with shaped(bench.server.http_port, Link(total_rate=RATE_BYTES)) as proxy:
        url = proxy.url(bench.server.url(served))
        turns = [
            turn
            for tool, connections in TOOLS
            for turn in download(
                bench, "100 MB/s in all", tool, served, url, connections=connections, count=proxy.counted
            )
        ]
        return take_turns(turns, bench.rounds, "shared")


QUESTION = Question(
    name="shared",
    title="What if more connections bring nothing?",
    how=__doc__,
    minutes=2,
    columns=(RATE, WALL, CPU_PER_GB, wall_against("getm -x 1"), CONNECTIONS, AT_ONCE, PEAK),
    measure=measure,
)
