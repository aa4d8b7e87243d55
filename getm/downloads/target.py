"""Writing a download so that the target holds the old file or the whole new one, never anything between.

The bytes go to a temporary file beside the target, which replaces it by a rename: atomic on POSIX, so a reader, a
second getm on the same target and a kill at any moment see one or the other. The folder is opened once and everything
happens relative to that descriptor: a parent that is swapped for a symbolic link meanwhile changes nothing, and a
target that is itself a symbolic link is replaced, not followed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import Protocol, Self

from getm.downloads.faults import target_error
from getm.downloads.naming import HeaderFields, resolve_target
from getm.downloads.space import reserve
from getm.downloads.stream import StreamTarget, needs_order
from getm.errors import TargetError


class Target(Protocol):
    """Where the bytes of one download go. A context manager: leaving it without `commit()` discards."""

    in_order: bool
    """True: `write` must be called in the order of offsets, without gaps."""

    @property
    def path(self) -> Path: ...

    def write(self, offset: int, view: memoryview) -> None:
        """Write all of `view` at byte `offset` of the object, before returning; no copy is made or kept."""

    def commit(self) -> None:
        """All bytes are written and right: put them in place. On failure everything is discarded, then it raises."""

    def discard(self) -> None:
        """Leave nothing behind. Harmless when repeated, and after `commit()`."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


def open_target(
    path: str | os.PathLike[str] | None, *, url: str, headers: HeaderFields = (), size: int | None = None
) -> Target:
    """Open the target for a download of `url` whose response had `headers` and promises `size` bytes (None: unknown).

    `path` is read by `resolve_target`; what `needs_order` holds for is written to directly. Raises TargetError: no
    permission, a folder in the way, no space for `size` bytes (found out now, not at the end).
    """
    if path is not None and needs_order(path):
        return StreamTarget.open(Path(path))
    return FileTarget(resolve_target(path, url=url, headers=headers), size)


class FileTarget:
    """A regular file in the making. Bytes may come in any order; one thread at a time.

    Owns two descriptors (the temporary file and its folder) until `commit()` or `discard()`.
    """

    in_order = False

    def __init__(self, path: Path, size: int | None = None) -> None:
        self.path = path
        self._size = size
        self._received = 0
        self._end = 0
        self._folder = self._fd = -1
        self._made = False
        # Not made from the URL or the target's name: a signed URL's secret must not show in a folder listing.
        self._temporary = f".getm-{secrets.token_hex(8)}.part"
        try:
            # O_PATH: a folder that may be written but not listed will do.
            self._folder = os.open(path.parent, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
            self._refuse_folder()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            # 0o666: the umask decides, as it does for files made by a shell.
            self._fd = os.open(self._temporary, flags, 0o666, dir_fd=self._folder)
            self._made = True
            if size is not None:
                reserve(self._fd, size)
        except OSError as error:
            self.discard()
            raise target_error(error, path) from error
        except BaseException:
            self.discard()
            raise

    def write(self, offset: int, view: memoryview) -> None:
        rest, position = view, offset
        while len(rest):
            try:
                written = os.pwrite(self._fd, rest, position)
            except OSError as error:
                raise target_error(error, self.path) from error
            position += written
            rest = rest[written:]
        self._received += len(view)
        self._end = max(self._end, position)

    def commit(self) -> None:
        try:
            self._check_complete()
            self._put_in_place()
        except OSError as error:
            raise target_error(error, self.path) from error
        finally:
            self.discard()

    def discard(self) -> None:
        fd, self._fd = self._fd, -1
        folder, self._folder = self._folder, -1
        try:
            if fd >= 0:
                os.close(fd)
        finally:
            if folder >= 0:
                self._forget_temporary(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.discard()

    def _forget_temporary(self, folder: int) -> None:
        try:
            # Renamed away by commit(), which succeeded. Where opening it failed, a file of its name is not ours.
            with contextlib.suppress(FileNotFoundError):
                if self._made:
                    os.unlink(self._temporary, dir_fd=folder)
        finally:
            os.close(folder)

    def _refuse_folder(self) -> None:
        try:
            mode = os.stat(self.path.name, dir_fd=self._folder, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            # rename() would say so as well, but only after the last byte.
            raise TargetError(f"{self.path} is a folder; give the name of a file in it.", path=str(self.path))

    def _check_complete(self) -> None:
        """Parts never overlap, so their lengths add up to the end exactly if there is no hole."""
        expected = self._end if self._size is None else self._size
        if self._received != expected or self._end != expected:
            raise TargetError(
                f"{self.path} is not complete: expected {expected} bytes without a gap, got {self._received} up to"
                f" byte {self._end}; download it again.",
                path=str(self.path),
            )

    def _put_in_place(self) -> None:
        fd, self._fd = self._fd, -1
        # Network file systems report a full disk or quota only here: before the rename, not after it.
        os.close(fd)
        os.replace(self._temporary, self.path.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
