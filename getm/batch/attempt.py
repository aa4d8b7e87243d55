"""One request for the object of a download, from its OPEN to its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from getm import errors
from getm.client.connection import ClientConnection
from getm.protocol.messages import EndInfo, HeadInfo, NoteInfo, OpenRequest
from getm.results import Stats

if TYPE_CHECKING:
    from getm.batch.job import Job


class Attempt:
    """Receives one object's messages and passes them to its job until it has ended: by itself, or by `cancel`.

    `head` and `end`: what the engine said, None before. `resumes`: it asks for the rest of a former attempt. Everything
    happens in the batch's thread.
    """

    def __init__(self, job: Job, connection: ClientConnection) -> None:
        self.connection: ClientConnection = connection
        self.head: HeadInfo | None = None
        self.end: EndInfo | None = None
        self.ended: bool = False
        self._job = job
        self._number: int | None = None
        self._began_s = time.monotonic()
        self.received_bytes: int = 0
        self.resumes: bool = False
        # Bytes that came before their turn, by offset, for a target that takes them in order only.
        self._early: dict[int, tuple[int, int, int, bool]] = {}

    def send(self, request: OpenRequest) -> None:
        """Raises `EngineDied`, `InvalidInput`."""
        self.resumes = request.version is not None
        self._number = self.connection.open(request, self)

    def cancel(self) -> None:
        """Stop it. Harmless when it has ended."""
        if self.ended:
            return
        self.ended = True
        if self._number is not None:
            self.connection.cancel(self._number)
        for slot, _, _, full in self._early.values():
            if full:
                self.connection.give_back(slot)
        self._early.clear()

    def stats(self, reported: Stats | None) -> Stats:
        """Its statistics. `reported`: by the engine; None where that died, or had no request."""
        return reported or Stats(received_bytes=self.received_bytes, seconds=time.monotonic() - self._began_s)

    # What the connection calls ---------------------------------------------------------------------------------------

    def on_head(self, info: HeadInfo) -> None:
        self.head = info
        try:
            self._job.begin(info)
        except errors.GetmError as error:
            self._job.fail(error)

    def on_bytes(self, offset: int, slot: int, start: int, length: int, *, full: bool) -> None:
        if self._job.in_order and offset != self._job.done:
            # Keeping its slot is safe: the part whose turn it is has all that it needs (engine/sinks/slots.py).
            self._early[offset] = slot, start, length, full
            return
        self._write(offset, slot, start, length, full)
        while self._job.done in self._early:
            self._write(self._job.done, *self._early.pop(self._job.done))
        if not self.ended:
            self._job.wrote()

    def _write(self, offset: int, slot: int, start: int, length: int, full: bool) -> None:
        self.received_bytes += length
        try:
            self._job.write(offset, self.connection.ring.view(slot, start, length))
        except errors.GetmError as error:
            self._job.fail(error)
        finally:
            if full:
                self.connection.give_back(slot)

    def on_note(self, info: NoteInfo) -> None:
        self._job.note_retry(info)

    def on_end(self, info: EndInfo) -> None:
        self.end = info
        self.ended = True
        self._job.complete(info)

    def on_failed(self, error: errors.GetmError) -> None:
        self.ended = True
        self._job.attempt_failed(error)
