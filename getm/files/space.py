"""Space on the disk, checked before the first byte is fetched instead of missed after the last."""

from __future__ import annotations

import errno
import os

from getm.files import libc

# The file system cannot reserve (EOPNOTSUPP), or the kernel does not know the call (ENOSYS, EINVAL).
_CANNOT_RESERVE = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_BLOCK_BYTES = 512  # of st_blocks, whatever the file system's own are (stat(2))


def reserve(fd: int, size_bytes: int) -> None:
    """Reserve disk space for the first `size_bytes` of the file `fd`, whose bytes stay, or at least check that it is
    free.

    Raises the kernel's OSError: ENOSPC, EDQUOT, EFBIG. Where the file system cannot reserve (FUSE mounts, NFS before
    4.2, macOS), only the free space is checked, and a disk that fills up later is noticed while writing.

    Not `os.posix_fallocate`: where the file system cannot reserve, glibc emulates it with one write for every 4 KiB
    (posix_fallocate(3)), which on a network mount takes longer than the download.
    """
    if size_bytes == 0:
        return
    try:
        libc.fallocate(fd, size_bytes)
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            raise
    else:
        return
    status = os.fstatvfs(fd)
    wanted = size_bytes - os.fstat(fd).st_blocks * _BLOCK_BYTES
    # f_blocks 0: a mount that does not know its size (some FUSE file systems).
    if status.f_blocks and status.f_bavail * status.f_frsize < wanted:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
