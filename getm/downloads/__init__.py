"""Where downloads go: names, targets, progress. Sees memoryviews, never sockets, buffers or engines."""

from getm.downloads.folder import Folder
from getm.downloads.naming import resolve_target, safe_name
from getm.downloads.partial import PartialFile, Saved, commit_many, open_partial
from getm.downloads.result import DownloadResult
from getm.downloads.stream import StreamTarget, needs_order
from getm.downloads.target import Target, open_target

__all__ = [
    "DownloadResult",
    "Folder",
    "PartialFile",
    "Saved",
    "StreamTarget",
    "Target",
    "commit_many",
    "needs_order",
    "open_partial",
    "open_target",
    "resolve_target",
    "safe_name",
]
