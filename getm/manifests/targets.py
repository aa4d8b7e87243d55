"""What the entries of a list will write to, looked up before the first request: nothing twice, nothing outside."""

from __future__ import annotations

import os
from functools import lru_cache

from getm.errors import InvalidInput
from getm.files.names import name_from_url
from getm.files.streams import needs_order
from getm.manifests.entry import Entry

# Lists in the order of their folders need one; the bound is for those with a folder for each entry.
_FOLDERS_REMEMBERED = 4096


class Targets:
    """Finds each entry's file as it will be, with all folders resolved: `a/../b` is `b`, and so is a link to `b`."""

    def __init__(self, directory: str | None) -> None:
        self._directory = directory
        self._root = os.path.realpath(directory or ".")
        self._resolved = lru_cache(_FOLDERS_REMEMBERED)(os.path.realpath)

    def key(self, entry: Entry) -> str | None:
        """A text that two entries share if they would write to one file; None for a device or a pipe, which takes any
        number of downloads. A name that only the server tells is not foreseen.

        Raises InvalidInput for a path that leaves the folder it must stay in, by its names or by a symbolic link. That
        links are the same when the file is written is for the writer to see to.
        """
        confined = self._directory is not None or not entry.trusted_path
        path = entry.target(self._directory)
        if self._directory is not None:
            path = f"{self._directory}/{path}"
        if needs_order(path):
            if confined:
                raise InvalidInput(f"{path!r} is a device or pipe; a list may only name files there")
            return None
        if os.path.isdir(path):  # noqa: PTH112 - asked a hundred thousand times
            path = f"{path}/{name_from_url(entry.urls[0])}"
        folder, name = os.path.split(path)
        resolved = self._resolved(folder or ".")
        if confined and resolved != self._root and not resolved.startswith(self._root.rstrip("/") + "/"):
            raise InvalidInput(f"{path!r} leads out of {self._root!r} by a symbolic link")
        return f"{resolved}/{name}"
