"""One object on its way to the caller: what both faces share. Nothing here waits; the faces do.

A face asks for bytes; where the answer is None it waits until the connection is readable, calls `pump`, and asks again.
"""

from __future__ import annotations

import gc
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from getm import errors
from getm.client.connection import ClientConnection
from getm.core.head import Head, HeaderMap
from getm.core.log import get_logger
from getm.core.redact import redact
from getm.integrity import Verdict, parse_checksum, unverified
from getm.protocol.messages import EndInfo, HeadInfo, NoteInfo, OpenRequest
from getm.results import Stats

_log = get_logger()

# How long a caller whose views fill the ring may take to let one go in another thread or task, before it is an error.
SLOTS_GRACE_S = 5.0
# How long a read that waits for more keeps the slots of what it has, in the hope of a view without a copy. Without
# them the engine sees that the caller has nothing to read, and sends what there is before a slot is full.
HELD_GRACE_S = 0.1


class Part(NamedTuple):
    """`view` holds bytes of the object from `offset` on, and lies at the start of `slot`."""

    offset: int
    slot: int
    view: memoryview


class Receiver:
    """One object being received over a connection, for one caller."""

    def __init__(
        self, connection: ClientConnection, request: OpenRequest, release: Callable[[ClientConnection], None]
    ) -> None:
        self._connection = connection
        self._release = release
        self._requested_url = request.url
        self.head: HeadInfo | None = None
        self._end: EndInfo | None = None
        self._error: errors.GetmError | None = None
        self._pending: dict[int, Part] = {}
        self._received = 0
        self._began = time.monotonic()
        self._stats: Stats | None = None
        self._given = 0
        self._closed = False
        self._released = False
        try:
            self._number = connection.open(request, self)
        except BaseException:
            release(connection)
            raise

    # What the connection tells ---------------------------------------------------------------------------------------

    def on_head(self, info: HeadInfo) -> None:
        self.head = info
        for note in info.notes:
            _log.warning("%s: %s", self.url, note)

    def on_part(self, offset: int, slot: int, length: int) -> None:
        self._received += length
        self._pending[offset] = Part(offset, slot, self._connection.lease(slot, length))

    def on_note(self, info: NoteInfo) -> None:
        _log.info("retry %d of %s in %.1f s (%s): %s", info.attempt, self.url, info.delay_s, info.cause, info.message)

    def on_end(self, info: EndInfo) -> None:
        self._end = info
        self._stats = info.stats

    def on_failed(self, error: errors.GetmError) -> None:
        self._error = error
        self._stats = error.stats = error.stats or self.stats()
        self._pending.clear()

    # What a face asks -----------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Readable when `pump` would have something to do."""
        return self._connection.fileno()

    @property
    def url(self) -> str:
        """The URL that was asked for, redacted."""
        return redact(self._requested_url)

    @property
    def slots(self) -> int:
        return self._connection.layout.slots

    @property
    def slot_bytes(self) -> int:
        return self._connection.layout.slot_bytes

    @property
    def size(self) -> int | None:
        """The object's size in bytes; None until the head is there, or its end where the head does not tell."""
        if self._end is not None:
            return self._end.total
        return None if self.head is None else self.head.size

    @property
    def closed(self) -> bool:
        return self._closed

    def verdict(self) -> Verdict:
        """What verified the bytes, or why nothing did (yet)."""
        if self._end is None or self._pending:
            reason = "not read to its end yet" if self._error is None else f"failed: {self._error.message}"
            return unverified(reason)
        return verdict_of(self._end)

    def stats(self) -> Stats:
        """What it took; until the end, what can be known here."""
        if self._stats is not None:
            return self._stats
        return Stats(received_bytes=self._received, seconds=time.monotonic() - self._began)

    def pump(self, *, wait: bool) -> None:
        """Receive what the engine has sent. An engine's death becomes this transfer's error."""
        if self._error is None and self._end is None:
            try:
                self._connection.pump(wait=wait)
            except (errors.EngineDied, errors.ProtocolError) as error:
                error.url = self.url
                self.on_failed(error)
            if self._error is not None:
                # Not left to close(): the error's traceback may keep this alive until the next garbage collection.
                self._give_up_channel()

    def has_head(self) -> bool:
        """Whether the head is there. Raises what went wrong before it."""
        self._check()
        return self.head is not None

    def _check(self) -> None:
        if self._closed:
            raise errors.ReaderClosed("the reader is closed", url=self.url)
        if self._error is not None:
            raise self._error

    def next_part(self, *, ordered: bool) -> Part | None:
        """The next part, in order or as it came; None where it has not come, or where the object has ended.

        The last part is kept back until the engine has verified the whole: a mismatch is raised instead of it.
        """
        self._check()
        if not self._pending:
            return None
        offset = self._given if ordered else next(iter(self._pending))
        part = self._pending.get(offset)
        if part is None or (self._end is None and self._given + len(part.view) == self.size):
            return None
        del self._pending[offset]
        self._given += len(part.view)
        return part

    @property
    def finished(self) -> bool:
        """Whether every byte was given out, and verified as far as it can be."""
        return self._end is not None and not self._pending

    def starved(self) -> bool:
        """Whether nothing more can come unless the caller lets go of a view.

        True while all slots are on this side and the object is not complete. Garbage that still holds views is
        collected first.
        """
        if self._end is not None or self._error is not None or self._received == self.size:
            return False
        if self._connection.with_engine:
            return False
        gc.collect()
        return not self._connection.with_engine

    def grace_s(self) -> float:
        """How long it makes sense to wait when starved: not at all where nobody else could let go of a view, and the
        end of the object cannot be what is on its way."""
        others = sum(not thread.name.startswith("getm-") for thread in threading.enumerate()) > 1
        return SLOTS_GRACE_S if others or self.size is None else 0.0

    def wait(self, timeout_s: float) -> bool:
        """Block until `pump` has something to do; False where that takes longer than `timeout_s`."""
        return self._connection.wait(timeout_s)

    def exhausted(self) -> errors.SlotsExhausted:
        return errors.SlotsExhausted(
            f"views of all {self.slots} slots of {self.slot_bytes} bytes are still held, so nothing more can be "
            "received: let go of views you are done with, or copy what you keep (bytes(view))",
            url=self.url,
            slots=self.slots,
            slot_bytes=self.slot_bytes,
        )

    def join(self, parts: list[Part], start: int, length: int) -> memoryview:
        """One view over parts that lie next to each other in memory, from byte `start` of the first."""
        return self._connection.join([part.view for part in parts], parts[0].slot, start, length)

    def close(self) -> None:
        """Stop. Views that were given out stay valid; what was not given out goes back."""
        if self._closed:
            return
        self._closed = True
        self._stats = self.stats()
        self._pending.clear()
        self._give_up_channel()

    def _give_up_channel(self) -> None:
        if self._released:
            return
        self._released = True
        self._connection.cancel(self._number)
        if self._connection.helpers and self._end is None:
            # Its helpers may sit on slots that were meant for this object.
            self._connection.close()
        self._release(self._connection)

    @property
    def never_answered(self) -> bool:
        """Whether the engine ended by itself, idle, before it had read the request: then nothing was done."""
        return self.head is None and isinstance(self._error, errors.EngineDied) and self._error.exit_status == 0


def verdict_of(end: EndInfo) -> Verdict:
    """What the engine found, as the caller sees it."""
    checksum = None if end.checksum is None else parse_checksum(end.checksum)
    # What was computed is mostly just what verified the bytes.
    computed = [checksum if checksum and text == end.checksum else parse_checksum(text) for text in end.computed]
    return Verdict(end.verified, checksum, end.source, end.reason, tuple(computed))


class ResponseInfo:
    """What a reader or an iterator tells about its object."""

    def __init__(self, transfer: Receiver | None) -> None:
        self._transfer_ = transfer

    @property
    def _transfer(self) -> Receiver:
        if self._transfer_ is None:
            raise errors.ReaderClosed("not opened yet: iterate, or enter it as a context, first")
        return self._transfer_

    @property
    def _head(self) -> HeadInfo:
        if self._transfer.head is None:
            raise errors.ReaderClosed("the response has not come yet")
        return self._transfer.head

    @property
    def url(self) -> str:
        """The URL that answered, after redirects. It may hold the secret of a signed URL."""
        return self._head.url

    @property
    def headers(self) -> HeaderMap:
        """The response's header fields, by name in any case."""
        return HeaderMap(self._head.headers)

    @property
    def content_coding(self) -> str | None:
        """The coding ("gzip", ...) in which a server sent the bytes though none was asked for; None for none. They are
        delivered as they came, and declared checksums are those of the coded bytes (RFC 9110, section 8.4)."""
        head = self._head
        return Head(head.status, head.url, head.headers).content_coding()

    @property
    def size(self) -> int | None:
        """The object's size in bytes; None where only its end will tell (chunked and close-delimited responses)."""
        return self._transfer.size

    @property
    def checksum(self) -> Verdict:
        """What verified the bytes, or why nothing did. Final once the last byte was read."""
        return self._transfer.verdict()

    @property
    def stats(self) -> Stats:
        """What the transfer took: bytes, requests, retries, time. Final once the last byte was read; until then, or
        where it was closed before, only the bytes and the seconds are known."""
        return self._transfer.stats()


class ChunkReader:
    """Cuts the ordered parts of a transfer into reads of any length.

    A read within one slot is a view of it. A read over several slots that lie next to each other is one view over all
    of them. Where they do not, or where the read is longer than half the ring, its bytes are copied once, into memory
    of its own.
    """

    def __init__(self, transfer: Receiver) -> None:
        self._transfer = transfer
        self._parts: deque[Part] = deque()
        # Bytes of the first part that were read already.
        self._used = 0
        self._have = 0
        self._copy: bytearray | None = None
        self.position = 0

    def try_read(self, size: int | None) -> memoryview | None:
        """The next `size` bytes (None: all that is left), fewer only at the end; None where more must come first."""
        if not self._have and self._copy is None:
            part = self._transfer.next_part(ordered=True)
            if part is None:
                return memoryview(b"") if self._transfer.finished else None
            length = len(part.view)
            if length == size or (self._transfer.finished and (size is None or length < size)):
                # The usual cases: a chunk is a slot, or this is the end.
                self.position += length
                return part.view
            self._parts.append(part)
            self._have = len(part.view)
        while True:
            copied = 0 if self._copy is None else len(self._copy)
            missing = None if size is None else size - copied - self._have
            if missing is not None and missing <= 0:
                return self._take(size or 0)
            part = self._transfer.next_part(ordered=True)
            if part is None:
                if self._transfer.finished:
                    return self._take(copied + self._have)
                if self._parts and self._transfer.starved():
                    self._spill(self._have)
                return None
            self._parts.append(part)
            self._have += len(part.view)
            if len(self._parts) * 2 > self._transfer.slots:
                self._spill(self._have if missing is None else min(self._have, self._have - len(part.view) + missing))

    @property
    def holds(self) -> bool:
        """Whether it keeps slots of bytes that were not read yet."""
        return bool(self._parts)

    def let_go(self) -> None:
        """Copy what it keeps, and give the slots back: for a caller that has waited `HELD_GRACE_S` for more."""
        self._spill(self._have)

    def _spill(self, count: int) -> None:
        """Copy bytes out of the ring, so that the engine can go on while a long read is being put together."""
        if self._copy is None:
            self._copy = bytearray()
        while count:
            piece = self._pop(count)
            self._copy += piece
            count -= len(piece)

    def _pop(self, count: int) -> memoryview:
        """Up to `count` bytes from the first part."""
        part = self._parts[0]
        piece = part.view[self._used : self._used + count]
        self._have -= len(piece)
        self._used += len(piece)
        if self._used == len(part.view):
            self._parts.popleft()
            self._used = 0
        return piece

    def _take(self, count: int) -> memoryview:
        if self._copy is None:
            view = self._view(count)
            if view is not None:
                self.position += count
                return view
        copied = 0 if self._copy is None else len(self._copy)
        self._spill(count - copied)
        data, self._copy = self._copy, None
        self.position += count
        return memoryview(data or b"").toreadonly()

    def _view(self, count: int) -> memoryview | None:
        """`count` bytes without a copy, where the memory allows it."""
        if not count:
            return memoryview(b"")
        if count <= len(self._parts[0].view) - self._used:
            return self._pop(count)
        slot_bytes = self._transfer.slot_bytes
        needed, parts = count + self._used, []
        for index, part in enumerate(self._parts):
            if part.slot != self._parts[0].slot + index:
                return None
            parts.append(part)
            needed -= len(part.view)
            if needed <= 0:
                break
            if len(part.view) != slot_bytes:
                return None
        view = self._transfer.join(parts, self._used, count)
        left = count
        while left:
            left -= len(self._pop(left))
        return view

    def try_readinto(self, buffer: memoryview) -> int | None:
        """Copy what is at hand into `buffer`: the count of bytes, 0 at the end; None where more must come first."""
        while not self._have:
            part = self._transfer.next_part(ordered=True)
            if part is None:
                return 0 if self._transfer.finished else None
            self._parts.append(part)
            self._have += len(part.view)
        piece = self._pop(len(buffer))
        buffer[: len(piece)] = piece
        self.position += len(piece)
        return len(piece)

    def clear(self) -> None:
        """Let go of everything that was not read."""
        self._parts.clear()
        self._have = 0
        self._copy = None
