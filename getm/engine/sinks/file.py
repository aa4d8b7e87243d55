"""The sink of an object that goes to a file: its bytes go from slots into the file, and never leave the engine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from getm.core.threads import WorkerThreads
from getm.core.writing import write_all
from getm.errors import TargetError
from getm.protocol.messages import FolderEntry, FolderInfo

# A descriptor that only names a folder: it need not be readable. Not everywhere.
_FOLDER_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE_FLAGS = _FILE_FLAGS | os.O_CREAT | os.O_EXCL
_GONE = "the folder was moved or replaced"
# How many files are remembered, of which the consumers may not have put some in place yet: each of these has some 1,300
# at most.
_MAX_STORED = 4096


class Folders:
    """The folders that files are written to now: each is open while a file in it is."""

    def __init__(self) -> None:
        # The descriptor, and for how many files.
        self._open: dict[tuple[int, int], tuple[int, int]] = {}
        self._stored: deque[FolderEntry] = deque(maxlen=_MAX_STORED)

    def hold(self, info: FolderInfo) -> int:
        """A descriptor of the folder, which stays open until `release`. Raises OSError."""
        key = info.identity
        fd, uses = self._open.get(key) or (_open_folder(info), 0)
        self._open[key] = fd, uses + 1
        return fd

    def release(self, info: FolderInfo) -> None:
        """The counterpart of a `hold`."""
        key = info.identity
        fd, uses = self._open[key]
        if uses > 1:
            self._open[key] = fd, uses - 1
        else:
            del self._open[key]
            os.close(fd)

    @contextlib.contextmanager
    def using(self, info: FolderInfo) -> Iterator[int]:
        """A context with a descriptor of the folder. Raises OSError."""
        fd = self.hold(info)
        try:
            yield fd
        finally:
            self.release(info)

    def stored(self, file: FolderEntry) -> None:
        """A file that no other run can continue is there, under its hidden name."""
        self._stored.append(file)

    def remove_stored(self) -> None:
        """The process that would put such files in place is dead: remove those that it has not."""
        for folder, files in itertools.groupby(self._stored, key=lambda file: file.folder):
            with contextlib.suppress(OSError), self.using(folder):
                for file in files:
                    self.remove(file)

    def remove(self, file: FolderEntry) -> None:
        """Remove a file. Nothing can be done where that fails."""
        with contextlib.suppress(OSError), self.using(file.folder) as folder:
            os.unlink(file.name, dir_fd=folder)


def _open_folder(info: FolderInfo) -> int:
    """The folder that the other process has open, whatever its path leads to now."""
    failure: OSError = FileNotFoundError(errno.ENOENT, _GONE)
    for path in (f"/proc/{info.pid}/fd/{info.descriptor}", info.path):
        try:
            fd = os.open(path, _FOLDER_FLAGS)
        except OSError as error:
            failure = error
            continue
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) == info.identity:
            return fd
        os.close(fd)
        failure = FileNotFoundError(errno.ENOENT, _GONE)
    raise failure


def write_new_file(folder: int, name: bytes, mode: int, contents: Iterable[bytes | memoryview]) -> None:
    """Write all of a small object to a new file. Raises OSError; then there is no such file."""
    fd = os.open(name, _NEW_FILE_FLAGS, mode, dir_fd=folder)
    try:
        offset = 0
        for data in contents:
            write_all(fd, data, offset)
            offset += len(data)
    except OSError:
        os.unlink(name, dir_fd=folder)
        raise
    finally:
        os.close(fd)


def target_error(error: OSError, entry: FolderEntry | None) -> TargetError:
    """The consumer, which knows the target's name, puts it into words."""
    folder, name = (b"", b"") if entry is None else (entry.folder.path, entry.name)
    path = os.fsdecode(os.path.join(folder, name))  # noqa: PTH118 - bytes
    return TargetError(f"{path} cannot be written ({error})", path=path, errno=error.errno)


class _Piece(NamedTuple):
    """Bytes of the object from `offset` on: those of `slot` from its byte `start` on."""

    offset: int
    slot: int
    start: int
    length: int


class FileSink:
    """The bytes of one object on their way from slots into a file.

    A thread writes one piece after the other, so that a slow disk holds up nothing but its own object. Slots are pinned
    until they are written. `written(offset, length)` is called for each piece, and `failed(error)` once, where the disk
    fails: what comes after it is dropped.
    """

    def __init__(
        self,
        memory: memoryview,
        slot_bytes: int,
        threads: WorkerThreads,
        *,
        call: Callable[..., None],
        pin: Callable[[int], None],
        unpin: Callable[[int], None],
        written: Callable[[int, int], None],
        failed: Callable[[OSError], None],
    ) -> None:
        self._memory = memory
        self._slot_bytes = slot_bytes
        self._threads = threads
        self._call = call
        self._pin, self._unpin = pin, unpin
        self._on_written, self._on_failed = written, failed
        self._fd = -1
        # For `_pieces` and `_busy`, which a thread uses as well.
        self._lock = threading.Lock()
        self._pieces: deque[_Piece] = deque()
        self._busy = False
        # How many are not written yet.
        self._open_pieces = 0
        self._done: asyncio.Future[None] | None = None
        self._closed = False

    def add(self, offset: int, slot: int, length: int, new: int) -> None:
        """The first `length` bytes of a slot have come, the last `new` of them now; see `Emit`."""
        start = length - new
        self._pin(slot)
        self._open_pieces += 1
        with self._lock:
            self._pieces.append(_Piece(offset + start, slot, start, new))
        self._go_on()

    def open(self, folder: int, name: bytes) -> None:
        """Write to that file from now on. Raises OSError."""
        if not self._closed and self._fd < 0:
            self._fd = os.open(name, _FILE_FLAGS, dir_fd=folder)
            self._go_on()

    def _go_on(self) -> None:
        with self._lock:
            if self._fd < 0 or self._busy or not self._pieces:
                return
            self._busy = True
        self._threads.submit(self._write)

    def _write(self) -> None:
        """In a thread: write what is there."""
        while True:
            with self._lock:
                if not self._pieces:
                    self._busy = False
                    self._call(self._rest)
                    return
                piece = self._pieces.popleft()
            failure = None
            try:
                write_all(self._fd, self._bytes(piece), piece.offset)
            except OSError as error:
                failure = error
            self._call(self._wrote, piece, failure)

    def _bytes(self, piece: _Piece) -> memoryview:
        at = piece.slot * self._slot_bytes + piece.start
        return self._memory[at : at + piece.length]

    def _wrote(self, piece: _Piece, error: OSError | None) -> None:
        self._release(piece)
        if self._closed:
            return
        if error is not None:
            self.close()
            self._on_failed(error)
            return
        if piece.length:
            self._on_written(piece.offset, piece.length)

    def _release(self, piece: _Piece) -> None:
        self._open_pieces -= 1
        self._unpin(piece.slot)
        if not self._open_pieces and self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def finish(self) -> None:
        """Wait until everything is written, and close the file."""
        if self._open_pieces:
            self._done = asyncio.get_running_loop().create_future()
            await self._done
        self.close()

    def contents(self) -> list[memoryview]:
        """What has come, where no file is open yet."""
        return [self._bytes(piece) for piece in self._pieces]

    def close(self) -> None:
        """What is not written yet is dropped; the file is closed, once no thread writes to it."""
        self._closed = True
        with self._lock:
            dropped, busy = list(self._pieces), self._busy
            self._pieces.clear()
        for piece in dropped:
            self._release(piece)
        if not busy:
            self._rest()

    def _rest(self) -> None:
        """No thread is at work."""
        if self._closed and not self._busy:
            # The ring's memory must not wait for a garbage collection.
            self._memory = memoryview(b"")
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)
