"""Command lines of download tools, and of Python packages through `main` here.

A tool writes what it was asked for and exits with 0. Those that cannot verify sums of their own get the tool that users
put behind them (`md5sum -c`).
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from benchmarks.harness.environment import environment

Command = list[str]


@dataclass(frozen=True)
class One:
    """One object to one file, over so many connections; None for the tool's own choice."""

    url: str
    target: Path
    connections: int | None = None


@dataclass(frozen=True)
class Many:
    """Objects to files of the same names in `folder`, so many at once; with their MD5s in hex where `verified`.

    `urls` maps names to URLs, `sums` names to MD5s; lists for the tools are written to `lists`.
    """

    urls: dict[str, str]
    sums: dict[str, str]
    folder: Path
    lists: Path
    jobs: int
    verified: bool

    def write(self, name: str, lines: list[str]) -> str:
        path = self.lists / f"{'md5-' if self.verified else ''}{name}"
        if not path.exists():
            path.write_text("\n".join(lines) + "\n")
        return str(path)


@dataclass(frozen=True)
class Downloader:
    """A tool's command lines; None for what it cannot do. `package` is what to install where `program` or, for a Python
    package, `module` is missing. `option`: one that not every version of the program has."""

    package: str
    one: Callable[[One], Command | None]
    many: Callable[[Many], Command | None]
    program: str | None = None
    module: str | None = None
    option: str | None = None
    by_default: bool = False

    def why_not(self) -> str | None:
        if self.program is not None and _program(self.program) is None:
            return f"not installed: apt-get install {self.package}"
        if self.program is not None and self.option is not None and self.option not in _help(self.program):
            return f"this version has no {self.option}"
        if self.module is not None and find_spec(self.module) is None:
            return f"not installed: pip install {self.package}"
        return None


def _program(name: str) -> str | None:
    """A program of this environment, else of the system."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


@cache
def _help(program: str) -> str:
    command = [_program(program) or program, "--help"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment()).stdout


def _unable(job: One | Many) -> None:
    return None


def _shell(script: str) -> Command:
    return ["/bin/sh", "-c", script]


def _then_md5sum(command: Command, job: Many) -> Command:
    """The tool, and the sums after it where they are asked for."""
    if not job.verified:
        return command
    sums = job.write("md5sums", [f"{value}  {name}" for name, value in job.sums.items()])
    return _shell(
        f"{shlex.join(command)} && cd {shlex.quote(str(job.folder))} && md5sum --quiet -c {shlex.quote(sums)}"
    )


def _getm_one(*options: str) -> Callable[[One], Command | None]:
    def command(job: One) -> Command | None:
        connections = [] if job.connections is None else ["-x", str(job.connections)]
        return [_program("getm") or "getm", "-q", *options, *connections, job.url, str(job.target)]

    return command


def _getm_many(*options: str) -> Callable[[Many], Command | None]:
    def command(job: Many) -> Command | None:
        entries = []
        for name, url in job.urls.items():
            entry = {"url": url, "filepath": str(job.folder / name)}
            if job.verified:
                entry |= {"checksum": job.sums[name], "checksum-algorithm": "md5"}
            entries.append(entry)
        manifest = job.write("getm.json", [json.dumps(entries)])
        return [_program("getm") or "getm", "-q", *options, "-j", str(job.jobs), "-m", manifest]

    return command


def _curl_one(job: One) -> Command | None:
    if job.connections is not None:
        return None
    return ["curl", "-q", "--noproxy", "*", "-s", "-f", job.url, "-o", str(job.target)]


def _curl_many(job: Many) -> Command:
    lines = [line for name, url in job.urls.items() for line in (f'url = "{url}"', f'output = "{job.folder / name}"')]
    listed = job.write("curl.conf", lines)
    command = ["curl", "-q", "--noproxy", "*", "-s", "-f", "--parallel", "--parallel-max", str(job.jobs), "-K", listed]
    return _then_md5sum(command, job)


_ARIA2 = ["aria2c", "--no-conf", "-q", "--allow-overwrite=true", "--file-allocation=none"]


def _aria2_one(job: One) -> Command:
    count = str(job.connections)
    parts = [] if job.connections is None else ["-x", count, "-s", count, "-k", "1M"]
    return [*_ARIA2, *parts, "-d", str(job.target.parent), "-o", job.target.name, job.url]


def _aria2_many(job: Many) -> Command:
    lines = []
    for name, url in job.urls.items():
        lines += [url, f"  out={name}", *([f"  checksum=md5={job.sums[name]}"] if job.verified else [])]
    return [*_ARIA2, "-j", str(job.jobs), "-d", str(job.folder), "-i", job.write("aria2.txt", lines)]


_WGET2 = ["wget2", "--no-config", "-q", "--no-robots", "--no-proxy"]


def _wget2_one(job: One) -> Command | None:
    parts = [] if job.connections is None else ["--chunk-size=8M", f"--max-threads={job.connections}"]
    return [*_WGET2, *parts, "-O", str(job.target), job.url]


def _wget2_many(job: Many) -> Command:
    listed = job.write("urls.txt", list(job.urls.values()))
    return _then_md5sum([*_WGET2, f"--max-threads={job.jobs}", "-P", str(job.folder), "-i", listed], job)


def _axel_one(job: One) -> Command | None:
    parts = [] if job.connections is None else ["-n", str(job.connections)]
    return ["axel", "-q", *parts, "-o", str(job.target), job.url]


def _python_one(module: str) -> Callable[[One], Command | None]:
    def command(job: One) -> Command | None:
        count = str(job.connections or 1)
        return [sys.executable, "-m", "benchmarks.harness.downloaders", module, job.url, str(job.target), count]

    return command


def _python_many(module: str) -> Callable[[Many], Command | None]:
    def command(job: Many) -> Command | None:
        if job.verified:
            return None
        pairs = job.write("pairs.tsv", [f"{url}\t{job.folder / name}" for name, url in job.urls.items()])
        return [sys.executable, "-m", "benchmarks.harness.downloaders", module, pairs, str(job.jobs)]

    return command


DOWNLOADERS = {
    "getm": Downloader("getm", _getm_one(), _getm_many(), program="getm", by_default=True),
    "getm --no-fsync": Downloader(
        "getm",
        _getm_one("--no-fsync"),
        _getm_many("--no-fsync"),
        program="getm",
        option="--no-fsync",
        by_default=True,
    ),
    "curl": Downloader("curl", _curl_one, _curl_many, program="curl", by_default=True),
    "wget2": Downloader("wget2", _wget2_one, _wget2_many, program="wget2", by_default=True),
    "aria2c": Downloader("aria2", _aria2_one, _aria2_many, program="aria2c", by_default=True),
    "axel": Downloader("axel", _axel_one, _unable, program="axel"),
    "hf_transfer": Downloader("hf_transfer", _python_one("hf_transfer"), _unable, module="hf_transfer"),
    "parfive": Downloader("parfive", _python_one("parfive"), _python_many("parfive"), module="parfive"),
    "pypdl": Downloader("pypdl", _python_one("pypdl"), _python_many("pypdl"), module="pypdl"),
}


# The Python packages, in a process of their own ----------------------------------------------------------------------


def hf_transfer(pairs: list[tuple[str, Path]], connections: int, jobs: int) -> None:
    for url, target in pairs:
        import_module("hf_transfer").download(url, str(target), connections, 10 * 1024 * 1024)


def parfive(pairs: list[tuple[str, Path]], connections: int, jobs: int) -> None:
    library = import_module("parfive")
    # Its default block of 1 KiB would be measured for nothing else.
    config = library.SessionConfig(file_progress=False, chunksize=1024 * 1024)
    downloader = library.Downloader(
        max_conn=jobs, max_splits=connections, progress=False, overwrite=True, config=config
    )
    for url, target in pairs:
        downloader.enqueue_file(url, path=target.parent, filename=target.name)
    failures = downloader.download().errors
    if failures:
        raise RuntimeError(f"{len(failures)} failed: {failures[0]}")


def pypdl(pairs: list[tuple[str, Path]], connections: int, jobs: int) -> None:
    tasks = [{"url": url, "file_path": str(target)} for url, target in pairs]
    downloader = import_module("pypdl").Pypdl(max_concurrent=jobs)
    done = downloader.start(
        tasks=tasks, display=False, multisegment=connections > 1, segments=connections, overwrite=True
    )
    if any(result is None for _, result in done):
        raise RuntimeError("some failed")


def main() -> None:
    """MODULE URL TARGET CONNECTIONS, or MODULE PAIRS JOBS."""
    module, *arguments = sys.argv[1:]
    run = {"hf_transfer": hf_transfer, "parfive": parfive, "pypdl": pypdl}[module]
    if len(arguments) == 3:
        run([(arguments[0], Path(arguments[1]))], int(arguments[2]), 1)
    else:
        lines = Path(arguments[0]).read_text().splitlines()
        run([(url, Path(target)) for url, _, target in (line.partition("\t") for line in lines)], 1, int(arguments[1]))


if __name__ == "__main__":
    main()
