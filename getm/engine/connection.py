"""The engine's end of one pipe: its segment, its slots, and the objects that are being served on it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec.structs import replace

from getm import errors
from getm.buffers.ledger import Owner, SlotLedger
from getm.buffers.segment import Segment
from getm.core.log import get_logger
from getm.core.spans import MAX_POSITION, Span
from getm.core.stats import Stats
from getm.core.threads import WorkerThreads
from getm.engine.fetch import Fetch
from getm.engine.helpers import HelperPipe
from getm.engine.http.connections import Begun
from getm.engine.http.requests import HttpClient
from getm.engine.message_socket import Pipe
from getm.engine.sinks.file import FileSink, Folders
from getm.engine.sinks.ring import Emit, RingSink
from getm.engine.sinks.slots import Claim, Holder, SlotPool
from getm.engine.small import SmallFetches
from getm.integrity.hashing.hasher import PartsHasher
from getm.integrity.hashing.threads import HashPool
from getm.protocol import messages
from getm.protocol.codec import decode_body, encode, encode_body
from getm.protocol.messages import (
    GRANT,
    ONLY,
    OPEN,
    PART,
    SPAN,
    FailedInfo,
    FolderEntry,
    Kind,
    Message,
    OpenRequest,
    Record,
    RenewedInfo,
)
from getm.protocol.order import Conversation


class EngineConnection:
    """Serves the objects that one consumer opens on its pipe, until the consumer's end, or `close`."""

    log: logging.Logger = get_logger("engine")

    def __init__(
        self,
        sock: socket.socket,
        segment: Segment,
        request: messages.ServeRequest,
        helpers: list[socket.socket],
        http: HttpClient,
        hash_pool: HashPool,
        write_threads: WorkerThreads,
        folders: Folders,
        on_change: Callable[[EngineConnection], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.http = http
        self.hash_pool = hash_pool
        self._write_threads = write_threads
        self.folders: Folders = folders
        self.slots: int = request.slots
        self.slot_bytes: int = request.slot_bytes
        self.part_bytes: int = request.part_slots * request.slot_bytes
        self._memory = memoryview(segment.memory)
        self._ledger = SlotLedger(request.slots, Owner.PEER)
        self._pool = SlotPool(self._ledger, lambda number, slot: self._queue(encode(Kind.RETURN, number, slot=slot)))
        self._conversation = Conversation()
        self._transfers: dict[int, Fetch] = {}
        self._small = SmallFetches(self)
        # Of the last OPEN for a span.
        self._span_request: OpenRequest | None = None
        self._on_change = on_change
        self._unsent: list[bytes] = []
        # Small files that are there, and of which the consumer has not heard.
        self._unsent_files: list[FolderEntry] = []
        # Slots that hash threads have finished with, and their objects' numbers, for the loop.
        self._unpinned: deque[tuple[int, int]] = deque()
        self._unpin_scheduled = False
        self._helpers = [HelperPipe(self._loop, helper) for helper in helpers]
        self._pipe = Pipe(self._loop, sock, messages.FROM_CONSUMER, self._on_message, self.close)

    @property
    def closed(self) -> bool:
        """Whether the pipe is closed and the last of its objects has ended."""
        return self._pipe.closed and not self.active

    @property
    def active(self) -> int:
        """How many objects are being served."""
        return len(self._transfers) + len(self._small)

    def close(self) -> None:
        """Stop everything on this connection. Its tasks end soon after."""
        self._pipe.close()
        for helper in self._helpers:
            helper.close()
        for number in self._transfers:
            self._cancel(number)
        self._small.close()
        self._changed()

    def _cancel(self, number: int) -> None:
        # Not before it has begun: a task that never ran would not end its object.
        self._loop.call_soon(self._transfers[number].task.cancel)

    def _changed(self) -> None:
        if self.closed:
            # This and the pipe refer to each other, so they live until the next garbage collection, which may be never
            # in an idle engine: the ring's memory must not.
            self._memory = memoryview(b"")
        self._on_change(self)

    # Messages in ----------------------------------------------------------------------------------------------------

    def _on_message(self, message: Message) -> None:
        self._conversation.pass_(message.kind, message.object)
        if message.kind is GRANT:
            self._pool.holder = Holder.CONSUMER
            for slot in range(message.slot, message.slot + message.length):
                self._pool.granted(message.object, slot, is_open=message.object in self._transfers)
            self._pool.distribute()
        elif message.kind is OPEN:
            try:
                request = decode_body(message, OpenRequest)
            except errors.ProtocolError as error:
                # It is this object's failure, and no reason to end the others of the connection.
                self.send(Kind.FAILED, message.object, FailedInfo.of(error, Stats()))
                return
            if request.delegated:
                self._span_request = request
                self._begin_span(message.object, Span(*request.spans[0]))
            else:
                self._begin(message.object, request)
        elif message.kind is SPAN:
            self._begin_span(message.object, Span(message.offset, message.offset + message.length))
        elif message.kind is Kind.CANCEL:
            if message.object in self._transfers:
                self._cancel(message.object)
            else:
                self._small.cancel(message.object)
        elif message.kind is Kind.HEDGE and message.object in self._transfers:
            self._transfers[message.object].hedge()
        elif message.kind is Kind.PLACE:
            self._place(message)
        elif message.kind is Kind.MORE and message.object in self._transfers:
            self._transfers[message.object].more(message.offset)
        elif message.kind is Kind.WRITE and message.object in self._transfers:
            self._transfers[message.object].write_to(decode_body(message, FolderEntry))
        elif message.kind is Kind.RENEWED and message.object in self._transfers:
            self._transfers[message.object].renewed(decode_body(message, RenewedInfo))

    def fetch(
        self, number: int, request: OpenRequest, begun: Begun | None = None, began_s: float | None = None
    ) -> None:
        """Serve an OPEN, whose first request may have begun, at `began_s`."""
        transfer = self._transfers[number] = Fetch(self, number, request, begun, began_s)
        transfer.task = self._loop.create_task(self._serve(number, transfer))

    def fetch_span(
        self, number: int, request: OpenRequest, span: Span, begun: Begun | None = None, began_s: float | None = None
    ) -> None:
        """`fetch` of a span by the request for another one."""
        spans = ((span.start, span.stop),)
        self.fetch(number, request if request.spans == spans else replace(request, spans=spans), begun, began_s)

    def _begin_span(self, number: int, span: Span) -> None:
        request = self._span_request
        if request is None:
            raise errors.ProtocolError(f"SPAN for object {number}, and no OPEN of a span before it")
        try:
            if not self._small.begin_span(number, request, span):
                self.fetch_span(number, request, span)
        except Exception as caught:
            self._refuse(number, caught)

    def _begin(self, number: int, request: OpenRequest) -> None:
        try:
            if not self._small.begin(number, request):
                self.fetch(number, request)
        except Exception as caught:
            self._refuse(number, caught)

    def _refuse(self, number: int, caught: Exception) -> None:
        self.send(Kind.FAILED, number, FailedInfo.of(self._unexpected(number, caught), Stats()))

    def _unexpected(self, number: int, caught: Exception) -> errors.GetmError:
        """The error for the caller: a bug in getm must reach it as an error, not as a transfer that never ends."""
        # A module or a certificate that is loaded on first use.
        error = errors.DescriptorsExhausted.found(caught, "the engine")
        if error is not None:
            return error
        self.log.error("object %d failed unexpectedly", number, exc_info=caught)
        return errors.GetmError(f"getm failed unexpectedly: {type(caught).__name__}: {caught}")

    def _place(self, message: Message) -> None:
        descriptor = self._pipe.take_descriptor()
        transfer = self._transfers.get(message.object)
        if transfer is not None:
            transfer.place(descriptor, message.offset)
        elif descriptor is not None:
            # It crossed the object's end.
            os.close(descriptor)

    async def _serve(self, number: int, transfer: Fetch) -> None:
        error: errors.GetmError | None = None
        try:
            await transfer.run()
        except asyncio.CancelledError:
            error = errors.Cancelled("the transfer was cancelled")
        except errors.GetmError as caught:
            error = caught
        except MemoryError:
            error = errors.MemoryUnavailable("the engine ran out of memory; give it more, or ask for less at once")
        except Exception as caught:
            error = self._unexpected(number, caught)
        finally:
            failed = None if error is None else FailedInfo.of(error, transfer.stats())
            del self._transfers[number]
            self._pool.end(number)
        if failed is not None:
            self.send(Kind.FAILED, number, failed)
        self._changed()

    # Messages out ---------------------------------------------------------------------------------------------------

    def send(self, kind: Kind, number: int, body: Record) -> None:
        # Encoded first: if that fails, nothing was sent, and a FAILED may follow.
        data = encode_body(kind, number, body)
        self._conversation.pass_(kind, number)
        self._queue(data)

    def expired(self, number: int, serial: int) -> None:
        """Ask the consumer for new URLs in place of those of that serial number."""
        self._conversation.pass_(Kind.EXPIRED, number)
        self._queue(encode(Kind.EXPIRED, number, serial))

    def stored(self, file: FolderEntry) -> None:
        """A small file is there; the END that says so follows at once."""
        self._unsent_files.append(file)
        self.folders.stored(file)

    def prefix(self, number: int, offset: int, slot: int, length: int) -> None:
        """The consumer may read the bytes so far of a slot that is still being filled."""
        self._conversation.pass_(Kind.PREFIX, number)
        self._queue(encode(Kind.PREFIX, number, offset, slot, length))

    def part(self, number: int, offset: int, slot: int, length: int, hasher: PartsHasher | None) -> None:
        """The slot goes to the consumer; the hasher reads it at the same time."""
        if hasher is not None:
            self._ledger.pin(slot)
        self._conversation.pass_(PART, number)
        self._ledger.send(slot)
        self._queue(encode(PART, number, offset, slot, length))
        self._hash(number, offset, slot, length, hasher)

    def only(self, number: int, offset: int, slot: int, length: int) -> None:
        """The slot goes to the consumer, with all of a span that one request has brought."""
        self._conversation.pass_(ONLY, number)
        self._ledger.send(slot)
        self._queue(encode(ONLY, number, offset, slot, length))

    def keep(self, number: int, offset: int, slot: int, length: int, hasher: PartsHasher | None) -> None:
        """The slot, which is pinned for a file, stays here; the hasher reads it at the same time."""
        if hasher is not None:
            self._ledger.pin(slot)
        self._ledger.drop(slot)
        self._hash(number, offset, slot, length, hasher)

    def _hash(self, number: int, offset: int, slot: int, length: int, hasher: PartsHasher | None) -> None:
        """Have a slot hashed that is pinned for that."""
        self._pool.sent(number, hashed=hasher is not None)
        if hasher is not None:
            start = slot * self.slot_bytes
            hasher.feed(offset, self._memory[start : start + length], lambda: self._hashed(number, slot))

    def file_sink(self, number: int, failed: Callable[[OSError], None]) -> FileSink:
        """A sink for the object's file."""

        def unpin(slot: int) -> None:
            if self._ledger.unpin(slot):
                self._pool.holder = Holder.DISK
                self._pool.distribute()

        return FileSink(
            self._memory,
            self.slot_bytes,
            self._write_threads,
            call=self.call,
            pin=self._ledger.pin,
            unpin=unpin,
            written=partial(self.written, number),
            failed=failed,
        )

    def written(self, number: int, offset: int, length: int) -> None:
        """Bytes of the object are where they belong."""
        self._conversation.pass_(Kind.WRITTEN, number)
        self._queue(encode(Kind.WRITTEN, number, offset, length=length))

    def _queue(self, data: bytes) -> None:
        """Send before the loop waits again. One read of the socket may fill several slots, and a small object comes
        with its head: their messages are sent together, and wake the consumer once."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(data)

    def _flush(self) -> None:
        self._pipe.send(b"".join(self._unsent))
        self._unsent.clear()
        if self._pipe.closed:
            # The consumer removes what was there when it closed the pipe, and these came after that.
            for file in self._unsent_files:
                self.folders.remove(file)
        self._unsent_files.clear()

    def _hashed(self, number: int, slot: int) -> None:
        """In any thread: the hasher is done with a slot. One wake-up of the loop is enough for all slots before it."""
        self._unpinned.append((number, slot))
        if not self._unpin_scheduled:
            self._unpin_scheduled = True
            self.call(self._unpin)

    def _unpin(self) -> None:
        # Cleared first: a slot that comes while the queue is being emptied schedules this again.
        self._unpin_scheduled = False
        self._pool.holder = Holder.HASHING
        while self._unpinned:
            number, slot = self._unpinned.popleft()
            self._ledger.unpin(slot)
            self._pool.hashed(number)
        self._pool.distribute()

    def call(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call on the event loop, from any thread; immediately from the loop's own."""
        if threading.get_ident() == self._thread:
            callback(*args)
            return
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # Nothing is to be done where the engine has ended.
            if not self._loop.is_closed():
                raise

    # Slots ----------------------------------------------------------------------------------------------------------

    def place(self, size: int, read: Callable[[], bytes]) -> int | None:
        """Put all of a small object, which `read` returns, into one slot; None, and nothing is read, where it has to
        wait for one."""
        slot = self.take(size)
        if slot is not None:
            self.fill(slot, read())
        return slot

    def take(self, size: int) -> int | None:
        """A slot for so many bytes, to be filled and sent, or dropped; None where they have to wait for one."""
        return self._ledger.take() if size <= self.slot_bytes else None

    def fill(self, slot: int, content: bytes | memoryview) -> None:
        """Put all of a small object into a slot that was taken for it."""
        start = slot * self.slot_bytes
        self._memory[start : start + len(content)] = content

    def drop(self, slot: int) -> None:
        """A slot that was taken is not needed."""
        self._ledger.drop(slot)
        self._pool.distribute()

    def claim(self, number: int, span: Span, *, max_unhashed: int | None = None) -> Claim:
        """A claim on the slots for the bytes of an object in `span`; see `SlotPool.claim`."""
        needed = None if span.stop == MAX_POSITION else -(-len(span) // self.slot_bytes)
        return self._pool.claim((number, span.start), needed, lambda: None, max_unhashed=max_unhashed)

    def sink(self, number: int, span: Span, emit: Emit, *, max_unhashed: int | None) -> RingSink:
        """A sink for those bytes, with a claim of its own. `max_unhashed`: see `SlotPool.claim`."""
        claim = self.claim(number, span, max_unhashed=max_unhashed)
        return RingSink(self._memory, self.slot_bytes, claim, span, emit)

    def waited_s(self, number: int) -> dict[Holder, float]:
        """How long the object has waited for slots, in seconds, by who had them."""
        return self._pool.waited_s(number)

    def helper(self, worker: int) -> HelperPipe | None:
        """The helper engine that makes the requests of this worker; None: this engine itself. One that has refused to,
        for want of descriptors, or is gone, makes none."""
        index = worker % (len(self._helpers) + 1)
        helper = self._helpers[index - 1] if index else None
        return None if helper is None or helper.closed else helper
