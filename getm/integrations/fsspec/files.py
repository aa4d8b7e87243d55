"""Open files of the file system."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from getm import errors
from getm.core.redact import redact
from getm.core.version import Version
from getm.integrations.fsspec.base import AbstractBufferedFile
from getm.integrations.fsspec.failures import as_os_error

if TYPE_CHECKING:
    from getm.integrations.fsspec.filesystem import GetmFileSystem


class GetmFile(AbstractBufferedFile):
    """A file that can be sought in, by range requests. All its bytes are of one version: where the object is replaced
    while it is open, `RemoteChanged` is raised. Parts are not verified."""

    def __init__(self, fs: GetmFileSystem, path: str, mode: str, block_size: int | str, **options: Any) -> None:
        # Before anything is read, which some caches do now.
        self._version: Version | None = None
        super().__init__(fs, path, mode, block_size, **options)

    def _fetch_range(self, start: int, end: int) -> bytes:
        fs: GetmFileSystem = self.fs
        try:
            found = fs.session.read_ranges(self.path, [(start, end)], concurrency=fs.concurrency, **fs.common)
        except errors.HTTPStatusError as error:
            raise as_os_error(error, self.path) from error
        if self._version is not None:
            self._version.require(found.version, redact(self.path))
        self._version = found.version
        return bytes(found[0])


def open_stream(fs: GetmFileSystem, url: str) -> io.BufferedReader:
    """A file that is read from its start to its end."""
    try:
        return io.BufferedReader(fs.session.urlopen(url, **fs.common))
    except errors.HTTPStatusError as error:
        raise as_os_error(error, url) from error
