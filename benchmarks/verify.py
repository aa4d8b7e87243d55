"""A large object with checksums, to nowhere and to a file, by libraries and commands.

An object of 256 MB from nginx on loopback over HTTP, to nowhere and to a file, with checksums. Libraries stay open;
what a tiny object takes at the least (such as starting a program) is taken off. "ideal" is the slower of the two things
that must happen, each alone in the same round: getm's transfer without a checksum, and hashing the same bytes from the
page cache by one thread; of two checksums the slower one counts, and of an S3 multipart ETag the MD5.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import Any

from benchmarks.harness.bench import Bench
from benchmarks.harness.question import CPU_PER_GB, RATE, Answer, Column, Question, Series, Values, find, wall_against
from benchmarks.harness.turns import Contender, Turn, Worker, take_turns
from benchmarks.harness.verifiers import VERIFIERS, can, split
from tests.support.objects import ServedObject

SIZE_BYTES = 256 * 10**6
TINY_BYTES = 1000
UPLOAD_PART_BYTES = 8 * 1024 * 1024
CHECKS = ("none", "crc32c", "md5", "sha256", "md5+sha256", "s3-etag")
TARGETS = ("nowhere", "file")


class ToFile:
    """A contender that writes to a new file in each turn."""

    def __init__(self, bench: Bench, contender: Contender) -> None:
        self._bench = bench
        self._contender = contender

    @property
    def why_not(self) -> str | None:
        return self._contender.why_not

    def turn(self, request: dict[str, Any]) -> Values | None:
        with self._bench.emptied_output():
            os.sync()
            return self._contender.turn({**request, "target": str(self._bench.output / "target.bin")})


def multipart_etag(served: ServedObject) -> str:
    parts = [hashlib.md5(block).digest() for block in served.blocks(UPLOAD_PART_BYTES)]
    return f"{hashlib.md5(b''.join(parts)).hexdigest()}-{len(parts)}"


def expected_of(served: ServedObject) -> dict[str, str]:
    return {
        "path": str(served.path),
        "crc32c": served.crc32c.hex(),
        "md5": served.md5_hex,
        "sha256": served.sha256_hex,
        "s3-etag": multipart_etag(served),
    }


def case_of(check: str, target: str) -> str:
    what = "no checksum" if check == "none" else check
    return f"{what} to {target}" if target == "nowhere" else f"{what} to a {target}"


def ideal(every: list[Series], check: str, target: str) -> Series | None:
    """Round by round the slower of the two things that must happen, each alone: getm's transfer, and hashing by one
    thread. Of two checksums the slower one counts, and of an S3 multipart ETag the MD5."""
    hashes = ["md5" if name == "s3-etag" else name for name in split(check)]
    alone = [
        find(every, case_of("none", target), "getm 1"),
        *(find(every, case_of(name, "nowhere"), "hash alone") for name in hashes),
    ]
    present = [series for series in alone if series is not None]
    if len(present) < len(alone):
        return None
    walls = zip(*(series.values["wall_s"] for series in present), strict=True)
    return Series(case_of(check, target), "ideal", present[0].amount, {"wall_s": [max(several) for several in walls]})


def measure(bench: Bench) -> Answer:
    server = bench.server
    tiny, large = server.objects.make(TINY_BYTES), server.objects.make(bench.sized(SIZE_BYTES))
    expected = {server.url(served): expected_of(served) for served in (tiny, large)}
    request = {
        "read": server.url(large),
        "bytes": large.size_bytes,
        "fixed": server.url(tiny),
        "fixed_bytes": tiny.size_bytes,
        "target": None,
    }
    gb = (large.size_bytes - tiny.size_bytes) / 1e9
    with contextlib.ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker({"verifier": name, "expected": expected}))
            for name in VERIFIERS
            if name == "hash alone" or bench.asks(name)
        }
        turns = []
        for target in TARGETS:
            for check in CHECKS:
                for name, worker in workers.items():
                    if can(name, check, None if target == "nowhere" else target):
                        contender = worker if target == "nowhere" else ToFile(bench, worker)
                        turns.append(Turn(case_of(check, target), name, gb, contender, {**request, "check": check}))
        answer = take_turns(turns, bench.rounds, "verify")
    for target in TARGETS:
        for check in CHECKS[1:]:
            if (series := ideal(answer.series, check, target)) is not None:
                last = max(number for number, each in enumerate(answer.series) if each.case == series.case)
                answer.series.insert(last + 1, series)
    # Looked at only after the processes of a command have ended.
    for series in answer.series:
        series.values.pop("peak_bytes", None)
    return answer


def unverified(series: Series) -> tuple[str, str]:
    return case_of("none", "nowhere" if series.case.endswith("nowhere") else "file"), series.tool


QUESTION = Question(
    name="verify",
    title="What does verifying cost?",
    how=__doc__,
    minutes=4,
    columns=(
        RATE,
        Column("wall s/GB", lambda run: run["wall_s"] / run["amount"], compared=True),
        CPU_PER_GB,
        wall_against("ideal"),
        Column("wall x unverified", lambda run: run["wall_s"], base=unverified),
    ),
    measure=measure,
    charted=lambda series: series.case.endswith("file") and series.tool != "getm 4",
)
