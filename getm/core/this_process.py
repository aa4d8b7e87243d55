"""What this process is: its number, without a system call, which many small files and objects would feel; its CPUs, and
how busy they are with it; the permissions of its files."""

from __future__ import annotations

import gc
import os
import re

_number = os.getpid()


def process_number() -> int:
    """The number of this process; another one in a forked child."""
    return _number


def usable_cpus() -> int:
    """CPUs that this process may run on (its affinity, where the system has one)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def file_mode() -> int:
    """The permissions of a new file: all but execution, less the umask."""
    try:
        with open("/proc/self/status", "rb") as status:  # noqa: PTH123 - importing pathlib costs more than all of this
            found = re.search(rb"^Umask:\s*([0-7]+)$", status.read(), re.MULTILINE)
    except OSError:
        found = None
    if found is not None:
        return 0o666 & ~int(found[1], 8)
    # Where the system does not say it, only setting another one tells: for a moment one that keeps others out.
    umask = os.umask(0o077)
    os.umask(umask)
    return 0o666 & ~umask


def busy_s(process: int) -> float:
    """Seconds in which the main thread of a process has had a processor or has waited for one
    (Documentation/scheduler/sched-stats of Linux); 0.0 where the system does not say, or it has ended."""
    try:
        with open(f"/proc/{process}/schedstat", "rb") as file:  # noqa: PTH123 - as above
            had, waited, _ = file.read().split()
    except (OSError, ValueError):
        return 0.0
    return (int(had) + int(waited)) / 1e9


def set_rare_collections() -> None:
    """Have the garbage collector look for cycles less often, in a process of our own. Many small files make many
    objects that stay and hardly any cycle: a third of the command's CPU for them went into looking for it."""
    gc.set_threshold(20_000, 20, 20)


def _look_again() -> None:
    global _number
    _number = os.getpid()


os.register_at_fork(after_in_child=_look_again)
