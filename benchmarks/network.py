"""The proxy against its own settings, by plain sockets in threads.

What plain sockets in threads get through the proxy of the questions about networks, and how long they wait for the
first byte: two round trips, since connecting is one, and the 10 ms of the first piece. CPU is the proxy's.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.bench import Bench
from benchmarks.harness.question import Answer, Column, Question, Values
from benchmarks.harness.turns import Turn, take_turns
from benchmarks.link import Link
from benchmarks.proxy import shaped
from tests.support.objects import ServedObject

ROUNDS = 3  # at most: what a clock decides varies little
_BLOCK_BYTES = 256 * 1024


@dataclass(frozen=True)
class Check:
    """What `connections` at once, of `size_bytes` each, should get over a link: `rate` in all, and a first byte after
    `first_s`; None where the link says nothing about it."""

    link: Link
    connections: int
    size_bytes: int
    rate: float | None
    first_s: float | None = None


CHECKS = {
    "25 MB/s a connection, one": Check(Link(rate=25e6), 1, 25_000_000, 25e6),
    "25 MB/s a connection, 32": Check(Link(rate=25e6), 32, 25_000_000, 800e6),
    "20 MiB/s a connection, 16": Check(Link(rate=20 * 2**20), 16, 20 * 2**20, 320 * 2**20),
    "100 MB/s in all, one": Check(Link(total_rate=100e6), 1, 100_000_000, 100e6),
    "100 MB/s in all, 8": Check(Link(total_rate=100e6), 8, 12_500_000, 100e6),
    "80 ms away": Check(Link(rate=25e6, rtt_s=0.08), 1, 25_000_000, 25e6, 0.17),
    "80 ms away, jitter of 20 ms": Check(Link(rate=25e6, rtt_s=0.08, jitter_s=0.02), 1, 25_000_000, 25e6, 0.19),
    "no limits": Check(Link(), 1, 500_000_000, None),
}


class Measured:
    """What passes through a proxy of its own in each turn."""

    why_not: str | None = None

    def __init__(self, bench: Bench, check: Check) -> None:
        self._port = bench.server.http_port
        self._check = check
        self._served = bench.server.objects.make(check.size_bytes)

    def turn(self, request: dict[str, Any]) -> Values:
        check = self._check
        # The rate counts from the first bytes on: what comes before is the round trip.
        firsts: list[float] = []
        counted: list[int] = []
        began: list[float] = []
        ended: list[float] = []

        def get() -> None:
            start = time.perf_counter()
            early, first, end = _pass(proxy.port, self._served)
            firsts.append(first - start)
            counted.append(self._served.size_bytes - early)
            began.append(first)
            ended.append(end)

        with shaped(self._port, check.link) as proxy:
            threads = [threading.Thread(target=get) for _ in range(check.connections)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            report = proxy.report()
        wall_s = max(ended) - min(began)
        values = {"wall_s": wall_s, "cpu_s": report.cpu_s, "rate": sum(counted) / wall_s}
        if check.rate is not None:
            values["asked"] = check.rate
        if check.first_s is not None:
            values |= {"first_s": max(firsts), "asked_first_s": check.first_s}
        return values


def _pass(port: int, served: ServedObject) -> tuple[int, float, float]:
    """Get an object; how many bytes came first, when they did, and when the last ones did."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = f"GET {served.url_path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        buffer = bytearray(_BLOCK_BYTES)
        received = early = connection.recv_into(buffer)
        first = time.perf_counter()
        while count := connection.recv_into(buffer):
            received += count
        if received < served.size_bytes:
            raise RuntimeError(f"the proxy passed {received} of {served.size_bytes} bytes")
        return early, first, time.perf_counter()


def measure(bench: Bench) -> Answer:
    turns = []
    for name, check in CHECKS.items():
        gb = check.connections * check.size_bytes / 1e9
        turns.append(Turn("the proxy", name, gb, Measured(bench, check)))
    return take_turns(turns, min(ROUNDS, bench.rounds), "network")


QUESTION = Question(
    name="network",
    title="Does the proxy keep to its settings?",
    how=__doc__,
    minutes=0.7,
    columns=(
        Column("% of the rate asked", lambda run: 100 * run["rate"] / run["asked"], better="neither", digits=1),
        Column("MB/s", lambda run: run["rate"] / 1e6, better="more", digits=1),
        Column("asked", lambda run: run["asked"] / 1e6, digits=1, largest=True),
        Column("first byte ms", lambda run: 1000 * run["first_s"], digits=1),
        Column("asked ms", lambda run: 1000 * run["asked_first_s"], digits=0, largest=True),
        Column("CPU s/GB", lambda run: run["cpu_s"] / run["amount"]),
    ),
    measure=measure,
    ours=lambda tool: False,
)
