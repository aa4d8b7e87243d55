"""Errors that programs expect of a file system."""

from __future__ import annotations

from getm.errors import HTTPStatusError

# Statuses that mean that nothing is there, and those that keep it from us.
_ABSENT = frozenset({404, 410})
_REFUSED = frozenset({401, 403})


def as_os_error(error: HTTPStatusError, url: str) -> OSError:
    """What open() raises in such a case; the same error for all other statuses, since it is an OSError, too."""
    if error.status in _ABSENT:
        return FileNotFoundError(url)
    return PermissionError(f"{error}") if error.status in _REFUSED else error
