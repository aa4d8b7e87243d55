"""The events of a batch on their way to its caller."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from getm.events import Event

if TYPE_CHECKING:
    from getm.batch.job import Job

# Events are passed on at most so often: each time the caller's thread wakes up, and takes the GIL.
_POST_S = 0.02
# Progress is reported ten times a second: people do not see more.
_PROGRESS_S = 0.1

Post = Callable[[list[Event] | None], None]


class Reports:
    """Collects events, and passes them on together. `post`: takes them, in any thread; None is the end."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._events: list[Event] = []
        # Jobs of which more bytes have come.
        self._changed: set[Job] = set()
        self._told_at = self._posted_at = 0.0

    def add(self, event: Event) -> None:
        self._events.append(event)

    def at_once(self, event: Event) -> None:
        """Pass an event on at once. In any thread."""
        self._post([event])

    def progressed(self, job: Job) -> None:
        """More of its bytes have come."""
        self._changed.add(job)

    def forget(self, job: Job) -> None:
        """It receives nothing more."""
        self._changed.discard(job)

    @property
    def due_s(self) -> float | None:
        """When `go_on` has something to do, as `time.monotonic()` says it; None: there is nothing."""
        due = []
        if self._changed:
            # Progress before a silence is reported as well.
            due.append(self._told_at + _PROGRESS_S)
        if self._events:
            due.append(self._posted_at + _POST_S)
        return min(due, default=None)

    def go_on(self, *, hurry: bool) -> None:
        """Pass on what is due; with `hurry` all events."""
        now = time.monotonic()
        if self._changed and now - self._told_at >= _PROGRESS_S:
            self._told_at = now
            self._events.extend(job.progress() for job in self._changed)
            self._changed.clear()
        if self._events and (hurry or now - self._posted_at >= _POST_S):
            self._posted_at = now
            self._post(self._events)
            self._events = []

    def end(self) -> None:
        """Pass on all that is held back, and the end."""
        if self._events:
            self._post(self._events)
        self._post(None)
