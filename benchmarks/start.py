"""How long programs and imports take that have next to nothing to do.

New processes from their start to their end: Python that does nothing, the same with an import, and whole commands that
download 1,000 bytes from nginx on loopback to a file.
"""

from __future__ import annotations

import sys

from benchmarks.harness.bench import Bench, CommandLine, download
from benchmarks.harness.downloaders import DOWNLOADERS
from benchmarks.harness.question import PEAK, Answer, Column, Question
from benchmarks.harness.turns import Turn, take_turns

TINY_BYTES = 1000
ROUNDS = 2  # times those of other questions: a turn takes a tenth of a second
STATEMENTS = ("pass", "import getm", "import aiohttp")
NOTHING = STATEMENTS[0]


def measure(bench: Bench) -> Answer:
    served = bench.server.objects.make(TINY_BYTES)
    turns = []
    for statement in STATEMENTS:
        contender = CommandLine(bench, [sys.executable, "-c", statement], lambda: None)
        turns.append(Turn("Python", statement, 1, contender))
    for tool in DOWNLOADERS:
        turns += download(bench, "a command", tool, served, bench.server.url(served))
    return take_turns(turns, ROUNDS * bench.rounds, "start")


QUESTION = Question(
    name="start",
    title="How long does starting take?",
    how=__doc__,
    minutes=0.7,
    columns=(
        Column("ms", lambda run: 1000 * run["wall_s"], digits=0, compared=True),
        Column("CPU ms", lambda run: 1000 * run["cpu_s"], digits=0, compared=True),
        Column("wall x Python", lambda run: run["wall_s"], base=lambda series: ("Python", NOTHING)),
        PEAK,
    ),
    measure=measure,
    ours=lambda tool: "getm" in tool,
)
