"""A download in the making: kept through anything that stops it, and put in place whole or not at all.

The bytes go to a hidden file beside the target, which replaces it by a rename: atomic on POSIX, so a reader, a second
getm on the same target and a kill at any moment see the old file or the whole new one. Everything happens relative to
an open folder: a parent that is swapped for a symbolic link meanwhile changes nothing, and a target that is itself a
symbolic link is replaced, not followed.

Where the object's version can be told again later (a size and a strong validator), a journal beside the partial file
tells what is there, so that another run fetches only the rest: `journal.py` says in what form, `lock.py` whose it is.
An object that comes in one piece has none: to fetch it again costs less.

The order of steps, so that a kill between any two leaves something right:

- begin: the journal, then the data file that it names. A journal whose file is missing is worth nothing.
- write: the data, then the journal's record of it. Checkpoint: the data to the disk, then the record.
- take over: a record that names the heir, the rename of the data to the heir's name, a record of the heir.
- commit: the data to the disk, the rename, the folder to the disk; then the journal goes.
- discard: the data, then the journal.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from getm.core.spans import Span
from getm.errors import TargetError
from getm.files import libc, lock
from getm.files.coverage import Coverage
from getm.files.folder import Folder, write_all
from getm.files.journal import JOURNAL_BYTES, Version, data_name, fits, new_identity
from getm.files.os_errors import target_error
from getm.files.space import reserve
from getm.files.takeover import Kept, Taken, forget, take_over

MIB = 1024 * 1024
JOURNALED_FROM_BYTES = MIB
# What a kill may cost at most, and what a power failure may.
_RECORD_BYTES, _RECORD_S = MIB, 1.0
_CHECKPOINT_BYTES, _CHECKPOINT_S = 1024 * MIB, 5.0
# The disk begins its work long before anything waits for it. On ext4 a fast GB then takes 0.4 to 0.7 s, durable as a
# whole, against 0.8 to 0.9 s where the disk begins with the fsync at the end, and 1.3 s with checkpoints of 64 MiB.
_START_BYTES = 16 * MIB
# Of such a one not even the space may be lost in a file that nothing names: its journal is on the disk before it is.
_SECURED_FROM_BYTES = 64 * MIB
# One syncfs for so many files, one fsync for each of fewer: syncfs also waits for what others are writing.
_SYNC_TOGETHER = 16


@dataclass(frozen=True, slots=True)
class Saved:
    """What a former run has left: the version of the object (see `journal.Version`), and the spans that are there."""

    size: int
    etag: str | None
    last_modified: str | None
    if_range: str
    declared: tuple[str, str] | None
    done: tuple[Span, ...]


def open_partial(path: Path, *, resume: bool, folder: Folder | None = None) -> PartialFile:
    """The partial file for the target `path`: first `begin`, then `write`, then `commit`, `suspend` or `discard`.

    What a former run has left is taken over if `resume`, and removed otherwise. If another process is at it, or what
    stands there is not ours, this download works apart (`exclusive` is False): it starts anew and cannot be resumed.
    `folder`: the target's, held open by the caller until this is closed; None: opened here. Never waits for a lock.

    Raises TargetError: no such folder, no permission, a folder of the target's name.
    """
    owned = folder is None
    folder = Folder(path.parent) if folder is None else folder
    partial = PartialFile(path, folder, owned)
    try:
        there = folder.status(partial._target)
        if there is not None and stat.S_ISDIR(there.st_mode):
            # rename() would say so as well, but only after the last byte.
            raise TargetError(f"{path} is a folder; give the name of a file in it.", path=str(path))
        found = lock.find(folder, partial._target)
        if found is lock.Outcome.BUSY:
            partial.exclusive = False
        elif isinstance(found, lock.Claim):
            partial._take_over(found, resume)
    except OSError as error:
        partial._close()
        raise target_error(error, path) from error
    except BaseException:
        partial._close()
        raise
    return partial


class PartialFile:
    """See `open_partial`. Bytes may come in any order; one thread at a time; not to be used by a forked child.

    After an error it stays open: `suspend` keeps what is there for a later run, `discard` does not. As a context
    manager it discards what was not committed. Owns up to three descriptors: data, journal, folder.
    """

    __slots__ = (
        "_covered",
        "_fd",
        "_folder",
        "_forks",
        "_kept",
        "_name",
        "_owns_folder",
        "_size",
        "_target",
        "exclusive",
        "path",
        "saved",
    )

    in_order = False

    def __init__(self, path: Path, folder: Folder, owns_folder: bool) -> None:
        self.path: Path = path
        self.exclusive: bool = True
        """Whether no other process is known to work on the same target's partial file."""
        self.saved: Saved | None = None
        """What a former run has left, until `begin`."""
        self._target = path.name
        self._folder, self._owns_folder = folder, owns_folder
        self._fd = -1
        self._name: str | None = None
        self._size: int | None = None
        self._covered = Coverage()
        self._kept: Kept | None = None
        self._forks = lock.forks()

    # What is there --------------------------------------------------------------------------------------------------

    @property
    def path_now(self) -> Path:
        """Where the bytes are at present, to be read before `commit`."""
        return self._folder.path / (self._name or self._target)

    def fileno(self) -> int:
        """A descriptor to read the bytes by, owned by this object; -1 where it is closed already (a small file)."""
        return self._fd

    def missing(self) -> tuple[Span, ...]:
        """The spans still to be written, in order; none where the size is not known."""
        return () if self._size is None else self._covered.missing(self._size)

    # From the head to the last byte ---------------------------------------------------------------------------------

    def begin(
        self,
        size: int | None,
        *,
        etag: str | None = None,
        last_modified: str | None = None,
        if_range: str | None = None,
        declared: tuple[str, str] | None = None,
        resumed: bool = False,
    ) -> None:
        """The response's head is there: the object has `size` bytes (None: unknown) and these validators.

        `if_range`: the strong one, as the If-Range field takes it (RFC 9110, section 13.1.5); without it, or without a
        size, nothing can be resumed later. `declared`: a checksum in canonical text, and who declared it. `resumed`:
        the server goes on with `saved`, whose size it has confirmed; otherwise what was saved is removed.

        Raises TargetError: no space for what is missing. Then `saved` is kept, if it was to be gone on with.
        """
        self._check_process()
        saved, self.saved = self.saved, None
        if resumed and (saved is None or self._kept is None or saved.size != size):
            raise ValueError("only what is saved can be resumed, and only with its size")
        self._size = size
        try:
            if resumed:
                self._go_on(declared)
            else:
                self._start_anew(
                    Version(size, etag, last_modified, if_range, declared)
                    if size is not None and if_range is not None
                    else None
                )
        except OSError as error:
            raise target_error(error, self.path) from error

    def write(self, offset: int, view: memoryview) -> None:
        """Write all of `view` at byte `offset` of the object, before returning; no copy is made or kept.

        Raises TargetError: no space, the disk fails. What was written before stays.
        """
        self._check_process()
        length = len(view)
        try:
            write_all(self._fd, view, offset)
        except OSError as error:
            raise target_error(error, self.path) from error
        self._covered.add(offset, offset + length)
        if self._kept is not None:
            self._written(self._kept, length)
        elif self._size is not None and self._size < JOURNALED_FROM_BYTES and self._covered.is_exactly(self._size):
            # Many small files wait together for `commit_many`, and a process may have only so many open.
            self._close_data()

    def checkpoint(self) -> None:
        """Bring everything written so far onto the disk, then the journal that says so. Nothing without a journal.

        Raises TargetError; what may be lost then, is `missing` again.
        """
        self._check_process()
        kept = self._kept
        if kept is None:
            return
        try:
            self._sync_data(libc.fdatasync)
            kept.durable = self._covered.copy()
            if not kept.named:
                self._folder.sync()
                kept.named = True
            kept.journal.write(kept.record(self._covered), durable=True)
        except OSError as error:
            raise target_error(error, self.path) from error
        kept.unrecorded_bytes = kept.undurable_bytes = 0
        kept.recorded_s = kept.durable_s = time.monotonic()

    # The ends -------------------------------------------------------------------------------------------------------

    def commit(self, mtime: float | None = None) -> None:
        """All bytes are written and right: onto the disk, then in place of the target, with this time of change.

        `mtime`: seconds since 1970; None: now. Raises TargetError; then nothing has changed, and everything is kept.
        """
        (error,) = commit_many([(self, mtime)])
        if error is not None:
            raise error

    def suspend(self) -> None:
        """Close, and keep what can be resumed for a later run; the rest is removed. Harmless when repeated.

        Never raises: what could not be kept is not claimed to be there.
        """
        kept = self._kept
        if kept is None and self._name is None and self._fd < 0 and not self._owns_folder:
            # It was committed, or never begun.
            return
        if kept is None or self._forks != lock.forks():
            with contextlib.suppress(TargetError):
                self.discard()
            return
        with contextlib.suppress(TargetError):
            self.checkpoint()
        with contextlib.suppress(OSError):
            kept.journal.write(kept.record(self._covered, released=True))
        self._close()

    def discard(self) -> None:
        """Close, and leave nothing behind. Harmless when repeated, and after `commit`."""
        if self._forks != lock.forks():
            # A forked child: the files are its parent's.
            self._close()
            return
        try:
            self._remove()
        except OSError as error:
            raise target_error(error, self.path) from error
        finally:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.discard()

    def _take_over(self, found: lock.Claim, resume: bool) -> None:
        """Make what a former run has left ours, or remove it. Raises OSError."""
        if not resume:
            forget(self._folder, self._target, found)
            return
        taken = take_over(self._folder, self._target, found)
        if isinstance(taken, Taken):
            version = taken.kept.version
            self._fd, self._kept, self._covered = taken.fd, taken.kept, taken.written
            self._name, self._size = data_name(self._target, taken.kept.identity), version.size
            self.saved = Saved(**msgspec.structs.asdict(version), done=taken.written.spans())
        else:
            self.exclusive = taken is lock.Outcome.ABSENT

    # Steps ----------------------------------------------------------------------------------------------------------

    def _check_process(self) -> None:
        if self._forks != lock.forks():
            raise TargetError(
                f"{self.path} is being downloaded by the process that this one was forked from; download it there.",
                path=str(self.path),
            )

    def _go_on(self, declared: tuple[str, str] | None) -> None:
        kept = self._kept
        if kept is None or self._size is None:
            raise ValueError("nothing is saved")
        reserve(self._fd, self._size)
        version = msgspec.structs.replace(kept.version, declared=declared or kept.version.declared)
        if fits(version, kept.owner):
            kept.version = version
        kept.recorded_s = kept.durable_s = time.monotonic()
        kept.journal.write(kept.record(self._covered))

    def _start_anew(self, version: Version | None) -> None:
        self._remove()
        self._covered = Coverage()
        try:
            if self.exclusive and version is not None and version.size >= JOURNALED_FROM_BYTES:
                self._kept = self._new_journal(version)
            kept = self._kept
            name = lock.private_name() if kept is None else data_name(self._target, kept.identity)
            self._fd = self._folder.create(name)
            # Only now: where creating it failed, a file of that name is not ours.
            self._name = name
            if self._size is not None and self._size >= JOURNALED_FROM_BYTES:
                reserve(self._fd, self._size)
        except BaseException:
            self._remove()
            raise

    def _new_journal(self, version: Version) -> Kept | None:
        """None: another process has one, or the server's texts are too long for it."""
        if not fits(version, lock.this_process(locked=False)):
            return None
        created = lock.create(self._folder, self._target)
        if created is None:
            self.exclusive = False
            return None
        journal, owner = created
        now = time.monotonic()
        kept = Kept(journal, new_identity(), version, owner, Coverage(), recorded_s=now, durable_s=now)
        try:
            reserve(journal.fd, JOURNAL_BYTES)
            journal.write(kept.record(Coverage()), durable=version.size >= _SECURED_FROM_BYTES)
        except BaseException:
            lock.remove(self._folder, self._target, journal)
            raise
        return kept

    def _written(self, kept: Kept, length: int) -> None:
        """Tell the journal of `length` more bytes, if it is time to."""
        kept.unrecorded_bytes += length
        kept.undurable_bytes += length
        kept.resting_bytes += length
        now = time.monotonic()
        if kept.undurable_bytes >= _CHECKPOINT_BYTES or now - kept.durable_s >= _CHECKPOINT_S:
            self.checkpoint()
        elif kept.unrecorded_bytes >= _RECORD_BYTES or now - kept.recorded_s >= _RECORD_S:
            try:
                kept.journal.write(kept.record(self._covered))
            except OSError as error:
                raise target_error(error, self.path) from error
            kept.unrecorded_bytes, kept.recorded_s = 0, now
        if kept.resting_bytes >= _START_BYTES:
            kept.resting_bytes = 0
            with contextlib.suppress(OSError):
                libc.start_writing_out(self._fd)

    def _sync_data(self, sync: Callable[[int], None]) -> None:
        if self._fd < 0 and self._name is not None:
            self._fd = self._folder.open(self._name)
        try:
            sync(self._fd)
        except OSError:
            kept = self._kept
            if kept is not None:
                # The kernel may have dropped the pages that it could not write, and tells so only once.
                self._covered = kept.durable.copy()
                with contextlib.suppress(OSError):
                    kept.journal.write(kept.record(self._covered))
            raise

    def _prepare(self, mtime: float | None) -> None:
        """The first step of a commit: see that it may be made, and set the time of change."""
        self._check_process()
        if self._name is None:
            raise ValueError("nothing was begun, or it is closed")
        expected = self._covered.stop if self._size is None else self._size
        if not self._covered.is_exactly(expected):
            received = sum(map(len, self._covered.spans()))
            raise TargetError(
                f"{self.path} is not complete: expected {expected} bytes without a gap, got {received} up to byte"
                f" {self._covered.stop}; download it again.",
                path=str(self.path),
            )
        if mtime is not None:
            times = (time.time(), mtime)
            if self._fd >= 0:
                os.utime(self._fd, times)
            else:
                os.utime(self._name, times, dir_fd=self._folder.fd, follow_symlinks=False)

    def _put_in_place(self) -> None:
        # Some network file systems tell of a full disk or quota only here: before the rename, not after it.
        self._close_data()
        try:
            self._folder.rename(self._name or "", self._target)
        except FileNotFoundError as error:
            raise TargetError(
                f"{self.path}: its partial file is gone: another getm has taken it over, or somebody has removed it;"
                " download it again.",
                path=str(self.path),
            ) from error
        self._name = None

    def _finish(self) -> None:
        """After a commit: the journal goes. Where it cannot, it names a file that is no more, and is worth nothing."""
        if self._name is None:
            with contextlib.suppress(OSError):
                self._remove()
            self._close()

    def _close_data(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _remove(self) -> None:
        """Remove both files. Raises OSError."""
        name, self._name = self._name, None
        kept, self._kept = self._kept, None
        try:
            self._close_data()
            if name is not None:
                self._folder.remove(name)
        finally:
            if kept is not None:
                lock.remove(self._folder, self._target, kept.journal)

    def _close(self) -> None:
        """Close everything and remove nothing."""
        self._name = None
        kept, self._kept = self._kept, None
        try:
            self._close_data()
        finally:
            if kept is not None:
                kept.journal.close()
            if self._owns_folder:
                self._folder.close()


class Commit:
    """Puts several files in place, with few waits for the disk, one step after the other: `write_out`, `put_in_place`,
    `settle`, `finish`. The first and the third wait for the disk and do little else, so that they can be done in a
    thread while the files' own goes on.

    `files`: each with its time of change (see `PartialFile.commit`). `errors`: one or None for each; one that fails
    keeps no other back.
    """

    def __init__(self, files: Sequence[tuple[PartialFile, float | None]]) -> None:
        self.errors: list[TargetError | None] = [None] * len(files)
        self._files = files
        for number, (partial, mtime) in enumerate(files):
            self._try(number, partial._prepare, mtime)
        self._ready = [partial for partial, _ in self._rest()]

    def _try(self, number: int, step: Callable[..., None], *arguments: object) -> None:
        try:
            step(*arguments)
        except TargetError as error:
            self.errors[number] = error
        except OSError as error:
            told = self.errors[number] = target_error(error, self._files[number][0].path)
            told.__cause__ = error

    def _rest(self) -> list[tuple[PartialFile, int]]:
        """Those that did not fail, with their numbers."""
        return [
            (partial, number)
            for number, ((partial, _), error) in enumerate(zip(self._files, self.errors, strict=True))
            if error is None
        ]

    def write_out(self) -> None:
        """Bring the bytes onto the disk."""
        written_out = _write_out_file_systems([partial._folder for partial in self._ready])
        for partial, number in self._rest():
            if partial._folder.device not in written_out:
                self._try(number, partial._sync_data, os.fsync)

    def put_in_place(self) -> None:
        """Rename."""
        for partial, number in self._rest():
            self._try(number, partial._put_in_place)

    def settle(self) -> None:
        """Bring the new names onto the disk."""
        sync = _FolderSync()
        for partial, number in self._rest():
            self._try(number, sync, partial._folder)

    def finish(self) -> None:
        """Remove the journals, and close everything."""
        for partial in self._ready:
            partial._finish()


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
    done = set()
    for folder in folders:
        if counts.pop(folder.device, 0) >= _SYNC_TOGETHER:
            # Where it cannot be done, or fails (perhaps for somebody else's file), each file is asked for.
            with contextlib.suppress(OSError):
                libc.syncfs(folder.fd)
                done.add(folder.device)
    return done
