"""Targets of downloads: names, partial files, journals, streams. Nothing here knows sockets or engines: it sees
memoryviews."""

from getm.files.commit import all_steps, commit_files
from getm.files.folder import Folder
from getm.files.journal import journal_name
from getm.files.names import changed_name, follow_link, resolve_target, safe_name
from getm.files.os_errors import target_error
from getm.files.partial import PartialFile, open_partial
from getm.files.streams import StreamTarget, is_special, needs_order

__all__ = [
    "Folder",
    "PartialFile",
    "StreamTarget",
    "all_steps",
    "changed_name",
    "commit_files",
    "follow_link",
    "is_special",
    "journal_name",
    "needs_order",
    "open_partial",
    "resolve_target",
    "safe_name",
    "target_error",
]
