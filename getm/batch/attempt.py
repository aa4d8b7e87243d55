"""One request for the object of a download, from its OPEN to its end."""

from __future__ import annotations

import contextlib
import heapq
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from getm import errors
from getm.client.connection import ClientConnection, IgnoringListener
from getm.core.stats import Stats
from getm.files.folder import Folder
from getm.protocol.messages import AdaptedInfo, EndInfo, FolderEntry, HeadInfo, NoteInfo, OpenRequest

if TYPE_CHECKING:
    from getm.batch.job import Job


class SmallFile(NamedTuple):
    """The file that an engine writes of its own accord where the object turns out to be small."""

    folder: Folder
    name: str

    def remove(self) -> None:
        """Remove it, whether it is there or not."""
        with contextlib.suppress(OSError):
            self.folder.remove(self.name)


class Leftover(IgnoringListener):
    """Listens in place of a cancelled attempt: the engine may have written its small file before it heard of that.
    `forget` is called when it is known."""

    def __init__(self, file: SmallFile, forget: Callable[[Leftover], None]) -> None:
        self.file = file
        self._forget = forget

    def on_end(self, info: EndInfo) -> None:
        self.file.remove()
        self._forget(self)

    def on_failed(self, error: errors.GetmError) -> None:
        self._forget(self)


class Attempt:
    """Receives one object's messages and passes them to its job until it has ended: by itself, or by `cancel`.

    `connection`: that it was sent over; `head` and `end`: what the engine said; None before. Everything happens in the
    batch's thread.
    """

    def __init__(self, job: Job) -> None:
        self.connection: ClientConnection | None = None
        self.head: HeadInfo | None = None
        self.end: EndInfo | None = None
        self.ended: bool = False
        self._job = job
        self._number = 0
        self._began_s = 0.0
        self._received_bytes = 0
        # A heap of bytes that came before their turn, for a target that takes them in order only: offset, minus the
        # place in the slot, slot, length, and whether the slot is full. A slot may be full without new bytes.
        self._early: list[tuple[int, int, int, int, bool]] = []
        # What may be there, and is not the job's yet.
        self._small: SmallFile | None = None

    def send(self, connection: ClientConnection, request: OpenRequest, small: SmallFile | None) -> None:
        """Raises `EngineDied`, `InvalidInput`."""
        self.connection = connection
        self._small = small
        self._began_s = time.monotonic()
        self._number = connection.open(request, self)

    def cancel(self) -> None:
        """Stop it. Harmless when it has ended."""
        connection = self.connection
        if not self.ended and connection is not None:
            small, self._small = self._small, None
            left = None if small is None or connection.closed else self._job.leave(small, connection)
            connection.cancel(self._number, left)
            if small is not None and left is None:
                # The engine is gone.
                small.remove()
        self.ended = True
        if connection is not None:
            for _, _, slot, _, full in self._early:
                if full:
                    connection.give_back(slot)
        self._early.clear()

    def write_to(self, file: FolderEntry) -> None:
        """Name the file for what comes. Raises `EngineDied`."""
        if self.connection is not None:
            self.connection.write_to(self._number, file)

    def stats(self, reported: Stats | None) -> Stats:
        """Its statistics. `reported`: by the engine; None where that died, or had no request."""
        seconds = 0.0 if self.connection is None else time.monotonic() - self._began_s
        return reported or Stats(received_bytes=self._received_bytes, seconds=seconds)

    @property
    def size(self) -> int | None:
        """The object's, in bytes, as far as it is known."""
        if self.end is not None:
            return self.end.total
        return None if self.head is None else self.head.size

    @property
    def resumed(self) -> bool:
        """Whether it brings only what an earlier one lacked."""
        return self.head is not None and self.head.resumed

    def may_be_last(self, stop: int) -> bool:
        """Whether bytes up to `stop` may be the last ones, of an object that is not verified yet."""
        if self.size is not None:
            return stop == self.size
        # Nothing is held back where nothing is to be verified.
        return self.head is not None and bool(self.head.declared)

    # What the connection calls ---------------------------------------------------------------------------------------

    def on_head(self, info: HeadInfo) -> None:
        self.head, self._small = info, None
        try:
            self._job.begin(info)
        except errors.GetmError as error:
            self._job.fail(error)

    def on_bytes(self, offset: int, slot: int, start: int, length: int, *, full: bool) -> None:
        if self._job.in_order:
            # Keeping its slot is safe: the part whose turn it is has all that it needs (engine/sinks/slots.py).
            heapq.heappush(self._early, (offset, -start, slot, length, full))
            self._write_early()
        else:
            self._write(offset, slot, start, length, full)
        if not self.ended:
            self._job.wrote()

    def _write_early(self) -> None:
        while self._early and self._early[0][0] == self._job.done and self._job.ready:
            offset, start, slot, length, full = heapq.heappop(self._early)
            self._write(offset, slot, -start, length, full)

    def go_on(self) -> None:
        """The job takes bytes again."""
        self._write_early()
        if self.end is not None and not self._early:
            self._complete(self.end)

    def _write(self, offset: int, slot: int, start: int, length: int, full: bool) -> None:
        connection = self.connection
        if connection is None:
            return
        self._received_bytes += length
        try:
            if length:
                self._job.write(offset, connection.ring.view(slot, start, length))
        except errors.GetmError as error:
            self._job.fail(error)
        finally:
            if full:
                connection.give_back(slot)

    def on_written(self, offset: int, length: int) -> None:
        self._received_bytes += length
        try:
            self._job.wrote_to_file(offset, length)
        except errors.GetmError as error:
            self._job.fail(error)
        else:
            self._job.wrote()

    def on_note(self, info: NoteInfo) -> None:
        self._job.note_retry(info)

    def on_expired(self, serial: int) -> None:
        if self.connection is not None:
            self._job.renew(serial, partial(self.connection.renewed, self._number))

    def on_adapted(self, info: AdaptedInfo) -> None:
        self._job.note_adapted(info)

    def on_end(self, info: EndInfo) -> None:
        self.end = info
        self.ended = True
        small, self._small = self._small, None
        try:
            if info.head is not None:
                if small is None:
                    raise errors.ProtocolError("END has a head, and no small file was asked for")
                self.head, self._received_bytes = info.head, info.total
                if not self._begin_stored(info.head, small):
                    return
        except errors.GetmError as error:
            self._job.fail(error)
            return
        # Otherwise when the job has taken them: see `go_on`.
        if not self._early:
            self._complete(info)

    def _complete(self, info: EndInfo) -> None:
        try:
            self._job.complete(info)
        except errors.GetmError as error:
            self._job.fail(error)

    def _begin_stored(self, head: HeadInfo, small: SmallFile) -> bool:
        wanted = False
        try:
            wanted = self._job.begin_stored(head, small)
        finally:
            if not wanted:
                small.remove()
        return wanted

    def on_failed(self, error: errors.GetmError) -> None:
        self.ended = True
        self._small = None
        self._job.attempt_failed(error)
