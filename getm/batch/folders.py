"""The folders that a batch writes to."""

from __future__ import annotations

import os
from pathlib import Path

from getm.errors import TargetError
from getm.files.folder import Folder
from getm.files.journal import is_journal_name, journal_name

# A folder that more files than this go into is listed.
_LOOKS = 256


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
