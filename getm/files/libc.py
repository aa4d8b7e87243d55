"""System calls for files that Python does not offer: Linux's fallocate, syncfs and sync_file_range."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import re
import sys
from collections.abc import Callable

# All that is needed to read the bytes again (fdatasync(2)); macOS has only fsync.
fdatasync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)

_WRITE = 2  # SYNC_FILE_RANGE_WRITE


def fallocate(fd: int, size_bytes: int) -> None:
    """Reserve the first `size_bytes` of a file (fallocate(2), mode 0). Raises OSError, ENOSYS where there is none."""
    _call("fallocate", ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)(fd, 0, 0, size_bytes)


def syncfs(fd: int) -> None:
    """Write out everything of the file system that `fd` is on (syncfs(2)). Raises OSError, ENOSYS if there is none."""
    _call("syncfs", ctypes.c_int)(fd)


@functools.cache
def syncfs_reports_errors() -> bool:
    """Whether syncfs(2) fails where something could not be written: before Linux 5.8 it never did."""
    version = re.match(r"([0-9]+)\.([0-9]+)", os.uname().release)
    return sys.platform == "linux" and version is not None and (int(version[1]), int(version[2])) >= (5, 8)


def start_writing_out(fd: int) -> None:
    """Let the kernel begin to write a file's dirty pages to the disk (sync_file_range(2)): no promise, a head start.

    Raises OSError, ENOSYS where there is none.
    """
    _call("sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)(fd, 0, 0, _WRITE)


@functools.cache
def _call(name: str, *arguments: type[ctypes._SimpleCData[int]]) -> Callable[..., None]:
    """The function of libc, raising OSError as Python's own do."""
    # On 32-bit machines, glibc's offsets of that name have 32 bits.
    usable = sys.platform == "linux" and sys.maxsize > 2**32
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None) if usable else None
    if function is None:
        return _missing
    function.argtypes = arguments
    function.restype = ctypes.c_int

    def call(*values: int) -> None:
        while function(*values) != 0:
            number = ctypes.get_errno()
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number))

    return call


def _missing(*values: int) -> None:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
