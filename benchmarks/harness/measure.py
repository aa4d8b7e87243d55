"""What a piece of work cost: wall time, CPU time and peak memory of this process and of every process under it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from benchmarks.harness.environment import ROOT, environment

_LOOK_S = 0.05
_DEADLINE_S = 300.0


@dataclass(frozen=True)
class Cost:
    """`wall_s` and `cpu_s` in seconds (user and system, all processes), `peak_bytes` since the processes started."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


def cost_of(work: Callable[[], object]) -> Cost:
    """Run `work` and return what it cost. Processes that it leaves running (warm engines) count like those it ended."""
    # To look for processes costs milliseconds: before the first clock is read, and after the last.
    before = _others_cpu_s(_descendants())
    own, wall = time.process_time(), time.perf_counter()
    work()
    wall_s, own_s = time.perf_counter() - wall, time.process_time() - own
    processes = _descendants()
    return Cost(wall_s, own_s + _others_cpu_s(processes) - before, _peak_bytes(processes))


def _descendants() -> list[int]:
    return [process.pid for process in psutil.Process().children(recursive=True)]


def _others_cpu_s(pids: list[int]) -> float:
    """CPU time of those processes, and of the children that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + sum(map(_cpu_s_of, pids))


def _cpu_s_of(pid: int) -> float:
    # /proc/PID/stat counts in ticks of 10 ms, too coarse for an engine's share of a short run; the process's own CPU
    # clock counts nanoseconds (clock_getcpuclockid(3)).
    clock = ctypes.c_int()
    if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)) != 0:
        return 0.0  # it has ended, and is counted among the children as soon as it is waited for
    return time.clock_gettime(clock.value)


def _peak_bytes(pids: list[int]) -> int:
    """Peak resident memory, shared memory included, summed over the processes that run. What two processes share
    counts twice; children that have ended are gone."""
    return sum(map(_high_water_bytes, [os.getpid(), *pids]))


def _high_water_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # The field is missing where the process has just ended: it has no memory then.
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


@contextlib.contextmanager
def ended_with(process: subprocess.Popen[str], deadline_s: float) -> Iterator[None]:
    """Kill a process, which leads a group, and all of its group when the context fails or takes longer than that."""

    def kill() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(deadline_s, kill)
    timer.start()
    try:
        yield
    except BaseException:
        kill()
        raise
    finally:
        timer.cancel()


def cost_of_command(command: list[str], *, deadline_s: float = _DEADLINE_S) -> Cost:
    """Run a command line to its end; what it and the processes under it cost. Raises `RuntimeError` with the
    last line of its standard error where it fails, or takes longer than `deadline_s`."""
    with tempfile.TemporaryFile("w+") as errors:
        wall = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env=environment(),
            process_group=0,
        )
        with ended_with(process, deadline_s), _PeakMemory(process.pid) as memory:
            _, status, used = os.wait4(process.pid, 0)
            wall_s = time.perf_counter() - wall
        process.returncode = os.waitstatus_to_exitcode(status)
        if wall_s >= deadline_s:
            raise RuntimeError(f"it took longer than {deadline_s:g} s and was killed")
        if process.returncode:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["(silently)"])[-1]
            raise RuntimeError(f"exit status {process.returncode}: {last}")
    # Not ru_maxrss: it begins with the memory of the process that started the command.
    return Cost(wall_s, used.ru_utime + used.ru_stime, memory.peak_bytes)


class _PeakMemory:
    """The peaks of a process and of all under it, added up. The kernel keeps each one's peak; a thread reads them now
    and then, since they are gone with the process."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peaks: dict[int, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    @property
    def peak_bytes(self) -> int:
        return sum(self._peaks.values())

    def _watch(self) -> None:
        self._look(self._pid)
        while not self._over.wait(_LOOK_S):
            self._look(self._pid)

    def _look(self, pid: int) -> None:
        self._peaks[pid] = max(self._peaks.get(pid, 0), _high_water_bytes(pid))
        # Cheaper than to look through all processes. It ends, or its thread does, while it is read.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                for child in children.read_text().split():
                    self._look(int(child))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
