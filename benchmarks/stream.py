"""A large object to nowhere, by libraries and curl.

An object of 200 MB from nginx on loopback to nowhere, in a session that is open already. CPU seconds of all processes
of the client, in user and kernel mode, for each further GB: what a tiny object takes at the least is taken off.
"recv_into" is a loop over one buffer: the least that Python can do. "growth" is how far the peak of memory has risen
since an object of 32 MB.
"""

from __future__ import annotations

import contextlib

from benchmarks.harness.bench import Bench
from benchmarks.harness.question import CPU_PER_GB, PEAK, RATE, Answer, Column, Question, cpu_against, wall_against
from benchmarks.harness.readers import CONTENDERS
from benchmarks.harness.turns import Turn, Worker, take_turns

SIZE_BYTES = 200 * 10**6
WARM_UP_BYTES = 32 * 10**6
TINY_BYTES = 1000
ROUNDS = 2  # times those of other questions: a turn takes a tenth of a second
SCHEMES = ("HTTP", "HTTPS")


def measure(bench: Bench) -> Answer:
    server = bench.server
    tiny, warm_up, large = (server.objects.make(size) for size in (TINY_BYTES, WARM_UP_BYTES, SIZE_BYTES))
    with contextlib.ExitStack() as stack:
        turns, early_peaks = [], {}
        for scheme in SCHEMES:
            tls = scheme == "HTTPS"
            for name in filter(bench.asks, CONTENDERS):
                worker = stack.enter_context(Worker({"contender": name, "ca_path": str(server.ca_path)}))
                fixed = {"fixed": server.url(tiny, tls=tls), "fixed_bytes": tiny.size_bytes}
                first = worker.turn({"read": server.url(warm_up, tls=tls), "bytes": warm_up.size_bytes, **fixed})
                early_peaks[scheme, name] = 0.0 if first is None else first["peak_bytes"]
                request = {"read": server.url(large, tls=tls), "bytes": large.size_bytes, **fixed}
                gb = (large.size_bytes - tiny.size_bytes) / 1e9
                turns.append(Turn(scheme, name, gb, worker, request))
        answer = take_turns(turns, ROUNDS * bench.rounds, "stream")
    for series in answer.series:
        if series.tool == "curl":
            # Its processes have ended when memory is looked at.
            del series.values["peak_bytes"]
            continue
        early = early_peaks[series.case, series.tool]
        series.values["growth_bytes"] = [peak - early for peak in series.values["peak_bytes"]]
    return answer


QUESTION = Question(
    name="stream",
    title="What does one stream cost?",
    how=__doc__,
    minutes=1.5,
    columns=(
        CPU_PER_GB,
        RATE,
        cpu_against("recv_into"),
        cpu_against("aiohttp"),
        cpu_against("curl"),
        wall_against("recv_into"),
        PEAK,
        Column("growth MB", lambda run: run["growth_bytes"] / 1e6, digits=1, largest=True),
    ),
    measure=measure,
)
