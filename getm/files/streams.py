"""Targets that are no files: pipes, devices, standard output. Bytes are written in order, immediately and
irrevocably."""

from __future__ import annotations

import os
import re
import select
import stat
from pathlib import Path
from typing import Self

from getm.core.writing import MAX_WRITE_BYTES
from getm.errors import TargetError
from getm.files.folder import closing
from getm.files.os_errors import as_target_error, target_error

# Names of descriptors that this process has. Opening them would start at offset 0 of a file that the shell has opened
# for appending, and fail for sockets; a duplicate shares the offset and always works.
_HELD = re.compile(r"/(?:dev/fd|proc/self/fd)/([0-9]{1,9})")
_STANDARD = {"/dev/stdout": 1, "/dev/stderr": 2}


def needs_order(path: str | os.PathLike[str] | None) -> bool:
    """Whether `path` names something that takes bytes in order only: a FIFO, a socket, a device, a descriptor.

    Checked before the request is made, so that the parts can be requested in order. Everything below /dev and /proc
    counts (but not /dev/shm): such names are never replaced by a file, not even where they lead to one.
    """
    if path is None:
        return False
    if is_special(os.fspath(path)):
        return True
    mode = _mode(path)
    return mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def may_be_file(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a regular file, or nothing yet: neither a folder, nor what `needs_order`."""
    if is_special(os.fspath(path)):
        return False
    mode = _mode(path)
    return mode is None or stat.S_ISREG(mode)


def _mode(path: str | os.PathLike[str]) -> int | None:
    """What is at the path, as stat(2) has it; None where nothing is."""
    try:
        return os.stat(path).st_mode  # noqa: PTH116
    except OSError:
        return None


def is_special(path: str) -> bool:
    """Whether `path` needs order by its name alone, whether it exists or not."""
    if path.startswith("/") and "dev/" not in path and "proc/" not in path:
        # Decided without parsing the path: a batch asks a hundred thousand times.
        return False
    if path[:1] not in ("", ".", "/") and "/." not in path and "//" not in path:
        # There is nothing to resolve, which takes longer than all the rest.
        absolute = f"{os.getcwd().rstrip('/')}/{path}"  # noqa: PTH109 - text is faster
    else:
        absolute = os.path.abspath(path)  # noqa: PTH100 - no symlink may be resolved: /dev/stdout is one
    return absolute.startswith(("/dev/", "/proc/")) and not absolute.startswith("/dev/shm/")


# As much as is looked at to see whether data is text.
_LOOKED_AT_BYTES = 2048


class StreamTarget:
    """Writes to a descriptor in order. Owns a descriptor of its own until `close()`.

    Written bytes cannot be taken back: the reader of the other end must wait for this side's success before trusting
    them.
    """

    def __init__(self, fd: int, path: Path) -> None:
        """Duplicates `fd`; `path` is its name in errors. Raises TargetError if `fd` is not open."""
        self.path = path
        self._position = 0
        # What may be the end of the object: nothing is to look complete before it is verified.
        self._held = b""
        self.written: bool = False
        with as_target_error(path):
            self._fd = os.dup(fd)

    @classmethod
    def open(cls, path: Path) -> StreamTarget:
        """Open a path for which `needs_order` is true. A FIFO blocks here until it has a reader, as everywhere in
        Unix."""
        absolute = os.path.abspath(path)  # noqa: PTH100
        held = _HELD.fullmatch(absolute)
        if absolute in _STANDARD or held:
            return cls(int(held[1]) if held else _STANDARD[absolute], path)
        with as_target_error(path):
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
        with closing(fd):
            return cls(fd, path)

    def write(self, offset: int, view: memoryview, *, may_be_last: bool = False) -> None:
        """Write `view`, whose first byte is byte `offset` of the object and must be the next one due. What may be the
        last bytes is kept until the next ones come, or until `finish`.

        Blocks while the reader is slow. Raises TargetError; its cause is BrokenPipeError when the reader is gone.
        """
        if offset != self._position:
            raise TargetError(
                f"{self.path} takes bytes in order only: expected byte {self._position}, got byte {offset}.",
                path=str(self.path),
            )
        self.finish()
        self._position += len(view)
        if may_be_last:
            self._held = bytes(view)
        else:
            self._write(view)

    def finish(self) -> None:
        """Write what was held back: the object is complete and verified."""
        held, self._held = self._held, b""
        self._write(memoryview(held))

    def interrupt(self) -> None:
        """The object comes again from its start; nothing of it was written."""
        self._position, self._held = 0, b""

    def _write(self, rest: memoryview) -> None:
        if not self.written and len(rest):
            self._refuse_binary(rest)
        while len(rest):
            self.written = True
            try:
                written = os.write(self._fd, rest[:MAX_WRITE_BYTES])
            except BlockingIOError:
                # A shell or parent may have left O_NONBLOCK on a shared pipe or terminal.
                select.select([], [self._fd], [])
                continue
            except OSError as error:
                raise target_error(error, self.path) from error
            rest = rest[written:]

    def _refuse_binary(self, first: memoryview) -> None:
        """Raises TargetError for what would make a terminal unreadable: what has a NUL in its first bytes (curl has the
        same rule)."""
        if b"\0" in bytes(first[:_LOOKED_AT_BYTES]) and os.isatty(self._fd):
            raise TargetError(
                "the data is binary, and would go to a terminal; give a FILE, or a pipe",
                path=str(self.path),
            )

    def close(self) -> None:
        """Harmless when repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
