"""A large object from nginx on loopback to nowhere, over HTTP and HTTPS: getm against other clients.

    python benchmarks/stream.py                    # 1 GB, five interleaved runs: about five minutes
    python benchmarks/stream.py --size 100M --runs 3 --only recv_into,curl,"getm 1"

Every measurement is made by a fresh process that warms up first; the table shows medians over the runs. CPU is that of
the client alone, all its processes together, for each further GB. Needs nginx and curl; the clients compared are
measured where their packages are installed (`pip install requests httpx urllib3`).
"""

from __future__ import annotations

import argparse
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
from benchmarks.readers import CONTENDERS
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

SMALL_BYTES = 32 * 1024 * 1024
OPENED_BYTES = 1000
OPENERS = ("aiohttp", "urllib3", "getm 1", "getm None")

Results = dict[tuple[str, str], list[dict[str, Any]]]  # (scheme, contender) -> one result a run


def run_all(jobs: list[dict[str, Any]], runs: int) -> Results:
    """Each run takes every job in turn, so that a slow minute of the machine meets all of them. A job that gave no
    result is not tried again."""
    results: Results = defaultdict(list)
    for run in range(runs):
        for job in jobs:
            so_far = results[job["scheme"], job["contender"]]
            if any("why_not" in result for result in so_far):
                continue
            if sys.stderr.isatty():
                line = f"{job['kind']}: run {run + 1} of {runs}, {job['scheme']}, {job['contender']}"
                print(f"\r{line:60}", end="", file=sys.stderr, flush=True)
            so_far.append(run_job("benchmarks.contender", job))
    if sys.stderr.isatty():
        print(f"\r{'':60}\r", end="", file=sys.stderr, flush=True)
    return results


def make_jobs(
    server: NginxServer,
    kind: str,
    names: list[str],
    schemes: list[str],
    objects: dict[str, ServedObject],
    opens: int = 0,
) -> list[dict[str, Any]]:
    """One job for each scheme and contender; `objects` are "small" and, for a stream, "large"."""
    jobs = []
    for scheme in schemes:
        urls = {role: server.url(served, tls=scheme == "https") for role, served in objects.items()}
        sizes = {f"{role}_bytes": served.size_bytes for role, served in objects.items()}
        common = {"kind": kind, "scheme": scheme, "ca_path": str(server.ca_path), "opens": opens}
        jobs += [{**common, **urls, **sizes, "contender": name} for name in names]
    return jobs


def median(results: list[dict[str, Any]], key: str) -> float:
    return statistics.median(float(result[key]) for result in results)


def why_not(results: list[dict[str, Any]]) -> str | None:
    return next((str(result["why_not"]) for result in results if "why_not" in result), None)


def base_of(results: Results, scheme: str, name: str, key: str) -> float | None:
    of = results.get((scheme, name), [])
    return None if not of or why_not(of) else median(of, key)


def ratio(value: float, base: float | None) -> str:
    return f"{value / base:6.2f}" if base else "     -"


def print_streams(results: Results, names: list[str], schemes: list[str]) -> None:
    for scheme in schemes:
        base = base_of(results, scheme, "recv_into", "cpu_s_per_gb")
        curl = base_of(results, scheme, "curl", "cpu_s_per_gb")
        print(f"\n{scheme.upper():10}   wall s     MB/s  CPU s/GB (min-max)   x bare  x curl  peak MB  growth MB")
        for name in names:
            of = results[scheme, name]
            if reason := why_not(of):
                print(f"{name:10} {reason}")
                continue
            cpu, every = median(of, "cpu_s_per_gb"), [result["cpu_s_per_gb"] for result in of]
            print(
                f"{name:10} {median(of, 'wall_s'):8.2f} {median(of, 'mb_per_s'):8.0f}"
                f"  {cpu:8.3f} ({min(every):.2f}-{max(every):.2f})  {ratio(cpu, base)}  {ratio(cpu, curl)}"
                f"  {median(of, 'peak_bytes') / 1e6:7.1f}  {median(of, 'growth_bytes') / 1e6:9.1f}"
            )


def print_opens(results: Results, names: list[str], schemes: list[str]) -> None:
    for scheme in schemes:
        base = base_of(results, scheme, "aiohttp", "open_s")
        print(f"\n{scheme.upper():10}  us to open and read {OPENED_BYTES} bytes in a warm session   x aiohttp")
        for name in names:
            if reason := why_not(results[scheme, name]):
                print(f"{name:10} {reason}")
                continue
            seconds = median(results[scheme, name], "open_s")
            print(f"{name:10} {seconds * 1e6:48.0f}   {ratio(seconds, base):>10}")


def size_argument(text: str) -> int:
    units = {"K": 10**3, "M": 10**6, "G": 10**9}
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].upper() in units else (text, "")
    size_bytes = int(float(number) * units.get(unit, 1))
    if size_bytes <= SMALL_BYTES:
        raise argparse.ArgumentTypeError(f"must be more than the {SMALL_BYTES} bytes of the warm-up object")
    return size_bytes


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=size_argument, default=10**9, help="bytes of the large object (1G)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--opens", type=int, default=300, help="small objects opened in each run")
    parser.add_argument("--schemes", default="http,https")
    parser.add_argument("--only", help="contenders, comma-separated, of: " + ", ".join(CONTENDERS))
    parser.add_argument("--workers", type=int, default=1, help="worker processes of nginx")
    parser.add_argument("--json", type=Path, help="also write every single result to this file")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    schemes = options.schemes.split(",")
    names = options.only.split(",") if options.only else list(CONTENDERS)
    openers = [name for name in OPENERS if name in names]
    with (
        tempfile.TemporaryDirectory(prefix="getm-benchmark-") as folder,
        NginxServer(Path(folder), workers=options.workers, log=False) as server,
    ):
        objects = {"small": server.objects.make(SMALL_BYTES), "large": server.objects.make(options.size)}
        streams = run_all(make_jobs(server, "stream", names, schemes, objects), options.runs)
        opened = {"small": server.objects.make(OPENED_BYTES)}
        opens = run_all(make_jobs(server, "opens", openers, schemes, opened, options.opens), options.runs)
    print(f"{options.size / 1e9:g} GB, medians of {options.runs} interleaved runs, {os.cpu_count()} cores")
    print_streams(streams, names, schemes)
    print_opens(opens, openers, schemes)
    if options.json:
        rows = [
            {"scheme": scheme, "contender": name, **result}
            for results in (streams, opens)
            for (scheme, name), of in results.items()
            for result in of
        ]
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
