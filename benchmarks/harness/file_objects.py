"""The contenders that give file objects, and the pieces of work that are done with one.

Each is opened as its own documentation shows. fsspec is there with its usual cache, which reads 5 MB ahead, and without
one; "http.client" is a kept-alive connection in this process and nothing else: the least that Python can do.
"""

from __future__ import annotations

import contextlib
import io
import random
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

SCATTERED_BYTES = 64 * 1024

Ranges = Callable[[str, list[int], list[int]], int]
"""Reads parts of a URL at once, by their starts and stops; how many bytes they have brought."""


@dataclass(frozen=True)
class Opener:
    """Opens a URL as a file object, and reads parts of one at once where it can."""

    open: Callable[[str], AbstractContextManager[Any]]
    at_once: Ranges | None = None


@contextmanager
def getm() -> Iterator[Opener]:
    with import_module("getm").Session() as session:

        def at_once(url: str, starts: list[int], stops: list[int]) -> int:
            return sum(map(len, session.read_ranges(url, zip(starts, stops, strict=True))))

        yield Opener(session.open, at_once)


def fsspec(**options: str) -> Callable[[], AbstractContextManager[Opener]]:
    @contextmanager
    def opener() -> Iterator[Opener]:
        library = import_module("fsspec")

        def at_once(url: str, starts: list[int], stops: list[int]) -> int:
            return sum(map(len, library.filesystem("http").cat_ranges([url] * len(starts), starts, stops)))

        yield Opener(lambda url: library.open(url, **options).open(), at_once)

    return opener


@contextmanager
def smart_open() -> Iterator[Opener]:
    library = import_module("smart_open")
    yield Opener(lambda url: library.open(url, "rb"))


@contextmanager
def obstore() -> Iterator[Opener]:
    library, stores = import_module("obstore"), import_module("obstore.store")
    kept: dict[str, Any] = {}

    class File:
        """Its `read` returns objects of its own, which zipfile does not take for bytes."""

        closed = False

        def __init__(self, file: Any) -> None:
            self.seek, self.tell, self.seekable, self._read = file.seek, file.tell, file.seekable, file.read

        def read(self, size: int | None = None) -> bytes:
            return self._read(size).to_bytes()  # type: ignore[no-any-return]

        def readable(self) -> bool:
            return True

    def find(url: str) -> tuple[Any, str]:
        folder, _, name = url.rpartition("/")
        if folder not in kept:
            kept[folder] = stores.HTTPStore.from_url(folder, client_options={"allow_http": True})
        return kept[folder], name

    def open_url(url: str) -> AbstractContextManager[Any]:
        return contextlib.nullcontext(File(library.open_reader(*find(url), buffer_size=SCATTERED_BYTES)))

    def at_once(url: str, starts: list[int], stops: list[int]) -> int:
        return sum(map(len, library.get_ranges(*find(url), starts=starts, ends=stops)))

    yield Opener(open_url, at_once)


class _RangedFile(io.RawIOBase):
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._path, self._position = parts.path, 0
        self._connection = HTTPConnection(parts.netloc)
        self._connection.request("HEAD", self._path)
        with self._connection.getresponse() as response:
            self._size = int(response.headers["Content-Length"])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        stop = min(self._position + len(view), self._size)
        if stop <= self._position:
            return 0
        self._connection.request("GET", self._path, headers={"Range": f"bytes={self._position}-{stop - 1}"})
        with self._connection.getresponse() as response:
            count = 0
            while more := response.readinto(view[count:]):
                count += more
        self._position += count
        return count

    def close(self) -> None:
        self._connection.close()
        super().close()


@contextmanager
def http_client() -> Iterator[Opener]:
    yield Opener(lambda url: io.BufferedReader(_RangedFile(url), SCATTERED_BYTES))


OPENERS: dict[str, Callable[[], AbstractContextManager[Opener]]] = {
    "http.client": http_client,
    "fsspec": fsspec(),
    "fsspec uncached": fsspec(cache_type="none"),
    "smart_open": smart_open,
    "obstore": obstore,
    "getm open": getm,
}

AT_ONCE = ("fsspec uncached", "obstore", "getm open")
"""Those that can read parts at once."""

# The work ------------------------------------------------------------------------------------------------------------


def scattered(by: Opener, url: str, count: int, size: int) -> int:
    """`count` reads in the order of a random generator; how many bytes they have brought."""
    received = 0
    with by.open(url) as file:
        for position in _positions(count, size):
            file.seek(position)
            received += len(file.read(SCATTERED_BYTES))
    return received


def _positions(count: int, size: int) -> list[int]:
    positions = random.Random(1)
    return [positions.randrange(size - SCATTERED_BYTES) for _ in range(count)]


def at_once(by: Opener, url: str, count: int, size: int) -> int:
    """The reads of `scattered`, by one call."""
    if by.at_once is None:
        raise TypeError("it has no such call")
    starts = _positions(count, size)
    return by.at_once(url, starts, [start + SCATTERED_BYTES for start in starts])


def parquet_column(by: Opener, url: str, count: int, size: int) -> int:
    """One column of a Parquet file, by pyarrow."""
    with by.open(url) as file:
        column: int = import_module("pyarrow.parquet").read_table(file, columns=["c7"])["c7"].nbytes
    return column


def zip_member(by: Opener, url: str, count: int, size: int) -> int:
    """The names of a zip file's members, and one of them."""
    with by.open(url) as file, zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        return len(archive.read(names[len(names) // 2]))


WORK: dict[str, Callable[[Opener, str, int, int], int]] = {
    "scattered": scattered,
    "at once": at_once,
    "parquet": parquet_column,
    "zip": zip_member,
}
