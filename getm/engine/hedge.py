"""The slow tail: which parts are so much slower than the others that another connection should be tried for what is
left of them.

Only while a worker has nothing to do: no part is left to start, or, for want of slots, none can be started before the
slow one has come. Before that, every connection has better work than repeating another one's. A timer compares what
each part has brought since the last look. A window is as long as the other parts needed for three slots in the median,
and `tail_s` at least: progress is seen in pieces of up to a slot (a helper engine's come so, and bytes wait in the
kernel below the low-water mark), and a part that is as fast as the others brings two or three of them in that time. A
part is slow when it brought less than a third of what the median would have, and what is left of it would take longer
than `tail_s` at that pace. A part that had to wait for a slot was not slow: its consumer was. No more parts are hurried
at once than there are workers with nothing to do, so that no server sees more connections than were asked for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from getm.core.spans import Span

_TIMES_SLOWER = 3
_WINDOW_SLOTS = 3
# The kernel may keep half of it unseen.
_MIN_PIECE_BYTES = 1024 * 1024
# How many of the parts that ended last are representative.
_REMEMBERED = 64
# No time, or no throughput, to divide by.
_NEXT_TO_NOTHING = 1e-9


class Watched(Protocol):
    """An active part. `waited`: for a slot, at any time since this was last cleared; `waits`: how often."""

    waited: bool
    waits: int
    position: int

    @property
    def remaining(self) -> Span: ...


class Watch(Protocol):
    """Whoever watches parts: see `Hedger.watch`."""

    def watch(self, part: Watched, hedge: Callable[[], None]) -> AbstractContextManager[None]: ...


def is_slow(brought: int, seconds: float, left: int, usual: float, tail_s: float) -> bool:
    """Whether a part that brought `brought` bytes in `seconds`, with `left` bytes to come, is slow where others bring
    `usual` bytes a second."""
    pace = brought / seconds
    return pace * _TIMES_SLOWER < usual and left > pace * tail_s


class Hedger:
    """Watches the parts of one object, which `workers` workers fetch, as far as they have something to do. `tail_s`
    None: it never finds one slow. `part_bytes`: how long the longest part is; None: longer than any piece of it."""

    def __init__(self, workers: int, slot_bytes: int, tail_s: float | None, part_bytes: int | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self.workers: int = workers
        self._tail_s = tail_s
        piece_bytes = max(slot_bytes, _MIN_PIECE_BYTES)
        self._window_bytes = _WINDOW_SLOTS * (piece_bytes if part_bytes is None else min(piece_bytes, part_bytes))
        # The position of each active part at the last check; None: it had not begun. And what hedges it.
        self._seen: dict[Watched, int | None] = {}
        self._hedges: dict[Watched, Callable[[], None]] = {}
        self._hurried: set[Watched] = set()
        # Bytes a second.
        self._paces: deque[float] = deque(maxlen=_REMEMBERED)
        self._looked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def watch(self, part: Watched, hedge: Callable[[], None]) -> Iterator[None]:
        """A context for the time in which the part is active. `hedge()` is called where it is slow."""
        began, first = self._loop.time(), part.position
        self._seen[part], self._hedges[part] = None, hedge
        self._start()
        try:
            yield
            if brought := part.position - first:
                self._paces.append(brought / max(self._loop.time() - began, _NEXT_TO_NOTHING))
        finally:
            del self._seen[part], self._hedges[part]
            self._hurried.discard(part)
        self._start()

    def _start(self) -> None:
        # Without a part that has come there is nothing to compare with.
        if self._timer is None and self._paces and self._tail_s is not None:
            self._look(self._tail_s)

    def _look(self, tail_s: float) -> None:
        now = self._loop.time()
        seconds = max(now - self._looked_at, _NEXT_TO_NOTHING)
        usual = sorted(self._paces)[len(self._paces) // 2]
        for part, before in list(self._seen.items()):
            may_hurry = part in self._hurried or len(self._hurried) < self.workers - len(self._seen)
            judged = before is not None and not part.waited and may_hurry
            if judged and is_slow(part.position - (before or 0), seconds, len(part.remaining), usual, tail_s):
                self._hurried.add(part)
                self._hedges[part]()
            part.waited = False
            self._seen[part] = part.position
        self._looked_at = now
        window_s = max(tail_s, self._window_bytes / max(usual, _NEXT_TO_NOTHING))
        self._timer = self._loop.call_later(window_s, self._look, tail_s) if self._seen else None

    def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
