"""The process of one contender: opens its session, then does what each line on standard input says.

A line is a JSON object, and so is each answer, on standard output. The first says who this is: {"contender",
"ca_path"} for a reader, {"into_memory", "ca_path"} for one into memory, {"verifier", "expected"}, {"opener"} for what
opens file objects, {"filesystem"} for one of fsspec, or {"cluster"} for the workers of an executor. Then come turns:
{"read", "bytes", "fixed", "fixed_bytes"}, where "read" and "fixed" are URLs, for a verifier with "check" and "target"
too; or {"open", "count"}, or {"repeat", "count"} for the same without measuring; or, for an opener and a file system,
{"work", "url", "count", "size"}; or, for a cluster, {"lists", "entries", "url", "size", "folder", "jobs"}. End of file
ends it.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from benchmarks.harness.clusters import Cluster, open_cluster
from benchmarks.harness.file_objects import OPENERS, WORK, Opener
from benchmarks.harness.filesystems import FILESYSTEM_WORK, FILESYSTEMS, FileSystem
from benchmarks.harness.into_memory import INTO_MEMORY
from benchmarks.harness.measure import Cost, cost_of
from benchmarks.harness.readers import CONTENDERS, Reader
from benchmarks.harness.verifiers import VERIFIERS, Verifier


def read_exactly(read: Callable[[str], int], url: str, size_bytes: int) -> None:
    received = read(url)
    if received != size_bytes:
        raise RuntimeError(f"expected {size_bytes} bytes, got {received}")


Least = dict[tuple[str, ...], Cost]
"""What a tiny object has taken at the least, for each way of reading it."""


def cost_of_reading(
    read: Callable[[str], int], turn: dict[str, Any], least: Least, way: tuple[str, ...]
) -> dict[str, float]:
    """What the object's bytes cost beyond what any read costs: starting a program, connecting and shaking hands drop
    out with the cost of a tiny object, read just before it, or of the one that has taken least so far: that something
    kept this one waiting says nothing about the whole."""
    now = cost_of(lambda: read_exactly(read, turn["fixed"], turn["fixed_bytes"]))
    so_far = least.get(way, now)
    fixed = least[way] = Cost(min(now.wall_s, so_far.wall_s), min(now.cpu_s, so_far.cpu_s), now.peak_bytes)
    whole: Cost = cost_of(lambda: read_exactly(read, turn["read"], turn["bytes"]))
    # Never zero, since ratios are made of these.
    return {
        "wall_s": max(whole.wall_s - fixed.wall_s, 1e-9),
        "cpu_s": max(whole.cpu_s - fixed.cpu_s, 1e-9),
        "peak_bytes": whole.peak_bytes,
    }


def cost_of_opening(reader: Reader, turn: dict[str, Any]) -> dict[str, float]:
    """What it takes to open and read a small object, one after another in a session that stays open."""
    times_s: list[float] = []
    cost = cost_of(lambda: times_s.extend(reader.times_s(turn["open"], turn["count"])))
    return {"wall_s": statistics.median(times_s), "cpu_s": cost.cpu_s / turn["count"]}


def cost_of_access(by: Opener | FileSystem, turn: dict[str, Any]) -> dict[str, float]:
    """What it takes to read parts of an object by a file object, or by a file system."""
    work: dict[str, Callable[..., int]] = {**WORK, **FILESYSTEM_WORK}
    cost = cost_of(lambda: work[turn["work"]](by, turn["url"], turn.get("count", 1), turn.get("size", 0)))
    return {"wall_s": cost.wall_s, "cpu_s": cost.cpu_s, "peak_bytes": cost.peak_bytes}


def take_turn(
    contender: Reader | Verifier | Opener | FileSystem | Cluster, turn: dict[str, Any], least: Least
) -> dict[str, float]:
    if isinstance(contender, Cluster):
        return contender.download(turn)
    if isinstance(contender, Reader):
        if "repeat" in turn:
            contender.times_s(turn["repeat"], turn["count"])
            return {"count": turn["count"]}
        if "open" in turn:
            return cost_of_opening(contender, turn)
        return cost_of_reading(contender.read, turn, least, (turn["fixed"],))
    if not isinstance(contender, Verifier):
        return cost_of_access(contender, turn)
    check, target = turn["check"], turn["target"]

    def read(url: str) -> int:
        # The tiny object goes to a file of its own, so that the large one finds no file in its place.
        beside = None if target is None else f"{target}.tiny"
        return contender.read(url, check, beside if url == turn["fixed"] else target)

    return cost_of_reading(read, turn, least, (turn["fixed"], check, "nowhere" if target is None else "file"))


def open_contender(setup: dict[str, Any]) -> AbstractContextManager[Reader | Verifier | Opener | FileSystem | Cluster]:
    if "cluster" in setup:
        return open_cluster(setup["cluster"])
    if "opener" in setup:
        return OPENERS[setup["opener"]]()
    if "filesystem" in setup:
        return FILESYSTEMS[setup["filesystem"]]()
    if "verifier" in setup:
        return VERIFIERS[setup["verifier"]](setup["expected"])
    if "into_memory" in setup:
        return INTO_MEMORY[setup["into_memory"]](setup["ca_path"])
    return CONTENDERS[setup["contender"]](setup["ca_path"])


def answer(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    try:
        with open_contender(json.loads(sys.stdin.readline())) as contender:
            answer({"ready": True})
            least: Least = {}
            for line in sys.stdin:
                answer(take_turn(contender, json.loads(line), least))
    except ModuleNotFoundError as error:
        answer({"why_not": f"not installed: pip install {error.name}"})
    except FileNotFoundError as error:
        answer({"why_not": f"not installed: {error.filename}"})


if __name__ == "__main__":
    main()
