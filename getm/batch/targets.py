"""The files that the downloads of a batch write to: each has its own."""

from __future__ import annotations

import os

from getm.errors import TargetError


class Targets:
    """The targets of one batch, by the number of the download that has taken each."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}
        self._folders: dict[str, int] = {}

    def take(self, text: str, index: int) -> None:
        """Raises `TargetError` where the path is the target of another download, or the folder of one, or is in a
        folder that would have to be a file of that name as well."""
        other = self._files.get(text, index)
        if other != index:
            raise _conflict(text, f"is the target of another download of this batch (number {other})")
        if text in self._folders:
            raise _conflict(text, f"is the folder of another download of this batch (number {self._folders[text]})")
        folder = os.path.dirname(text)  # noqa: PTH120 - a hundred thousand times
        # If a folder is known already, its parents are as well.
        while folder and folder not in self._folders:
            if folder in self._files:
                raise _conflict(
                    text, f"is in {folder}, the target of another download of this batch (number {self._files[folder]})"
                )
            self._folders[folder] = index
            parent = os.path.dirname(folder)  # noqa: PTH120
            folder = "" if parent == folder else parent
        self._files[text] = index

    def leave(self, text: str) -> None:
        """Release it: its download writes to another one."""
        del self._files[text]


def _conflict(path: str, why: str) -> TargetError:
    return TargetError(f"{path} {why}; give each its own path", path=path)
