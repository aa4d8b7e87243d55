"""What verification costs: a large object from nginx on loopback, over HTTP, to nowhere and to a file, verified.

    python -m benchmarks.verify                    # objects of 256 MB, ten rounds: about ten minutes
    python -m benchmarks.verify --rounds 5 --checks sha256 --targets nowhere

Contenders take turns in a random order (see turns.py), each with the checksum and without; each stays open between its
turns. Numbers are medians with quartiles, ratios those of the rounds: "x none" over the same contender without a
checksum; "x ideal" over the slower of the two things that must happen, each alone in the same round: getm's transfer
without a checksum, and hashing the same bytes from the page cache by one thread. Of two checksums the slower one
counts, and of an S3 multipart ETag the MD5. What a tiny object takes (starting a program) is taken off. Needs nginx and
curl; aria2 is measured where it is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a file, too

from benchmarks.turns import Contender, Result, print_table, ratio, size_argument, spread, take_turns
from benchmarks.verifiers import VERIFIERS, can, split
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

CHECKS = ("none", "crc32c", "md5", "sha256", "md5+sha256", "s3-etag")
TARGETS = ("nowhere", "file")
UPLOAD_PART_BYTES = 8 * 1024 * 1024
TINY_BYTES = 1000

Key = tuple[str, str]  # contender, check
Results = dict[Key, list[Result]]


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


def hashes_alone(check: str) -> list[Key]:
    """The turns that hash alone what `check` needs."""
    return [("hash alone", "md5" if name == "s3-etag" else name) for name in split(check)]


def keys_of(check: str, target: str | None, names: list[str]) -> list[Key]:
    """Who takes turns: all that know the check, with it and without it, and the hashes alone."""
    able = [name for name in names if name != "hash alone" and can(name, check, target)]
    keys = [(name, each) for name in able for each in dict.fromkeys(("none", check)) if can(name, each, target)]
    return keys + (hashes_alone(check) if "hash alone" in names else [])


def ideal(results: Results, check: str, contender: str) -> list[Result] | None:
    """Round by round max(transfer alone, hash alone); the transfer is that of getm with as many connections."""
    transfer = (contender if contender.startswith("getm") else "getm 1", "none")
    keys = [transfer, *hashes_alone(check)]
    if not all(key in results for key in keys):
        return None
    rounds = zip(*(results[key] for key in keys), strict=True)
    return [{"wall_s_per_gb": max(each["wall_s_per_gb"] for each in several)} for several in rounds]


def rows_of(results: Results, check: str) -> list[list[str]]:
    rows = []
    for (name, each), of in results.items():
        alone = name == "hash alone"
        if each != check and not alone:
            continue
        rows.append(
            [
                f"{name} ({each})" if alone else name,
                f"{1000 / spread(of, 'wall_s_per_gb').median:.0f}",
                spread(of, "cpu_s_per_gb").show(2),
                "-" if alone or check == "none" else ratio(of, ideal(results, check, name), "wall_s_per_gb"),
                "-" if alone or check == "none" else ratio(of, results.get((name, "none")), "wall_s_per_gb"),
            ]
        )
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=size_argument, default=256 * 10**6, help="bytes of the object (256M)")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--checks", default=",".join(CHECKS), help="comma-separated, of: " + ", ".join(CHECKS))
    parser.add_argument("--targets", default=",".join(TARGETS), help="comma-separated, of: " + ", ".join(TARGETS))
    parser.add_argument("--only", help="contenders, comma-separated, of: " + ", ".join(VERIFIERS))
    parser.add_argument("--folder", type=Path, help="where files are written (default: the system's temporary folder)")
    parser.add_argument("--json", type=Path, help="also write every single result to this file")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    names = options.only.split(",") if options.only else list(VERIFIERS)
    print(
        f"{options.rounds} rounds of {options.size / 1e6:g} MB over HTTP, {os.cpu_count()} cores; medians [quartiles]"
    )
    every = []
    with (
        tempfile.TemporaryDirectory(prefix="getm-benchmark-", dir=options.folder) as folder,
        NginxServer(Path(folder), log=False) as server,
        contextlib.ExitStack() as stack,
    ):
        tiny, large = server.objects.make(TINY_BYTES), server.objects.make(options.size)
        expected = {server.url(served): expected_of(served) for served in (tiny, large)}
        contenders = {name: stack.enter_context(Contender({"verifier": name, "expected": expected})) for name in names}
        work = {
            "read": server.url(large),
            "bytes": large.size_bytes,
            "fixed": server.url(tiny),
            "fixed_bytes": tiny.size_bytes,
        }
        for to in options.targets.split(","):
            target = str(Path(folder) / "target.bin") if to == "file" else None
            for check in options.checks.split(","):
                keys = keys_of(check, target, names)
                turns = [(key, contenders[key[0]], {**work, "check": key[1], "target": target}) for key in keys]
                results = take_turns(turns, options.rounds, f"{check} to {to}")
                print()
                heads = [f"{check} to {to}", "MB/s", "CPU s/GB", "wall x ideal", "wall x none"]
                print_table(heads, rows_of(results, check))
                every += [
                    {"target": to, "check": each, "contender": name, "beside": check, "round": number, **result}
                    for (name, each), of in results.items()
                    for number, result in enumerate(of)
                ]
        for name, contender in contenders.items():
            if contender.why_not is not None:
                print(f"\n{name}: {contender.why_not}")
    if options.json:
        options.json.write_text(json.dumps(every, indent=1))


if __name__ == "__main__":
    main()
