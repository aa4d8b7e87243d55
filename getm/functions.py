"""The module-level functions: a session's methods, on the session given or on a default one; and `checksum`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Unpack

from getm import integrity, reader
from getm.batch import DEFAULT_JOBS
from getm.integrity import Checksum
from getm.manifests import Entry
from getm.options import DEFAULT_CHUNK_BYTES
from getm.results import DownloadFailure, DownloadResult
from getm.session import (
    BatchDownloadOptions,
    CallOptions,
    DownloadOptions,
    EventCallback,
    ProgressCallback,
    Session,
    default_session,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from getm import aio


def urlopen(
    url: str, *, concurrency: int | None = 1, session: Session | None = None, **call: Unpack[CallOptions]
) -> reader.Reader:
    """See `Session.urlopen`."""
    return (session or default_session()).urlopen(url, concurrency=concurrency, **call)


def iter_content(
    url: str,
    chunk_size: int = DEFAULT_CHUNK_BYTES,
    *,
    concurrency: int | None = 1,
    session: Session | None = None,
    **call: Unpack[CallOptions],
) -> reader.ContentIterator:
    """See `Session.iter_content`."""
    return (session or default_session()).iter_content(url, chunk_size, concurrency=concurrency, **call)


def iter_content_unordered(
    url: str,
    chunk_size: int = DEFAULT_CHUNK_BYTES,
    *,
    concurrency: int | None = 4,
    session: Session | None = None,
    **call: Unpack[CallOptions],
) -> reader.UnorderedIterator:
    """See `Session.iter_content_unordered`."""
    return (session or default_session()).iter_content_unordered(url, chunk_size, concurrency=concurrency, **call)


def aiter_content(
    url: str,
    chunk_size: int = DEFAULT_CHUNK_BYTES,
    *,
    concurrency: int | None = 1,
    session: Session | None = None,
    **call: Unpack[CallOptions],
) -> aio.AsyncContentIterator:
    """See `Session.aiter_content`."""
    return (session or default_session()).aiter_content(url, chunk_size, concurrency=concurrency, **call)


def aiter_content_unordered(
    url: str,
    chunk_size: int = DEFAULT_CHUNK_BYTES,
    *,
    concurrency: int | None = 4,
    session: Session | None = None,
    **call: Unpack[CallOptions],
) -> aio.AsyncUnorderedIterator:
    """See `Session.aiter_content_unordered`."""
    return (session or default_session()).aiter_content_unordered(url, chunk_size, concurrency=concurrency, **call)


def read(
    url: str, *, concurrency: int | None = 1, session: Session | None = None, **call: Unpack[CallOptions]
) -> memoryview:
    """See `Session.read`."""
    return (session or default_session()).read(url, concurrency=concurrency, **call)


def download(
    url: str,
    path: str | os.PathLike[str] | None = None,
    *,
    concurrency: int | None = 1,
    on_progress: ProgressCallback | None = None,
    session: Session | None = None,
    **more: Unpack[DownloadOptions],
) -> DownloadResult:
    """See `Session.download`."""
    chosen = session or default_session()
    return chosen.download(url, path, concurrency=concurrency, on_progress=on_progress, **more)


async def adownload(
    url: str,
    path: str | os.PathLike[str] | None = None,
    *,
    concurrency: int | None = 1,
    on_progress: ProgressCallback | None = None,
    session: Session | None = None,
    **more: Unpack[DownloadOptions],
) -> DownloadResult:
    """See `Session.adownload`."""
    chosen = session or default_session()
    return await chosen.adownload(url, path, concurrency=concurrency, on_progress=on_progress, **more)


def download_all(
    entries: Iterable[Entry | str],
    *,
    jobs: int = DEFAULT_JOBS,
    concurrency: int | None = 1,
    directory: str | os.PathLike[str] | None = None,
    continue_after_error: bool = False,
    on_event: EventCallback | None = None,
    session: Session | None = None,
    **more: Unpack[BatchDownloadOptions],
) -> Iterator[DownloadResult | DownloadFailure]:
    """See `Session.download_all`."""
    return (session or default_session()).download_all(
        entries,
        jobs=jobs,
        concurrency=concurrency,
        directory=directory,
        continue_after_error=continue_after_error,
        on_event=on_event,
        **more,
    )


def adownload_all(
    entries: Iterable[Entry | str],
    *,
    jobs: int = DEFAULT_JOBS,
    concurrency: int | None = 1,
    directory: str | os.PathLike[str] | None = None,
    continue_after_error: bool = False,
    on_event: EventCallback | None = None,
    session: Session | None = None,
    **more: Unpack[BatchDownloadOptions],
) -> AsyncIterator[DownloadResult | DownloadFailure]:
    """See `Session.adownload_all`."""
    return (session or default_session()).adownload_all(
        entries,
        jobs=jobs,
        concurrency=concurrency,
        directory=directory,
        continue_after_error=continue_after_error,
        on_event=on_event,
        **more,
    )


def checksum(source: str | os.PathLike[str] | Buffer, algorithm: str = "sha256") -> Checksum:
    """The checksum of a file, or of bytes in memory (`bytes`, a memoryview, a NumPy array: the buffer protocol).

    `source` as `str` or path-like is a file's path; reading and hashing it overlap, in threads of their own, and the
    GIL is not held. `algorithm` is md5, sha1, sha224, sha256, sha384, sha512, crc32, crc32c, crc64nvme, or, where the
    extra is installed, blake3, xxh64, xxh3-64, xxh3-128, in any usual spelling; s3-etag is that of a single-part
    upload. Raises `InvalidInput` for another name, `errors.MissingExtra` where its package is missing, and `OSError`
    for the file.
    """
    return integrity.checksum(source, algorithm)
