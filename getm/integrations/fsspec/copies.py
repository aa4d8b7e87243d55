"""Copies of files: downloads, verified, in place only when they are complete."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import getm
from getm.integrations.fsspec.base import Callback
from getm.integrations.fsspec.failures import as_os_error


class Copy(NamedTuple):
    """A file to be downloaded. Where `target` is a folder, the URL ends with a slash."""

    url: str
    target: str


# What is to be copied together, while fsspec finds it out by asking for one copy after another.
_collected: ContextVar[list[Copy] | None] = ContextVar("getm_copies", default=None)


class Downloads:
    """Downloads of one file system; `arguments` are those of `getm.download`."""

    def __init__(self, session: getm.Session, arguments: Mapping[str, Any]) -> None:
        self._session = session
        self._arguments = arguments

    def begin_collecting(self) -> list[Copy]:
        """From here on, in this task and those that it starts, copies are collected in this list, and not made."""
        collected: list[Copy] = []
        _collected.set(collected)
        return collected

    def end_collecting(self) -> None:
        _collected.set(None)

    async def one(self, copy: Copy, callback: Callback) -> None:
        """Download one file. Raises as open() does."""
        collected = _collected.get()
        if collected is not None:
            collected.append(copy)
        elif copy.url.endswith("/"):
            _make_folder(copy.target)
        else:
            try:
                await self._session.adownload(
                    copy.url, copy.target, on_progress=partial(_progress, callback), **self._arguments
                )
            except getm.HTTPStatusError as error:
                raise as_os_error(error, copy.url) from error

    async def many(self, copies: list[Copy], jobs: int | Literal["auto"], callback: Callback) -> None:
        """Download many files by one batch, which costs less for each of them. `callback` counts the files. The first
        failure ends the others, whose partial data stays for the next time."""
        callback.set_size(len(copies))
        files = [copy for copy in copies if not copy.url.endswith("/")]
        for folder in [copy for copy in copies if copy.url.endswith("/")]:
            _make_folder(folder.target)
            callback.relative_update(1)
        entries = [getm.Entry(copy.url, copy.target) for copy in files]
        try:
            async for _ in self._session.adownload_all(entries, jobs=jobs, **self._arguments):
                callback.relative_update(1)
        except getm.HTTPStatusError as error:
            raise as_os_error(error, error.url or "") from error


async def into_file(parts: getm.AsyncContentIterator, file: IO[bytes], callback: Callback) -> None:
    """Write to an open file as the bytes come."""
    async with parts:
        callback.set_size(parts.size)
        async for part in parts:
            file.write(part)
            callback.relative_update(len(part))


def _make_folder(path: str) -> None:
    Path(path).mkdir(parents=True, exist_ok=True)


def _progress(callback: Callback, done: int, total: int | None) -> None:
    if total is not None and callback.size != total:
        callback.set_size(total)
    callback.absolute_update(done)
