"""Puts complete files in place: durable (unless that is not wanted), then renamed; many with few waits for the disk."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TypeVar

from getm.errors import TargetError
from getm.files import libc
from getm.files.folder import Folder
from getm.files.os_errors import target_error
from getm.files.partial import PartialFile
from getm.files.stored import StoredFile

# One syncfs for at least so many files, otherwise one fsync for each: syncfs also waits for what other programs write.
_SYNC_TOGETHER = 16

_T = TypeVar("_T")

CompleteFile = PartialFile | StoredFile


def commit_files(
    files: Sequence[tuple[CompleteFile, float | None]],
) -> Generator[Callable[[], None], None, list[TargetError | None]]:
    """Put several files in place: bring the bytes onto the disk, rename, bring the new names onto the disk, remove the
    journals and close everything. Yields what waits for the disk, and does little else: it may be called in another
    thread, and must have been before the next step. Files without `fsync` are only renamed: nothing waits for them.

    `files`: each with its time of change in seconds since 1970 (None: now). Returns an error or None for each; a file
    that fails keeps no other from being finished, and leaves everything as it was.
    """
    failures: list[TargetError | None] = [None] * len(files)

    def for_each(step: Callable[[CompleteFile, float | None], None]) -> list[CompleteFile]:
        """Do it with all that have not failed; returns those that have not even now."""
        for number, (partial, mtime) in enumerate(files):
            if failures[number] is None:
                try:
                    step(partial, mtime)
                except TargetError as error:
                    failures[number] = error
                except OSError as error:
                    failure = failures[number] = target_error(error, partial.path)
                    failure.__cause__ = error
        return [partial for (partial, _), failure in zip(files, failures, strict=True) if failure is None]

    def write_out() -> None:
        done = _write_out_file_systems([partial.folder for partial in ready if partial.fsync])

        def write(partial: CompleteFile, _: object) -> None:
            if partial.fsync and partial.folder.device not in done:
                partial.sync_data()

        for_each(write)

    def settle() -> None:
        unsynced = _sync_folders(partial.folder for partial in renamed if partial.fsync)

        def look(partial: CompleteFile, _: object) -> None:
            if partial.fsync and (error := unsynced.get(partial.folder.identity)) is not None:
                raise error

        for_each(look)

    ready = for_each(lambda partial, mtime: partial.prepare_commit(mtime))
    fsync = any(partial.fsync for partial in ready)
    if fsync:
        yield write_out
    renamed = for_each(lambda partial, _: partial.put_in_place())
    if fsync:
        yield settle
    for partial in ready:
        partial.finish_commit()
    return failures


def all_steps(steps: Generator[Callable[[], None], None, _T]) -> _T:
    """What the generator returns after all its steps, those included that wait for the disk."""
    while True:
        try:
            next(steps)()
        except StopIteration as end:
            result: _T = end.value
            return result


def _sync_folders(folders: Iterable[Folder]) -> dict[tuple[int, int], OSError]:
    """Bring each folder onto the disk, once; the errors."""
    failed = {}
    for folder in {folder.identity: folder for folder in folders}.values():
        try:
            folder.sync()
        except OSError as error:
            failed[folder.identity] = error
    return failed


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
