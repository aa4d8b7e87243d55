"""One measurement in a process of its own, which `stream.py` starts.

The job comes as JSON on standard input, the result goes as JSON to standard output.
"""

from __future__ import annotations

import json
import statistics
import sys
from typing import Any

from benchmarks.measure import cost_of
from benchmarks.readers import CONTENDERS, Reader

_WARM_UP_READS = 2


def read_exactly(reader: Reader, url: str, size_bytes: int) -> None:
    received = reader.read(url)
    if received != size_bytes:
        raise RuntimeError(f"{url}: expected {size_bytes} bytes, got {received}")


def measure_stream(reader: Reader, job: dict[str, Any]) -> dict[str, float]:
    """Read the small object until everything is warm, then both. What a further GB costs is the difference of the two:
    connecting, shaking hands and starting drop out."""
    small, large = (job["small"], job["small_bytes"]), (job["large"], job["large_bytes"])
    for _ in range(_WARM_UP_READS):
        read_exactly(reader, *small)
    first = cost_of(lambda: read_exactly(reader, *small))
    second = cost_of(lambda: read_exactly(reader, *large))
    further_gb = (job["large_bytes"] - job["small_bytes"]) / 1e9
    return {
        "wall_s": second.wall_s,
        "mb_per_s": job["large_bytes"] / 1e6 / second.wall_s,
        "cpu_s_per_gb": (second.cpu_s - first.cpu_s) / further_gb,
        "peak_bytes": second.peak_bytes,
        "growth_bytes": second.peak_bytes - first.peak_bytes,
    }


def measure_opens(reader: Reader, job: dict[str, Any]) -> dict[str, float]:
    """The median time to open and read a small object in a session that has done it before."""
    read_exactly(reader, job["small"], job["small_bytes"])
    reader.times_s(job["small"], job["opens"] // 10)
    return {"open_s": statistics.median(reader.times_s(job["small"], job["opens"]))}


def main() -> None:
    job: dict[str, Any] = json.load(sys.stdin)
    measure = {"stream": measure_stream, "opens": measure_opens}[job["kind"]]
    try:
        with CONTENDERS[job["contender"]](job["ca_path"]) as reader:
            result: dict[str, Any] = dict(measure(reader, job))
    except ModuleNotFoundError as error:
        result = {"why_not": f"not installed: {error.name}"}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
