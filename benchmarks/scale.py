"""Ten times as much: many more files, and a far larger one, by the command.

10,000 and 100,000 objects of 16 KiB, 32 at once, and 1 GB and 10 GB in one object, by whole commands. If time for each
and memory stay the same, nothing grows with the work. At most three rounds.
"""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.harness.bench import Bench, CommandLine
from benchmarks.harness.downloaders import DOWNLOADERS, Many, One
from benchmarks.harness.question import PEAK, WALL, Answer, Column, Question
from benchmarks.harness.turns import Turn, take_turns

FILES = (10_000, 100_000)
FILE_BYTES = 16 * 1024
SERVED = 1000  # different objects, each asked for again and again by another URL
JOBS = 32
SIZES_GB = (1, 10)
ROUNDS = 3
MANY, LARGE = "files of 16 KiB", "GB in one file"


def measure(bench: Bench) -> Answer:
    turns = [*_many(bench), *_large(bench)]
    return take_turns(turns, min(ROUNDS, bench.rounds), "scale")


def _many(bench: Bench) -> list[Turn]:
    served = [
        bench.server.objects.write(f"scale-small-{number}.bin", os.urandom(FILE_BYTES)) for number in range(SERVED)
    ]
    turns = []
    for count in map(bench.sized, FILES):
        urls = {
            f"{number:06d}.bin": f"{bench.server.url(served[number % SERVED])}?number={number}"
            for number in range(count)
        }
        lists = bench.lists(f"scale-{count}")
        command = DOWNLOADERS["getm"].many(Many(urls, {}, bench.output, lists, JOBS, verified=False))

        def check(count: int = count) -> None:
            sizes = [entry.stat().st_size for entry in os.scandir(bench.output)]
            if sizes != [FILE_BYTES] * count:
                raise RuntimeError(f"{count} files of {FILE_BYTES} bytes were to be written")

        contender = CommandLine(bench, command or [], check)
        turns.append(Turn(MANY, f"getm, {count:,}", count, contender))
    return turns


def _large(bench: Bench) -> list[Turn]:
    turns = []
    for gb in SIZES_GB:
        served = bench.server.objects.write(f"scale-large-{gb}.bin", b"")
        # A hole: only the page cache gives it bytes.
        os.truncate(served.path, size := bench.sized(gb * 10**9))
        target = bench.output / "target.bin"
        command = DOWNLOADERS["getm"].one(One(bench.server.url(served), target))

        def check(target: Path = target, size: int = size) -> None:
            if target.stat().st_size != size:
                raise RuntimeError(f"a file of {size} bytes was to be written")

        contender = CommandLine(bench, command or [], check)
        turns.append(Turn(LARGE, f"getm, {gb}", size / 1e9, contender))
    return turns


QUESTION = Question(
    name="scale",
    title="Does it stay the same for ten times as much?",
    how=__doc__,
    minutes=3,
    columns=(
        Column("ms for each", lambda run: 1000 * run["wall_s"] / run["amount"], digits=3, compared=True),
        Column("CPU ms for each", lambda run: 1000 * run["cpu_s"] / run["amount"], digits=3, compared=True),
        WALL,
        PEAK,
    ),
    measure=measure,
    scaled_by_case=True,
    disk_gb=14,
)
