"""Which process this is: `os.getpid()` without a system call, which many small files and objects would feel."""

from __future__ import annotations

import os

_number = os.getpid()


def process_number() -> int:
    """The number of this process; another one in a forked child."""
    return _number


def _look_again() -> None:
    global _number
    _number = os.getpid()


os.register_at_fork(after_in_child=_look_again)
