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
    # glibc's plain name takes 32-bit offsets on 32-bit machines; musl has only the plain name, always 64 bits wide.
    _call(("fallocate64", "fallocate"), (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64))(
        fd, 0, 0, size_bytes
    )


def syncfs(fd: int) -> None:
    """Write out everything of the file system that `fd` is on (syncfs(2)). Raises OSError, ENOSYS if there is none."""
    _call(("syncfs",), (ctypes.c_int,))(fd)


@functools.cache
def syncfs_reports_errors() -> bool:
    """Whether syncfs(2) fails where something could not be written: before Linux 5.8 it never did."""
    version = re.match(r"([0-9]+)\.([0-9]+)", os.uname().release)
    return sys.platform == "linux" and version is not None and (int(version[1]), int(version[2])) >= (5, 8)


def start_writing_out(fd: int) -> None:
    """Let the kernel begin to write a file's dirty pages to the disk (sync_file_range(2)): no promise, a head start.

    Raises OSError, ENOSYS where there is none.
    """
    _call(("sync_file_range",), (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint))(fd, 0, 0, _WRITE)


@functools.cache
def _call(names: tuple[str, ...], arguments: tuple[type[ctypes._SimpleCData[int]], ...]) -> Callable[..., None]:
    """The first function of libc with one of these names, raising OSError as Python's own do."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    function = next((found for name in names if (found := getattr(libc, name, None)) is not None), None)
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
