"""Worker threads that hash for many transfers at once. hashlib, zlib and crc32c release the GIL while they work."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from getm.core.this_process import usable_cpus
from getm.core.threads import WorkerThreads

_MAX_THREADS = 8
"""More threads than this hash faster than memory delivers."""


class HashPool(WorkerThreads):
    """Threads that hash: as many as there are usable CPUs, at most 8, where `threads` does not say how many. `paged`:
    for memory that is not in the cache, where no other thread of this process keeps the interpreter busy (see
    `new_digest`)."""

    def __init__(self, threads: int | None = None, *, paged: bool = False) -> None:
        super().__init__("getm-hash", max(1, min(_MAX_THREADS, usable_cpus()) if threads is None else threads))
        self.paged = paged


def borrowed(pool: HashPool | None) -> AbstractContextManager[HashPool]:
    """The pool given, or a new one for the time of the `with` block."""
    return HashPool() if pool is None else nullcontext(pool)
