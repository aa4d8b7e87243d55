"""How many instructions it takes to open and read a small object in a warm session, counted by valgrind.

    python -m benchmarks.instructions              # about five minutes
    python -m benchmarks.instructions --only "aiohttp,getm 1" --schemes http

A count says the same on a busy machine as on an idle one (within two hundredths), which no clock does: for finding out
whether a change saves work. Only instructions of the processes themselves count, not those of the kernel for them. The
start of a process drops out: it is the difference of a run with many opens and one with few. Needs valgrind and nginx.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs as a file, too

from benchmarks.readers import CONTENDERS
from benchmarks.stream import OPENERS, SMALL_BYTES
from benchmarks.turns import Contender, print_table
from tests.support.nginx import NginxServer

_FEW = 100


def count(name: str, url: str, ca_path: Path, opens: int, folder: Path) -> Counter[str] | str:
    """Instructions of the "client" and of its "engine", from start to end; or why there are none."""
    log = Path(tempfile.mkdtemp(dir=folder))
    # Cachegrind, with nothing simulated, counts and does no more.
    valgrind = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--trace-children=yes"]
    outputs = [f"--log-file={log}/%p", "--cachegrind-out-file=/dev/null"]
    with Contender({"contender": name, "ca_path": str(ca_path)}, under=[*valgrind, *outputs]) as contender:
        contender.turn({"repeat": url, "count": opens})
    if contender.why_not is not None:
        return contender.why_not
    counted: Counter[str] = Counter()
    for text in (path.read_text() for path in log.iterdir()):
        instructions = re.search(r"I +refs: +([0-9,]+)", text)
        if instructions is not None:
            role = "client" if "benchmarks.worker" in text else "engine"
            counted[role] += int(instructions[1].replace(",", ""))
    return counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--opens", type=int, default=500)
    parser.add_argument("--schemes", default="http,https")
    parser.add_argument("--only", help="contenders, comma-separated, of: " + ", ".join(CONTENDERS))
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("not installed: apt-get install valgrind")
    names = options.only.split(",") if options.only else list(OPENERS)
    with (
        tempfile.TemporaryDirectory(prefix="getm-benchmark-") as folder,
        NginxServer(Path(folder), log=False) as server,
    ):
        small = server.objects.make(SMALL_BYTES)
        for scheme in options.schemes.split(","):
            url, rows, base = server.url(small, tls=scheme == "https"), [], 0
            for name in names:
                with Contender({"contender": name, "ca_path": str(server.ca_path)}) as contender:
                    # So that all modules are compiled before anything is counted.
                    contender.turn({"repeat": url, "count": 1})
                few = count(name, url, server.ca_path, _FEW, Path(folder))
                many = count(name, url, server.ca_path, _FEW + options.opens, Path(folder))
                if isinstance(few, str) or isinstance(many, str):
                    rows.append([name, str(few)])
                    continue
                each = {role: (many[role] - few[role]) // options.opens for role in ("client", "engine")}
                total = sum(each.values())
                base = total if name == "aiohttp" else base
                shown = [f"{value / 1000:.0f}" for value in (each["client"], each["engine"], total)]
                rows.append([name, *shown, f"{total / base:.2f}" if base else "-"])
            print_table([f"{scheme.upper()}, thousands for each open", "client", "engine", "total", "x aiohttp"], rows)


if __name__ == "__main__":
    main()
