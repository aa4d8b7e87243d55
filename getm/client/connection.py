"""The caller's end of one pipe."""

from __future__ import annotations

import contextlib
import socket
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

from getm import errors
from getm.buffers import LeaseRing, Segment, SlotLedger
from getm.buffers.layout import RingLayout
from getm.buffers.ledger import Owner
from getm.client.engines import NO_SIGNAL, NO_WAIT, SEND_NOW, Engine
from getm.client.process import passed_pair
from getm.core.readable import readable
from getm.core.spans import Span
from getm.core.stats import Stats
from getm.core.this_process import process_number
from getm.integrity.verdict import unverified
from getm.protocol import messages
from getm.protocol.codec import Decoder, decode_body, encode, encode_body
from getm.protocol.messages import (
    GRANT,
    PART,
    AdaptedInfo,
    EndInfo,
    FailedInfo,
    FolderEntry,
    HeadInfo,
    Message,
    NoteInfo,
    OpenRequest,
    RenewedInfo,
)
from getm.protocol.order import Conversation

_READ_BYTES = 64 * 1024
# Bytes of one read while corked: the messages of some four small objects, after which the caller opens as many new
# ones. With everything that has come, the engine and the caller would wait for each other in turns.
_CORKED_READ_BYTES = 4 * 1024
# The kernel takes a write of this size in one piece: no credit from another thread gets into the middle of it.
_MAX_OPEN_BYTES = 32 * 1024
# Credits that wait for a flush while corked: with more, the engine might run out of slots.
_MAX_CORKED = 8


# Checksums are of the whole.
_SPAN_VERDICT = unverified("a span of the object")


# Many reads are of the same length.
@lru_cache(maxsize=64)
def _end_of_span(length: int) -> EndInfo:
    return EndInfo(length, _SPAN_VERDICT, Stats(length, requests=1))


class Listener(Protocol):
    """The receiver of the messages about one object."""

    def on_head(self, info: HeadInfo) -> None: ...
    def on_bytes(self, offset: int, slot: int, start: int, length: int, *, full: bool) -> None:
        """Bytes of the object from `offset` on: those of `slot` from its byte `start` on. `full`: the slot is the
        consumer's now; otherwise the engine continues to fill it after them."""

    def on_written(self, offset: int, length: int) -> None:
        """Bytes of an object that goes to a file are there."""

    def on_note(self, info: NoteInfo) -> None: ...
    def on_adapted(self, info: AdaptedInfo) -> None: ...
    def on_expired(self, serial: int) -> None:
        """The URLs of an object that was opened as renewable, with that serial number, have expired. `renewed` answers
        it."""

    def on_end(self, info: EndInfo) -> None: ...
    def on_failed(self, error: errors.GetmError) -> None: ...


class IgnoringListener:
    """The part of a listener that wants nothing more which all such have in common: those made of it say what the end
    means to them, and where slots may come, who gives them back."""

    def on_head(self, info: HeadInfo) -> None:
        """Of no interest any more, as all that follows."""

    def on_bytes(self, offset: int, slot: int, start: int, length: int, *, full: bool) -> None:
        """Bytes that go to a file come in no slot."""

    def on_written(self, offset: int, length: int) -> None:
        """As `on_head`."""

    def on_note(self, info: NoteInfo) -> None:
        """As `on_head`."""

    def on_adapted(self, info: AdaptedInfo) -> None:
        """As `on_head`."""

    def on_expired(self, serial: int) -> None:
        """As `on_head`."""


class ClientConnection:
    """The caller's end of one pipe: a ring of slots, and the objects that are open on it, one after another or at once.

    Used by one thread at a time, apart from credits, which any thread may cause. `may_take(count)`: whether the ring
    may take so many more bytes of memory.
    """

    def __init__(
        self, team: Sequence[Engine], layout: RingLayout, may_take: Callable[[int], bool], *, private: bool
    ) -> None:
        self.team: tuple[Engine, ...] = tuple(team)
        self.layout = layout
        self._pid = process_number()
        self._conversation = Conversation()
        self._decoder = Decoder(messages.FROM_ENGINE)
        self._listeners: dict[int, Listener] = {}
        # Of slots that the engine is filling: how many bytes were announced, and the lease, where there is one.
        self._growing: dict[int, tuple[int, memoryview | None]] = {}
        self._last_number = 0
        # True: OPENs and credits are sent together by `flush`, since each send may wake the engine. For a caller that
        # has many objects open, and the connection for itself.
        self.corked = False
        self._unsent: deque[bytes] = deque()
        self.closed: bool = False
        # Whether anything has come: an engine without descriptors to spare ends a pipe before it says anything by it.
        self._heard = False
        # How many waits there are on the socket: 0 or 1, or more where a signal's handler receives as well. Its
        # descriptor is closed when there is none: closing it wakes nobody, and its number may be reused.
        self.waits: int = 0
        first_bytes = layout.first_slots * layout.slot_bytes
        segment = Segment.create(layout.total_bytes, private=private, reserved=first_bytes)
        # Until it is closed, the segment, where there may be memory for more slots.
        self._growing_segment = segment if layout.spare_slots else None
        self._may_take = may_take
        self._ledger = SlotLedger(layout.slots, Owner.PEER)
        # How many slots have memory; the others are ours until they do.
        self.ready_slots: int = layout.first_slots
        for slot in range(layout.first_slots, layout.slots):
            self._ledger.receive(slot)
        self.ring: LeaseRing = LeaseRing(segment, layout.slots, layout.slot_bytes, self.give_back)
        with contextlib.ExitStack() as passed:
            if segment.token is None:
                passed.callback(segment.close_descriptor)
            self._sock, theirs = passed.enter_context(passed_pair())
            leads: list[socket.socket] = []
            for helper in self.team[1:]:
                lead_end, helper_end = passed.enter_context(passed_pair())
                passed.callback(lead_end.close)
                helper.serve(helper_end, segment, layout, ())
                leads.append(lead_end)
            self.team[0].serve(theirs, segment, layout, leads)
        # Sent with the first OPEN.
        self._unsent.append(encode(GRANT, slot=0, length=layout.first_slots))

    def fileno(self) -> int:
        """Readable when a message has come."""
        return self._sock.fileno()

    @property
    def reserved_bytes(self) -> int:
        """The memory that it takes."""
        return self.ready_slots * self.layout.slot_bytes

    @property
    def with_engine(self) -> int:
        """How many slots the engine has, or will have when the credits that were sent arrive."""
        return self._ledger.count(Owner.PEER)

    @property
    def open_objects(self) -> int:
        """How many objects opened on it have not ended."""
        return len(self._conversation.phases)

    @property
    def idle(self) -> bool:
        """Whether every object opened on it has ended."""
        return not self._conversation.phases

    def open(self, request: OpenRequest, listener: Listener) -> int:
        """Send OPEN; `listener` gets what comes. Returns the object's number on this connection."""
        number = self._last_number + 1
        data = encode_body(messages.OPEN, number, request)
        if len(data) > _MAX_OPEN_BYTES:
            raise errors.InvalidInput(f"the URL and the headers together are longer than {_MAX_OPEN_BYTES} bytes")
        return self._open(messages.OPEN, data, listener)

    def open_span(self, span: Span, listener: Listener) -> int:
        """`open` as the last OPEN here, which was for a span, for another one."""
        data = encode(messages.SPAN, self._last_number + 1, span.start, length=len(span))
        return self._open(messages.SPAN, data, listener)

    def _open(self, kind: messages.Kind, data: bytes, listener: Listener) -> int:
        self._last_number = number = self._last_number + 1
        try:
            self._conversation.pass_(kind, number)
            self._listeners[number] = listener
            self._unsent.append(data)
            if not self.corked:
                self.flush()
        except errors.GetmError:
            raise
        except BaseException:
            # Ctrl-C, perhaps with half of it sent.
            self.close()
            raise
        return number

    def flush(self) -> None:
        """Send what was queued while corked. Raises `EngineDied`."""
        data = self._take_unsent()
        if data:
            try:
                self._sock.sendall(data, NO_SIGNAL)
            except OSError:
                raise self._ended() from None

    def write_to(self, number: int, file: FolderEntry) -> None:
        """Name the file for an object that was opened with one."""
        self._unsent.append(encode_body(messages.WRITE, number, file))
        if not self.corked:
            self.flush()

    def place(self, number: int, descriptor: int, size: int) -> None:
        """Name the memory of `size` bytes for an object that is placed. The engine gets a copy of the descriptor."""
        try:
            self.flush()
            self._sock.sendmsg(
                [encode(messages.PLACE, number, offset=size)],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [descriptor]))],
                NO_SIGNAL,
            )
        except OSError as error:
            raise errors.DescriptorsExhausted.found(error) or self._ended() from None

    def cancel(self, number: int, then: Listener | None = None) -> None:
        """Stop receiving the object: its slots go back, and the engine gets a CANCEL. `then` hears of its end."""
        listener = self._listeners.pop(number, None)
        if listener is not None and then is not None:
            self._listeners[number] = then
        if number in self._conversation.phases:
            # Corked, its OPEN may still be waiting.
            self._unsent.append(encode(messages.CANCEL, number))
            if not self.corked:
                self._send_now()

    def want(self, number: int, stop: int) -> None:
        """Ask for the bytes up to `stop` of an object that was opened with `first_bytes`. Raises `EngineDied`."""
        self._unsent.append(encode(messages.MORE, number, stop))
        self.flush()

    def renewed(self, number: int, info: RenewedInfo) -> None:
        """Answer an EXPIRED. From any thread, and at once: the user of this may be waiting for what follows."""
        data = encode_body(messages.RENEWED, number, info)
        if len(data) > _MAX_OPEN_BYTES:
            # As an OPEN with this URL would be. The transfer then ends because the old one has expired.
            data = encode_body(messages.RENEWED, number, messages.NO_URLS)
        if not self.closed and self._pid == process_number():
            with contextlib.suppress(OSError):
                # The engine is gone, or the connection was closed: nothing waits for it.
                self._sock.sendall(data, NO_SIGNAL)

    def begin_wait(self) -> bool:
        """Keep the descriptor open until `end_wait`, so that a `close` from any thread or task shows on it as the end
        of the pipe. False where it is closed already: then there is nothing to wait on, and nothing to end."""
        self.waits += 1
        if self.closed:
            self.end_wait()
            return False
        return True

    def end_wait(self) -> None:
        """The counterpart of a `begin_wait` that returned True."""
        self.waits -= 1
        # Looked at after the count: `close` sets the mark before it looks at the count, so one of them closes.
        if self.closed and not self.waits:
            self._sock.close()

    def wait(self, timeout_s: float | None) -> bool:
        """Whether `pump` has something to do within that time: a message, or the end of the pipe. To be called between
        `begin_wait` and `end_wait` where others may close it."""
        return readable(self.fileno(), timeout_s)

    def pump(self, *, wait: bool) -> None:
        """Receive what has come, if asked to after waiting for something, and pass it to the listeners. To be
        called between `begin_wait` and `end_wait` where others may close it.

        Raises `EngineDied` where the engine is gone, `ReaderClosed` where the session was closed.
        """
        if self._pid != process_number():
            raise self.closed_error()
        try:
            if self._unsent:
                self._send_now()
            try:
                data = self._sock.recv(_CORKED_READ_BYTES if self.corked else _READ_BYTES, 0 if wait else NO_WAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                raise self._ended()
            self._heard = True
            for message in self._decoder.feed(data):
                self._route(message)
        except errors.GetmError as error:
            if isinstance(error, errors.ProtocolError):
                # The rest of `data` is lost: nothing on this pipe can be trusted any more.
                self.close()
            raise
        except BaseException:
            # Ctrl-C, perhaps after messages were received: the next user of this pipe would wait for them for ever.
            self.close()
            raise

    def closed_error(self) -> errors.ReaderClosed:
        """What to raise where nothing can be received any more, since this process has closed it."""
        if self._pid != process_number():
            return errors.ReaderClosed("opened before fork: a forked process must open the URL itself")
        return errors.ReaderClosed(
            "closed or interrupted while its data was being read: the reader, or the session was closed"
        )

    def _ended(self) -> errors.GetmError:
        """Why there is nothing more on the pipe: it was closed here, or the engine is gone."""
        if self.closed:
            return self.closed_error()
        self.close()
        if not self._heard and self.team[0].alive and self.team[0].lives_on():
            return errors.DescriptorsExhausted.of("the engine for another transfer")
        return self.team[0].died()

    def _route(self, message: Message) -> None:
        self._conversation.pass_(message.kind, message.object)
        listener = self._listeners.get(message.object)
        kind = message.kind
        if kind is PART or kind is messages.PREFIX:
            self._on_bytes(message, listener)
        elif kind is messages.ONLY:
            self._on_bytes(message, listener)
            if listener is not None:
                del self._listeners[message.object]
                listener.on_end(_end_of_span(message.length))
        elif kind is messages.RETURN:
            # A connection's slots are never granted for one object.
            raise errors.ProtocolError(f"slot {message.slot} came back, which was not granted for an object")
        elif listener is None:
            return
        elif kind is messages.HEAD:
            listener.on_head(decode_body(message, HeadInfo))
        elif kind is messages.WRITTEN:
            listener.on_written(message.offset, message.length)
        elif kind is messages.NOTE:
            listener.on_note(decode_body(message, NoteInfo))
        elif kind is messages.EXPIRED:
            listener.on_expired(message.offset)
        elif kind is messages.ADAPTED:
            adapted = decode_body(message, AdaptedInfo)
            self._make_room(adapted.connections)
            listener.on_adapted(adapted)
        else:
            del self._listeners[message.object]
            if kind is messages.END:
                listener.on_end(decode_body(message, EndInfo))
            else:
                listener.on_failed(decode_body(message, FailedInfo).error())

    def _on_bytes(self, message: Message, listener: Listener | None) -> None:
        slot, full = message.slot, message.kind is not messages.PREFIX
        start, lease = self._growing.get(slot, (0, None))
        if full:
            self._ledger.receive(slot)
        else:
            self._growing[slot] = message.length, lease
        if listener is not None:
            listener.on_bytes(message.offset + start, slot, start, message.length - start, full=full)
        if full:
            grown = self._growing.pop(slot, None)
            if listener is None and (grown is None or grown[1] is None):
                self.give_back(slot)

    def _make_room(self, connections: int) -> None:
        """Grant the slots that so many connections need, as far as there is memory for them."""
        layout, ready, segment = self.layout, self.ready_slots, self._growing_segment
        slots = min(layout.slots, (connections + 1) * layout.part_slots)
        if segment is None or slots <= ready or not self._may_take((slots - ready) * layout.slot_bytes):
            return
        # New memory takes about a second a GiB: the first parts need not wait for that of the last.
        for start in range(ready, slots, layout.part_slots):
            stop = min(start + layout.part_slots, slots)
            if not segment.reserve(stop * layout.slot_bytes):
                break
            self.ready_slots = stop
            for slot in range(start, stop):
                self._ledger.give_back(slot)
            self._unsent.append(encode(GRANT, slot=start, length=stop - start))
            self._send_now()

    def lease(self, slot: int, start: int, length: int) -> memoryview:
        """A read-only view of bytes that `on_bytes` announced; the slot is given back once it is full and all views of
        it are gone. For each slot either this is used, or `ring.view`, and `give_back` when the slot is full."""
        count, lease = self._growing.get(slot, (0, None))
        if lease is None:
            lease = self.ring.lease(slot)
            if count:
                # Kept until the engine is done with the slot.
                self._growing[slot] = count, lease
        return lease if length == self.layout.slot_bytes else lease[start : start + length]

    def give_back(self, slot: int) -> None:
        """Credit for one slot. Called in any thread, even within a garbage collection: takes no lock and never
        blocks."""
        if self.closed or self._pid != process_number():
            # A forked child that drops an inherited view: the slot is the parent's.
            return
        # In our ledger first, then to the engine: its next PART may come before this returns.
        self._ledger.give_back(slot)
        self._unsent.append(encode(GRANT, slot=slot, length=1))
        # While nothing is to be received, credits wait for the next OPEN: they alone need not wake the engine. Checked
        # after the credit is in the queue: `open` ends the idleness first, and then looks into the queue.
        if not self.corked:
            if not self.idle:
                self._send_now()
        elif len(self._unsent) >= _MAX_CORKED:
            with contextlib.suppress(OSError):
                # The engine is gone: the next `pump` raises that.
                self._sock.sendall(self._take_unsent(), NO_SIGNAL)

    def _next_unsent(self) -> bytes | None:
        try:
            return self._unsent.popleft()
        except IndexError:
            return None

    def _take_unsent(self) -> bytes:
        return b"".join(iter(self._next_unsent, None))

    def _send_now(self) -> None:
        """Send credits and cancellations, one by one, as far as the socket takes them. Any thread may do so."""
        while (message := self._next_unsent()) is not None:
            try:
                self._sock.send(message, SEND_NOW)
            except BlockingIOError:
                self._unsent.appendleft(message)
                return
            except OSError:
                # The engine is gone, or the connection was closed in another thread: no slot is needed any more.
                return

    def begin_close(self) -> None:
        """Ask the engine to release the ring, which is not used any more; `await_close` waits until it has."""
        with contextlib.suppress(OSError):
            # An engine that is gone has released it.
            self._sock.shutdown(socket.SHUT_WR)

    def await_close(self, deadline: float) -> None:
        """Close, once the engine has released the ring: only then is its memory free for another one. `deadline`, by
        `time.monotonic`: an engine that does not answer is no reason to keep the ring."""
        with contextlib.suppress(OSError):
            while (left_s := deadline - time.monotonic()) > 0 and self.wait(left_s) and self._sock.recv(_READ_BYTES):
                pass
        self.close()

    def close(self) -> None:
        """Close the pipe: the engine stops serving it, and every wait on it ends. Views stay valid.

        From any thread or task, a signal's handler or a finalizer: takes no lock and waits for nothing.
        """
        self.closed = True
        with contextlib.suppress(OSError):
            # Before the descriptor is closed, which alone would wake nobody. (The socket may be closed already, or its
            # peer gone.)
            self._sock.shutdown(socket.SHUT_RDWR)
        self._listeners.clear()
        self._growing.clear()
        # Its memory goes with the last view of it.
        self._growing_segment = None
        self.ring.close()
        if not self.waits:
            self._sock.close()

    def abandon(self) -> None:
        """In a forked child: close its copy of the pipe, which stays the parent's."""
        self._sock.close()
        self.close()
