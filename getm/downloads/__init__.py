"""Where downloads go: names, targets, progress. Sees memoryviews, never sockets, buffers or engines."""

from getm.downloads.faults import target_error
from getm.downloads.folder import Folder
from getm.downloads.journal import journal_name
from getm.downloads.naming import resolve_target, safe_name
from getm.downloads.partial import Commit, PartialFile, Saved, commit_many, open_partial
from getm.downloads.result import DownloadFailure, DownloadResult
from getm.downloads.stream import StreamTarget, is_special, needs_order

__all__ = [
    "Commit",
    "DownloadFailure",
    "DownloadResult",
    "Folder",
    "PartialFile",
    "Saved",
    "StreamTarget",
    "commit_many",
    "is_special",
    "journal_name",
    "needs_order",
    "open_partial",
    "resolve_target",
    "safe_name",
    "target_error",
]
