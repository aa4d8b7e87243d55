"""Objects in stores against their checksums: they are read and hashed, several at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from getm.core.log import get_logger
from getm.core.url_path import as_path
from getm.destinations.store import Stores
from getm.errors import TargetError
from getm.integrity.declared.types import Declared
from getm.integrity.file_batch import FileReport
from getm.integrity.files import check_blocks
from getm.integrity.values import Checksum

_log = get_logger()

_LOOKS_AT_ONCE = 16


class ObjectChecker(contextlib.ExitStack):
    """Checks objects by their URLs. A context manager. What cannot be read is no error: its reason is in the log.

    Args:
        jobs: Objects that are read at once.
    """

    def __init__(self, jobs: int) -> None:
        super().__init__()
        self._jobs = jobs
        self._stores = self.enter_context(contextlib.closing(Stores()))

    def sizes(self, urls: Sequence[str]) -> dict[str, int | None]:
        """The size of each object; None where there is none, or the store does not tell. Raises `MissingExtra`."""
        with ThreadPoolExecutor(_LOOKS_AT_ONCE, thread_name_prefix="getm-look") as pool:
            return dict(zip(urls, pool.map(self._size, urls), strict=True))

    def _size(self, url: str) -> int | None:
        try:
            found = self._stores.of(url).find(url)
        except TargetError as error:
            _log.warning("%s", error.message)
            return None
        return None if found is None else found.size

    def check(
        self, entries: Iterable[tuple[str, Sequence[Checksum]]], on_bytes: Callable[[Path, int], None]
    ) -> Iterator[FileReport]:
        """A report for each object, in their order. `on_bytes`: called with the path and the number of bytes of each
        read, in any thread."""
        pool = self.enter_context(ThreadPoolExecutor(self._jobs, thread_name_prefix="getm-check"))
        # Where it is left early, those that have not begun are not read.
        self.callback(pool.shutdown, wait=False, cancel_futures=True)
        return pool.map(partial(self._check, on_bytes), entries)

    def _check(self, on_bytes: Callable[[Path, int], None], entry: tuple[str, Sequence[Checksum]]) -> FileReport:
        url, expected = entry
        path = as_path(url)

        def blocks() -> Iterator[bytes]:
            for block in self._stores.of(url).read(url):
                yield block
                on_bytes(path, len(block))

        try:
            return FileReport(path, check_blocks(blocks(), None, [Declared(each, "receipt") for each in expected]))
        except TargetError as error:
            _log.warning("%s", error.message)
            return FileReport(path, None)
