"""getm: fast reads of big data from URLs, into a program or onto a disk, with every byte verified.

    with getm.urlopen(url) as fh: ...                   # file-like; views of shared memory
    for part in getm.iter_content(url): ...             # memoryviews in order, nothing to release
    async for part in getm.aiter_content(url): ...      # the same, for asyncio
    getm.download(url, path)                            # to a file: verified, then renamed
    getm.checksum(path, "sha256")                       # of a file or of bytes in memory

Errors stand in `getm.errors`, all under `getm.GetmError`.
"""

import logging

from getm import errors
from getm._version import __version__
from getm.aio import AsyncContentIterator, AsyncUnorderedIterator
from getm.downloads import DownloadFailure, DownloadResult
from getm.errors import (
    ChecksumMismatch,
    EngineDied,
    GetmError,
    HTTPStatusError,
    InvalidInput,
    NetworkError,
    RemoteChanged,
    SlotsExhausted,
)
from getm.events import Event, Failed, Finished, Planned, Progressed, Retried, Skipped, Started
from getm.functions import (
    adownload,
    adownload_all,
    aiter_content,
    aiter_content_unordered,
    checksum,
    download,
    download_all,
    iter_content,
    iter_content_unordered,
    read,
    urlopen,
)
from getm.integrity import Checksum, Verdict
from getm.lists import Entry
from getm.options import Timeout
from getm.reader import ContentIterator, Reader, UnorderedIterator
from getm.retry import Retries
from getm.session import Session, close
from getm.stats import Stats

# Quiet unless the program says otherwise, as libraries are (Python's logging HOWTO).
logging.getLogger("getm").addHandler(logging.NullHandler())

__all__ = [
    "AsyncContentIterator",
    "AsyncUnorderedIterator",
    "Checksum",
    "ChecksumMismatch",
    "ContentIterator",
    "DownloadFailure",
    "DownloadResult",
    "EngineDied",
    "Entry",
    "Event",
    "Failed",
    "Finished",
    "GetmError",
    "HTTPStatusError",
    "InvalidInput",
    "NetworkError",
    "Planned",
    "Progressed",
    "Reader",
    "RemoteChanged",
    "Retried",
    "Retries",
    "Session",
    "Skipped",
    "SlotsExhausted",
    "Started",
    "Stats",
    "Timeout",
    "UnorderedIterator",
    "Verdict",
    "__version__",
    "adownload",
    "adownload_all",
    "aiter_content",
    "aiter_content_unordered",
    "checksum",
    "close",
    "download",
    "download_all",
    "errors",
    "iter_content",
    "iter_content_unordered",
    "read",
    "urlopen",
]
