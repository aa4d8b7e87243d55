"""The folders that a batch writes to."""

from __future__ import annotations

import errno
import functools
import os
import weakref
from pathlib import Path

from getm.core.this_process import process_number
from getm.errors import TargetError
from getm.files.folder import Folder
from getm.files.journal import is_journal_name, journal_name
from getm.files.streams import is_special
from getm.protocol.messages import FolderEntry, FolderInfo

# A folder that more files than this go into is listed.
_LOOKS = 256
# How many folders stay open beside those that are in use.
_MAX_OPEN = 32


class Folders:
    """Opens folders once, and keeps them open for the files that follow."""

    def __init__(self) -> None:
        self._open = functools.lru_cache(_MAX_OPEN)(open_folder)
        self._infos: weakref.WeakKeyDictionary[Folder, FolderInfo] = weakref.WeakKeyDictionary()
        self._existing: weakref.WeakValueDictionary[tuple[str, str | None], ExistingFolder] = (
            weakref.WeakValueDictionary()
        )

    def open(self, path: str, root: str | None) -> Folder:
        """The folder at `path`: see `open_folder`. It closes with all of them, or before."""
        folder = self._open(path, root)
        if folder not in self._infos:
            where = os.fsencode(os.path.abspath(folder.path))  # noqa: PTH100 - no link may be resolved
            self._infos[folder] = FolderInfo(process_number(), folder.fd, where, folder.identity)
        return folder

    def existing(self, path: str | None, root: str | None) -> ExistingFolder | None:
        """The folder that `path` names, where it ends as a folder's does and is there already; else None. Raises as
        `open_folder`."""
        if path is None or not path.endswith(os.sep):
            return None
        found = self._existing.get((path, root))
        if found is not None or is_special(path):
            return found
        if os.path.isdir(path):  # noqa: PTH112 - text is faster
            # In the form that the folder of a target has.
            text = os.path.dirname(str(Path(path) / "x"))  # noqa: PTH120
            found = self._existing[path, root] = ExistingFolder(self.open(text, root), text)
        elif os.path.lexists(path.rstrip(os.sep)):
            # Known before anything is requested.
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return found

    def entry(self, folder: Folder, name: str, *, resumable: bool = False) -> FolderEntry:
        """A file in an open folder, for an engine."""
        return FolderEntry(self._infos[folder], os.fsencode(name), resumable)

    def close(self) -> None:
        """Close all of them."""
        self._open.cache_clear()
        for folder in list(self._infos):
            # The traceback of an error may refer to it still, and its file system is to be unmounted now.
            folder.close()


class ExistingFolder:
    """A folder that files go into, whatever their names. `path`: as those of the files in it begin."""

    __slots__ = ("__weakref__", "_journals", "_looked", "folder", "path")

    def __init__(self, folder: Folder, path: str) -> None:
        self.folder: Folder = folder
        self.path: str = path
        self._looked = 0
        self._journals: frozenset[str] | None = None

    def has_journal(self, target: str) -> bool:
        """Whether an earlier run has left partial data of the file `target`. Raises OSError.

        Of many files all journals are looked for at once: each system call gives up the GIL, for which this thread may
        then wait longer than all else takes. One that another process makes later is of no use here.
        """
        name = journal_name(target)
        if self._journals is not None:
            return name in self._journals
        self._looked += 1
        if self._looked > _LOOKS:
            self._looked = 0
            if names := self.folder.names():
                # None at all: it may not be listed.
                self._journals = frozenset(filter(is_journal_name, names))
        return self.folder.status(name) is not None


def open_folder(path: str, root: str | None) -> Folder:
    """The folder at `path`, created where it does not exist. Raises OSError, or `TargetError` where it lies outside
    of `root` (None: anywhere will do), however many symbolic links lead there."""
    folder = Path(path)
    if root is not None:
        _refuse_outside(folder, root)
    folder.mkdir(parents=True, exist_ok=True)
    return Folder(folder)


def _refuse_outside(folder: Path, root: str) -> None:
    # What does not exist yet cannot be a link: realpath leaves it as it is.
    inside, outer = os.path.realpath(folder), os.path.realpath(root)
    if os.path.commonpath([inside, outer]) != outer:
        raise TargetError(
            f"{folder} leads out of the folder {root}, by a symbolic link; nothing is written there", path=str(folder)
        )
