"""Errors of the operating system, with the path and what to do about them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from getm.errors import TargetError

_ADVICE = {
    errno.ENOSPC: "free some space, or choose another disk",
    errno.EDQUOT: "the quota is used up: free some space, or choose another disk",
    errno.EFBIG: "the file system or a limit (ulimit -f) allows no file so large: choose another place",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a file system that is not read-only",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "the folder is gone, or the name leads nowhere: choose another",
    errno.EISDIR: "choose the name of a file",
    errno.ELOOP: "the path runs in circles of symbolic links: choose another",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n), or run fewer downloads at once",
    errno.EPIPE: "the reader is gone",
    errno.ENXIO: "nothing reads from there",
    errno.EBADF: "the descriptor is not open for writing",
}


# What making or opening a folder says where a file is in its place.
_A_FILE = (errno.EEXIST, errno.ENOTDIR)


def target_error(error: OSError, path: Path) -> TargetError:
    """The TargetError for an error at `path`; raise it `from error`."""
    advice = _ADVICE.get(error.errno or 0, "look at the disk, or choose another place")
    if error.errno in _A_FILE and (file := _file_in_place_of_folder(path, error.errno)) is not None:
        message = "" if file == path else f"{path} cannot be written: "
        message += f"{file} is a file, and should be a folder; choose another folder, or move the file away."
        return TargetError(message, path=str(path), errno=error.errno)
    text = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
    return TargetError(f"{path} cannot be written: {text}; {advice}.", path=str(path), errno=error.errno)


def _file_in_place_of_folder(path: Path, number: int | None) -> Path | None:
    """The file that stands where a folder above `path` should be, or where `path` itself should be one."""
    # A file may well exist at `path`, and cannot be made anew.
    candidates = path.parents if number == errno.EEXIST else (path, *path.parents)
    found = next((each for each in candidates if os.path.lexists(each)), None)
    return None if found is None or found.is_dir() else found


@contextlib.contextmanager
def as_target_error(path: Path) -> Iterator[None]:
    """Within the context, errors of the operating system become those of the target `path`."""
    try:
        yield
    except OSError as error:
        raise target_error(error, path) from error
