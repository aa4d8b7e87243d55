"""The engine processes of the test's own process, told from the servers that it runs."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterable, Iterator

import psutil

from getm.client import process


def engines(pid: int | None = None) -> list[psutil.Process]:
    """`pid`: those of another process."""
    return [child for child in psutil.Process(pid).children() if "getm.engine" in " ".join(_command(child))]


@contextlib.contextmanager
def engines_end(pids: Iterable[int]) -> Iterator[None]:
    """A context in which these processes are killed. It ends when all their engines have ended."""
    descriptors = [os.pidfd_open(engine.pid) for pid in pids for engine in engines(pid)]
    assert descriptors
    yield
    for descriptor in descriptors:
        select.select([descriptor], [], [])
        os.close(descriptor)


def _command(child: psutil.Process) -> list[str]:
    try:
        return child.cmdline()
    except (psutil.ZombieProcess, psutil.NoSuchProcess):
        # Another test's, which has ended: multiprocessing waits for its helpers late.
        return []


def await_left_engines() -> None:
    """Until those have ended whose session was dropped."""
    while process.leaving:
        os.sched_yield()
