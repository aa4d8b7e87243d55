"""The undamaged blocks of a file, and how they come into the file that is to replace it.

A repair never writes to the damaged file: its good blocks go to a partial file, which then lacks only the others, and
takes its place as every download does, complete and verified. So whatever interrupts a repair, the file is as it was,
also where it is not damaged at all but another version, which would else be mixed with the old one. Where the file
system shares blocks between files (Btrfs, XFS), the copy costs no space.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from getm.core.coverage import Coverage
from getm.core.spans import Span
from getm.core.units import MIB
from getm.core.writing import write_all
from getm.files.folder import closing
from getm.files.os_errors import as_target_error
from getm.integrity.algorithms import crc_function
from getm.integrity.blocks import ALGORITHM, BlockSums

_READ_BYTES = MIB
_COPY_BYTES = 16 * MIB
# copy_file_range(2): it may not be there, nor possible between these two files.
_CANNOT_COPY = frozenset({errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})

OnBytes = Callable[[int], None]


def copy_undamaged(
    path: str, target: int, sums: BlockSums, missing: Sequence[Span], on_bytes: OnBytes
) -> tuple[tuple[Span, ...], int]:
    """Copy the blocks of the file at `path` that are as `sums` says to the file `target`, as far as they are in
    `missing`. Returns the spans that were copied, and how many blocks are damaged. `on_bytes` is called with the number
    of bytes of each step; what it raises ends the work. Raises `TargetError` where `target` cannot be written."""
    try:
        source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return (), len(list(sums))
    with closing(source):
        if not stat.S_ISREG(os.fstat(source).st_mode):
            return (), len(list(sums))
        damaged = _damaged(source, sums, on_bytes)
        there = Coverage(missing).missing(sums.size)
        spans = Coverage([*damaged, *there]).missing(sums.size)
        with as_target_error(Path(path)):
            return tuple([span for span in spans if _copy(source, target, span, on_bytes)]), len(damaged)


def _damaged(source: int, sums: BlockSums, on_bytes: OnBytes) -> list[Span]:
    """The blocks that are not as they should be, or cannot be read."""
    crc_of, buffer, damaged = crc_function(ALGORITHM), memoryview(bytearray(_READ_BYTES)), []
    for span, expected in sums:
        position, crc = span.start, 0
        try:
            while position < span.stop:
                count = os.preadv(source, (buffer[: span.stop - position],), position)
                if not count:
                    break
                crc = crc_of(buffer[:count], crc)
                position += count
                on_bytes(count)
        except OSError:
            # A sector that is bad.
            position = span.start
        if position < span.stop or crc != expected:
            damaged.append(span)
    return damaged


def _copy(source: int, target: int, span: Span, on_bytes: OnBytes) -> bool:
    """Copy a span to its place in another file; False where it is not there any more."""
    position, in_kernel = span.start, hasattr(os, "copy_file_range")
    while position < span.stop:
        length = min(_COPY_BYTES, span.stop - position)
        if in_kernel:
            try:
                count = os.copy_file_range(source, target, length, position, position)
            except OSError as error:
                if error.errno not in _CANNOT_COPY:
                    raise
                in_kernel = False
                continue
        else:
            data = os.pread(source, min(length, _READ_BYTES), position)
            count = len(data)
            write_all(target, data, position)
        if not count:
            return False
        position += count
        on_bytes(count)
    return True
