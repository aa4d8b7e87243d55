"""A large object from nginx on loopback to nowhere, over HTTP and HTTPS: getm against other clients.

    python -m benchmarks.stream                    # 30 rounds of 200 MB for each contender: about three minutes
    python -m benchmarks.stream --rounds 10 --only recv_into,curl,"getm 1" --json results.json

Contenders take turns in a random order (see turns.py); each stays open between its turns. Numbers are medians with
quartiles, ratios those of the rounds. CPU is that of the client alone, all its processes together, for each further GB:
what a tiny object costs is taken off. "growth" is how far the peak of memory rose from an object of 32 MB to the end.
The second table opens and reads a small object again and again in a warm session. Needs nginx and curl; clients whose
packages are missing are named (`pip install 'getm[bench]'`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a file, too

from benchmarks.readers import CONTENDERS
from benchmarks.turns import Contender, Result, print_table, ratio, size_argument, spread, take_turns
from tests.support.nginx import NginxServer

WARM_UP_BYTES = 32 * 10**6
SMALL_BYTES = 1000
OPENERS = ("aiohttp", "urllib3", "getm 1", "getm None")

Results = dict[str, list[Result]]  # contender -> one result a round


def measure(
    server: NginxServer, scheme: str, names: list[str], options: argparse.Namespace
) -> tuple[Results, Results, dict[str, str], dict[str, float]]:
    """Streams, opens, why contenders are missing, and each one's peak of memory after a smaller object."""
    small, warm_up, large = (server.objects.make(size) for size in (SMALL_BYTES, WARM_UP_BYTES, options.piece))

    def url(served: Any) -> str:
        return server.url(served, tls=scheme == "https")

    with contextlib.ExitStack() as stack:
        contenders = {
            name: stack.enter_context(Contender({"contender": name, "ca_path": str(server.ca_path)})) for name in names
        }
        fixed = {"fixed": url(small), "fixed_bytes": small.size_bytes}
        streams = {"read": url(large), "bytes": large.size_bytes, **fixed}
        opens = {"open": url(small), "count": options.opens}
        peaks: dict[str, float] = {}
        for name, contender in contenders.items():
            first = contender.turn({**streams, "read": url(warm_up), "bytes": warm_up.size_bytes})
            peaks[name] = 0.0 if first is None else first["peak_bytes"]
        streamed = take_turns([(name, contenders[name], streams) for name in names], options.rounds, scheme)
        openers = [(name, contenders[name], opens) for name in names if name in OPENERS]
        opened = take_turns(openers, options.rounds, f"{scheme}, opening")
        missing = {name: contender.why_not for name, contender in contenders.items() if contender.why_not is not None}
    return streamed, opened, missing, peaks


def print_streams(
    title: str, streamed: Results, names: list[str], missing: dict[str, str], peaks: dict[str, float]
) -> None:
    bare, curl = streamed.get("recv_into"), streamed.get("curl")
    rows = []
    for name in names:
        if name in missing:
            rows.append([name, missing[name]])
            continue
        of = streamed[name]
        wall, peak = spread(of, "wall_s_per_gb"), max(result["peak_bytes"] for result in of)
        rows.append(
            [
                name,
                f"{1000 / wall.median:.0f}",
                ratio(of, bare, "wall_s_per_gb"),
                spread(of, "cpu_s_per_gb").show(3),
                ratio(of, bare, "cpu_s_per_gb"),
                ratio(of, curl, "cpu_s_per_gb"),
                # curl's processes have ended when memory is looked at.
                "-" if name == "curl" else f"{peak / 1e6:.0f}",
                "-" if name == "curl" else f"{(peak - peaks[name]) / 1e6:.1f}",
            ]
        )
    print()
    print_table([title, "MB/s", "wall x bare", "CPU s/GB", "CPU x bare", "CPU x curl", "peak MB", "growth"], rows)


def print_opens(title: str, opened: Results, names: list[str], missing: dict[str, str]) -> None:
    base = opened.get("aiohttp")
    rows = []
    for name in names:
        if name in opened:
            of = [{"us": result["open_s"] * 1e6, "cpu_us": result["cpu_s"] * 1e6} for result in opened[name]]
            ratios = [ratio(opened[name], base, field) for field in ("open_s", "cpu_s")]
            rows.append([name, spread(of, "us").show(0), ratios[0], spread(of, "cpu_us").show(0), ratios[1]])
        elif name in OPENERS and name in missing:
            rows.append([name, missing[name]])
    print()
    print_table([f"{title}, {SMALL_BYTES} bytes", "us", "x aiohttp", "CPU us", "CPU x aiohttp"], rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--piece", type=size_argument, default=200 * 10**6, help="bytes read in each turn (200M)")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--opens", type=int, default=50, help="small objects opened in each turn")
    parser.add_argument("--schemes", default="http,https")
    parser.add_argument("--only", help="contenders, comma-separated, of: " + ", ".join(CONTENDERS))
    parser.add_argument("--workers", type=int, default=1, help="worker processes of nginx")
    parser.add_argument("--json", type=Path, help="also write every single result to this file")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    names = options.only.split(",") if options.only else list(CONTENDERS)
    print(
        f"{options.rounds} rounds of {options.piece / 1e6:g} MB and of {options.opens} opens, {os.cpu_count()} cores; "
        "medians [quartiles]"
    )
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="getm-benchmark-") as folder,
        NginxServer(Path(folder), workers=options.workers, log=False) as server,
    ):
        for scheme in options.schemes.split(","):
            streamed, opened, missing, peaks = measure(server, scheme, names, options)
            print_streams(scheme.upper(), streamed, names, missing, peaks)
            print_opens(scheme.upper(), opened, names, missing)
            rows += [
                {"scheme": scheme, "contender": name, "round": number, **result}
                for results in (streamed, opened)
                for name, of in results.items()
                for number, result in enumerate(of)
            ]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
