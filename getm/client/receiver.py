"""One object on its way to the caller: what the sync and the async API share. Nothing here waits; they do.

A reader asks for bytes; where the answer is None it waits until the connection is readable, calls `pump`, and asks
again.
"""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol

import msgspec

from getm import errors
from getm.client.connection import ClientConnection, Listener
from getm.core.brief import cut
from getm.core.head import HeaderMap
from getm.core.lazy import importing
from getm.core.log import get_logger
from getm.core.redact import redact
from getm.core.retry import Retry, cannot_be_joined, cause, short_reason
from getm.core.spans import Span, lay_out
from getm.core.stats import Stats, Times
from getm.integrity.verdict import Verdict, unverified
from getm.protocol.messages import AdaptedInfo, EndInfo, HeadInfo, NoteInfo, OpenRequest

if TYPE_CHECKING:
    from getm.buffers.object_memory import ObjectMemory
    from getm.resolve.locator import Locator


_log = get_logger()

# How long other threads and tasks, which may be unrelated, may take to drop a view before it is an error. Longer than
# the work on a chunk usually takes; after the first view there is no limit.
_OTHERS_GRACE_S = 20.0
# How often an object that is replaced while it is read is read again from its start.
_MAX_RESTARTS = 2


class Part(NamedTuple):
    """`view` holds bytes of the object from `offset` on, and begins at byte `address` of the segment."""

    offset: int
    address: int
    view: memoryview


class PartsUser(Protocol):
    """Who makes something of the parts before the caller gets any of it."""

    @property
    def position(self) -> int:
        """How many bytes the caller has."""

    def clear(self) -> None:
        """Drop the others: they come again."""


class Receiver:
    """One object being received over a connection, for one caller."""

    def __init__(
        self,
        connection: ClientConnection,
        request: OpenRequest,
        release: Callable[[ClientConnection], None],
        locator: Locator | None = None,
    ) -> None:
        """`locator`: what finds the object where the URL of `request` expires."""
        # Its descriptor is readable when `pump` has something to do.
        self.connection = connection
        self._layout = connection.layout
        self._release = release
        self._request = request
        self._locator = locator
        self.head: HeadInfo | None = None
        self._end: EndInfo | None = None
        self._error: errors.GetmError | None = None
        self._pending: dict[int, Part] = {}
        # That of an object which comes to its final place.
        self._memory: ObjectMemory | None = None
        # The offset of what came last: it may be the end of an object of unknown size.
        self._newest = -1
        # Whether another thread or task dropped a view while this one waited for it: then it may do so again.
        self._others_let_go = False
        self._received = 0
        self._began = time.monotonic()
        self._stats: Stats | None = None
        self._given = 0
        # When the head came, and when the caller got the last bytes.
        self._answered_s = self._began
        self._taken_s: float | None = None
        # Who makes something else of the parts, if anybody does; how often the object was asked for again from its
        # start, and what that took.
        self.reader: PartsUser | None = None
        self._restarts = 0
        self._before = Stats()
        self._closed = False
        self._released = False
        try:
            self._number = self._open()
        except BaseException:
            release(connection)
            raise

    def _open(self) -> int:
        """Send the request. Raises `EngineDied`."""
        self._locate()
        return self.connection.open(self._request, self)

    def _locate(self) -> None:
        """Give the request the URL that was found last."""
        if self._locator is not None:
            self._request = self._locator.applied(self._request)

    # Called by the connection ----------------------------------------------------------------------------------------

    def on_head(self, info: HeadInfo) -> None:
        if self.head is not None and self.head.size is not None and self.head.size != info.size:
            # The caller may have allocated memory for the size of the other one.
            self.connection.cancel(self._number)
            self._fail(
                errors.RemoteChanged(
                    f"the object was replaced while it was read: its size was {self.head.size} and is now {info.size}; "
                    "read it again",
                    url=self.url,
                    expected=str(self.head.size),
                    actual=str(info.size),
                )
            )
            return
        self.head = info
        self._answered_s = time.monotonic()
        if info.placed:
            try:
                self._place(info)
            except errors.GetmError as error:
                self.connection.cancel(self._number)
                error.url = self.url
                self._fail(error)
                return
        for note in info.notes:
            _log.warning("%s: %s", self.url, note)

    def _place(self, info: HeadInfo) -> None:
        """Give the engine memory for all bytes that come. Raises `MemoryUnavailable`."""
        self._drop_memory()
        spans = lay_out([Span(*span) for span in self._request.spans], info.size or 0)
        with importing:
            from getm.buffers.object_memory import ObjectMemory

        memory = self._memory = ObjectMemory(sum(map(len, spans)))
        self.connection.place(self._number, memory.descriptor, memory.size)

    def _drop_memory(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def take_memory(self) -> ObjectMemory | None:
        """The memory of a placed object that has ended well, sealed: the caller's from now on. None for any other."""
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.seal()
        return memory

    def on_bytes(self, offset: int, slot: int, start: int, length: int, *, full: bool) -> None:
        if not length:
            # All of the slot was announced before it was known to be full.
            return
        self._received += length
        address = slot * self._layout.slot_bytes + start
        self._newest = offset
        self._pending[offset] = Part(offset, address, self.connection.lease(slot, start, length))

    def on_written(self, offset: int, length: int) -> None:
        raise errors.ProtocolError("WRITTEN for an object that was opened without a file")

    def on_note(self, info: NoteInfo) -> None:
        _log.info("%s", info.line(self.url))

    def on_expired(self, serial: int) -> None:
        if self._locator is None:
            raise errors.ProtocolError("EXPIRED for an object whose URL cannot be renewed")
        self._locator.renew(self._request, serial, partial(self.connection.renewed, self._number))

    def on_adapted(self, info: AdaptedInfo) -> None:
        _log.info("%s: %d connections: %s", self.url, info.connections, info.reason)

    def on_end(self, info: EndInfo) -> None:
        if self.head is None:
            raise errors.ProtocolError("END of an object whose HEAD has not come")
        self._end = info
        self._stats = self._before + info.stats if self._restarts else info.stats

    def on_failed(self, error: errors.GetmError) -> None:
        delay_s = self._start_over_in_s(error)
        if delay_s is None:
            self._fail(error)
            return
        try:
            self._start_over(error, delay_s)
        except errors.GetmError as refused:
            self._fail(refused)

    def _fail(self, error: errors.GetmError) -> None:
        if self._locator is not None:
            error = self._locator.explain(error)
        self._error = error
        self._stats = error.stats = self.stats() if error.stats is None else self._before + error.stats
        self._pending.clear()
        self._drop_memory()

    # Starting over ----------------------------------------------------------------------------------------------------

    def _start_over_in_s(self, error: errors.GetmError) -> float | None:
        """Seconds after which the whole is to be asked for again; None where `error` is final. Where nothing was given
        out, starting over makes no difference to the caller."""
        untouched = not self._given or (self.reader is not None and not self.reader.position)
        if not untouched or self._closed or self.head is None:
            return None
        if isinstance(error, errors.RemoteChanged) and self._request.version is not None:
            # The caller wants that version and no other.
            return None
        if isinstance(error, errors.RemoteChanged | errors.RangesRefused):
            return 0.0 if self._restarts < _MAX_RESTARTS else None
        retries = self._request.retries
        if not cannot_be_joined(error, self.head.version, retries.statuses):
            return None
        verdict = retries.decide(error, self._restarts + 1, jitter=random.random(), left_s=self._left_s())
        return verdict.delay_s if isinstance(verdict, Retry) else None

    def _left_s(self) -> float | None:
        total_s = self._request.total_s
        return None if total_s is None else total_s - (time.monotonic() - self._began)

    def _start_over(self, error: errors.GetmError, delay_s: float) -> None:
        """Raises `EngineDied`."""
        self._restarts += 1
        why = cause(error)
        attempts = self._request.retries.attempts
        self.on_note(NoteInfo(why, self._restarts, delay_s, str(error), short_reason(error), attempts))
        self._before += (error.stats or Stats()) + Stats(retries={why: 1})
        self._pending.clear()
        self._drop_memory()
        self._given, self._newest = 0, -1
        if self.reader is not None:
            self.reader.clear()
        # A server that replaces the object or withdraws ranges while several connections read it gets one.
        one = isinstance(error, errors.RemoteChanged | errors.RangesRefused)
        self._locate()
        request = msgspec.structs.replace(
            self._request,
            concurrency=1 if one else self._request.concurrency,
            delay_s=delay_s,
            total_s=self._left_s(),
        )
        self._number = self.connection.open(request, self)

    # What a reader asks -----------------------------------------------------------------------------------------------

    @property
    def request(self) -> OpenRequest:
        """What was asked for."""
        return self._request

    @property
    def url(self) -> str:
        """The URL that was given, redacted."""
        return redact(self._request.url)

    @property
    def first_bytes(self) -> int:
        """How many bytes are requested before `want` asks for more; 0: all."""
        return self._request.first_bytes

    @property
    def strict(self) -> bool:
        """Whether bytes that nothing verifies are refused."""
        return self._request.strict

    @property
    def size(self) -> int | None:
        """The object's size in bytes; None until the head has come, or the end where the head does not have it."""
        if self._end is not None:
            return self._end.total
        return None if self.head is None else self.head.size

    def verdict(self) -> Verdict:
        """What verified the bytes, or why nothing did (yet)."""
        if self._end is None or self._pending:
            reason = "not read to its end yet" if self._error is None else f"failed: {self._error.message}"
            return unverified(reason)
        return self._end.verdict

    def stats(self) -> Stats:
        """The statistics; until the end, what is known here."""
        if self._stats is not None:
            if self._taken_s is not None and self._end is not None:
                received = self._end.stats
                # From the head on: an engine that has to start gets the request late.
                elapsed_s = self._taken_s - self._answered_s
                behind_s = max(0.0, elapsed_s - (received.seconds - (received.first_byte_s or 0.0)))
                self._stats = self._stats.and_then(Times(consumer_s=behind_s))
                self._taken_s = None
            return self._stats
        return Stats(
            received_bytes=self._received, seconds=time.monotonic() - self._began, retries=self._before.retries
        )

    def stats_so_far(self) -> Stats:
        """Of what has ended."""
        return self._before if self._end is None else self.stats()

    def begin_wait(self) -> None:
        """Before waiting on the connection, until its `end_wait`: a `close` meanwhile ends the wait. Raises
        `ReaderClosed` where it is closed already."""
        # In this order, and `close` in the other one: the mark, then the check for waits. So no wait is overlooked.
        if not self.connection.begin_wait():
            error = self.connection.closed_error()
            error.url = self.url
            raise error
        if self._closed:
            self.connection.end_wait()
            self._check()

    def want(self, stop: int) -> None:
        """The bytes up to `stop` will be read, of an object that was opened with `first_bytes`. Raises `EngineDied`."""
        if self._end is None:
            # Where it starts over, as much is requested at once.
            self._request = msgspec.structs.replace(self._request, first_bytes=stop)
            self.connection.want(self._number, stop)

    @property
    def in_flight(self) -> bool:
        """Whether something of it is still to come."""
        return self._end is None

    def pump(self, *, wait: bool) -> None:
        """Receive what the engine has sent. An engine's death becomes this transfer's error."""
        if self._error is not None or self._end is not None:
            return
        self.begin_wait()
        try:
            self.connection.pump(wait=wait)
        except (errors.EngineDied, errors.ProtocolError) as error:
            error.url = self.url
            self._fail(error)
        except errors.ReaderClosed as error:
            error.url = self.url
            raise
        finally:
            self.connection.end_wait()
        if self._error is not None:
            # Not left to close(): the error's traceback may keep this alive until the next garbage collection.
            self._release_connection()

    @property
    def is_open(self) -> bool:
        """Whether it was not closed, and has not failed."""
        return not self._closed and self._error is None

    def has_head(self) -> bool:
        """Whether the head has come. Raises an error before it."""
        self._check()
        return self.head is not None

    def _check(self) -> None:
        if self._closed:
            raise errors.ReaderClosed("the reader is closed", url=self.url)
        if self._error is not None:
            raise self._error

    def next_part(self, *, ordered: bool) -> Part | None:
        """The next part, in order or as it came; None where it has not come, or where the object has ended.

        The last part is kept back until the engine has verified the whole: a mismatch is raised instead of it. Where
        the size is unknown any part may be the last one, until another comes.
        """
        self._check()
        if not self._pending:
            return None
        offset = self._given if ordered else next(iter(self._pending))
        part = self._pending.get(offset)
        if part is None or (self._end is None and self._may_be_last(part)):
            return None
        del self._pending[offset]
        self._given += len(part.view)
        if self._end is not None and not self._pending:
            self._taken_s = time.monotonic()
        return part

    def _may_be_last(self, part: Part) -> bool:
        if self.size is not None:
            return self._given + len(part.view) == self.size
        # Nothing is held back where nothing is to be verified.
        return part.offset == self._newest and self.head is not None and bool(self.head.declared)

    @property
    def finished(self) -> bool:
        """Whether every byte was given out, and verified as far as it can be."""
        return self._end is not None and not self._pending

    @property
    def waiting(self) -> int:
        """Bytes that have come, and are next in order."""
        end = self._given
        while (part := self._pending.get(end)) is not None:
            end += len(part.view)
        return end - self._given

    def starved(self) -> bool:
        """Whether nothing more can come unless the caller drops a view.

        True while all slots are on this side and the object is not complete. Garbage that still holds views is
        collected first.
        """
        if self._end is not None or self._error is not None or self._all_here():
            return False
        if self.connection.with_engine:
            return False
        gc.collect()
        return not self.connection.with_engine

    def _all_here(self) -> bool:
        """Whether everything that was requested has come, and only its end is still to come."""
        return self._received == self.size

    def grace_s(self, *, other_tasks: bool = False) -> float | None:
        """How long to wait when starved: not at all where there is no other thread and no other task that could drop a
        view, and without a limit (None) once one has done so. An end of unknown size may be all that is still to come:
        that is waited for as well."""
        if self._others_let_go:
            return None
        me = threading.current_thread()
        others = any(each is not me and not each.name.startswith("getm-") for each in threading.enumerate())
        return _OTHERS_GRACE_S if others or other_tasks or self.size is None else 0.0

    def still_starved(self, came: bool) -> bool:
        """Whether waiting was in vain; `came`: that there is something to receive."""
        if came:
            self._others_let_go = self.connection.with_engine > 0
            return False
        # A view may have been dropped after the last check, just before its thread ended.
        return self.starved()

    def wait(self, timeout_s: float | None) -> bool:
        """Block until `pump` has something to do; False where that takes longer than `timeout_s`."""
        self.begin_wait()
        try:
            return self.connection.wait(timeout_s)
        finally:
            self.connection.end_wait()

    def exhausted(self) -> errors.SlotsExhausted:
        slot_bytes, slots = self._layout.slot_bytes, self.connection.ready_slots
        return errors.SlotsExhausted(
            f"views of all {slots} slots of {slot_bytes} bytes are still kept, so nothing more can be "
            "received: drop views that you are done with, or copy what you keep (bytes(view))",
            url=self.url,
            slots=slots,
            slot_bytes=slot_bytes,
        )

    def close(self) -> None:
        """Stop. Views that were given out stay valid; what was not given out goes back."""
        if self._closed:
            return
        self._closed = True
        self._stats = self.stats()
        self._pending.clear()
        self._drop_memory()
        # They refer to each other: this way no garbage collection is needed to free them.
        self.reader = None
        self._release_connection()

    def give_up(self, then: Listener) -> None:
        """Stop, as `close` does, but leave the connection to the caller, who sends something over it at once. `then`
        hears how it ends."""
        self._check()
        self._stats = self.stats()
        self._closed = self._released = True
        self._pending.clear()
        self.reader = None
        # Sent together with what follows.
        self.connection.corked = True
        self.connection.cancel(self._number, then)
        self.connection.corked = False

    def _release_connection(self) -> None:
        if self._released:
            return
        self._released = True
        self.connection.cancel(self._number)
        if self.connection.waits:
            # Another thread or task waits for this object: the end of the pipe wakes it.
            self.connection.close()
        self._release(self.connection)

    @property
    def never_answered(self) -> bool:
        """Whether the engine ended by itself, idle, before it had read the request: then nothing was done."""
        return self.head is None and isinstance(self._error, errors.EngineDied) and self._error.exit_status == 0


class ResponseInfo:
    """The properties of a reader or an iterator."""

    def __init__(self, transfer: Receiver | None) -> None:
        self._transfer_ = transfer

    def __repr__(self) -> str:
        if self._transfer_ is None:
            return f"<getm.{type(self).__name__}, not opened yet>"
        return f"<getm.{type(self).__name__} of {cut(self._transfer.url, 45)}, {self.size} bytes>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a getm.{type(self).__name__} cannot be pickled or copied, since its transfer belongs to this process: "
            "pass the URL on, and open it there"
        )

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
        """The final URL, after redirects. It may have the secret of a signed URL."""
        return self._head.head.url

    @property
    def headers(self) -> HeaderMap:
        """The response's header fields, by name in any case."""
        return HeaderMap(self._head.head)

    @property
    def content_coding(self) -> str | None:
        """The coding ("gzip", ...) in which a server sent the bytes though none was asked for; None for none. They are
        delivered as they came, and declared checksums are those of the coded bytes (RFC 9110, section 8.4)."""
        return self._head.head.content_coding()

    @property
    def size(self) -> int | None:
        """The object's size in bytes; None where only its end shows it (chunked and close-delimited responses)."""
        return self._transfer.size

    @property
    def checksum(self) -> Verdict:
        """What verified the bytes, or why nothing did. Final once the last byte was read."""
        return self._transfer.verdict()

    @property
    def stats(self) -> Stats:
        """The statistics of the transfer: bytes, requests, retries, time. Final once the last byte was read; until
        then, or where it was closed before, only the bytes and the seconds are known."""
        return self._transfer.stats()
