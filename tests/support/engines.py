"""The engine processes of the test's own process, told from the servers that it runs."""

from __future__ import annotations

import os

import psutil

from getm.client import process


def engines() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "getm.engine" in " ".join(_command(child))]


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
