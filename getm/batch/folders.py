"""The folders that a batch writes to, kept open while they are used, and some time after."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

from getm.errors import TargetError
from getm.files import Folder, target_error

_MAX_UNUSED = 32

_Key = tuple[str, str | None]


class Folders:
    """Opens and makes folders, each once for all the files in it. `close()` when no file is open any more."""

    def __init__(self) -> None:
        # By path and root: a link that one download may follow is not for another one that must not leave its folder.
        self._open: OrderedDict[_Key, Folder] = OrderedDict()
        self._users: dict[_Key, int] = {}
        self._keys: dict[Folder, _Key] = {}

    def use(self, target: Path, root: str | None) -> Folder:
        """The folder of the file `target`, created where it does not exist; `release` it afterwards. Raises
        `TargetError`: it cannot be made or opened; it lies outside of `root` (None: anywhere will do), however many
        symbolic links lead there."""
        # Text: a Path compares and hashes ten times as slowly.
        key = os.path.dirname(str(target)), root  # noqa: PTH120
        folder = self._open.get(key)
        if folder is None:
            _make(target, root)
            folder = self._open[key] = Folder(target.parent)
            self._keys[folder] = key
        self._open.move_to_end(key)
        self._users[key] = self._users.get(key, 0) + 1
        return folder

    def release(self, folder: Folder) -> None:
        """The folder that `use` returned has one user less."""
        key = self._keys[folder]
        self._users[key] -= 1
        if self._users[key] or len(self._users) <= _MAX_UNUSED:
            return
        for key in [key for key, users in self._users.items() if not users][:-_MAX_UNUSED]:
            del self._users[key]
            unused = self._open.pop(key)
            del self._keys[unused]
            unused.close()

    def close(self) -> None:
        for folder in self._open.values():
            folder.close()
        self._open.clear()
        self._users.clear()
        self._keys.clear()


def _make(target: Path, root: str | None) -> None:
    try:
        if root is not None:
            _refuse_outside(target, root)
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise target_error(error, target) from error


def _refuse_outside(target: Path, root: str) -> None:
    # What does not exist yet cannot be a link: realpath leaves it as it is.
    inside, outer = os.path.realpath(target.parent), os.path.realpath(root)
    if os.path.commonpath([inside, outer]) != outer:
        raise TargetError(
            f"{target} leads out of the folder {root}, by a symbolic link; nothing is written there", path=str(target)
        )
