"""A whole object into memory, by libraries.

An object of 1 GB from nginx on loopback, read into memory that is new each time, in a session that is open already;
what a tiny object takes at the least is taken off. "recv_into" is a loop that receives into one anonymous mapping of
the object's size, "recv_into bytearray" the same into a bytearray, which is cleared before. "growth" is how far the
peak of resident memory of all processes has risen since an object of 1 MB, as a multiple of the object's size. nginx
declares a sha256 in the cases so named, which getm verifies and the others do not; "ideal" is then the slower of two
things in the same round: getm's transfer without it, and hashing the same bytes by one thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import time
from typing import Any

from benchmarks.harness.bench import Bench
from benchmarks.harness.into_memory import INTO_MEMORY
from benchmarks.harness.question import (
    CPU_PER_GB,
    RATE,
    Answer,
    Column,
    Question,
    Series,
    Values,
    cpu_against,
    find,
    wall_against,
)
from benchmarks.harness.turns import Turn, Worker, take_turns
from tests.support.objects import ServedObject

SIZE_BYTES = 10**9
WARM_UP_BYTES = 10**6
TINY_BYTES = 1000
SCHEMES = ("HTTP", "HTTPS")
VERIFIED = "HTTP, sha256"


class HashAlone:
    """One thread that hashes the bytes where they are: in the page cache."""

    why_not: str | None = None

    def __init__(self, served: ServedObject) -> None:
        self._served = served

    def turn(self, request: dict[str, Any]) -> Values | None:
        with self._served.path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as whole:
            wall, cpu = time.perf_counter(), time.process_time()
            hashlib.sha256(whole).digest()
            return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def measure(bench: Bench) -> Answer:
    server = bench.server
    tiny, warm_up = (server.objects.make(size) for size in (TINY_BYTES, WARM_UP_BYTES))
    large = server.objects.make(bench.sized(SIZE_BYTES))
    gb = (large.size_bytes - tiny.size_bytes) / 1e9
    declared = server.declared_url(large, repr_digest=f"sha-256=:{large.sha256_base64}:")
    early_peaks = {}
    with contextlib.ExitStack() as stack:
        turns = [Turn(VERIFIED, "hash alone", gb, HashAlone(large))]
        for scheme in SCHEMES:
            tls = scheme == "HTTPS"
            for name in filter(bench.asks, INTO_MEMORY):
                worker = stack.enter_context(Worker({"into_memory": name, "ca_path": str(server.ca_path)}))
                fixed = {"fixed": server.url(tiny, tls=tls), "fixed_bytes": tiny.size_bytes}
                first = worker.turn({"read": server.url(warm_up, tls=tls), "bytes": warm_up.size_bytes, **fixed})
                early_peaks[scheme, name] = 0.0 if first is None else first["peak_bytes"]
                request = {"read": server.url(large, tls=tls), "bytes": large.size_bytes, **fixed}
                turns.append(Turn(scheme, name, gb, worker, request))
                if not tls and name.startswith("getm"):
                    turns.append(Turn(VERIFIED, name, gb, worker, {**request, "read": declared}))
        answer = take_turns(turns, bench.rounds, "whole")
    for series in answer.series:
        early = early_peaks.get((series.case, series.tool))
        peaks = series.values.pop("peak_bytes", None)
        if early is not None and peaks is not None:
            series.values["growth"] = [(peak - early) / large.size_bytes for peak in peaks]
    if (ideal := _ideal(answer.series)) is not None:
        answer.series.append(ideal)
    return answer


def _ideal(every: list[Series]) -> Series | None:
    transfer, alone = find(every, "HTTP", "getm 1"), find(every, VERIFIED, "hash alone")
    if transfer is None or alone is None:
        return None
    walls = zip(transfer.values["wall_s"], alone.values["wall_s"], strict=True)
    return Series(VERIFIED, "ideal", transfer.amount, {"wall_s": [max(both) for both in walls]})


QUESTION = Question(
    name="whole",
    title="What does a whole object in memory cost?",
    how=__doc__,
    minutes=4,
    columns=(
        RATE,
        CPU_PER_GB,
        cpu_against("recv_into"),
        wall_against("recv_into"),
        wall_against("obstore"),
        wall_against("ideal"),
        Column("growth x size", lambda run: run["growth"], largest=True),
    ),
    measure=measure,
)
