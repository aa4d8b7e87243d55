"""What verification costs: a large object from nginx on loopback, over HTTP, to nowhere and to a file, verified.

    python benchmarks/verify.py                    # 1 GB, five interleaved runs: about ten minutes
    python benchmarks/verify.py --size 200M --runs 3 --checks none,sha256 --targets nowhere

Wall seconds, medians over the runs; every measurement is made by a fresh process that warms up first. "x ideal" is the
time over that of the slower of the two things that must happen, each alone: getm's transfer without a checksum, and
hashing the same bytes from the page cache by one thread. Of two checksums the slower one counts, and of an S3 multipart
ETag the MD5. Needs nginx and curl; aria2 is measured where it is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a file, too

from benchmarks.job import run_job
from benchmarks.stream import SMALL_BYTES, size_argument
from benchmarks.verifiers import VERIFIERS, can, split
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

CHECKS = ("none", "crc32c", "md5", "sha256", "md5+sha256", "s3-etag")
TARGETS = ("nowhere", "file")
UPLOAD_PART_BYTES = 8 * 1024 * 1024

Key = tuple[str, str, str]  # target, check, contender
Results = dict[Key, list[dict[str, Any]]]


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


def run_all(keys: list[Key], common: dict[str, Any], folder: Path, runs: int) -> Results:
    """Each run takes every job in turn, so that a slow minute of the machine meets all of them."""
    results: Results = defaultdict(list)
    for run in range(runs):
        for key in keys:
            target, check, contender = key
            if any("why_not" in result for result in results[key]):
                continue
            if sys.stderr.isatty():
                line = f"run {run + 1} of {runs}, to {target}, {check}, {contender}"
                print(f"\r{line:60}", end="", file=sys.stderr, flush=True)
            path = str(folder / "target.bin") if target == "file" else None
            job = {**common, "target": path, "check": check, "contender": contender}
            results[key].append(run_job("benchmarks.verifiers", job))
    if sys.stderr.isatty():
        print(f"\r{'':60}\r", end="", file=sys.stderr, flush=True)
    return results


def wall_s(results: Results, key: Key) -> float | None:
    of = results.get(key, [])
    return statistics.median(result["wall_s"] for result in of) if of and "why_not" not in of[-1] else None


def ideal_s(results: Results, target: str, check: str, contender: str) -> float | None:
    """max(transfer alone, hash alone); the transfer is that of getm with the same number of connections."""
    transfer = wall_s(results, (target, "none", contender if contender.startswith("getm") else "getm 1"))
    algorithms = ["md5" if name == "s3-etag" else name for name in split(check)]
    hashing = [wall_s(results, ("nowhere", name, "hash alone")) for name in algorithms]
    known = [seconds for seconds in (transfer, *hashing) if seconds is not None]
    return max(known) if len(known) == len(hashing) + 1 else None


def print_table(results: Results, keys: list[Key]) -> None:
    print(
        f"{'to':8} {'check':11} {'contender':17} {'wall s':>7} {'MB/s':>6} {'CPU s/GB':>8} {'x ideal':>8} {'x none':>7}"
    )
    for target, check, contender in keys:
        of = results[target, check, contender]
        wall = wall_s(results, (target, check, contender))
        if wall is None:
            print(f"{target:8} {check:11} {contender:17} {of[-1]['why_not']}")
            continue
        ideal = None if contender == "hash alone" else ideal_s(results, target, check, contender)
        none = wall_s(results, (target, "none", contender))
        rate, cpu = (statistics.median(result[name] for result in of) for name in ("mb_per_s", "cpu_s_per_gb"))
        ratios = " ".join(f"{wall / base:7.2f}" if base else f"{'-':>7}" for base in (ideal, none))
        print(f"{target:8} {check:11} {contender:17} {wall:7.2f} {rate:6.0f} {cpu:8.2f}  {ratios}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=size_argument, default=10**9, help="bytes of the large object (1G)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--checks", default=",".join(CHECKS), help="comma-separated, of: " + ", ".join(CHECKS))
    parser.add_argument("--targets", default=",".join(TARGETS), help="comma-separated, of: " + ", ".join(TARGETS))
    parser.add_argument("--only", help="contenders, comma-separated, of: " + ", ".join(VERIFIERS))
    parser.add_argument("--folder", type=Path, help="where files are written (default: the system's temporary folder)")
    parser.add_argument("--json", type=Path, help="also write every single result to this file")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    names = options.only.split(",") if options.only else list(VERIFIERS)
    keys = [
        (target, check, name)
        for target in options.targets.split(",")
        for check in options.checks.split(",")
        for name in names
        if can(name, check, None if target == "nowhere" else target) and (name, target) != ("hash alone", "file")
    ]
    with (
        tempfile.TemporaryDirectory(prefix="getm-benchmark-", dir=options.folder) as folder,
        NginxServer(Path(folder), log=False) as server,
    ):
        small, large = server.objects.make(SMALL_BYTES), server.objects.make(options.size)
        common = {
            "small": server.url(small),
            "small_bytes": small.size_bytes,
            "large": server.url(large),
            "large_bytes": large.size_bytes,
            "expected": {server.url(served): expected_of(served) for served in (small, large)},
        }
        results = run_all(keys, common, Path(folder), options.runs)
    print(f"{options.size / 1e9:g} GB over HTTP, medians of {options.runs} interleaved runs, {os.cpu_count()} cores\n")
    print_table(results, keys)
    if options.json:
        rows = [
            {"target": target, "check": check, "contender": contender, **result}
            for (target, check, contender), of in results.items()
            for result in of
        ]
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
