"""A server far away, by commands.

1 GB from a server 80 ms away (round trip) that gives each connection 25 MB/s, at once or after TCP's slow start
(`benchmarks/proxy.py`); whole commands, their start included. "getm" has no options. 32 connections are 800 MB/s, near
to what client, proxy and server reach together on two cores.
"""

from __future__ import annotations

import contextlib

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
from benchmarks.harness.turns import Turn, take_turns
from benchmarks.link import Link
from benchmarks.proxy import shaped

SIZE_BYTES = 10**9
LINKS = {
    "full rate at once": Link(rate=25e6, rtt_s=0.08),
    "slow start": Link(rate=25e6, rtt_s=0.08, slow_start=True),
}
TOOLS: tuple[tuple[str, int | None], ...] = (("getm", None), ("getm", 32), ("aria2c", 16), ("axel", 32))


def measure(bench: Bench) -> Answer:
    served = bench.server.objects.make(bench.sized(SIZE_BYTES))
    turns: list[Turn] = []
    with contextlib.ExitStack() as stack:
        for case, link in LINKS.items():
            proxy = stack.enter_context(shaped(bench.server.http_port, link))
            url = proxy.url(bench.server.url(served))
            for tool, connections in TOOLS:
                turns += download(bench, case, tool, served, url, connections=connections, count=proxy.counted)
        return take_turns(turns, bench.rounds, "far")


QUESTION = Question(
    name="far",
    title="What does a long round trip cost?",
    how=__doc__,
    minutes=3.5,
    columns=(RATE, WALL, CPU_PER_GB, wall_against("getm -x 32"), CONNECTIONS, AT_ONCE, PEAK),
    measure=measure,
)
