"""What a piece of work cost: wall time, CPU time and peak memory of this process and of every process under it."""

from __future__ import annotations

import ctypes
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Cost:
    """`wall_s` and `cpu_s` in seconds (user and system, all processes), `peak_bytes` since the processes started."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


def cost_of(work: Callable[[], object]) -> Cost:
    """Run `work` and tell what it cost. Processes that it leaves running (warm engines) count like those it ended."""
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
    """Peak resident memory, shared memory included, summed over the processes that run; or that of the largest child
    that has ended (curl), whichever is more. What two processes share counts twice."""
    running = sum(map(_high_water_bytes, [os.getpid(), *pids]))
    return max(running, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)


def _high_water_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # The field is missing where the process has just ended: it has no memory then.
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)
