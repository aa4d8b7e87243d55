"""Checksums of standard input, which can be read once and has no name."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue

from getm.integrity import Checksum, Declared, FileReport, HashPool, PartsHasher, Verdict
from getm.integrity.file_batch import OnBytes

_READ_BYTES = 1 << 20
_READ_AHEAD = 4


def check_standard_input(expected: Sequence[Checksum], algorithms: Sequence[str], on_bytes: OnBytes) -> FileReport:
    """Read descriptor 0 to its end, check it against `expected`, and compute the canonical `algorithms`.

    By its number: "/dev/stdin" would open the file anew, at its beginning, and cannot be opened where it is a socket.
    """
    path = Path("-")
    try:
        with HashPool() as pool:
            return FileReport(path, _read(0, expected, algorithms, pool, lambda count: on_bytes(path, count)))
    except OSError as error:
        return FileReport(path, None, error)


def _read(
    fd: int, expected: Sequence[Checksum], algorithms: Sequence[str], pool: HashPool, on_bytes: Callable[[int], None]
) -> Verdict:
    declared = [Declared(checksum, "caller") for checksum in expected]
    hasher = PartsHasher(declared, size=_remaining_bytes(fd), pool=pool, also=algorithms)
    # Or a fast pipe would fill the memory ahead of a slow digest.
    room = threading.Semaphore(_READ_AHEAD)
    verdicts: SimpleQueue[Verdict] = SimpleQueue()
    offset = 0
    try:
        while block := os.read(fd, _READ_BYTES):
            room.acquire()
            hasher.feed(offset, memoryview(block), room.release)
            offset += len(block)
            on_bytes(len(block))
        hasher.finish(offset, verdicts.put)
        return verdicts.get()
    finally:
        hasher.cancel()


def _remaining_bytes(fd: int) -> int | None:
    """What is left of a regular file; None for a pipe. Only a multipart S3 ETag needs to know."""
    state = os.fstat(fd)
    return state.st_size - os.lseek(fd, 0, os.SEEK_CUR) if stat.S_ISREG(state.st_mode) else None
