"""The contenders of download.py: command lines of download tools, and of Python packages through `main` here.

A tool writes what it was asked for and exits with 0. Those that cannot verify a sum of their own get the tool that
users put behind them (`sha256sum`, `md5sum -c`).
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

Command = list[str]


@dataclass(frozen=True)
class One:
    """One object to one file, over so many connections; `sha256` in hex where it must be verified."""

    url: str
    target: Path
    connections: int = 1
    sha256: str | None = None


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
    package, `module` is missing."""

    package: str
    one: Callable[[One], Command | None]
    many: Callable[[Many], Command | None]
    program: str | None = None
    module: str | None = None

    def why_not(self) -> str | None:
        if self.program is not None and _program(self.program) is None:
            return f"not installed: apt-get install {self.package}"
        if self.module is not None and find_spec(self.module) is None:
            return f"not installed: pip install {self.package}"
        return None


def _program(name: str) -> str | None:
    """A program of this environment, else of the system."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


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


def getm_one(job: One) -> Command:
    sum_ = [] if job.sha256 is None else ["--checksum", f"sha256:{job.sha256}"]
    return [_program("getm") or "getm", "-q", "-x", str(job.connections), *sum_, job.url, str(job.target)]


def getm_many(job: Many) -> Command:
    entries = []
    for name, url in job.urls.items():
        entry = {"url": url, "filepath": str(job.folder / name)}
        if job.verified:
            entry |= {"checksum": job.sums[name], "checksum-algorithm": "md5"}
        entries.append(entry)
    manifest = job.write("getm.json", [json.dumps(entries)])
    return [_program("getm") or "getm", "-q", "-j", str(job.jobs), "-m", manifest]


def curl_one(job: One) -> Command | None:
    if job.connections > 1:
        return None
    command = ["curl", "-q", "--noproxy", "*", "-s", "-f", job.url]
    if job.sha256 is None:
        return [*command, "-o", str(job.target)]
    piped = f"{shlex.join(command)} | tee {shlex.quote(str(job.target))} | sha256sum"
    return _shell(f'test "$({piped})" = "{job.sha256}  -"')


def curl_many(job: Many) -> Command:
    lines = [line for name, url in job.urls.items() for line in (f'url = "{url}"', f'output = "{job.folder / name}"')]
    listed = job.write("curl.conf", lines)
    command = ["curl", "-q", "--noproxy", "*", "-s", "-f", "--parallel", "--parallel-max", str(job.jobs), "-K", listed]
    return _then_md5sum(command, job)


_ARIA2 = ["aria2c", "--no-conf", "-q", "--allow-overwrite=true", "--file-allocation=none"]


def aria2_one(job: One) -> Command:
    sum_ = [] if job.sha256 is None else [f"--checksum=sha-256={job.sha256}"]
    count = str(job.connections)
    where = ["-d", str(job.target.parent), "-o", job.target.name]
    return [*_ARIA2, "-x", count, "-s", count, "-k", "1M", *sum_, *where, job.url]


def aria2_many(job: Many) -> Command:
    lines = []
    for name, url in job.urls.items():
        lines += [url, f"  out={name}", *([f"  checksum=md5={job.sums[name]}"] if job.verified else [])]
    return [*_ARIA2, "-j", str(job.jobs), "-d", str(job.folder), "-i", job.write("aria2.txt", lines)]


_WGET2 = ["wget2", "--no-config", "-q", "--no-robots", "--no-proxy"]


def wget2_one(job: One) -> Command | None:
    if job.sha256 is not None:
        return None
    parts = ["--chunk-size=8M", f"--max-threads={job.connections}"] if job.connections > 1 else []
    return [*_WGET2, *parts, "-O", str(job.target), job.url]


def wget2_many(job: Many) -> Command:
    listed = job.write("urls.txt", list(job.urls.values()))
    return _then_md5sum([*_WGET2, f"--max-threads={job.jobs}", "-P", str(job.folder), "-i", listed], job)


def axel_one(job: One) -> Command | None:
    return None if job.sha256 else ["axel", "-q", "-n", str(job.connections), "-o", str(job.target), job.url]


def _python_one(module: str) -> Callable[[One], Command | None]:
    def command(job: One) -> Command | None:
        if job.sha256 is not None:
            return None
        return [sys.executable, "-m", "benchmarks.downloaders", module, job.url, str(job.target), str(job.connections)]

    return command


def _python_many(module: str) -> Callable[[Many], Command | None]:
    def command(job: Many) -> Command | None:
        if job.verified:
            return None
        pairs = job.write("pairs.tsv", [f"{url}\t{job.folder / name}" for name, url in job.urls.items()])
        return [sys.executable, "-m", "benchmarks.downloaders", module, pairs, str(job.jobs)]

    return command


DOWNLOADERS = {
    "getm": Downloader("getm", getm_one, getm_many, program="getm"),
    "curl": Downloader("curl", curl_one, curl_many, program="curl"),
    "aria2c": Downloader("aria2", aria2_one, aria2_many, program="aria2c"),
    "wget2": Downloader("wget2", wget2_one, wget2_many, program="wget2"),
    "axel": Downloader("axel", axel_one, _unable, program="axel"),
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
