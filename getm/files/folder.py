"""A folder that is kept open, so that everything happens in it even if its name is changed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from getm.files.os_errors import as_target_error

_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CANNOT_SYNC = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})


class Folder:
    """An open folder; owns its descriptor until `close()`, or until nothing refers to it any more. Names given to it
    are of entries, never paths.

    No symbolic link is followed below it. Methods raise OSError.
    """

    def __init__(self, path: Path) -> None:
        """Raises TargetError: no such folder, no permission."""
        self.path = path
        self.fd: int = -1
        with as_target_error(path):
            try:
                self.fd = os.open(path, _READ)
            except PermissionError:
                # A folder that may be written but not listed is enough; only `sync` has no effect then.
                self.fd = os.open(path, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
            status = os.fstat(self.fd)
        self.device: int = status.st_dev
        self.identity: tuple[int, int] = (status.st_dev, status.st_ino)

    def close(self) -> None:
        """Harmless when repeated."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close

    def open(self, name: str) -> int:
        """An existing file, for reading and writing. O_NONBLOCK: a FIFO planted there would block for ever."""
        return os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.fd)

    def create(self, name: str, mode: int = 0o666) -> int:
        """A new file, for reading and writing; never an existing one. The umask applies to `mode`."""
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self.fd)

    def names(self) -> list[str]:
        """Its entries; none where it may not be read."""
        try:
            return os.listdir(self.fd)  # noqa: PTH208 - a Path might find another folder by now
        except OSError as error:
            # The second: it was opened without the right to list it.
            if error.errno not in (errno.EACCES, errno.EBADF):
                raise
            return []

    def status(self, name: str) -> os.stat_result | None:
        """None: there is no such entry."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def holds(self, name: str, fd: int) -> bool:
        """Whether `name` is the open file `fd` (and not one that has replaced it)."""
        there = self.status(name)
        return there is not None and os.path.samestat(there, os.fstat(fd))

    def rename(self, old: str, new: str) -> None:
        """Rename, replacing what is at `new`, atomically."""
        os.replace(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def remove(self, name: str) -> None:
        """Harmless where there is no such entry."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def sync(self) -> None:
        """Make the names in it durable, where the file system and our rights allow it."""
        try:
            os.fsync(self.fd)
        except OSError as error:
            if error.errno not in _CANNOT_SYNC:
                raise


@contextlib.contextmanager
def closing(fd: int) -> Iterator[int]:
    """A context at whose end the descriptor is closed."""
    try:
        yield fd
    finally:
        os.close(fd)
