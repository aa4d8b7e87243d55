"""Programs that only know URLs, by way of getm.

samtools reads three regions of an indexed BAM file of 2 GB, 4.4 MB each: from the disk, by a URL of nginx, and by
`getm run`; there by URLs that nginx takes for 60 seconds (`secure_link`), and that a command signs. "x named" is what
nginx sent of the file against what its index names for the regions; the index itself is read whole. "for 150 s" is the
same at a rate that makes it take so long, more than two lives of a URL. And curl reads 1 GB by a URL of nginx, and by
one of `getm serve`, whose CPU seconds, with its engine's, count.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.harness.bench import Bench
from benchmarks.harness.environment import environment
from benchmarks.harness.measure import cost_of_command
from benchmarks.harness.question import CPU_PER_GB, WALL, Answer, Column, Question, Values, wall_against
from benchmarks.harness.turns import Turn, take_turns
from tests.support.bam import CHROMOSOME_BASES, Region, make_bam, named_bytes
from tests.support.nginx import NginxServer
from tests.support.nginx_config import SIGNING_SECRET

READS = 19_000_000
CHROMOSOMES = 22
REGIONS = [Region(number, CHROMOSOME_BASES // 2, CHROMOSOME_BASES // 2 + 500_000) for number in (3, 11, 19)]
LIFE_S = 60
SLOWLY_S = 150
CURL_BYTES = 10**9

_SIGN = """\
#!/bin/sh
expires=$(($(date +%s) + {life_s}))
path=/${{1#*://*/}}
md5=$(printf '%s%s {secret}' "$expires" "$path" | openssl md5 -binary | openssl base64 | tr +/ -_ | tr -d =)
echo "$1?md5=$md5&expires=$expires"
"""


@dataclass
class Program:
    """A command, what nginx sends for it, and what it costs; with what the processes under `server` take, if there is
    one. `named`: of the file, by its index; 0 where there is none."""

    command: str
    nginx: NginxServer
    named: int = 0
    server: psutil.Process | None = None
    why_not: str | None = None

    def turn(self, request: dict[str, object]) -> Values | None:
        if self.why_not is not None:
            return None
        mark, before_s = self.nginx.log.mark(), self._server_s()
        try:
            cost = cost_of_command(["sh", "-c", self.command])
        except RuntimeError as error:
            self.why_not = f"failed: {error}"
            return None
        values = {"wall_s": cost.wall_s, "peak_bytes": float(cost.peak_bytes)}
        if self.named:
            requests = [each for each in self.nginx.log.since(mark) if each.target.partition("?")[0].endswith(".bam")]
            sent = sum(each.body_bytes for each in requests)
            values["named"] = sent / self.named
        else:
            values["cpu_s"] = cost.cpu_s + self._server_s() - before_s
        return values

    def _server_s(self) -> float:
        if self.server is None:
            return 0.0
        times = [each.cpu_times() for each in (self.server, *self.server.children())]
        return sum(each.user + each.system for each in times)


def measure(bench: Bench) -> Answer:
    if shutil.which("samtools") is None:
        return Answer(missing={"samtools": "not installed"})
    folder = bench.folder / "programs"
    folder.mkdir()
    with NginxServer(folder) as nginx, contextlib.ExitStack() as stack:
        turns = [*_regions(bench, nginx, folder), *_curl(bench, nginx, stack)]
        return take_turns(turns, bench.rounds, "programs")


def _regions(bench: Bench, nginx: NginxServer, folder: Path) -> Iterator[Turn]:
    bam = nginx.objects.write("x.bam", b"").path
    make_bam(bam, bench.sized(READS), CHROMOSOMES, level=1)
    named, regions = named_bytes(bam, REGIONS), " ".join(map(str, REGIONS))
    sign = folder / "sign"
    sign.write_text(_SIGN.format(life_s=LIFE_S, secret=SIGNING_SECRET))
    sign.chmod(0o755)
    there, here = folder / "there", folder / "here"
    view = "samtools view --no-PG"
    subprocess.run(f"{view} {bam} {regions} | md5sum > {there}", shell=True, check=True)
    then = f"| md5sum > {here} && cmp {here} {there}"
    # htslib keeps the index of a URL in the current folder, and takes it for that of any URL which ends alike.
    anew = f"cd {folder}; rm -f x.bam.bai;"
    getm = f"{anew} {shlex.quote(sys.executable)} -m getm run --url-command {sign}"
    rate = max(1, named // SLOWLY_S)
    signed, plain = nginx.url("/signed/objects/x.bam"), nginx.url("/objects/x.bam")
    commands = {
        "samtools, from the disk": f"{view} {bam} {regions} {then}",
        "samtools": f"{anew} {view} {plain} {regions} {then}",
        "getm run": f"{getm} -- {view} {signed} {regions} {then}",
        f"getm run, for {SLOWLY_S} s": f"{getm} --limit-rate {rate} -- {view} {signed} {regions} {then}",
    }
    for tool, command in commands.items():
        if bench.asks(tool) or tool.startswith("samtools"):
            yield Turn("three regions", tool, named / 1e9, Program(command, nginx, named))


def _curl(bench: Bench, nginx: NginxServer, stack: contextlib.ExitStack) -> Iterator[Turn]:
    served = nginx.objects.make(bench.sized(CURL_BYTES))
    url = nginx.url(served)
    command = [sys.executable, "-m", "getm", "serve", url]
    process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()))
    stack.callback(process.terminate)
    local = "" if process.stdout is None else process.stdout.readline().strip()
    for tool, by, server in (("curl", url, None), ("getm serve", local, psutil.Process(process.pid))):
        turn = Program(f"exec curl -sSf -o {os.devnull} {by}", nginx, server=server)
        yield Turn("1 GB by curl", tool, served.size_bytes / 1e9, turn)


QUESTION = Question(
    name="programs",
    title="What do programs cost that only know URLs?",
    how=__doc__,
    minutes=30,
    columns=(
        WALL,
        Column("x named", lambda run: run["named"], compared=True),
        CPU_PER_GB,
        wall_against("samtools"),
        wall_against("curl"),
    ),
    measure=measure,
    by_default=False,
    scaled_by_case=True,
)
