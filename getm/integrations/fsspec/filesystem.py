"""The file system."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Literal, cast

import getm
from getm.integrations.fsspec.base import (
    NO_CALLBACK,
    AsyncFileSystem,
    Callback,
    glob_translate,
    isfilelike,
    run_at_once,
    tokenize,
)
from getm.integrations.fsspec.copies import Copy, Downloads, into_file
from getm.integrations.fsspec.failures import as_os_error
from getm.integrations.fsspec.files import open_file
from getm.integrations.fsspec.listing import read_index
from getm.integrations.fsspec.metadata import described
from getm.resolve.names import BUILT_IN, has_lister
from getm.resolve.patterns import is_root
from getm.resolve.request import is_http

# "?" begins a query, and the "[" of an address is no pattern: only what follows the host is looked at.
_MAGIC = re.compile(r"[*[]")
_FILES_AT_ONCE = 32
_AFTER_HOST = re.compile(r"[^/]*//[^/?#]*")


def _listed(name: str, size: int | None, *, is_folder: bool) -> dict[str, Any]:
    return {"name": name, "size": size, "type": "directory" if is_folder else "file"}


class GetmFileSystem(AsyncFileSystem):
    """Files of web servers, read by getm: verified where they are read whole, over several connections where that
    helps, with retries that continue at the byte. It cannot write.

    Paths are URLs, or names that getm resolves (s3://bucket/key), with or without "getm+" before them. Folders of web
    servers are index pages (nginx, Apache, Caddy, lighttpd), those of stores what names have in common up to a slash;
    their names end with it.

    Args:
        headers: Request headers that each request has.
        timeout: Limits in seconds: a number for connecting and for silence, a `getm.Timeout` for each of them, None for
            no limit; "default", those of getm.
        retries: Further attempts in a row without progress before an error, or a `getm.Retries`; None: those of getm.
        concurrency: Connections for one object; "auto": as many as bring more for a download (`get`), those of
            `getm.read_ranges` for ranges (`cat_ranges`), and one for a file that is read whole (`cat`), of which there
            are many at once.
        strict: Refuse a whole file that nothing verified (`cat`, `get`).
        block_size: Bytes that a cache of fsspec reads ahead (`open(cache_type=...)`).
        session_options: Further arguments of a `getm.Session` of its own (`cacert`, `limit_rate`, `max_memory`, ...).
            Without them all file systems use the session that the functions of getm use.
        asynchronous: As for every fsspec file system: it is used from coroutines.
        loop: As for every fsspec file system.
        batch_size: Files that are read at once by one call; None: 32, for which a session has memory.
        use_listings_cache: Keep listings; off by default, since others change what a server has.
        fsspec_options: Further options that every fsspec file system takes.

    Example:
        >>> fs = fsspec.filesystem("getm+https", headers={"Authorization": "Bearer 0123"})
        >>> fs.cat_file("https://data.example.org/reads.bam", start=0, end=4)
    """

    protocol: tuple[str, ...] = ("getm+https", "getm+http", *(f"getm+{scheme}" for scheme in BUILT_IN))

    def __init__(
        self,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | getm.Timeout | Literal["default"] | None = "default",
        retries: int | getm.Retries | None = None,
        concurrency: int | Literal["auto"] | None = "auto",
        strict: bool = False,
        block_size: int | None = None,
        session_options: Mapping[str, Any] | None = None,
        asynchronous: bool = False,
        loop: Any = None,
        batch_size: int | None = None,
        use_listings_cache: bool = False,
        **fsspec_options: Any,
    ) -> None:
        super().__init__(asynchronous=asynchronous, loop=loop, use_listings_cache=use_listings_cache, **fsspec_options)
        # The module has the methods of a session.
        self.session: getm.Session = cast("getm.Session", getm)
        if session_options:
            self.session = getm.Session(**session_options)
        self.common: dict[str, Any] = {"headers": headers, "timeout": timeout, "retries": retries}
        self.concurrency: int | Literal["auto"] | None = concurrency
        self._strict = strict
        self._downloads = Downloads(self.session, {**self.common, "concurrency": concurrency, "strict": strict})
        self._block_size = block_size

    # Paths ----------------------------------------------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        """The URL: it may end with a slash, which makes a difference to servers."""
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        return os.fspath(path).removeprefix("getm+")

    def unstrip_protocol(self, name: str) -> str:
        return f"getm+{self._strip_protocol(name)}"

    @classmethod
    def _parent(cls, path: str) -> str:
        url = cls._strip_protocol(path).rstrip("/")
        start = _AFTER_HOST.match(url)
        parent: str = url.rpartition("/")[0]
        return "" if start is None or len(parent) < start.end() else parent

    async def _expand_path(
        self, path: Any, recursive: bool = False, maxdepth: int | None = None, **options: Any
    ) -> list[str]:
        # fsspec's own takes a query for a pattern, and would ask whether the URL exists.
        paths = [self._strip_protocol(each) for each in ([path] if isinstance(path, str) else path)]
        if not recursive and not any(map(_magic_at, paths)):
            return sorted(set(paths))
        return await super()._expand_path(path, recursive, maxdepth, **options)

    # What is there --------------------------------------------------------------------------------------------------

    async def _info(self, path: str, **_: Any) -> dict[str, Any]:
        url = self._strip_protocol(path)
        if is_http(url) or not has_lister(url):
            return await self._info_of_file(url)
        # Stores have no folders: one is there where something is in it.
        folder = url if url.endswith("/") else f"{url}/"
        if folder != url and not is_root(url):
            try:
                return await self._info_of_file(url)
            except FileNotFoundError:
                pass
        if not is_root(folder[:-1]) and not await self._is_something_in(folder):
            raise FileNotFoundError(url)
        return {"name": folder, "size": None, "type": "directory"}

    async def _info_of_file(self, url: str) -> dict[str, Any]:
        try:
            about = await self.session.ainfo(url, **self.common)
        except getm.HTTPStatusError as error:
            raise as_os_error(error, url) from error
        return described(url, about)

    async def _is_something_in(self, folder: str) -> bool:
        async for _ in self._listed_below(folder, recursive=False):
            return True
        return False

    async def _exists(self, path: str, strict: bool = False, **_: Any) -> bool:
        """Whether the server gives it out. `strict`: raise for what it refuses. A failure is an error: it would make
        what is there look as if it was not."""
        try:
            await self._info(path)
        except FileNotFoundError:
            return False
        except getm.HTTPStatusError as error:
            if strict or error.status >= 500:
                raise
            return False
        except PermissionError:
            if strict:
                raise
            return False
        return True

    def ukey(self, path: str) -> str:
        """What changes when the file does: a hash of its size and validators."""
        info = self.info(path)
        return str(tokenize([info.get(name) for name in ("name", "size", "ETag", "Last-Modified")]))

    def checksum(self, path: str) -> int:
        """`ukey` as a number, as fsspec wants it. What the server declares is in `info(path)["checksums"]`."""
        return int(self.ukey(path), 16)

    def modified(self, path: str) -> Any:
        """When the file was changed, in UTC. Raises `NotImplementedError` where the server does not tell."""
        found = self.info(path)["last_modified"]
        if found is None:
            raise NotImplementedError("the server does not tell when the file was changed")
        return found

    # Folders ----------------------------------------------------------------------------------------------------------

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        url = self._strip_protocol(path)
        listing = self._ls_from_cache(url)
        if listing is None:
            if not url.endswith("/"):
                info = await self._info(url)
                listing = [info] if info["type"] == "file" else await self._list(f"{url}/")
            else:
                listing = await self._list(url)
            self.dircache[url.rstrip("/")] = listing
        return listing if detail else sorted(info["name"] for info in listing)

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget the listing of a folder, or all of them."""
        if path is None:
            self.dircache.clear()
        else:
            self.dircache.pop(self._strip_protocol(path).rstrip("/"), None)
        super().invalidate_cache(path)

    async def _list(self, folder: str) -> list[dict[str, Any]]:
        """What the index page of `folder` lists, or the store that it is in."""
        if is_http(folder):
            entries = await read_index(self.session, folder, self.common)
            return [_listed(folder + entry.name, entry.size, is_folder=entry.is_folder) for entry in entries]
        found = [each async for each in self._listed_below(folder, recursive=False)]
        if not found and not is_root(folder[:-1]):
            raise FileNotFoundError(folder)
        return found

    async def _listed_below(self, folder: str, *, recursive: bool) -> AsyncIterator[dict[str, Any]]:
        """What a store has in a folder, or below it."""
        try:
            async for each in self.session.alist_objects(folder, recursive=recursive, **self.common):
                yield _listed(each.name, each.size, is_folder=each.is_folder)
        except getm.HTTPStatusError as error:
            raise as_os_error(error, folder) from error

    async def _find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **_: Any
    ) -> Any:
        """Everything below `path`, at most `maxdepth` folders deep. The folders of one depth are listed at once. What
        the server refuses to list is left out; a failure is an error, since a part would be taken for the whole."""
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        root = self._strip_protocol(path)
        found: dict[str, dict[str, Any]] = {}
        if not root.endswith("/"):
            try:
                info = await self._info(root)
            except (FileNotFoundError, PermissionError):
                return found if detail else []
            if info["type"] == "file":
                return {root: info} if detail else [root]
            root += "/"
        if maxdepth is None and not withdirs and not is_http(root):
            # A store lists all of them at once.
            found = {each["name"]: each async for each in self._listed_below(root, recursive=True)}
            return found if detail else list(found)
        folders, depth = [root], 0
        while folders and (maxdepth is None or depth < maxdepth):
            listings = await run_at_once(
                [self._list_or_nothing(folder) for folder in folders], batch_size=self.batch_size
            )
            if withdirs and not depth and listings[0] is not None:
                found[root] = {"name": root, "size": None, "type": "directory"}
            folders, depth = [], depth + 1
            for info in (info for listing in listings for info in listing or ()):
                if info["type"] == "directory":
                    folders.append(info["name"])
                if withdirs or info["type"] == "file":
                    found[info["name"]] = info
        names = sorted(found)
        return {name: found[name] for name in names} if detail else names

    async def _list_or_nothing(self, folder: str) -> list[dict[str, Any]] | None:
        try:
            return await self._ls(folder)
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            return None

    async def _glob(self, path: str, maxdepth: int | None = None, detail: bool = False, **_: Any) -> Any:
        """What matches a pattern of `*`, `**` and `[...]`. "?" is none: it begins a query."""
        url = self._strip_protocol(path)
        magic = _magic_at(url)
        if not magic:
            if not await self._exists(url):
                return {} if detail else []
            return {url: await self._info(url)} if detail else [url]
        root = url[: url.rindex("/", 0, magic) + 1]
        rest = url[len(root) :]
        depth = None if "**" in rest else rest.rstrip("/").count("/") + 1
        if maxdepth is not None:
            depth = maxdepth if depth is None else min(depth, maxdepth)
        matches = re.compile(glob_translate(rest.rstrip("/"))).match
        found = await self._find(root, maxdepth=depth, withdirs=True, detail=True)
        out = {
            name: info
            for name, info in found.items()
            if matches(name[len(root) :].rstrip("/")) and (not rest.endswith("/") or name.endswith("/"))
        }
        return out if detail else list(out)

    # Reading ----------------------------------------------------------------------------------------------------------

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        url = self._strip_protocol(path)
        if start is None and end is None:
            return await self._whole(url)
        (found,) = await self._spans(url, [(start, end)])
        return found

    async def _whole(self, url: str) -> bytes:
        # One connection, unless more are wanted: fsspec asks for many files at once.
        width = 1 if self.concurrency == "auto" else self.concurrency
        try:
            async with self.session.aiter_content(
                url, None, concurrency=width, strict=self._strict, **self.common
            ) as parts:
                return b"".join([bytes(part) async for part in parts])
        except getm.HTTPStatusError as error:
            raise as_os_error(error, url) from error

    async def _spans(
        self, url: str, slices: list[tuple[int | None, int | None]], max_gap: int | None = None
    ) -> list[bytes]:
        """The bytes of several slices of one file, as Python counts them."""
        size: int | None = None
        if any((end or 0) < 0 or ((start or 0) < 0 and end is not None) for start, end in slices):
            # How far it is from the end must be known first.
            size = (await self._info(url))["size"]
            if size is None:
                whole = await self._whole(url)
                return [whole[start:end] for start, end in slices]
        spans = [_span(start, end, size) for start, end in slices]
        try:
            views = await self.session.aread_ranges(
                url, spans, max_gap=max_gap or 0, concurrency=self.concurrency, **self.common
            )
        except getm.HTTPStatusError as error:
            raise as_os_error(error, url) from error
        return [bytes(view) for view in views]

    async def _cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        batch_size: int | None = None,
        on_error: Literal["return", "raise"] = "return",
        **_: Any,
    ) -> list[Any]:
        """The bytes of many slices; those of one file at once, and of one version of it. Neighbours are joined only
        within `max_gap`. `on_error`: "return" puts an exception in the place of the bytes."""
        if not isinstance(paths, list):
            raise TypeError("paths must be a list")
        firsts, stops = _each(starts, len(paths)), _each(ends, len(paths))
        if not len(firsts) == len(stops) == len(paths):
            raise ValueError(f"as many starts and ends as paths are needed: {len(paths)}")
        slices = list(zip(firsts, stops, strict=True))
        wanted: dict[str, list[int]] = {}
        for number, path in enumerate(paths):
            wanted.setdefault(self._strip_protocol(path), []).append(number)
        results = await run_at_once(
            [self._spans(url, [slices[number] for number in numbers], max_gap) for url, numbers in wanted.items()],
            batch_size=batch_size or self.batch_size,
            return_exceptions=True,
        )
        out: list[Any] = [None] * len(paths)
        for numbers, result in zip(wanted.values(), results, strict=True):
            if isinstance(result, BaseException) and on_error == "raise":
                raise result
            for place, number in enumerate(numbers):
                out[number] = result if isinstance(result, BaseException) else result[place]
        return out

    async def _get_file(self, rpath: str, lpath: Any, callback: Callback = NO_CALLBACK, **_: Any) -> None:
        """Download a file: verified, and in place only when it is complete. Into an open file, as the bytes come."""
        url = self._strip_protocol(rpath)
        if not isfilelike(lpath):
            await self._downloads.one(Copy(url, lpath), callback)
            return
        try:
            await into_file(self.session.aiter_content(url, strict=self._strict, **self.common), lpath, callback)
        except getm.HTTPStatusError as error:
            raise as_os_error(error, url) from error

    async def _get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Callback = NO_CALLBACK,
        maxdepth: int | None = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> None:
        """Download files, by one batch where there are several. `batch_size`: how many at once; None, as many as are
        enough."""
        copies = self._downloads.begin_collecting()
        try:
            await super()._get(rpath, lpath, recursive=recursive, maxdepth=maxdepth, **options)
        finally:
            self._downloads.end_collecting()
        if len(copies) == 1:
            callback.set_size(1)
            with callback.branched(copies[0].url, copies[0].target) as child:
                await self._downloads.one(copies[0], child)
            callback.relative_update(1)
        elif copies:
            await self._downloads.many(copies, batch_size or "auto", callback)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_type: str | None = None,
        cache_options: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> Any:
        """A file that can be sought in, and is of one version; a stream where the server cannot bring parts.
        `block_size` is for one of fsspec's caches: without one, getm reads ahead as far as it pays."""
        if mode != "rb":
            raise NotImplementedError(f"mode {mode!r}: getm only reads, in binary mode 'rb'")
        url, block = self._strip_protocol(path), block_size or self._block_size or "default"
        return open_file(self, url, mode, block, cache_type, dict(cache_options or {}))


def _magic_at(url: str) -> int:
    """Where a pattern begins in a URL; 0 where there is none."""
    host = _AFTER_HOST.match(url)
    found = _MAGIC.search(url, 0 if host is None else host.end())
    return 0 if found is None else found.start()


def _span(start: int | None, end: int | None, size: int | None) -> tuple[int, int | None]:
    """A slice as a span; `size` is known where it needs that."""
    if size is not None:
        first, stop, _ = slice(start, end).indices(size)
        return first, max(first, stop)
    first = 0 if start is None else int(start)
    return first, None if end is None else max(first, int(end))


def _each(values: Any, count: int) -> list[Any]:
    return list(values) if isinstance(values, Iterable) else [values] * count
