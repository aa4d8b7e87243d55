"""The bytes of one download on their way to a store of objects: collected into parts, of which several are sent at
once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from getm import errors
from getm.core.log import get_logger
from getm.destinations.parts import part_bytes
from getm.destinations.store import Origin, Stores, Upload
from getm.destinations.urls import shown
from getm.integrity.values import Checksum
from getm.integrity.verdict import Verdict

if TYPE_CHECKING:
    from getm.batch.scheduler import Batch

_log = get_logger()

_T = TypeVar("_T")


class ObjectUpload:
    """Sends one object to `url`. Everything happens in the batch's thread, and what waits for the store in others.

    Its memory is that of the part that is being filled, and of those that are being sent. While all that may be sent at
    once are, it takes no more bytes: then they stay where they were received, and no more come.

    Args:
        batch: That it belongs to.
        url: Of the object.
        origin: What is known of it.
        must_be_new: Refuse to replace an object.
        on_ready: Called when it takes bytes again.
        on_end: Called once, with the checksum of the object when it is in its place, or with why it is not.
    """

    def __init__(
        self,
        batch: Batch,
        url: str,
        origin: Origin,
        *,
        must_be_new: bool,
        on_ready: Callable[[], None],
        on_end: Callable[[Checksum | errors.GetmError], None],
    ) -> None:
        self.committing: bool = False
        self._batch = batch
        self._url = url
        self._origin = origin
        self._must_be_new = must_be_new
        self._on_ready = on_ready
        self._on_end = on_end
        self._upload: Upload | None = None
        self._at_once = 1
        # The part that is being filled, parts that wait, how many were begun, and how many are being sent.
        self._part = bytearray()
        self._part_bytes = part_bytes(0, origin.size)
        self._full: deque[bytearray] = deque()
        self._sent = self._pending = 0
        # Of all bytes, which have come.
        self._verdict: Verdict | None = None
        # What follows its end, where nothing is to be left of it.
        self._then: Callable[[], None] | None = None
        self._ask(self._open, self._opened)

    @property
    def ready(self) -> bool:
        """Whether it takes bytes."""
        return not self._full

    def write(self, view: memoryview) -> None:
        """The next bytes of the object, to be called while it is ready."""
        while len(view):
            if len(self._part) == self._part_bytes:
                self._full.append(self._part)
                self._part = bytearray()
                self._part_bytes = part_bytes(self._sent + len(self._full), self._origin.size)
            room = self._part_bytes - len(self._part)
            self._part += view[:room]
            view = view[room:]
        self._go_on()

    def finish(self, verdict: Verdict) -> None:
        """All bytes have come, and are what they should be: put the object in its place."""
        self._verdict = verdict
        self._go_on()

    def cancel(self) -> None:
        """End it soon, in its place or not: `on_end` is called as always."""
        if self._upload is not None:
            self._upload.cancel()

    def close(self, then: Callable[[], None]) -> None:
        """Leave nothing of it in the store, and call `then`. Harmless once it is in its place."""
        self._then = then
        self._full.clear()
        self._part = bytearray()
        self.cancel()
        self._go_on()

    # What waits for the store -----------------------------------------------------------------------------------------

    def _open(self, stores: Stores) -> tuple[Upload, int]:
        store = stores.of(self._url)
        if self._must_be_new and store.find(self._url) is not None:
            name = shown(self._url)
            raise errors.TargetError(
                f"The server names this download {name.rpartition('/')[2]!r}, and there is such an object already; "
                "give its URL to replace it.",
                path=name,
            )
        return store.upload(self._url, self._origin), store.parts_at_once(self._part_bytes)

    def _opened(self, opened: tuple[Upload, int] | errors.GetmError) -> None:
        if isinstance(opened, errors.GetmError):
            self._fail(opened)
            return
        self._upload, self._at_once = opened
        self._go_on()
        self._tell_ready()

    def _go_on(self) -> None:
        """Do what can be done next."""
        upload = self._upload
        if self._then is not None:
            if not self._pending:
                self._discard(self._then)
            return
        if upload is None:
            return
        if self._verdict is not None and self._part and self._sent + len(self._full):
            # The last one of several.
            self._full.append(self._part)
            self._part = bytearray()
        while self._full and self._pending < self._at_once:
            data, number = self._full.popleft(), self._sent
            self._sent += 1
            self._ask(partial(_send, upload, number, data), self._part_sent)
        if self._verdict is not None and not (self._full or self._pending or self.committing):
            self.committing = True
            whole, verdict = None if self._sent else self._part, self._verdict
            self._ask(lambda _: upload.commit(whole, _checksums(verdict)), self._committed)

    def _part_sent(self, error: errors.GetmError | None) -> None:
        if error is not None:
            self._fail(error)
            return
        self._go_on()
        self._tell_ready()

    def _tell_ready(self) -> None:
        if self._then is None and self._verdict is None and self.ready:
            self._on_ready()

    def _committed(self, outcome: Checksum | errors.GetmError) -> None:
        if isinstance(outcome, errors.GetmError):
            self._fail(outcome)
            return
        self._upload = None
        self._on_end(outcome)
        self._go_on()

    def _fail(self, error: errors.GetmError) -> None:
        if self._then is None:
            self._on_end(error)
        # That closes it, and further failures are of no interest.
        self._go_on()

    def _discard(self, then: Callable[[], None]) -> None:
        upload, self._upload = self._upload, None
        self._then = lambda: None
        if upload is None:
            then()
            return

        def discarded(error: errors.GetmError | None) -> None:
            if error is not None:
                _log.warning("what was uploaded of it may still be in the store: %s", error.message)
            then()

        self._ask(lambda _: upload.discard(), discarded)

    def _ask(self, work: Callable[[Stores], _T], then: Callable[[_T | errors.GetmError], None]) -> None:
        self._pending += 1

        def answered(answer: _T | errors.GetmError) -> None:
            self._pending -= 1
            then(answer)

        self._batch.workers.in_store(work, answered)


def _send(upload: Upload, number: int, data: bytearray, _: Stores) -> None:
    upload.send(number, data)


def _checksums(verdict: Verdict) -> tuple[Checksum, ...]:
    """All that were computed of the bytes as they came."""
    own = () if verdict.checksum is None else (verdict.checksum,)
    return (*verdict.computed, *own, *(() if verdict.blocks is None else (verdict.blocks.whole,)))
