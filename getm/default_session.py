"""The session behind the functions of the module, which are its methods."""

from __future__ import annotations

from typing import Final

from getm.client.pool import EnginePool
from getm.session import Session


class _DefaultSession(Session):
    """A session that can be used again after `close()`."""

    def __getattr__(self, name: str) -> EnginePool:
        if name != "_pool":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        # Like `pop` below, one atomic step: no lock that a signal handler, or a fork, could find held.
        pool: EnginePool = self.__dict__.setdefault(name, EnginePool(*self._pool_arguments))
        return pool

    def close(self) -> None:
        """End the transfers and engines of the functions of the module. The next call of one starts new ones.

        Example:
            >>> getm.close()
        """
        pool = self.__dict__.pop("_pool", None)
        if pool is not None:
            pool.close()

    def __reduce__(self) -> str:  # type: ignore[override]  # a name: pickled functions are those of whoever loads them
        return "_default"


_default: Final = _DefaultSession()

adownload: Final = _default.adownload
adownload_all: Final = _default.adownload_all
ainfo: Final = _default.ainfo
aiter_content: Final = _default.aiter_content
aiter_content_unordered: Final = _default.aiter_content_unordered
alist_objects: Final = _default.alist_objects
aread: Final = _default.aread
aread_ranges: Final = _default.aread_ranges
close: Final = _default.close
download: Final = _default.download
download_all: Final = _default.download_all
info: Final = _default.info
iter_content: Final = _default.iter_content
iter_content_unordered: Final = _default.iter_content_unordered
list_objects: Final = _default.list_objects
open: Final = _default.open
read: Final = _default.read
read_ranges: Final = _default.read_ranges
readinto: Final = _default.readinto
shared: Final = _default.shared
urlopen: Final = _default.urlopen
