"""Keeps a journal up to date while its data file is written, and finds the data file of a journal again."""

from __future__ import annotations

import contextlib
import os
import re
import time

import msgspec

from getm.core.coverage import Coverage
from getm.core.units import MIB
from getm.files import lock
from getm.files.folder import Folder
from getm.files.journal import SPANS_AT_MOST, Journal, Record, data_name, new_identity, spans_of

# How much is lost at most by a kill, and by a power failure.
RECORD_BYTES, RECORD_S = MIB, 1.0
CHECKPOINT_BYTES, CHECKPOINT_S = 1024 * MIB, 5.0


class Recorder:
    """The journal of one data file, and how far it is behind the data. `record`: what it describes. `durable`: the
    bytes that are on the disk. `named`: the folder, with both files' names, is on the disk. Checkpoints and records
    fall due by bytes and by time.
    """

    def __init__(self, journal: Journal, record: Record, durable: Coverage) -> None:
        self.journal: Journal = journal
        self.record: Record = record
        self.durable: Coverage = durable
        self.named: bool = False
        self._unrecorded_bytes = self._undurable_bytes = 0
        self._recorded_s = self._durable_s = time.monotonic()

    def wrote(self, length: int) -> None:
        """`length` more bytes are in the data file."""
        self._unrecorded_bytes += length
        self._undurable_bytes += length

    @property
    def record_due(self) -> bool:
        return self._unrecorded_bytes >= RECORD_BYTES or time.monotonic() - self._recorded_s >= RECORD_S

    @property
    def checkpoint_due(self) -> bool:
        late = time.monotonic() - self._durable_s >= CHECKPOINT_S
        return self._undurable_bytes >= CHECKPOINT_BYTES or (late and self._undurable_bytes > 0)

    def checkpoint_begins(self) -> None:
        """From now on counts what the next one is for."""
        self._undurable_bytes, self._durable_s = 0, time.monotonic()

    def write(self, written: Coverage, *, in_use: bool = True, durable: bool = False) -> None:
        """Record what is there; `durable`: as `Journal.write`. Raises OSError."""
        record = msgspec.structs.replace(
            self.record,
            in_use=in_use,
            locked=self.journal.locked,
            boot=lock.boot(),
            written=written.bounds(SPANS_AT_MOST),
            durable=self.durable.bounds(SPANS_AT_MOST),
        )
        self.journal.write(record, durable=durable)
        if not durable:
            self._unrecorded_bytes, self._recorded_s = 0, time.monotonic()


def reopen(folder: Folder, target: str, journal: Journal, record: Record) -> tuple[int, Recorder, Coverage] | None:
    """Continue the data file that a former run's `record` describes: its descriptor, and the bytes that are there for
    certain. None: it is missing, or does not fit the record. Raises OSError."""
    bounds = record.trusted(lock.boot())
    try:
        fd = folder.open(data_name(target, record.identity))
    except OSError:
        return None
    status = os.fstat(fd)
    if not lock.is_our_file(status) or not (bounds[-1] if bounds else 0) <= status.st_size <= (
        record.version.size or 0
    ):
        os.close(fd)
        return None
    # Not the bytes that are only written: an error with their pages after the end of their writer shows at the first
    # checkpoint, which then falls back to these.
    durable = Coverage(spans_of(record.durable))
    recorder = Recorder(journal, record, durable)
    recorder.wrote(sum(bounds[1::2]) - sum(bounds[::2]) - durable.size_bytes)
    return fd, recorder, Coverage(spans_of(bounds))


def forget(folder: Folder, target: str, journal: Journal, record: Record | None) -> None:
    """Remove a useless journal, and the data file that it names; where it cannot be read (the power has failed before
    it was on the disk), any that it may have named. Raises OSError."""
    names = _data_names(folder, target) if record is None else [data_name(target, record.identity)]
    for name in names:
        # A file that has replaced it stays: it is not ours.
        with contextlib.suppress(PermissionError, IsADirectoryError):
            folder.remove(name)
    lock.remove(folder, target, journal)


def _data_names(folder: Folder, target: str) -> list[str]:
    """The files in the folder that are named as data files of `target`."""
    some = new_identity()
    before, _, after = data_name(target, some).partition(some)
    names = re.compile(f"{re.escape(before)}[0-9a-f]{{{len(some)}}}{re.escape(after)}")
    found = ((name, folder.status(name)) for name in folder.names() if names.fullmatch(name))
    return [name for name, status in found if status is not None and lock.is_our_file(status)]
