"""What is used of fsspec, which has no types: with those that checkers see."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    _T = TypeVar("_T")

    class AsyncFileSystem:
        """A file system whose methods are coroutines named with a "_", and have synchronous ones without it."""

        batch_size: int | None
        dircache: dict[str, list[dict[str, Any]]]

        def __init__(self, **options: Any) -> None: ...
        @classmethod
        def from_json(cls, blob: str) -> Any: ...
        def invalidate_cache(self, path: str | None = None) -> None: ...
        async def _expand_path(
            self, path: Any, recursive: bool = False, maxdepth: int | None = None, **options: Any
        ) -> list[str]: ...
        async def _get(
            self,
            rpath: Any,
            lpath: Any,
            recursive: bool = False,
            callback: Callback = ...,
            maxdepth: int | None = None,
            **options: Any,
        ) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

    class AbstractBufferedFile:
        """A file that reads by `_fetch_range`, and caches."""

        fs: Any
        path: str
        loc: int
        closed: bool

        def close(self) -> None: ...
        def readline(self) -> bytes: ...
        def __init__(self, fs: Any, path: str, mode: str, block_size: int | str, **options: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

    class Callback:
        """Hears of the progress of one copy."""

        size: int | None

        def set_size(self, size: int | None) -> None: ...
        def absolute_update(self, value: int) -> None: ...
        def relative_update(self, value: int) -> None: ...
        def branched(self, source: str, target: str) -> AbstractContextManager[Callback]: ...

    NO_CALLBACK: Callback

    async def run_at_once(
        coroutines: Iterable[Coroutine[Any, Any, _T]],
        batch_size: int | None = None,
        *,
        return_exceptions: bool = False,
    ) -> list[_T]:
        """The results in order; `batch_size` of them at once."""

    def glob_translate(pattern: str) -> str:
        """A pattern of names as a regular expression."""

    def isfilelike(file: object) -> bool:
        """Whether it can be read from or written to."""

    def tokenize(value: object) -> str:
        """A hash in hex."""
else:
    from fsspec.asyn import AsyncFileSystem
    from fsspec.asyn import _run_coros_in_chunks as run_at_once
    from fsspec.callbacks import DEFAULT_CALLBACK as NO_CALLBACK
    from fsspec.callbacks import Callback
    from fsspec.spec import AbstractBufferedFile
    from fsspec.utils import glob_translate, isfilelike, tokenize

__all__ = [
    "NO_CALLBACK",
    "AbstractBufferedFile",
    "AsyncFileSystem",
    "Callback",
    "glob_translate",
    "isfilelike",
    "run_at_once",
    "tokenize",
]
