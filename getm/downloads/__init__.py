"""Where downloads go: names, targets, progress. Sees memoryviews, never sockets, buffers or engines."""

from getm.downloads.naming import resolve_target, safe_name
from getm.downloads.result import DownloadResult
from getm.downloads.stream import StreamTarget, needs_order
from getm.downloads.target import Target, open_target

__all__ = [
    "DownloadResult",
    "StreamTarget",
    "Target",
    "needs_order",
    "open_target",
    "resolve_target",
    "safe_name",
]
