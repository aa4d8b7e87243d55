"""The bytes of a list, which are read more than once: a file, or a temporary copy of what can be read only once."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

from getm.errors import InvalidInput
from getm.manifests.problem import Problem

MAX_ENTRY_BYTES = 1024 * 1024
"""No line and no JSON entry is longer: what is, is something else, and would fill the memory."""

BOM = b"\xef\xbb\xbf"
UTF_16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_CHUNK_BYTES = 256 * 1024


class Source:
    """A list's bytes, read from the start as often as wanted. Owns one descriptor until `close()`.

    `name` is for messages; `path` is None for standard input. What is no regular file (standard input, a pipe, a
    process substitution) is copied to a temporary file without a name first.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """`path` "-" is standard input. Raises InvalidInput when it cannot be read."""
        self.path = None if os.fspath(path) == "-" else Path(path)
        self.name = "standard input" if self.path is None else str(self.path)
        try:
            self._file = _seekable(self.path)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise InvalidInput(f"The list {self.name} cannot be read: {reason}.") from error
        self._state = self._state_now()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def changed(self) -> bool:
        """Whether the file was written to since it was opened."""
        return self._state_now() != self._state

    def head(self) -> bytes:
        """The first bytes, enough to tell what it is."""
        return next(self.chunks(), b"")

    def chunks(self) -> Iterator[bytes]:
        """All bytes from the start. Raises Problem when they cannot be read."""
        position = 0
        while True:
            try:
                chunk = os.pread(self._file.fileno(), _CHUNK_BYTES, position)
            except OSError as error:
                raise Problem("", f"cannot be read: {error.strerror}") from error
            if not chunk:
                return
            position += len(chunk)
            yield chunk

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """All lines with their numbers from 1, without line ends and without a byte order mark. Raises Problem for
        lines that are longer than `MAX_ENTRY_BYTES`."""
        number, rest = 1, b""
        for chunk in self.chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if number == 1:
                    line = line.removeprefix(BOM)
                yield number, line.removesuffix(b"\r")
                number += 1
            if len(rest) > MAX_ENTRY_BYTES:
                raise Problem(f"line {number}", f"longer than {MAX_ENTRY_BYTES:,} bytes: this is no list of downloads")
        if rest:
            yield number, (rest.removeprefix(BOM) if number == 1 else rest)

    def text_lines(self) -> Iterator[tuple[int, str]]:
        """As `lines`, decoded. Bytes that are not UTF-8 are kept as `os.fsdecode` keeps them: names may hold any."""
        return ((number, line.decode("utf-8", "surrogateescape")) for number, line in self.lines())

    def _state_now(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns


def _seekable(path: Path | None) -> IO[bytes]:
    if path is None:
        if sys.stdin is None:
            raise ValueError("it is closed")
        return _copied(sys.stdin.buffer)
    file = path.open("rb", buffering=0)
    try:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            return file
        copied = _copied(file)
    except BaseException:
        file.close()
        raise
    file.close()
    return copied


def _copied(stream: IO[bytes]) -> IO[bytes]:
    # Few lists come this way, and these import as much as a tenth of what all the command does.
    import shutil
    import tempfile

    copy = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the Source closes it
    try:
        shutil.copyfileobj(stream, copy)
    except BaseException:
        copy.close()
        raise
    return copy
