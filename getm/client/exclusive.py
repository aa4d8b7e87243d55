"""One user at a time for a reader or an iterator, which any thread or task may close at any moment."""

from __future__ import annotations

import threading
from collections.abc import Callable

from getm.errors import ReaderBusy


class Exclusive:
    """A context for one thread, task or signal's handler at a time: a second one gets `ReaderBusy` and does not wait.

    `clean_up` drops what a closed reader still holds; `close` calls it, or leaves that to the user inside.
    """

    def __init__(self, clean_up: Callable[[], None]) -> None:
        self._clean_up = clean_up
        self._lock = threading.Lock()
        self.closed: bool = False

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise ReaderBusy("another thread or task is reading from it: take turns, or give each its own")

    def __exit__(self, *raised: object) -> None:
        self._lock.release()
        if self.closed:
            self.close()

    def close(self) -> None:
        """Clean up as soon as no user is inside. Never waits."""
        # The mark first: a user who leaves looks at it after the lock is free, so one of the two cleans up.
        self.closed = True
        if self._lock.acquire(blocking=False):
            try:
                self._clean_up()
            finally:
                self._lock.release()
