"""Many small objects to files, by commands.

20,000 objects of 16 KiB, 32 at once, by whole commands, their start included; and the same with an MD5 for each (curl
and wget2: `md5sum -c` after them). The objects come from nginx on loopback over HTTP. What was written is compared with
what was served.
"""

from __future__ import annotations

import hashlib
import os

from benchmarks.harness.bench import Bench, CommandLine, require_same_files
from benchmarks.harness.downloaders import DOWNLOADERS, Many
from benchmarks.harness.question import PEAK, WALL, Answer, Column, Question, wall_against
from benchmarks.harness.turns import Turn, take_turns

FILES = 20_000
FILE_BYTES = 16 * 1024
JOBS = 32
CASES = {"plain": False, "md5": True}
BY_DEFAULT = ("getm", "getm --no-fsync", "curl", "wget2")  # others take many times as long


def measure(bench: Bench) -> Answer:
    urls, sums = {}, {}
    for number in range(bench.sized(FILES)):
        name, content = f"small-{number:06d}.bin", os.urandom(FILE_BYTES)
        served = bench.server.objects.write(name, content)
        urls[name], sums[name] = bench.server.url(served), hashlib.md5(content).hexdigest()
    names = list(urls)
    turns = []
    for case, verified in CASES.items():
        for tool, downloader in DOWNLOADERS.items():
            job = Many(urls, sums, bench.output, bench.lists(f"{case}-{tool}"), JOBS, verified)
            command = downloader.many(job)
            if command is None or not bench.asks(tool, by_default=tool in BY_DEFAULT):
                continue
            contender = CommandLine(
                bench,
                command,
                lambda: require_same_files(bench.output, served.path.parent, names),
                why_not=downloader.why_not(),
            )
            turns.append(Turn(case, tool, len(names), contender))
    return take_turns(turns, bench.rounds, "small-files")


QUESTION = Question(
    name="small-files",
    title="How many small files a second?",
    how=__doc__,
    minutes=4.5,
    columns=(
        Column("files/s", lambda run: run["amount"] / run["wall_s"], better="more", digits=0),
        WALL,
        Column("CPU ms/file", lambda run: 1000 * run["cpu_s"] / run["amount"], digits=3, compared=True),
        wall_against("curl"),
        wall_against("wget2"),
        Column("wall x plain", lambda run: run["wall_s"], base=lambda series: ("plain", series.tool)),
        PEAK,
    ),
    measure=measure,
)
