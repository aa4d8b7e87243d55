"""getm: fast downloads over HTTP, into a program or onto a disk, checked against every checksum there is.

    with getm.urlopen(url) as fh: ...                   # file-like; views of shared memory
    for part in getm.iter_content(url): ...             # memoryviews in order, nothing to release
    async for part in getm.aiter_content(url): ...      # the same, for asyncio
    getm.download(url, path)                            # to a file: verified, then renamed
    getm.checksum(path, "sha256")                       # of a file or of bytes in memory

The functions are methods of a default `getm.Session`. All errors are `getm.GetmError`s.

A name is imported when it is first asked for (PEP 562): `import getm` costs next to nothing.
"""

from importlib import import_module

from getm._version import __version__
from getm.core import shutdown
from getm.core.lazy import importing

# What is public: these names, and no others.
__all__ = [
    "Adapted",
    "AsyncContentIterator",
    "AsyncUnorderedIterator",
    "BadResponse",
    "Bottleneck",
    "Cancelled",
    "Checksum",
    "ChecksumMismatch",
    "CommandFailed",
    "ConnectFailed",
    "ContentIterator",
    "DescriptorsExhausted",
    "DownloadFailure",
    "DownloadResult",
    "EngineDied",
    "Entry",
    "EntryList",
    "Event",
    "Examining",
    "Failed",
    "Finished",
    "FormatError",
    "GetmError",
    "HTTPStatusError",
    "HostNotFound",
    "IntegrityError",
    "InvalidInput",
    "ListPage",
    "ListRequest",
    "ListedObject",
    "MemoryUnavailable",
    "MissingExtra",
    "NetworkError",
    "NotSeekable",
    "NothingFound",
    "ObjectInfo",
    "Planned",
    "Progressed",
    "ProtocolError",
    "ProxyRefused",
    "RangesRefused",
    "Reader",
    "ReaderBusy",
    "ReaderClosed",
    "RedirectError",
    "RemoteChanged",
    "ResolveFailed",
    "Resource",
    "Retried",
    "Retries",
    "Session",
    "SharedObject",
    "SizeMismatch",
    "Skipped",
    "SlotsExhausted",
    "SpanContents",
    "Started",
    "Stats",
    "TLSFailed",
    "TargetError",
    "TimedOut",
    "Timeout",
    "Times",
    "Truncated",
    "URLExpired",
    "UnorderedIterator",
    "Unverified",
    "Verdict",
    "WorkerLost",
    "__version__",
    "adownload",
    "adownload_all",
    "ainfo",
    "aiter_content",
    "aiter_content_unordered",
    "alist_objects",
    "aread",
    "aread_ranges",
    "checksum",
    "close",
    "download",
    "download_all",
    "errors",
    "info",
    "iter_content",
    "iter_content_unordered",
    "list_objects",
    "open",
    "read",
    "read_list",
    "read_ranges",
    "readinto",
    "shared",
    "urlopen",
]

# The modules that have them, the cheapest to import first: a name that is in several of them is the same in all.
_HOMES = (
    *("errors", "options", "results", "events", "integrity.values", "integrity.verdict", "integrity.files"),
    *(
        "resolve.resource",
        "resolve.pages",
        "resolve.listing",
        "manifests.entry",
        "shared_object",
        "reader",
        "session",
        "default_session",
        "manifests.entry_list",
        "manifests.read",
        "aio",
        "core.bottleneck",
    ),
)

# Checkers of types take the name for what `typing` has under it, and importing that costs more than all else here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from getm import errors
    from getm.aio import *
    from getm.core.bottleneck import *
    from getm.default_session import *
    from getm.errors import *
    from getm.events import *
    from getm.integrity.files import *
    from getm.integrity.values import *
    from getm.integrity.verdict import *
    from getm.manifests.entry import *
    from getm.manifests.entry_list import *
    from getm.manifests.read import *
    from getm.options import *
    from getm.reader import *
    from getm.resolve.listing import *
    from getm.resolve.pages import *
    from getm.resolve.resource import *
    from getm.results import *
    from getm.session import *
    from getm.shared_object import *
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        for home in _HOMES:
            try:
                with importing:
                    module = import_module(f"getm.{home}")
            except ImportError:
                # A finaliser that uses getm for the first time: nothing can be imported any more, not even what is
                # loaded.
                loaded = globals().get("errors")
                if loaded is None or not shutdown.begun():
                    raise
                raise loaded.ReaderClosed(shutdown.REFUSAL) from None
            if name == home:
                return module
            if name in vars(module):
                # Kept: it is asked for once.
                value = globals()[name] = getattr(module, name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
