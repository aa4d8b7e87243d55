"""Puts complete files in place: durable, then renamed; many of them with few waits for the disk."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence

from getm.errors import TargetError
from getm.files import libc
from getm.files.folder import Folder
from getm.files.os_errors import target_error
from getm.files.partial import PartialFile

# One syncfs for at least so many files, otherwise one fsync for each: syncfs also waits for what other programs write.
_SYNC_TOGETHER = 16


class Commit:
    """Puts several files in place, one step after the other: `write_out`, `put_in_place`, `settle`, `finish`. The first
    and the third wait for the disk and do little else, so that they can be done in another thread.

    `files`: each with its time of change in seconds since 1970 (None: now). `errors`: one or None for each; a file that
    fails keeps no other from being finished, and leaves everything as it was.
    """

    def __init__(self, files: Sequence[tuple[PartialFile, float | None]]) -> None:
        self.errors: list[TargetError | None] = [None] * len(files)
        self._files = files
        for number, (partial, mtime) in enumerate(files):
            self._try(number, partial.prepare_commit, mtime)
        self._ready = [partial for partial, _ in self._rest()]

    def _try(self, number: int, step: Callable[..., None], *arguments: object) -> None:
        try:
            step(*arguments)
        except TargetError as error:
            self.errors[number] = error
        except OSError as error:
            failure = self.errors[number] = target_error(error, self._files[number][0].path)
            failure.__cause__ = error

    def _rest(self) -> list[tuple[PartialFile, int]]:
        """Those that did not fail, with their numbers."""
        return [
            (partial, number)
            for number, ((partial, _), error) in enumerate(zip(self._files, self.errors, strict=True))
            if error is None
        ]

    def write_out(self) -> None:
        """Bring the bytes onto the disk."""
        written_out = _write_out_file_systems([partial.folder for partial in self._ready])
        for partial, number in self._rest():
            if partial.folder.device not in written_out:
                self._try(number, partial.sync_data)

    def put_in_place(self) -> None:
        """Rename."""
        for partial, number in self._rest():
            self._try(number, partial.put_in_place)

    def settle(self) -> None:
        """Bring the new names onto the disk."""
        sync = _FolderSync()
        for partial, number in self._rest():
            self._try(number, sync, partial.folder)

    def finish(self) -> None:
        """Remove the journals, and close everything."""
        for partial in self._ready:
            partial.finish_commit()


def commit_many(files: Sequence[tuple[PartialFile, float | None]]) -> list[TargetError | None]:
    """All steps of a `Commit`; its errors."""
    commit = Commit(files)
    commit.write_out()
    commit.put_in_place()
    commit.settle()
    commit.finish()
    return commit.errors


class _FolderSync:
    """Brings the folder of each file onto the disk, each folder once."""

    def __init__(self) -> None:
        self._done: dict[tuple[int, int], OSError | None] = {}

    def __call__(self, folder: Folder) -> None:
        if folder.identity not in self._done:
            try:
                folder.sync()
                self._done[folder.identity] = None
            except OSError as error:
                self._done[folder.identity] = error
        error_before = self._done[folder.identity]
        if error_before is not None:
            raise error_before


def _write_out_file_systems(folders: Sequence[Folder]) -> set[int]:
    """The devices that hold so many of the folders' files that they were written out as a whole."""
    counts = Counter(folder.device for folder in folders)
    done: set[int] = set()
    if not libc.syncfs_reports_errors():
        return done
    for folder in folders:
        if counts.pop(folder.device, 0) >= _SYNC_TOGETHER:
            # Where that is not possible, or fails (perhaps for a file of another program), each file is synced.
            with contextlib.suppress(OSError):
                libc.syncfs(folder.fd)
                done.add(folder.device)
    return done
