"""Writing to files, in pieces of the size that the page cache takes best."""

from __future__ import annotations

import os

# Measured on Linux 6.18 with ext4 (`benchmarks/writes.py`): for larger writes the page cache takes large folios, in a
# virtual machine often from memory that has been given back to the host, where each then faults. Smaller ones cost more
# system calls.
MAX_WRITE_BYTES = 128 * 1024


def write_all(fd: int, data: memoryview | bytes, offset: int) -> None:
    """Write all of `data` at `offset`, however little the kernel takes at once. Raises OSError."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest[:MAX_WRITE_BYTES], offset)
        rest, offset = rest[written:], offset + written
