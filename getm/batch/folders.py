"""The folders that a batch writes to."""

from __future__ import annotations

import os
from pathlib import Path

from getm.errors import TargetError
from getm.files.folder import Folder


class ExistingFolder:
    """A folder that files go into, whatever their names. `path`: as those of the files in it begin."""

    __slots__ = ("__weakref__", "folder", "path")

    def __init__(self, folder: Folder, path: str) -> None:
        self.folder: Folder = folder
        self.path: str = path


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
