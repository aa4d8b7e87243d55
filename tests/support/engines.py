"""The engine processes of the test's own process, told from the servers that it runs."""

from __future__ import annotations

import os

import psutil

from getm.client import process


def engines() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "getm.engine" in " ".join(child.cmdline())]


def await_left_engines() -> None:
    """Until those have ended whose session was dropped."""
    while process.leaving:
        os.sched_yield()
