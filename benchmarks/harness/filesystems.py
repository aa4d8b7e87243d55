"""The contenders that are file systems of fsspec, and the pieces of work that are done by one."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any

RANGE_BYTES = 64 * 1024


class FileSystem:
    """Makes file systems: one for synchronous work, and one for a library's own event loop."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.fs = make()
        self.asynchronous = make(asynchronous=True)


@contextmanager
def http() -> Iterator[FileSystem]:
    yield FileSystem(import_module("fsspec.implementations.http").HTTPFileSystem)


@contextmanager
def obstore() -> Iterator[FileSystem]:
    store = import_module("obstore.fsspec").FsspecStore
    yield FileSystem(lambda **options: store("http", client_options={"allow_http": True}, **options))


@contextmanager
def getm() -> Iterator[FileSystem]:
    yield FileSystem(import_module("getm.integrations.fsspec").GetmFileSystem)


FILESYSTEMS: dict[str, Callable[[], AbstractContextManager[FileSystem]]] = {
    "fsspec": http,
    "obstore": obstore,
    "getm": getm,
}

# The work ------------------------------------------------------------------------------------------------------------


def ranges(by: FileSystem, url: str, count: int, size: int) -> int:
    """`count` ranges at random places; how many bytes they have brought."""
    places = random.Random(1)
    starts = [places.randrange(size - RANGE_BYTES) for _ in range(count)]
    found = by.fs.cat_ranges([url] * count, starts, [start + RANGE_BYTES for start in starts])
    return sum(map(len, found))


def parquet_column(by: FileSystem, url: str, count: int, size: int) -> int:
    """One column of a Parquet file, by pyarrow."""
    table = import_module("pyarrow.parquet").read_table(url, filesystem=by.fs, columns=["c7"])
    column: int = table["c7"].nbytes
    return column


def zarr_array(by: FileSystem, url: str, count: int, size: int) -> int:
    """An array of Zarr, chunk by chunk."""
    zarr = import_module("zarr")
    store = zarr.storage.FsspecStore(by.asynchronous, read_only=True, path=url)
    array: int = zarr.open_array(store, mode="r")[:].nbytes
    return array


FILESYSTEM_WORK: dict[str, Callable[[FileSystem, str, int, int], int]] = {
    "ranges": ranges,
    "parquet by filesystem": parquet_column,
    "zarr": zarr_array,
}
