"""What is kept of an unfinished download, and how the next process takes it over."""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass

import msgspec

from getm.core.spans import plan_parts
from getm.files import libc, lock
from getm.files.coverage import Coverage
from getm.files.folder import Folder, write_all
from getm.files.journal import SPANS_AT_MOST, Journal, Owner, Record, Version, data_name, new_identity, spans_of
from getm.files.space import reserve

_COPY_BYTES = 1024 * 1024


@dataclass(slots=True)
class Kept:
    """A journal that this process writes, and how far it has come with telling what is there."""

    journal: Journal
    identity: str
    version: Version
    owner: Owner
    durable: Coverage
    """Spans that are on the disk."""
    unrecorded_bytes: int = 0
    undurable_bytes: int = 0
    resting_bytes: int = 0
    """Bytes that the kernel may not yet have begun to bring onto the disk."""
    recorded_s: float = 0.0
    durable_s: float = 0.0
    named: bool = False
    """The folder, with both files' names, is on the disk."""

    def record(self, written: Coverage, *, released: bool = False) -> Record:
        return Record(
            identity=self.identity,
            heir=None,
            version=self.version,
            owner=None if released else self.owner,
            boot=lock.boot(),
            written=written.bounds(SPANS_AT_MOST),
            durable=self.durable.bounds(SPANS_AT_MOST),
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """A partial file that is ours now: its open data file (the caller's to close), and which bytes of it are there."""

    fd: int
    kept: Kept
    written: Coverage


def take_over(folder: Folder, target: str, found: lock.Claim) -> Taken | lock.Outcome:
    """Make what a former run has left ours. ABSENT: it was worth nothing and is removed. BUSY: another was faster.

    Closes the journal of `found` unless that goes on being used. Raises OSError.
    """
    with contextlib.ExitStack() as undo:
        undo.callback(found.journal.close)
        data = None if found.record is None else _open_data(folder, target, found.record)
        if found.record is None or data is None:
            forget(folder, target, found)
            return lock.Outcome.ABSENT
        fd, identity = data
        undo.callback(os.close, fd)
        written = _trusted(fd, found.record)
        kept = Kept(found.journal, new_identity(), found.record.version, found.me, written.copy())
        if found.judgement is lock.Judgement.COPY:
            copy = _copy(folder, target, found, kept, fd, written)
            if copy is None:
                return lock.Outcome.BUSY
            folder.remove(data_name(target, identity))
            return Taken(copy, kept, written)
        if not _rename(folder, target, kept, identity, written):
            return lock.Outcome.BUSY
        undo.pop_all()
        return Taken(fd, kept, written)


def forget(folder: Folder, target: str, found: lock.Claim) -> None:
    """Remove a journal that is worth nothing, and the data that it names. Raises OSError."""
    for identity in () if found.record is None else (found.record.identity, found.record.heir):
        if identity is not None:
            # What has been put there instead stays: it is not ours.
            with contextlib.suppress(PermissionError, IsADirectoryError):
                folder.remove(data_name(target, identity))
    lock.remove(folder, target, found.journal)


def _open_data(folder: Folder, target: str, record: Record) -> tuple[int, str] | None:
    """The data file that `record` tells of, open, and its identity; None if it is missing or does not fit."""
    bounds = record.trusted(lock.boot())
    for identity in (record.identity, record.heir):
        if identity is None:
            continue
        try:
            fd = folder.open(data_name(target, identity))
        except OSError:
            continue
        status = os.fstat(fd)
        if lock.is_our_file(status) and (bounds[-1] if bounds else 0) <= status.st_size <= record.version.size:
            return fd, identity
        os.close(fd)
    return None


def _trusted(fd: int, record: Record) -> Coverage:
    """The bytes that are there for certain; they are on the disk by now."""
    try:
        # An error that befell pages after their writer's death shows here, and only once.
        libc.fdatasync(fd)
    except OSError:
        return Coverage(spans_of(record.durable))
    return Coverage(spans_of(record.trusted(lock.boot())))


def _rename(folder: Folder, target: str, kept: Kept, identity: str, written: Coverage) -> bool:
    """Give the data a name of our own, which only one process can do."""
    mine = kept.record(written)
    # Durable, or after a power failure only records of the old name could be left, while the data has the new one.
    kept.journal.write(msgspec.structs.replace(mine, identity=identity, heir=kept.identity), durable=True)
    try:
        folder.rename(data_name(target, identity), data_name(target, kept.identity))
    except FileNotFoundError:
        return False
    kept.journal.write(mine)
    return True


def _copy(folder: Folder, target: str, found: lock.Claim, kept: Kept, source: int, written: Coverage) -> int | None:
    """A new file and a new journal: the former owner may still have the old ones open, and write."""
    name = data_name(target, kept.identity)
    with contextlib.ExitStack() as undo:
        fd = folder.create(name)
        undo.callback(folder.remove, name)
        undo.callback(os.close, fd)
        reserve(fd, kept.version.size)
        for span in written.spans():
            for part in plan_parts(span, _COPY_BYTES):
                data = os.pread(source, len(part), part.start)
                if len(data) != len(part):
                    raise OSError(errno.EIO, "the partial file has become shorter")
                write_all(fd, data, part.start)
        libc.fdatasync(fd)

        def record(owner: Owner) -> Record:
            kept.owner = owner
            return kept.record(written)

        journal = lock.replace(folder, target, found, record)
        if journal is None:
            return None
        kept.journal = journal
        undo.pop_all()
        return fd
