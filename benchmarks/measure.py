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
    cpu_before, wall_before = _cpu_s(), time.perf_counter()
    work()
    wall_s = time.perf_counter() - wall_before
    return Cost(wall_s=wall_s, cpu_s=_cpu_s() - cpu_before, peak_bytes=_peak_bytes())


def _descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _cpu_s() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = sum(_cpu_s_of(process.pid) for process in _descendants())
    return time.process_time() + ended.ru_utime + ended.ru_stime + running


def _cpu_s_of(pid: int) -> float:
    # /proc/PID/stat counts in ticks of 10 ms, too coarse for an engine's share of a short run; the process's own CPU
    # clock counts nanoseconds (clock_getcpuclockid(3)).
    clock = ctypes.c_int()
    if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)) != 0:
        return 0.0  # it has ended, and is counted among the children as soon as it is waited for
    return time.clock_gettime(clock.value)


def _peak_bytes() -> int:
    """Peak resident memory, shared memory included, summed over the processes that run; or that of the largest child
    that has ended (curl), whichever is more. What two processes share counts twice."""
    running = sum(_high_water_bytes(pid) for pid in [os.getpid(), *(process.pid for process in _descendants())])
    return max(running, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)


def _high_water_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0  # a process that has just ended has no memory
