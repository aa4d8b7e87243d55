"""Downloads to disk by the installed `getm` command, against other download tools.

    python -m benchmarks.download                  # five rounds: about ten minutes
    python -m benchmarks.download --parts one,many --rounds 3 --only getm,curl,aria2c

Three parts: "one", an object of 1 GB from nginx on loopback, plain and with its sha256; "capped", the same over 16
connections of 20 MB/s each (see capped.py); "many", 20,000 objects of 16 KiB, 16 at once, plain and with their md5s.
Tools run in a random order in each round, every run is a process of its own, and start-up counts, apart from "capped",
where a run for a tiny object is taken off in a column of its own. What was written is compared with what was served.
Numbers are medians with quartiles, ratios those of the rounds. "peak MB" is the sum over the processes of a tool,
shared memory in each of them. Tools that are missing are named (`pip install 'getm[bench]'` for those in Python).
"""

from __future__ import annotations

import argparse
import contextlib
import filecmp
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a file, too

from benchmarks.capped import capped_server
from benchmarks.downloaders import DOWNLOADERS, Command, Many, One
from benchmarks.measure import cost_of_command
from benchmarks.turns import Result, print_table, ratio, size_argument, spread, take_turns
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

PARTS = ("one", "capped", "many")
FILE_BYTES = 16 * 1024
TINY_BYTES = 1000
CONNECTIONS = 16
RATE = 20e6

Key = tuple[str, str]  # tool, variant
Results = dict[Key, list[Result]]


class Tool:
    """One tool and what it is to do, run once each turn. `prepare` makes the disk ready; `check` raises where what was
    written is wrong. Neither is measured."""

    def __init__(
        self, command: Command, prepare: Callable[[], object], check: Callable[[], object], why_not: str | None
    ) -> None:
        self._command = command
        self._prepare = prepare
        self._check = check
        self.why_not = why_not

    def turn(self, request: dict[str, Any]) -> Result | None:
        if self.why_not is not None:
            return None
        self._prepare()
        # What earlier runs have written goes to the disk on their time.
        os.sync()
        try:
            cost = cost_of_command(self._command)
            self._check()
        except (OSError, RuntimeError) as error:
            self.why_not = f"failed: {error}"
            return None
        return {"wall_s": cost.wall_s, "cpu_s": cost.cpu_s, "peak_bytes": cost.peak_bytes}


def one_tool(name: str, job: One, served: ServedObject) -> Tool | None:
    """None where the tool cannot do it."""

    def check() -> None:
        if not filecmp.cmp(job.target, served.path, shallow=False):
            raise RuntimeError("what it wrote is not what was served")

    command = DOWNLOADERS[name].one(job)
    if command is None:
        return None
    return Tool(command, lambda: job.target.unlink(missing_ok=True), check, DOWNLOADERS[name].why_not())


def many_tool(name: str, job: Many, served: Path) -> Tool | None:
    def prepare() -> None:
        if job.folder.exists():
            # Emptied and moved away, not removed: ext4 does not reuse an inode that was just freed, and its search for
            # another one would make the next tool's files five times as expensive.
            for file in job.folder.iterdir():
                os.truncate(file, 0)
            job.folder.rename(tempfile.mkdtemp(prefix="done-", dir=job.folder.parent))
        job.folder.mkdir()

    def check() -> None:
        _, wrong, missing = filecmp.cmpfiles(served, job.folder, job.urls, shallow=False)
        if wrong or missing:
            raise RuntimeError(f"{len(wrong)} files are not what was served, and {len(missing)} are missing")

    command = DOWNLOADERS[name].many(job)
    return None if command is None else Tool(command, prepare, check, DOWNLOADERS[name].why_not())


def run(tools: dict[Key, Tool | None], rounds: int, what: str) -> tuple[Results, dict[Key, str]]:
    turns: list[tuple[Key, Tool, dict[str, Any]]] = [(key, tool, {}) for key, tool in tools.items() if tool is not None]
    results = take_turns(turns, rounds, what)
    return results, {key: tool.why_not for key, tool, _ in turns if tool.why_not is not None}


def show(
    heads: list[str], results: Results, missing: dict[Key, str], variant: str, cells: Callable[[str], list[str]]
) -> None:
    """A table of one variant; every row ends with the ratio to getm's wall time and the peak of memory."""
    base = results.get(("getm", variant))
    rows = [
        [
            name,
            *cells(name),
            ratio(of, base, "wall_s"),
            f"{max(result['peak_bytes'] for result in of) / 1e6:.0f}",
        ]
        for (name, each), of in results.items()
        if each == variant
    ]
    rows += [[name, reason] for (name, each), reason in missing.items() if each == variant]
    print()
    print_table([*heads, "wall x getm", "peak MB"], rows)


def measure_one(folder: Path, server: NginxServer, names: list[str], options: argparse.Namespace) -> Results:
    served = server.objects.make(options.size)
    target = folder / "target.bin"
    jobs = {
        "plain": One(server.url(served), target),
        "sha256": One(server.url(served), target, sha256=served.sha256_hex),
    }
    tools = {(name, variant): one_tool(name, job, served) for name in names for variant, job in jobs.items()}
    results, missing = run(tools, options.rounds, "one")
    gb = served.size_bytes / 1e9

    for variant in jobs:

        def cells(name: str, variant: str = variant) -> list[str]:
            of = results[name, variant]
            per_gb = [{"cpu": result["cpu_s"] / gb} for result in of]
            return [
                spread(of, "wall_s").show(2),
                f"{gb * 1000 / spread(of, 'wall_s').median:.0f}",
                spread(per_gb, "cpu").show(2),
            ]

        show([f"{gb:g} GB, {variant}", "wall s", "MB/s", "CPU s/GB"], results, missing, variant, cells)
    return results


def measure_capped(folder: Path, server: NginxServer, names: list[str], options: argparse.Namespace) -> Results:
    served, tiny = server.objects.make(options.size), server.objects.make(TINY_BYTES)
    target = folder / "target.bin"
    tools: dict[Key, Tool | None] = {}
    with capped_server(served.path.parent, RATE) as base:
        for name in names:
            tools[name, "capped"] = one_tool(
                name, One(f"{base}/{served.path.name}", target, connections=CONNECTIONS), served
            )
            tools[name, "tiny"] = one_tool(name, One(f"{base}/{tiny.path.name}", target, connections=CONNECTIONS), tiny)
        results, missing = run(tools, options.rounds, "capped")
    ideal_s = served.size_bytes / (CONNECTIONS * RATE)

    def cells(name: str) -> list[str]:
        of = results[name, "capped"]
        start = results.get((name, "tiny"), [dict.fromkeys(of[0], 0.0)] * len(of))
        shares = [
            {
                "whole": 100 * ideal_s / result["wall_s"],
                "further": 100 * ideal_s / (result["wall_s"] - first["wall_s"]),
            }
            for result, first in zip(of, start, strict=True)
        ]
        return [spread(of, "wall_s").show(2), spread(shares, "whole").show(1), spread(shares, "further").show(1)]

    title = f"{CONNECTIONS} x {RATE / 1e6:g} MB/s"
    show([title, "wall s", "% of the limits", "% without start-up"], results, missing, "capped", cells)
    return results


def measure_many(folder: Path, server: NginxServer, names: list[str], options: argparse.Namespace) -> Results:
    urls, sums = {}, {}
    for number in range(options.files):
        name, content = f"small-{number:06d}.bin", os.urandom(FILE_BYTES)
        served = server.objects.write(name, content)
        urls[name], sums[name] = server.url(served), hashlib.md5(content).hexdigest()
    variants = {"plain": False, "md5": True}
    tools = {
        (name, variant): many_tool(
            name, Many(urls, sums, folder / "many", folder, CONNECTIONS, verified), served.path.parent
        )
        for name in names
        for variant, verified in variants.items()
    }
    results, missing = run(tools, options.rounds, "many")
    for variant in variants:

        def cells(name: str, variant: str = variant) -> list[str]:
            of = [{"rate": options.files / result["wall_s"], **result} for result in results[name, variant]]
            return [spread(of, "wall_s").show(2), spread(of, "rate").show(0), spread(of, "cpu_s").show(2)]

        title = f"{options.files} files, {variant}"
        show([title, "wall s", "files/s", "CPU s"], results, missing, variant, cells)
    return results


@contextlib.contextmanager
def serving(parent: Path | None) -> Iterator[tuple[Path, NginxServer]]:
    """A folder to write to, and nginx."""
    with (
        tempfile.TemporaryDirectory(prefix="getm-benchmark-", dir=parent) as folder,
        NginxServer(Path(folder), log=False) as server,
    ):
        yield Path(folder), server


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated, of: " + ", ".join(PARTS))
    parser.add_argument("--size", type=size_argument, default=10**9, help="bytes of the large object (1G)")
    parser.add_argument("--files", type=int, default=20_000, help="how many small files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="tools, comma-separated, of: " + ", ".join(DOWNLOADERS))
    parser.add_argument("--folder", type=Path, help="where files are written (default: the system's temporary folder)")
    parser.add_argument("--json", type=Path, help="also write every single result to this file")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    names = options.only.split(",") if options.only else list(DOWNLOADERS)
    measures = {"one": measure_one, "capped": measure_capped, "many": measure_many}
    print(f"{options.rounds} rounds, {os.cpu_count()} cores; medians [quartiles]")
    rows = []
    for part in options.parts.split(","):
        with serving(options.folder) as (folder, server):
            results = measures[part](folder, server, names, options)
        rows += [
            {"part": part, "variant": variant, "tool": name, "round": number, **result}
            for (name, variant), of in results.items()
            for number, result in enumerate(of)
        ]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
