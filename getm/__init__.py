"""getm: fast reads of big data from URLs, into a program or onto a disk, with every byte verified.

    with getm.urlopen(url) as fh: ...                   # file-like; views of shared memory
    for part in getm.iter_content(url): ...             # memoryviews in order, nothing to release
    async for part in getm.aiter_content(url): ...      # the same, for asyncio
    getm.download(url, path)                            # to a file: verified, then renamed
    getm.checksum(path, "sha256")                       # of a file or of bytes in memory

Errors stand in `getm.errors`, all under `getm.GetmError`.

A name is imported when it is first asked for (PEP 562): `import getm` costs next to nothing.
"""

from importlib import import_module

from getm._version import __version__
from getm.core import shutdown

# Checkers of types take the name for what `typing` has under it, and importing that costs more than all else here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from getm import errors
    from getm.aio import AsyncContentIterator, AsyncUnorderedIterator
    from getm.core.retry import Retries
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
    from getm.manifests import Entry
    from getm.options import Timeout
    from getm.reader import ContentIterator, Reader, UnorderedIterator
    from getm.results import DownloadFailure, DownloadResult, Stats
    from getm.session import Session, close

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

# Where each name is imported from; the imports above say the same to those who read and do not run this.
_HOMES = {
    "AsyncContentIterator": "aio",
    "AsyncUnorderedIterator": "aio",
    "Checksum": "integrity",
    "ChecksumMismatch": "errors",
    "ContentIterator": "reader",
    "DownloadFailure": "results",
    "DownloadResult": "results",
    "EngineDied": "errors",
    "Entry": "manifests",
    "Event": "events",
    "Failed": "events",
    "Finished": "events",
    "GetmError": "errors",
    "HTTPStatusError": "errors",
    "InvalidInput": "errors",
    "NetworkError": "errors",
    "Planned": "events",
    "Progressed": "events",
    "Reader": "reader",
    "RemoteChanged": "errors",
    "Retried": "events",
    "Retries": "core.retry",
    "Session": "session",
    "Skipped": "events",
    "SlotsExhausted": "errors",
    "Started": "events",
    "Stats": "results",
    "Timeout": "options",
    "UnorderedIterator": "reader",
    "Verdict": "integrity",
    "adownload": "functions",
    "adownload_all": "functions",
    "aiter_content": "functions",
    "aiter_content_unordered": "functions",
    "checksum": "functions",
    "close": "session",
    "download": "functions",
    "download_all": "functions",
    "iter_content": "functions",
    "iter_content_unordered": "functions",
    "read": "functions",
    "urlopen": "functions",
}


# A checker would take it for a promise that there is every name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "errors":
            return import_module("getm.errors")
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            module = import_module(f"getm.{home}")
        except ImportError:
            # A finaliser that uses getm for the first time: nothing can be imported any more, not even what is loaded.
            loaded = globals().get("errors")
            if loaded is None or not shutdown.begun():
                raise
            raise loaded.ReaderClosed(shutdown.REFUSAL) from None
        # Kept: it is asked for once.
        value = globals()[name] = getattr(module, name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
