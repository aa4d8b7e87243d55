"""The paces of hosts in a small file in memory, which all engines of a user on this machine map.

It needs no process of its own. A record for each host that limits requests is changed under a lock, which the system
releases when its holder dies, and has a checksum, since its writer may have died in between. A row for each engine and
host counts what is under way; only its owner writes it, and the rows of the dead do not count. Where there can be no
such file, the table is this engine's own.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import stat
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import astuple

from getm.core.log import get_logger
from getm.core.pace import HostPace

_log = get_logger("engine")

TABLE_VARIABLE = "GETM_HOST_TABLE"
OFF = "off"

# Changes with the format of the file.
_NAME = "getm-hosts-2"
# A number that changes when a host becomes limited.
_HEADER_BYTES = 64
_KEY_BYTES = 16
# The fields of a HostPace, and a checksum of the key and these.
_FIELDS = struct.Struct("<dddII?ddIdIddIddIIdII")
_CHECKSUM = struct.Struct("<I")
_RECORD_BYTES = _KEY_BYTES + _FIELDS.size + _CHECKSUM.size
_RECORDS = 256
# A host's record is one of so many neighbours; when all are taken, the one that was used least recently goes.
_NEIGHBOURS = 8
# A key, and four numbers: the process, when that began, how many requests it makes, and how many responses it receives.
_ROW = struct.Struct("<16sIIII")
_ROWS = 512
_FIRST_ROW = -(-(_HEADER_BYTES + _RECORDS * _RECORD_BYTES) // _ROW.size) * _ROW.size
_FILE_BYTES = _FIRST_ROW + _ROWS * _ROW.size
# A holder of the lock that was stopped must stop nobody else.
_LOCK_TRIES = 20
_LOCK_PAUSE_S = 0.0005


class HostTable:
    """The table; to be closed. Hosts go by their keys (`key_of`)."""

    def __init__(self) -> None:
        self._file = -1
        try:
            self._file = _open_file()
            self._memory = mmap.mmap(self._file, _FILE_BYTES)
        except OSError as error:
            _log.info("limits of hosts are not shared with other processes: %s", error)
            self._close_file()
            self._memory = mmap.mmap(-1, _FILE_BYTES)
        self.words: memoryview = memoryview(self._memory).cast("I")
        """The first one changes when a host becomes limited."""
        self._process = os.getpid(), _start_of(os.getpid())
        # Of this engine, by the key.
        self._rows: dict[bytes, int] = {}

    def close(self) -> None:
        """Nothing is under way any more."""
        for at in self._rows.values():
            self._memory[at : at + _ROW.size] = bytes(_ROW.size)
        self._rows.clear()
        self.words.release()
        self._memory.close()
        self._close_file()

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    # Records ----------------------------------------------------------------------------------------------------------

    def find(self, key: bytes) -> HostPace | None:
        """A copy of what is known of a host."""
        at = self._position(key)
        if at is None:
            return None
        pace = self._read(at)
        if pace is None:
            # It may be half written just now.
            with self._locked():
                pace = self._read(at)
        return pace

    @contextlib.contextmanager
    def change(self, key: bytes) -> Iterator[HostPace]:
        """A context with what is known of a host, which is written back at its end."""
        with self._locked():
            at = self._position(key)
            pace = None if at is None else self._read(at)
            pace = HostPace() if pace is None else pace
            before = pace.is_limited(time.monotonic())
            yield pace
            record = key + _FIELDS.pack(*astuple(pace))
            at = self._place(key) if at is None else at
            self._memory[at : at + _RECORD_BYTES] = record + _CHECKSUM.pack(zlib.crc32(record))
            if not before and pace.is_limited(time.monotonic()):
                # Whoever took it for one without limits looks again.
                self.words[0] = (self.words[0] + 1) & 0xFFFF_FFFF

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        locked = self._file >= 0 and _lock(self._file)
        try:
            # Without the lock a change of another process may be lost, which is better than to wait for ever.
            yield
        finally:
            if locked:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _first(self, key: bytes) -> int:
        return _HEADER_BYTES + int.from_bytes(key[:4], "little") % (_RECORDS - _NEIGHBOURS + 1) * _RECORD_BYTES

    def _position(self, key: bytes) -> int | None:
        """Where the record with that key is."""
        first = self._first(key)
        at = self._memory.find(key, first, first + _NEIGHBOURS * _RECORD_BYTES)
        return at if at >= 0 and (at - first) % _RECORD_BYTES == 0 else None

    def _place(self, key: bytes) -> int:
        """Where a new record goes: to a free place, or to that of the host that refused something least recently."""
        first = self._first(key)
        places = range(first, first + _NEIGHBOURS * _RECORD_BYTES, _RECORD_BYTES)
        return min(places, key=lambda at: pace.refused_s if (pace := self._read(at)) is not None else 0.0)

    def _read(self, at: int) -> HostPace | None:
        """The record there; None where there is none, or one that is not whole."""
        record = self._memory[at : at + _RECORD_BYTES]
        (checksum,) = _CHECKSUM.unpack_from(record, _RECORD_BYTES - _CHECKSUM.size)
        if zlib.crc32(record[: -_CHECKSUM.size]) != checksum:
            return None
        pace = HostPace(*_FIELDS.unpack_from(record, _KEY_BYTES))
        # Otherwise it is of an earlier boot.
        return pace if max(pace.refused_s, pace.eased_s) <= time.monotonic() else None

    # What is under way ------------------------------------------------------------------------------------------------

    def count(self, key: bytes, requests: int = 0, responses: int = 0) -> None:
        """So many more are under way from this engine to a host."""
        at = self._rows.get(key) or self._claim_row(key)
        if at:
            first = at // 4 + 6
            self.words[first] += requests
            self.words[first + 1] += responses

    def under_way(self, key: bytes) -> tuple[int, int]:
        """The requests and responses of all living engines."""
        requests = responses = 0
        at = self._memory.find(key, _FIRST_ROW)
        while at >= 0:
            if (at - _FIRST_ROW) % _ROW.size == 0:
                _, pid, start, asks, receives = _ROW.unpack_from(self._memory, at)
                if (asks or receives) and self._lives(pid, start):
                    requests += asks
                    responses += receives
            at = self._memory.find(key, at + 1)
        return requests, responses

    def _lives(self, pid: int, start: int) -> bool:
        """Whether the process that wrote a row does."""
        if (pid, start) == self._process or start:
            return (pid, start) == self._process or _start_of(pid) == start
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        return True

    def _claim_row(self, key: bytes) -> int:
        """Where this engine counts what is under way to a host; 0 where there is no room."""
        with self._locked():
            places = range(_FIRST_ROW, _FILE_BYTES, _ROW.size)
            rows = ((at, _ROW.unpack_from(self._memory, at)) for at in places)
            at = next((at for at, (_, pid, *_) in rows if not pid), 0)
            if not at:
                rows = ((at, _ROW.unpack_from(self._memory, at)) for at in places)
                at = next((at for at, (_, pid, start, *_) in rows if not self._lives(pid, start)), 0)
            if at:
                _ROW.pack_into(self._memory, at, key, *self._process, 0, 0)
        self._rows[key] = at
        return at


def key_of(server: str) -> bytes:
    """The key of a server, which is a scheme, a name and a port."""
    return hashlib.blake2b(server.lower().encode("utf-8", "surrogateescape"), digest_size=_KEY_BYTES).digest()


def _lock(file: int) -> bool:
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE_S)
        except OSError:
            # No locks there.
            return False
        else:
            return True
    return False


def _start_of(pid: int) -> int:
    """When that process began, by the system's own count: another one with its number began later. 0: there is none, or
    this is not Linux."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - faster
            # Its name may have blanks and brackets (proc_pid_stat(5)).
            return int(file.read().rpartition(b")")[2].split()[19]) & 0xFFFF_FFFF
    except (OSError, IndexError):
        return 0


def _open_file() -> int:
    """A descriptor of this user's file. Raises `OSError` where there can be none, or another user's is in its place."""
    path = _path()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError(f"{path} is not a file of this user alone")
        if hasattr(os, "posix_fallocate"):
            # A write to a page that a full file system cannot give would be a SIGBUS.
            os.posix_fallocate(descriptor, 0, _FILE_BYTES)
        elif status.st_size < _FILE_BYTES:
            os.ftruncate(descriptor, _FILE_BYTES)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _path() -> Path:
    """Where all processes of a user look for it, those without a session of their own included."""
    given = os.environ.get(TABLE_VARIABLE)
    if given:
        return Path(given)
    folder = "/dev/shm" if sys.platform == "linux" else tempfile.gettempdir()
    return Path(folder, f"{_NAME}-{os.geteuid()}")
