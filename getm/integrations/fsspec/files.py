"""Open files of the file system."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from getm import Reader, errors
from getm.core.redact import redact
from getm.core.version import Version
from getm.integrations.fsspec.base import AbstractBufferedFile
from getm.integrations.fsspec.failures import as_os_error

if TYPE_CHECKING:
    from getm.integrations.fsspec.filesystem import GetmFileSystem

# What fsspec reads at once to find the end of a line: as much as the buffer of `getm.open` has.
_LINE_BYTES = 64 * 1024


def open_file(
    fs: GetmFileSystem,
    url: str,
    mode: str,
    block_size: int | str,
    cache_type: str | None,
    cache_options: dict[str, Any],
) -> GetmFile | io.BufferedReader[Reader]:
    """A file that can be sought in; or, where the server cannot bring parts of it, one that is read in order."""
    try:
        source: io.BufferedReader[Reader] = fs.session.open(url, **fs.common)
    except errors.HTTPStatusError as error:
        raise as_os_error(error, url) from error
    size = source.raw.size
    if size is None or not source.seekable():
        return source
    if cache_type in (None, "none"):
        # getm reads ahead as far as it pays.
        return GetmFile(fs, url, mode, _LINE_BYTES, source=source, cache_type="none", size=size)
    source.close()
    return GetmFile(fs, url, mode, block_size, cache_type=cache_type, cache_options=cache_options, size=size)


class GetmFile(AbstractBufferedFile):
    """A file that can be sought in. All its bytes are of one version: where the object is replaced while it is open,
    `RemoteChanged` is raised.

    Read by `source`, a file of `getm.open`; or, for one of fsspec's caches, which may have threads of their own, by
    range requests.
    """

    def __init__(
        self,
        fs: GetmFileSystem,
        path: str,
        mode: str,
        block_size: int | str,
        *,
        source: io.BufferedReader[Reader] | None = None,
        **options: Any,
    ) -> None:
        # Before anything is read, which some caches do now.
        self._source = source
        self._version: Version | None = None
        super().__init__(fs, path, mode, block_size, **options)

    def _fetch_range(self, start: int, end: int) -> bytes:
        if self._source is not None:
            self._source.seek(start)
            return self._source.read(end - start)
        fs: GetmFileSystem = self.fs
        try:
            found = fs.session.read_ranges(self.path, [(start, end)], concurrency=fs.concurrency, **fs.common)
        except errors.HTTPStatusError as error:
            raise as_os_error(error, self.path) from error
        if self._version is not None:
            self._version.require(found.version, redact(self.path))
        self._version = found.version
        return bytes(found[0])

    def readline(self, size: int = -1) -> bytes:
        """The next line, with its end."""
        if self._source is None or self.closed:
            line: bytes = super().readline()
            return line
        self._source.seek(self.loc)
        line = self._source.readline(size)
        self.loc: int = self.loc + len(line)
        return line

    def close(self) -> None:
        """Stop what is on its way."""
        super().close()
        if self._source is not None:
            self._source.close()
