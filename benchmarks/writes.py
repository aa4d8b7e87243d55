"""The size of a write: the same bytes into new files, by write calls of several sizes.

1 GB from warm memory into a new file by `pwrite` calls of one size: until the kernel has it, and until the disk has it
(fsync). CPU seconds are those of the calls. There is no network and no getm in it: what a size costs is the page
cache's doing, and differs between machines. Where a virtual machine has given memory back to its host, large writes
take large folios from it, each of which the host must map anew.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from benchmarks.harness.bench import Bench
from benchmarks.harness.question import Answer, Column, Question, Values
from benchmarks.harness.turns import Turn, take_turns

SIZE_BYTES = 10**9
WRITE_KIB = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Writer:
    """Writes a new file in each turn, then waits until the disk has it."""

    why_not: str | None = None

    def __init__(self, bench: Bench, size_bytes: int, write_bytes: int) -> None:
        self._bench = bench
        self._size_bytes = size_bytes
        # Not of zeros: those a file system may leave out.
        self._block = os.urandom(write_bytes)

    def turn(self, request: dict[str, Any]) -> Values:
        with self._bench.emptied_output():
            os.sync()
            return self._write(self._bench.output / "target.bin")

    def _write(self, target: Path) -> Values:
        block = memoryview(self._block)
        wall, cpu = time.perf_counter(), time.process_time()
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            written = 0
            while written < self._size_bytes:
                written += os.pwrite(descriptor, block[: self._size_bytes - written], written)
            wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
            os.fsync(descriptor)
            return {"wall_s": wall_s, "cpu_s": cpu_s, "durable_s": time.perf_counter() - wall}
        finally:
            os.close(descriptor)


def measure(bench: Bench) -> Answer:
    size = bench.sized(SIZE_BYTES)
    turns = [
        Turn("1 GB", f"{kib} KiB" if kib < 1024 else f"{kib // 1024} MiB", size / 1e9, Writer(bench, size, kib * 1024))
        for kib in WRITE_KIB
    ]
    return take_turns(turns, bench.rounds, "writes")


QUESTION = Question(
    name="writes",
    title="Does the size of a write matter here?",
    how=__doc__,
    minutes=2,
    columns=(
        Column("MB/s", lambda run: 1000 * run["amount"] / run["wall_s"], better="more", digits=0),
        Column("MB/s with fsync", lambda run: 1000 * run["amount"] / run["durable_s"], better="more", digits=0),
        Column("CPU s/GB", lambda run: run["cpu_s"] / run["amount"]),
    ),
    measure=measure,
    ours=lambda tool: False,
)
