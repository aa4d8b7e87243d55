"""Opening and reading a small object in a warm session, by libraries.

1,000 bytes from nginx on loopback, opened and read again and again in a session that stays open, over one connection;
the median of 50.
"""

from __future__ import annotations

import contextlib

from benchmarks.harness.bench import Bench
from benchmarks.harness.question import Answer, Column, Question, cpu_against, wall_against
from benchmarks.harness.turns import Turn, Worker, take_turns

SMALL_BYTES = 1000
OPENS = 50  # in each turn
ROUNDS = 2  # times those of other questions
TOOLS = ("aiohttp", "urllib3", "getm 1", "getm None")


def measure(bench: Bench) -> Answer:
    small = bench.server.objects.make(SMALL_BYTES)
    with contextlib.ExitStack() as stack:
        turns = []
        for scheme in ("HTTP", "HTTPS"):
            request = {"open": bench.server.url(small, tls=scheme == "HTTPS"), "count": OPENS}
            for name in filter(bench.asks, TOOLS):
                worker = stack.enter_context(Worker({"contender": name, "ca_path": str(bench.server.ca_path)}))
                turns.append(Turn(scheme, name, 1, worker, request))
        return take_turns(turns, ROUNDS * bench.rounds, "opening")


QUESTION = Question(
    name="opening",
    title="What does opening a small object cost?",
    how=__doc__,
    minutes=0.5,
    columns=(
        Column("us", lambda run: 1e6 * run["wall_s"], digits=0, compared=True),
        Column("CPU us", lambda run: 1e6 * run["cpu_s"], digits=0, compared=True),
        wall_against("aiohttp"),
        cpu_against("aiohttp"),
    ),
    measure=measure,
)
