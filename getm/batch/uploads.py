"""The threads of a batch that wait for stores of objects, and the stores."""

from __future__ import annotations

from collections.abc import Callable

from getm.core.threads import WorkerThreads
from getm.destinations.store import Stores

# Requests at once, over all downloads.
_THREADS = 16


class Uploads:
    """`stores`: to be used in the threads only."""

    def __init__(self) -> None:
        self.stores: Stores = Stores()
        self._threads = WorkerThreads("getm-upload", _THREADS)

    def submit(self, work: Callable[[], None]) -> None:
        """Do `work` in one of the threads."""
        self._threads.submit(work)

    def close(self) -> None:
        """Wait for what is under way, end the threads, and close connections."""
        self._threads.close()
        self.stores.close()
