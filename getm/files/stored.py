"""A small file whose bytes are all there, under a hidden name beside its target."""

from __future__ import annotations

import os
from pathlib import Path

from getm.core.this_process import process_number
from getm.files.folder import Folder, closing
from getm.files.replacing import check_process, gone, take_metadata


class StoredFile:
    """Complete, closed, and not in place yet: it has no journal, since fetching it again costs less. Its steps are
    those of `commit_files`; `remove` in place of them. Not to be used by a forked child.

    Args:
        folder: The folder of both names, which stays its owner's.
        name: The name it has.
        target: The name it is to have.
        fsync: Whether the commit brings it onto the disk.
    """

    __slots__ = ("_pid", "folder", "fsync", "name", "target")

    def __init__(self, folder: Folder, name: str, target: str, *, fsync: bool) -> None:
        self.folder: Folder = folder
        self.name: str = name
        self.target: str = target
        self.fsync: bool = fsync
        self._pid = process_number()

    @property
    def path(self) -> Path:
        """The path of the target."""
        return self.folder.path / self.target

    def prepare_commit(self, mtime: float | None) -> None:
        """See that it may be put in place, and set its time of change and its mode. Raises TargetError, OSError."""
        if process_number() != self._pid:
            check_process(self._pid, self.path)
        replaced = self.folder.status(self.target)
        if replaced is not None or mtime is not None:
            with closing(self._open()) as fd:
                take_metadata(fd, replaced, mtime)

    def sync_data(self) -> None:
        """Bring the bytes onto the disk."""
        with closing(self._open()) as fd:
            os.fsync(fd)

    def _open(self) -> int:
        try:
            return self.folder.open(self.name)
        except FileNotFoundError as error:
            raise gone(self.path) from error

    def put_in_place(self) -> None:
        """Rename it to the target."""
        try:
            self.folder.rename(self.name, self.target)
        except FileNotFoundError as error:
            raise gone(self.path) from error

    def finish_commit(self) -> None:
        """Nothing is left to be done."""

    def remove(self) -> None:
        """Remove it, where it is not in place. Raises OSError."""
        if process_number() == self._pid:
            self.folder.remove(self.name)
