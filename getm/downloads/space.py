"""Room on the disk, asked for before the first byte is fetched instead of missed after the last."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import sys
from collections.abc import Callable

# The file system cannot reserve (EOPNOTSUPP), or the kernel does not know the call (ENOSYS, EINVAL).
_CANNOT_RESERVE = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


def reserve(fd: int, size_bytes: int) -> None:
    """Take `size_bytes` of disk for the empty file `fd`, or at least see that they are free.

    Raises OSError as the kernel words it: ENOSPC, EDQUOT, EFBIG. Where the file system cannot reserve (FUSE mounts,
    NFS before 4.2, macOS), only the free space is looked at, and a disk that fills up meanwhile is met while writing.

    Not `os.posix_fallocate`: where the file system cannot reserve, glibc emulates it with one write for every 4 KiB
    (posix_fallocate(3)), which on a network mount takes longer than the download.
    """
    if size_bytes == 0:
        return
    fallocate = _fallocate()
    if fallocate is not None:
        try:
            fallocate(fd, size_bytes)
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise
        else:
            return
    room = os.fstatvfs(fd)
    # f_blocks 0: a mount that tells nothing of its size (some FUSE file systems).
    if room.f_blocks and room.f_bavail * room.f_frsize < size_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@functools.cache
def _fallocate() -> Callable[[int, int], None] | None:
    """Linux's fallocate(2) with mode 0, which Python does not offer; None elsewhere."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    # glibc's plain name takes 32-bit offsets on 32-bit machines; musl has only the plain name, always 64 bits wide.
    function = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    if function is None:
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    function.restype = ctypes.c_int

    def call(fd: int, size_bytes: int) -> None:
        while function(fd, 0, 0, size_bytes) != 0:
            number = ctypes.get_errno()
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number))

    return call
