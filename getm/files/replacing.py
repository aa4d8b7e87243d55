"""What every file does before it takes the place of its target."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path

from getm.core.this_process import process_number
from getm.errors import TargetError


def take_metadata(fd: int, replaced: os.stat_result | None, mtime: float | None) -> None:
    """Give the file the permissions of the one that it replaces, and its time of change, in seconds since 1970 (None:
    now). Raises OSError."""
    if replaced is not None and stat.S_ISREG(replaced.st_mode):
        # Some file systems have none.
        with contextlib.suppress(PermissionError):
            os.fchmod(fd, replaced.st_mode & 0o777)
    if mtime is not None:
        os.utime(fd, (time.time(), mtime))


def check_process(pid: int, path: Path) -> None:
    """Refuse in a process that was forked from `pid`, whose file it is. Raises TargetError."""
    if process_number() != pid:
        raise TargetError(
            f"{path} is being downloaded by the process that this one was forked from; download it there.",
            path=str(path),
        )


def gone(path: Path) -> TargetError:
    """The error where the file is not there any more."""
    return TargetError(
        f"{path}: its partial file is gone: another getm has finished it, or it was removed; download it again.",
        path=str(path),
    )
