"""What a result was measured on: the machine, the system, versions of all that takes part, and how busy it was."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import psutil

from benchmarks.harness.environment import ROOT

_PROGRAMS = {
    "nginx": ["nginx", "-v"],
    "curl": ["curl", "--version"],
    "wget2": ["wget2", "--version"],
    "aria2c": ["aria2c", "--version"],
    "axel": ["axel", "--version"],
    "openssl": ["openssl", "version"],
}
_PACKAGES = (
    "aiohttp",
    "uvloop",
    "crc32c",
    "anycrc",
    "msgspec",
    "httpx",
    "requests",
    "urllib3",
    "hf_transfer",
    "parfive",
    "pypdl",
)

Described = dict[str, str]


def describe(folder: Path) -> tuple[Described, Described]:
    """The machine, and versions by name. `folder` is where outputs go: its file system counts."""
    machine = {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.freedesktop_os_release().get('PRETTY_NAME', '?')}, Linux {platform.release()}",
        "file system": _file_system(folder),
    }
    versions = {"Python": platform.python_version()}
    for name, command in _PROGRAMS.items():
        version = _version_of(command)
        if version is not None:
            versions[name] = version
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return machine, versions


def busy() -> Described:
    """How busy the machine is with other things, just now."""
    available = psutil.virtual_memory().available / 2**30
    return {"load": f"{os.getloadavg()[0]:.2f}", "available memory": f"{available:.1f} GiB"}


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        return done.stdout.strip()

    commit = git("rev-parse", "--short", "HEAD")
    if not commit:
        return "unknown"
    # Results that are not committed yet make nothing different.
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "getm", "benchmarks", "tests/support")
    return f"{commit} with changes" if changed else commit


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    virtual = any("hypervisor" in line for line in lines if line.startswith("flags"))
    return f"{name}, virtual machine" if virtual else name


def _file_system(folder: Path) -> str:
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(part.mountpoint)]
    # The last one mounted there is the one that is seen.
    mounts.sort(key=lambda part: len(Path(part.mountpoint).parts))
    return mounts[-1].fstype if mounts else "unknown"


def _version_of(command: list[str]) -> str | None:
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        return None
    done = subprocess.run([program, *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    words = done.stdout.replace("/", " ").split()
    # "nginx version: nginx/1.22.1", "curl 7.88.1 (...)": the first word that begins as a version does.
    return next((word.strip(",") for word in words if word[0].isdigit() and "." in word), None)
