"""What one test left behind: processes, file descriptors, threads, shared memory, temporary files.

`snapshot()` before, `left_behind(before)` after. Everything is told by name: a leaked descriptor by what it points to,
a process by its command line.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
import threading
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

import psutil

_SHARED_MEMORY = Path("/dev/shm")

# Processes started under the test run carry this in their environment, at any depth, so that one whose parent is gone
# (and which therefore is nobody's child any more) is still known to be ours.
MARK_NAME = "GETM_TEST_RUN"
_MARK = secrets.token_hex(8)


def mark_environment() -> None:
    """Make every process started from here on recognisable as ours."""
    os.environ[MARK_NAME] = _MARK


@dataclass(frozen=True)
class Snapshot:
    """What there was at one moment: numbers and names, and what each stands for."""

    pids: frozenset[int]
    fds: dict[int, str]
    threads: frozenset[threading.Thread]
    shared_memory: frozenset[str]
    temporary: frozenset[str]

    def with_new(self, earlier: Snapshot, now: Snapshot) -> Snapshot:
        """This, and what there is `now` that was not there `earlier`."""
        return Snapshot(
            pids=self.pids | now.pids - earlier.pids,
            fds=self.fds | dict(now.fds.items() - earlier.fds.items()),
            threads=self.threads | now.threads - earlier.threads,
            shared_memory=self.shared_memory | now.shared_memory - earlier.shared_memory,
            temporary=self.temporary | now.temporary - earlier.temporary,
        )


def snapshot() -> Snapshot:
    return Snapshot(
        pids=frozenset(psutil.pids()),
        fds=_open_fds(),
        threads=frozenset(threading.enumerate()),
        shared_memory=_shared_memory(),
        temporary=_names(Path(tempfile.gettempdir())),
    )


def _shared_memory() -> frozenset[str]:
    # Semaphores are not getm's: multiprocessing makes them, also for a test run beside this one. Nor is what squid
    # makes for a test in another worker ("cf__"). The table of hosts is there to stay.
    others = re.compile(r"sem\.mp-|getm-hosts-|.*-cf__")
    return frozenset(name for name in _names(_SHARED_MEMORY) if not others.match(name))


def left_behind(before: Snapshot, *, orphan_grace_s: float = 5.0) -> list[str]:
    """One line for each thing that is there now and was not in `before`. Processes among them are killed.

    A child was to be waited for. A process whose parent is gone ends by itself once it has noticed: it has
    `orphan_grace_s` to do so.
    """
    found = [f"process {line}" for line in _new_processes(before.pids, orphan_grace_s)]
    tracker = _tracker("_fd")
    for fd, target in _open_fds().items():
        if before.fds.get(fd) != target and fd != tracker:
            found.append(f"file descriptor {fd} -> {target}")
    found += [f"thread {thread.name!r}" for thread in threading.enumerate() if thread not in before.threads]
    return found + files_left_behind(before)


def files_left_behind(before: Snapshot) -> list[str]:
    """Of `left_behind`, shared memory that has a name, and temporary files."""
    found = [f"shared memory {path}" for path in _new_shared_memory(before.shared_memory)]
    temporary = Path(tempfile.gettempdir())
    return found + [f"temporary file {temporary / name}" for name in _names(temporary) - before.temporary]


def _names(folder: Path) -> frozenset[str]:
    return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()


def _new_shared_memory(names_before: frozenset[str]) -> list[Path]:
    """Names that nobody else uses: those that another program, or a test run beside this one, has open are theirs."""
    new = [_SHARED_MEMORY / name for name in sorted(_shared_memory() - names_before)]
    if not new:
        return []
    others = _used_by_others(new)
    # Looked at again: what others had open may be gone by the time their processes were asked.
    return [path for path in new if path not in others and path.exists()]


def _used_by_others(paths: list[Path]) -> set[Path]:
    """Those of `paths` that are open in, or mapped by, a process that this test run did not start."""
    used: set[Path] = set()
    for pid in psutil.pids():
        try:
            process = psutil.Process(pid)
            if pid == os.getpid() or process.environ().get(MARK_NAME) == _MARK:
                continue
            opened = {file.path for file in process.open_files()} | {file.path for file in process.memory_maps()}
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        used.update(path for path in paths if str(path) in opened)
    return used


def _open_fds() -> dict[int, str]:
    fds = {}
    for link in Path("/dev/fd").iterdir():
        try:
            fds[int(link.name)] = str(link.readlink())
        except OSError:  # the descriptor by which the folder was listed
            continue
    return fds


def _new_processes(pids_before: frozenset[int], orphan_grace_s: float) -> list[str]:
    children, orphans = [], []
    for pid in psutil.pids():
        if pid in pids_before or pid == _tracker("_pid"):
            continue
        try:
            process = psutil.Process(pid)
            if process.ppid() == os.getpid():
                children.append(process)
            elif process.environ().get(MARK_NAME) == _MARK:
                orphans.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    _, late = psutil.wait_procs(orphans, timeout=orphan_grace_s)
    return [_describe_and_kill(process) for process in children + late]


def _tracker(what: str) -> int | None:
    """Of the process that multiprocessing starts once, and keeps with a pipe to it until the end of the run: its number
    or that pipe. (There are no public names.)"""
    found: int | None = getattr(resource_tracker._resource_tracker, what)
    return found


def _describe_and_kill(process: psutil.Process) -> str:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return f"{process.pid} (ended, but nobody waited for it)"
        line = f"{process.pid} {' '.join(process.cmdline())}"
        process.kill()
    except psutil.NoSuchProcess:
        return f"{process.pid} (ended while it was looked at)"
    return line
