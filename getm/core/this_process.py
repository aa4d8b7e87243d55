"""What this process is: its number without a system call, which many small files and objects would feel; its CPUs."""

from __future__ import annotations

import os

_number = os.getpid()


def process_number() -> int:
    """The number of this process; another one in a forked child."""
    return _number


def usable_cpus() -> int:
    """CPUs that this process may run on (its affinity, where the system has one)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _look_again() -> None:
    global _number
    _number = os.getpid()


os.register_at_fork(after_in_child=_look_again)
