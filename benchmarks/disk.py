"""A large object to a file, by commands.

Whole commands, their start included, without options; the object comes from nginx on loopback over HTTP. getm is done
when the file is on the disk (fsync), and with `--no-fsync` when the kernel has it, as the others are. What was written
is compared with what was served.
"""

from __future__ import annotations

from benchmarks.harness.bench import Bench, download
from benchmarks.harness.downloaders import DOWNLOADERS
from benchmarks.harness.question import CPU_PER_GB, PEAK, RATE, WALL, Answer, Question, wall_against
from benchmarks.harness.turns import take_turns

SIZE_BYTES = 10**9


def measure(bench: Bench) -> Answer:
    served = bench.server.objects.make(bench.sized(SIZE_BYTES))
    turns = [turn for tool in DOWNLOADERS for turn in download(bench, "HTTP", tool, served, bench.server.url(served))]
    return take_turns(turns, bench.rounds, "disk")


QUESTION = Question(
    name="disk",
    title="How fast is 1 GB to disk?",
    how=__doc__,
    minutes=2,
    columns=(RATE, WALL, CPU_PER_GB, wall_against("curl"), wall_against("wget2"), PEAK),
    measure=measure,
)
