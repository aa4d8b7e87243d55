"""How many instructions it takes to open and read a small object in a warm session, counted by valgrind.

Counted by valgrind, once: a count says the same on a busy machine. Only instructions of the processes themselves count,
not those of the kernel for them; the start of a process drops out, as the difference of a run with many opens and one
with few.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.harness.bench import Bench
from benchmarks.harness.question import Answer, Column, Question, Series
from benchmarks.harness.turns import Worker
from benchmarks.opening import SMALL_BYTES, TOOLS

OPENS = 500
FEW = 100  # opens whose instructions are taken off, with those of the start


def count(name: str, url: str, ca_path: Path, opens: int, folder: Path) -> Counter[str] | str:
    """Instructions of the "client" and of its "engine", from start to end; or why there are none."""
    log = Path(tempfile.mkdtemp(dir=folder))
    # Cachegrind, with nothing simulated, counts and does no more.
    valgrind = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--trace-children=yes"]
    outputs = [f"--log-file={log}/%p", "--cachegrind-out-file=/dev/null"]
    with Worker({"contender": name, "ca_path": str(ca_path)}, under=[*valgrind, *outputs]) as worker:
        worker.turn({"repeat": url, "count": opens})
    if worker.why_not is not None:
        return worker.why_not
    counted: Counter[str] = Counter()
    for text in (path.read_text() for path in log.iterdir()):
        instructions = re.search(r"I +refs: +([0-9,]+)", text)
        if instructions is not None:
            role = "client" if "benchmarks.harness.worker" in text else "engine"
            counted[role] += int(instructions[1].replace(",", ""))
    return counted


def measure(bench: Bench) -> Answer:
    if shutil.which("valgrind") is None:
        return Answer(missing=dict.fromkeys(TOOLS, "not installed: apt-get install valgrind"))
    server, answer, opens = bench.server, Answer(), bench.sized(OPENS)
    small = server.objects.make(SMALL_BYTES)
    for scheme in ("HTTP", "HTTPS"):
        url = server.url(small, tls=scheme == "HTTPS")
        for name in filter(bench.asks, TOOLS):
            with Worker({"contender": name, "ca_path": str(server.ca_path)}) as worker:
                # So that all modules are compiled before anything is counted.
                worker.turn({"repeat": url, "count": 1})
            few = count(name, url, server.ca_path, FEW, bench.folder)
            many = few if isinstance(few, str) else count(name, url, server.ca_path, FEW + opens, bench.folder)
            if isinstance(few, str) or isinstance(many, str):
                answer.missing[name] = str(many)
                continue
            series = Series(scheme, name, opens)
            series.add({role: float(many[role] - few[role]) for role in ("client", "engine")})
            answer.series.append(series)
    return answer


def _thousands(*roles: str) -> Column:
    head = roles[0] if len(roles) == 1 else "thousands"
    return Column(
        head,
        lambda run: sum(run[role] for role in roles) / run["amount"] / 1000,
        digits=0,
        compared=len(roles) > 1,
    )


QUESTION = Question(
    name="instructions",
    title="How many instructions does opening a small object take?",
    how=__doc__,
    minutes=6,
    columns=(
        _thousands("client", "engine"),
        _thousands("client"),
        _thousands("engine"),
        Column("x aiohttp", lambda run: run["client"] + run["engine"], base=lambda series: (series.case, "aiohttp")),
    ),
    measure=measure,
    by_default=False,
)
