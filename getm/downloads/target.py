"""Where the bytes of one download go: a file in the making, or what takes bytes only in order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol, Self

from getm.downloads.naming import HeaderFields, resolve_target
from getm.downloads.partial import open_partial
from getm.downloads.stream import StreamTarget, needs_order


class Target(Protocol):
    """Where the bytes of one download go. A context manager: leaving it without `commit()` discards."""

    in_order: bool
    """True: `write` must be called in the order of offsets, without gaps."""

    path: Path

    def write(self, offset: int, view: memoryview) -> None:
        """Write all of `view` at byte `offset` of the object, before returning; no copy is made or kept."""

    def commit(self) -> None:
        """All bytes are written and right: put them in place. If it raises, `discard()` is still due."""

    def discard(self) -> None:
        """Leave nothing behind. Harmless when repeated, and after `commit()`."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


def open_target(
    path: str | os.PathLike[str] | None, *, url: str, headers: HeaderFields = (), size: int | None = None
) -> Target:
    """Open the target for a download of `url` whose response had `headers` and promises `size` bytes (None: unknown).

    `path` is read by `resolve_target`; what `needs_order` holds for is written to directly. Raises TargetError: no
    permission, a folder in the way, no space for `size` bytes (found out now, not at the end).
    """
    if path is not None and needs_order(path):
        return StreamTarget.open(Path(path))
    partial = open_partial(resolve_target(path, url=url, headers=headers), resume=False)
    try:
        partial.begin(size)
    except BaseException:
        partial.discard()
        raise
    return partial
