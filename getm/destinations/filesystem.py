"""Objects at any URL that fsspec has a file system for.

They are written under a hidden name beside their own, and renamed when they are complete and verified. File systems
that hold a file back by themselves are not told from those that say so and do not, so that none is asked to.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from getm.core.units import MIB
from getm.destinations.parts import PartSums
from getm.destinations.store import Origin, StoredObject, refused
from getm.destinations.urls import require, scheme_of, shown
from getm.errors import Cancelled, MissingExtra, TargetError
from getm.integrity.values import Checksum

_READ_BYTES = MIB


class FileSystemStore:
    """See `Store`. `url`: of anything in it."""

    def __init__(self, url: str) -> None:
        require(url)
        from fsspec.core import url_to_fs
        from fsspec.registry import get_filesystem_class, known_implementations

        try:
            get_filesystem_class(scheme_of(url))
        except ImportError as error:
            # fsspec's own words name the package, too.
            package = known_implementations[scheme_of(url)]["class"].partition(".")[0]
            pip = "" if package == "fsspec" else f": pip install {package}"
            raise MissingExtra(f"{scheme_of(url)}:// needs another package{pip} ({error})") from error
        self._url_to_fs = url_to_fs
        self._open(url)

    def _open(self, url: str) -> tuple[Any, str]:
        """The file system, of which fsspec keeps one for each host, and the path in it."""
        try:
            file_system, path = self._url_to_fs(url)
        except Exception as error:
            raise refused(url, "opening", _why(error)) from error
        return file_system, path

    def parts_at_once(self, part_bytes: int) -> int:
        # A file is written from its start to its end.
        return 1

    def find(self, url: str) -> StoredObject | None:
        file_system, path = self._open(url)
        try:
            return _found(file_system, path)
        except Exception as error:
            raise refused(url, "looking for", _why(error)) from error

    def read(self, url: str) -> Iterator[bytes]:
        file_system, path = self._open(url)
        try:
            with file_system.open(path, "rb") as file:
                while data := file.read(_READ_BYTES):
                    yield data
        except Exception as error:
            raise refused(url, "reading", _why(error)) from error

    def upload(self, url: str, origin: Origin) -> FileUpload:
        return FileUpload(*self._open(url), url, origin)

    def close(self) -> None:
        """fsspec keeps its file systems."""


class FileUpload:
    """See `Upload`."""

    def __init__(self, file_system: Any, path: str, url: str, origin: Origin) -> None:
        self._file_system = file_system
        self._path = path
        folder, slash, name = path.rpartition("/")
        self._folder = folder
        self._hidden = f"{folder}{slash}.{name[:200]}.{secrets.token_hex(6)}.getm-part"
        self._url = url
        self._sums = PartSums(origin.algorithm)
        self._file: Any = None
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        self._cancelled.set()

    def send(self, number: int, data: bytearray) -> None:
        self._sums.add(number, data)
        if self._cancelled.is_set():
            raise Cancelled(f"the upload to {shown(self._url)} was cancelled")
        with self._errors("writing"):
            if self._file is None:
                self._file = self._open()
            # Not all file systems take a bytearray.
            self._file.write(bytes(data))

    def commit(self, whole: bytearray | None, received: Sequence[Checksum]) -> Checksum:
        if whole is not None:
            self.send(0, whole)
        self._sums.check(received, shown(self._url))
        with self._errors("writing"):
            self._file.close()
            self._check(self._hidden)
            self._file_system.mv(self._hidden, self._path)
            self._file = None
            self._check(self._path)
        return self._sums.whole()

    def discard(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        with contextlib.suppress(Exception):
            # What it has not written yet may fail, as what it has written did.
            file.close()
        with self._errors("removing the hidden file of"), contextlib.suppress(FileNotFoundError):
            self._file_system.rm_file(self._hidden)

    def _open(self) -> Any:
        try:
            return self._file_system.open(self._hidden, "wb")
        except FileNotFoundError:
            self._file_system.makedirs(self._folder, exist_ok=True)
            return self._file_system.open(self._hidden, "wb")

    def _check(self, path: str) -> None:
        """Raises `TargetError` where the file is not as it was written, as far as the file system says."""
        self._file_system.invalidate_cache(self._folder)
        found, whole = _found(self._file_system, path), self._sums.whole()
        size = None if found is None else found.size
        if size != self._sums.size:
            raise refused(self._url, "writing", f"expected {self._sums.size:,} bytes, and there are {size}")
        for checksum in () if found is None else found.checksums:
            if checksum.algorithm == whole.algorithm and checksum != whole:
                raise refused(self._url, "writing", f"{whole} was written, and {checksum} is there")

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Whatever a file system raises becomes a `TargetError`."""
        try:
            yield
        except TargetError:
            raise
        except Exception as error:
            raise refused(self._url, what, _why(error)) from error


def _found(file_system: Any, path: str) -> StoredObject | None:
    try:
        info = file_system.info(path)
    except FileNotFoundError:
        return None
    if info.get("type") == "directory":
        raise IsADirectoryError("it is a folder; end the URL with / to write into it")
    checksums = []
    for field, algorithm in (("crc32c", "crc32c"), ("md5Hash", "md5")):
        # Google Cloud Storage.
        if isinstance(text := info.get(field), str):
            from getm.integrity.values import parse_checksum

            checksums.append(parse_checksum(f"{algorithm}:{text}"))
    return StoredObject(info["size"], tuple(checksums))


def _why(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if isinstance(error, OSError) else f"{type(error).__name__}: {text}"
