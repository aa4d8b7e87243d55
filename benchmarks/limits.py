"""Does getm name what limits a transfer?

One stage of a transfer is slowed down for real, in a way and by how much that follow from a seed
(`tests/support/limited.py`): by a name server, a full queue of a listening socket, a handshake or an answer held back,
a rate for each connection, a consumer that sleeps, several digests, a folder whose writes wait for the disk, a rate
limit, failures, a processor that others want as well. It is counted how often that very stage is named.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pytest

from benchmarks.harness.bench import Bench
from benchmarks.harness.question import Answer, Column, Question, Series
from tests.support import mounts
from tests.support.limited import SCENARIOS, Limited

SEEDS = 20  # for each stage


def measure(bench: Bench) -> Answer:
    # For the name server's address.
    mounts.enter()
    answer, seeds = Answer(), bench.sized(SEEDS)
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        limited = Limited(Path(folder), bench.server)
        with contextlib.closing(limited):
            for stage in SCENARIOS:
                try:
                    found = [limited.transfer(stage, seed).bottleneck for seed in range(seeds)]
                except pytest.skip.Exception as skipped:
                    answer.missing[stage] = str(skipped)
                    continue
                series = Series(stage, "getm", seeds)
                series.add({"named": float(sum(each is not None and each.stage == stage for each in found))})
                answer.series.append(series)
    return answer


QUESTION = Question(
    name="limits",
    title="Is it named what limits a transfer?",
    how=__doc__,
    minutes=4,
    columns=(
        Column("named", lambda run: run["named"], better="more", digits=0),
        Column("of", lambda run: run["amount"], better="neither", digits=0),
        Column("%", lambda run: 100 * run["named"] / run["amount"], better="more", digits=0),
    ),
    measure=measure,
    by_default=False,
)
