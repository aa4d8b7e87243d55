"""Where downloads go: names, targets, progress. Sees memoryviews, never sockets, buffers or engines."""

from getm.files.folder import Folder
from getm.files.journal import journal_name
from getm.files.names import resolve_target, safe_name
from getm.files.os_errors import target_error
from getm.files.partial import Commit, PartialFile, Saved, commit_many, open_partial
from getm.files.streams import StreamTarget, is_special, needs_order

__all__ = [
    "Commit",
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
