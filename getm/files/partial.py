"""A file that is being downloaded: its data survives every interruption, and it is put in place complete or not at all.

The bytes go to a hidden file beside the target, which replaces it by a rename: atomic on POSIX, so a reader, a second
getm on the same target and a kill at any moment see the old file or the whole new one. Everything happens relative to
an open folder: replacing a parent folder by a symbolic link changes nothing, and a target that is itself a symbolic
link is replaced, not followed.

Where the object's version can be recognised later (a size and a strong validator), a journal beside the partial file
records what is there, so that another run fetches only the rest: `journal.py` says in what form, `lock.py` who may use
it. A small object has none: fetching it again costs less.

The order of steps, so that a kill between any two leaves something right:

- begin: the journal, then the data file that it names. A journal whose file is missing is worth nothing.
- wrote: the data, then the journal's record of it. Checkpoint: the data to the disk, then the record.
- commit (`commit.py`): the data to the disk, the rename, the folder to the disk; then the journal goes.
- discard: the data, then the journal.

With `fsync=False` nothing waits for the disk, and no record says that something is on it: the same order protects
against a kill, but not against a power failure.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import msgspec

from getm.core.coverage import Coverage
from getm.core.spans import Span
from getm.core.this_process import process_number
from getm.core.units import MIB
from getm.core.version import Version
from getm.errors import TargetError
from getm.files import libc, lock
from getm.files.folder import Folder, closing
from getm.files.journal import JOURNAL_BYTES, Journal, Record, data_name, fits, new_identity
from getm.files.os_errors import as_target_error, target_error
from getm.files.recorder import Recorder, forget, reopen
from getm.files.replacing import check_process, gone, take_metadata
from getm.files.space import reserve

JOURNALED_FROM_BYTES = MIB
# The disk begins to write long before anything waits for it. On ext4 a fast GB then takes 0.4 to 0.7 s, durable as a
# whole, against 0.8 to 0.9 s where the disk begins with the fsync at the end, and 1.3 s with checkpoints of 64 MiB.
_START_BYTES = 16 * MIB


def open_partial(path: Path, *, resume: bool, folder: Folder | None = None, fsync: bool = True) -> PartialFile:
    """The partial file for the target `path`: first `begin`, then `wrote` for what somebody has written to the file
    `name`, then `commit`, `suspend` or `discard`.

    What a former run has left is continued if `resume`, and removed otherwise. If another process uses it, or it is not
    ours, this download uses another file (`exclusive` is False): it starts from the beginning and cannot be resumed.
    `folder`: the target's; None: opened here. `fsync`: whether checkpoints and the
    commit bring everything onto the disk. Never waits for a lock, nor for the disk.

    Raises TargetError: no such folder, no permission, a folder of the target's name.
    """
    partial = PartialFile(path, folder, fsync=fsync)
    try:
        with as_target_error(path):
            there = partial.folder.status(partial.target)
            if there is not None and stat.S_ISDIR(there.st_mode):
                # rename() would say so as well, but only after the last byte.
                raise TargetError(f"{path} is a folder; give the name of a file in it.", path=str(path))
            found = lock.find(partial.folder, partial.target)
            if isinstance(found, lock.Outcome):
                partial.exclusive = found is lock.Outcome.ABSENT
            else:
                partial._take_over(*found, resume=resume)
    except BaseException:
        partial.close()
        raise
    return partial


class PartialFile:
    """See `open_partial`. Bytes may come in any order, from one thread at a time; `checkpoint` may run in another one
    at the same time. Not to be used by a forked child.

    After an error it stays open: `suspend` keeps what is there for a later run, `discard` does not. As a context
    manager it discards what was not committed. Owns up to two descriptors: data and journal.
    """

    def __init__(self, path: Path, folder: Folder | None, *, fsync: bool) -> None:
        self.path: Path = path
        self.target: str = path.name
        self.folder: Folder = Folder(path.parent) if folder is None else folder
        self._owns_folder = folder is None
        self.fsync: bool = fsync
        self.exclusive: bool = True
        """Whether no other process is known to work on the same target's partial file."""
        self.saved: Version | None = None
        """The version of what a former run, or this one before an interruption, has left; None after `begin`."""
        self._fd = -1
        self._name: str | None = None
        self._size: int | None = None
        self._covered = Coverage()
        self._recorder: Recorder | None = None
        # Written to the file, and perhaps not yet on its way to the disk.
        self._resting_bytes = 0
        self._pid = process_number()
        # For the coverage and the recorder, which a checkpoint in another thread uses as well.
        self._guard = threading.Lock()
        self._checkpointing = threading.Lock()

    # What is there --------------------------------------------------------------------------------------------------

    @property
    def path_now(self) -> Path:
        """The path of the bytes until `commit`, for reading them."""
        return self.folder.path / (self._name or self.target)

    @property
    def name(self) -> str:
        """The name, in `folder`, of the file that takes the bytes: it has begun."""
        return self._name or ""

    @property
    def begun(self) -> bool:
        """Whether there is a data file, of this run or of a former one."""
        return self._name is not None

    @property
    def resumable(self) -> bool:
        """Whether a later run may continue it: there is a journal."""
        return self._recorder is not None

    @property
    def done_bytes(self) -> int:
        return self._covered.size_bytes

    @property
    def declared(self) -> tuple[str, str] | None:
        """The checksum that the journal has, in canonical text, and who declared it."""
        return None if self._recorder is None else self._recorder.record.declared

    def fileno(self) -> int:
        """A descriptor to read the bytes by, owned by this object; -1 where it is closed already (a small file)."""
        return self._fd

    def missing(self) -> tuple[Span, ...]:
        """The spans still to be written, in order; none where the size is not known."""
        return () if self._size is None else self._covered.missing(self._size)

    # From the head to the last byte ---------------------------------------------------------------------------------

    def begin(self, version: Version, *, declared: tuple[str, str] | None = None, resumed: bool = False) -> None:
        """The head of the response has come: the object is of this `version`.

        Without a size or a strong validator, nothing can be resumed later. `declared`: a checksum in canonical text,
        and who declared it. `resumed`: the server continues `saved`, whose size it has confirmed; otherwise what was
        saved is removed.

        Raises TargetError: no space for what is missing. Then `saved` is kept, if it was to be continued.
        """
        check_process(self._pid, self.path)
        saved, self.saved = self.saved, None
        self._size, recorder = version.size, self._recorder
        if resumed and (saved is None or recorder is None or version.size is None or saved.size != version.size):
            raise ValueError("only what is saved can be resumed, and only with its size")
        with as_target_error(self.path):
            if not resumed or recorder is None:
                self._start(version, declared)
                return
            reserve(self._fd, version.size or 0)
            if declared is not None and fits(recorder.record.version, declared):
                recorder.record = msgspec.structs.replace(recorder.record, declared=declared)
            with self._guard:
                recorder.write(self._covered)

    def interrupt(self, *, keep: bool) -> None:
        """The object will be requested again, and `begin` called again. `keep`: the bytes so far become `saved`, where
        they can be resumed at all; otherwise they are removed. Raises TargetError."""
        recorder = self._recorder
        if keep and recorder is not None:
            self.saved = recorder.record.version
            return
        self.saved = None
        self._covered = Coverage()
        with as_target_error(self.path):
            self._remove()

    def wrote(self, offset: int, length: int) -> None:
        """So many bytes of the object, from byte `offset` on, are in the file. Raises TargetError."""
        check_process(self._pid, self.path)
        try:
            with self._guard:
                self._covered.add(offset, offset + length)
                recorder = self._recorder
                if recorder is not None:
                    recorder.wrote(length)
                    if recorder.record_due:
                        recorder.write(self._covered)
        except OSError as error:
            raise target_error(error, self.path) from error
        if recorder is not None:
            self._resting_bytes += length
            if self.fsync and self._resting_bytes >= _START_BYTES:
                self._resting_bytes = 0
                with contextlib.suppress(OSError):
                    libc.start_writing_out(self._fd)
        elif self._size is not None and self._size < JOURNALED_FROM_BYTES and self._covered.is_exactly(self._size):
            # Many small files wait to be committed together, and the number of open files is limited.
            self._close_data()

    @property
    def checkpoint_due(self) -> bool:
        """Whether enough has come since the last one for another `checkpoint`."""
        return self.fsync and self._recorder is not None and self._recorder.checkpoint_due

    def checkpoint(self) -> None:
        """Bring everything written so far onto the disk, then the journal that says so. Nothing without a journal,
        or without `fsync`.

        In any thread: it waits for the disk, and writing continues. Raises TargetError; bytes that may be lost then are
        `missing` again.
        """
        check_process(self._pid, self.path)
        if self.fsync:
            with self._checkpointing, as_target_error(self.path):
                self._checkpoint()

    def _checkpoint(self) -> None:
        with self._guard:
            recorder, covered, name = self._recorder, self._covered.copy(), self._name
            if recorder is None or name is None:
                return
            recorder.checkpoint_begins()
            # A duplicate: the file may be closed in the meantime, or already be closed after a commit that failed.
            fd = self.folder.open(name) if self._fd < 0 else os.dup(self._fd)
        with closing(fd):
            self._sync(fd, libc.fdatasync)
        if not recorder.named:
            self.folder.sync()
            recorder.named = True
        with self._guard:
            if self._recorder is not recorder:
                # Closed in the meantime: the journal may be another process's by now.
                return
            recorder.durable = covered
            recorder.write(self._covered, durable=True)
            journal = os.dup(recorder.journal.fd)
        with closing(journal):
            libc.fdatasync(journal)
        recorder.journal.turn()

    # The ends -------------------------------------------------------------------------------------------------------

    def suspend(self) -> None:
        """Close, and keep what can be resumed for a later run; the rest is removed. Harmless when repeated. Waits for
        the disk; without `fsync` it does not, and what it keeps counts until the machine stops.

        Never raises: what could not be kept is not recorded as being there.
        """
        if self._recorder is None or process_number() != self._pid:
            with contextlib.suppress(TargetError):
                self.discard()
            return
        with contextlib.suppress(TargetError):
            self.checkpoint()
        with contextlib.suppress(OSError), self._guard:
            self._recorder.write(self._covered, in_use=False)
        self.close()

    def discard(self) -> None:
        """Close, and remove everything. Harmless when repeated, and after a commit."""
        if process_number() != self._pid:
            # A forked child: the files are its parent's.
            self.close()
            return
        try:
            with as_target_error(self.path):
                self._remove()
        finally:
            self.close()

    def close(self) -> None:
        """Close everything and remove nothing."""
        self._name = None
        recorder = self._detach()
        try:
            self._close_data()
        finally:
            if recorder is not None:
                recorder.journal.close()
            if self._owns_folder:
                self.folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.discard()

    # Steps of a commit, see `commit.py`: all but the first may raise OSError ------------------------------------------

    def prepare_commit(self, mtime: float | None) -> None:
        """See that it may be put in place, and set its time of change and its mode. Raises TargetError, OSError."""
        check_process(self._pid, self.path)
        if self._name is None:
            raise ValueError("it has not begun, or it is closed")
        expected = self._covered.stop if self._size is None else self._size
        if not self._covered.is_exactly(expected):
            raise TargetError(
                f"{self.path} is not complete: expected {expected} bytes without a gap, got {self._covered.size_bytes}"
                f" up to byte {self._covered.stop}; download it again.",
                path=str(self.path),
            )
        replaced = self.folder.status(self.target)
        if replaced is None and mtime is None:
            return
        with self._data_open() as fd:
            take_metadata(fd, replaced, mtime)

    def sync_data(self) -> None:
        """Bring the bytes onto the disk."""
        with self._data_open() as fd:
            self._sync(fd, os.fsync)

    @contextlib.contextmanager
    def _data_open(self) -> Iterator[int]:
        """A context with the descriptor of the data file: a small one is closed as soon as its bytes are there, and
        opened again."""
        if self._fd >= 0:
            yield self._fd
            return
        try:
            fd = self.folder.open(self._name or "")
        except FileNotFoundError as error:
            raise gone(self.path) from error
        with closing(fd):
            yield fd

    def put_in_place(self) -> None:
        """Rename it to the target."""
        # Some network file systems report a full disk or quota only here: so before the rename, not after it.
        self._close_data()
        try:
            self.folder.rename(self._name or "", self.target)
        except FileNotFoundError as error:
            raise gone(self.path) from error
        self._name = None

    def finish_commit(self) -> None:
        """Remove the journal of a file that was put in place. Never raises: a journal that stays names a file that no
        longer exists."""
        if self._name is None:
            with contextlib.suppress(OSError):
                self._remove()
            self.close()

    # What these are made of -----------------------------------------------------------------------------------------

    def _take_over(self, journal: Journal, record: Record | None, *, resume: bool) -> None:
        """Continue what a former run has left, or remove it. Raises OSError."""
        try:
            reopened = reopen(self.folder, self.target, journal, record) if resume and record is not None else None
            if record is None or reopened is None:
                forget(self.folder, self.target, journal, record)
                return
        except BaseException:
            journal.close()
            raise
        self._fd, self._recorder, self._covered = reopened
        self._name = data_name(self.target, record.identity)
        self.saved = record.version
        self._size = record.version.size
        # In use again: without locks, other processes see only this.
        self._recorder.write(self._covered)

    def _start(self, version: Version, declared: tuple[str, str] | None) -> None:
        self._remove()
        self._covered = Coverage()
        try:
            recorder = self._recorder = self._new_recorder(version, declared)
            name = lock.private_name() if recorder is None else data_name(self.target, recorder.record.identity)
            self._fd = self.folder.create(name)
            # Not before: where creating it failed, a file of that name is not ours.
            self._name = name
            if self._size is not None and self._size >= JOURNALED_FROM_BYTES:
                reserve(self._fd, self._size)
        except BaseException:
            self._remove()
            raise

    def _new_recorder(self, version: Version, declared: tuple[str, str] | None) -> Recorder | None:
        """None: there is nothing to recognise it by later, or it is too small; another process has a journal; or the
        server's texts are too long for one."""
        size = version.size
        if not self.exclusive or version.strong is None or not fits(version, declared):
            return None
        if size is None or size < JOURNALED_FROM_BYTES:
            return None
        journal = lock.create(self.folder, self.target)
        if journal is None:
            self.exclusive = False
            return None
        record = Record(new_identity(), version, declared, True, journal.locked, lock.boot(), [], [])
        recorder = Recorder(journal, record, Coverage())
        try:
            reserve(journal.fd, JOURNAL_BYTES)
            recorder.write(Coverage())
        except BaseException:
            lock.remove(self.folder, self.target, journal)
            raise
        return recorder

    def _sync(self, fd: int, sync: Callable[[int], None]) -> None:
        try:
            sync(fd)
        except OSError:
            with self._guard:
                recorder = self._recorder
                if recorder is not None:
                    # The kernel may have dropped the pages that it could not write, and says so only once.
                    self._covered = recorder.durable.copy()
                    with contextlib.suppress(OSError):
                        recorder.write(self._covered)
            raise

    def _detach(self) -> Recorder | None:
        """Return the recorder, which is no longer ours."""
        if process_number() != self._pid:
            # The thread that holds the lock may not be here to release it.
            self._guard = threading.Lock()
        with self._guard:
            recorder, self._recorder = self._recorder, None
        return recorder

    def _close_data(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _remove(self) -> None:
        """Remove both files. Raises OSError."""
        name, self._name = self._name, None
        recorder = self._detach()
        try:
            self._close_data()
            if name is not None:
                self.folder.remove(name)
        finally:
            if recorder is not None:
                lock.remove(self.folder, self.target, recorder.journal)
