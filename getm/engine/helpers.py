"""The lead engine's end of a pipe to another engine, which fetches spans of the same object into the same segment."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from getm import errors
from getm.buffers.ledger import Owner, SlotLedger
from getm.core.spans import Span
from getm.engine.hedge import Hedger
from getm.engine.message_socket import Pipe
from getm.engine.sinks.ring import Emit
from getm.engine.sinks.slots import Claim
from getm.protocol.codec import decode_body, encode, encode_body
from getm.protocol.messages import (
    FROM_ENGINE,
    EndInfo,
    FailedInfo,
    Kind,
    Message,
    NoteInfo,
    OpenRequest,
)
from getm.protocol.order import Conversation
from getm.results import Stats


class _Job:
    """One span at the helper. Its slots come from `claim`; unfilled ones go back to it."""

    def __init__(self, span: Span, claim: Claim, emit: Emit, note: Callable[[NoteInfo], None]) -> None:
        self._span = span
        self._claim = claim
        self._emit = emit
        self.note = note
        self.hedge: Callable[[], None] = _nothing
        self.position = span.start
        self.waited = False
        # The slots that the helper has, and the prefix of one of them that the consumer may already read.
        self._granted: set[int] = set()
        self._prefix: tuple[int, int, int] | None = None
        self._ended = False
        loop = asyncio.get_running_loop()
        self.done: asyncio.Future[Stats] = loop.create_future()
        # The helper has sent its last message, and has no slot any more.
        self.settled: asyncio.Future[None] = loop.create_future()

    @property
    def left(self) -> int:
        return self._span.stop - self.position

    def grant(self, slot: int) -> None:
        self._granted.add(slot)

    def on_prefix(self, offset: int, slot: int, length: int) -> None:
        self.position = offset + length
        self._prefix = offset, slot, length
        self._emit(offset, slot, length, full=False)

    def on_part(self, offset: int, slot: int, length: int) -> None:
        """A slot has come: those of one span come in order."""
        self.position = offset + length
        self._prefix = None
        self._granted.discard(slot)
        self._emit(offset, slot, length, full=True)
        self._settle()

    def on_return(self, slot: int) -> None:
        self._granted.discard(slot)
        self._claim.put_back(slot)
        self._settle()

    def end(self) -> None:
        """The helper has ended it."""
        self._ended = True
        self._settle()

    def _settle(self) -> None:
        if self._ended and not self._granted and not self.settled.done():
            self.settled.set_result(None)

    def lost(self) -> None:
        """The helper is gone: its slots are ours again."""
        if not self.done.done():
            self.done.set_exception(errors.EngineDied("a helper engine died while it was fetching a part"))
        if self._prefix is not None:
            self.on_part(*self._prefix)
        for slot in sorted(self._granted):
            self.on_return(slot)
        self.end()


def _nothing() -> None:
    pass


class HelperPipe:
    """A consumer of another engine. Every slot granted to it comes back with a PART or a RETURN."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, slots: int) -> None:
        self._ledger = SlotLedger(slots, Owner.HELD)
        self._conversation = Conversation()
        self._jobs: dict[int, _Job] = {}
        # Events of waits for a slot: set when there is one, or the helper is gone.
        self._waiting: set[asyncio.Event] = set()
        self._last = 0
        self._pipe = Pipe(loop, sock, FROM_ENGINE, self._on_message, self._on_closed)

    async def fetch(
        self, request: OpenRequest, claim: Claim, emit: Emit, note: Callable[[NoteInfo], None], tail: Hedger
    ) -> Stats:
        """Have one span fetched; `emit` is called for its slots, `note` for retries, and `tail` watches it. Returns its
        statistics. Raises the helper's error, with its `stats`."""
        job = _Job(Span(*request.spans[0]), claim, emit, note)
        woken = asyncio.Event()
        self._waiting.add(woken)
        claim.on_slot = woken.set
        number = 0
        try:
            while not self._pipe.closed and not claim.start():
                await woken.wait()
                woken.clear()
            if self._pipe.closed:
                raise errors.EngineDied("a helper engine is gone")
            # Not before: numbers must rise in the order of the OPENs, and other spans may have started in the meantime.
            self._last = number = self._last + 1
            self._jobs[number] = job
            job.hedge = lambda: self._hedge(number)
            self._conversation.pass_(Kind.OPEN, number)
            self._pipe.send(encode_body(Kind.OPEN, number, request))
            with tail.watch(job):
                await self._grant(number, job, claim, woken)
                return await job.done
        finally:
            self._waiting.discard(woken)
            if number:
                await self._end(number, job)
            claim.close()

    async def _grant(self, number: int, job: _Job, claim: Claim, woken: asyncio.Event) -> None:
        """Pass on the slots of the claim as they become available."""
        for _ in range(claim.needed or 0):
            while (slot := claim.next()) is None:
                job.waited = True
                await woken.wait()
                woken.clear()
                if job.done.done():
                    return
            if self._pipe.closed:
                claim.put_back(slot)
                return
            self._ledger.give_back(slot)
            job.grant(slot)
            self._pipe.send(encode(Kind.GRANT, number, slot=slot, length=1))

    async def _end(self, number: int, job: _Job) -> None:
        """Wait until the helper has released the object, whatever ended it here: it may be writing into its slots."""
        if number in self._conversation.phases:
            self._pipe.send(encode(Kind.CANCEL, number))
        cancelled = False
        while not job.settled.done():
            try:
                await asyncio.shield(job.settled)
            except asyncio.CancelledError:
                # A live helper answers, and a dead one has settled it.
                cancelled = True
        del self._jobs[number]
        if job.done.done():
            # Retrieved, so that no exception is reported as never retrieved.
            job.done.cancelled() or job.done.exception()
        else:
            job.done.cancel()
        if cancelled:
            raise asyncio.CancelledError

    def _hedge(self, number: int) -> None:
        self._conversation.pass_(Kind.HEDGE, number)
        self._pipe.send(encode(Kind.HEDGE, number))

    def _on_message(self, message: Message) -> None:
        self._conversation.pass_(message.kind, message.object)
        job = self._jobs[message.object]
        match message.kind:
            case Kind.PREFIX:
                job.on_prefix(message.offset, message.slot, message.length)
            case Kind.PART:
                self._ledger.receive(message.slot)
                job.on_part(message.offset, message.slot, message.length)
            case Kind.RETURN:
                self._ledger.receive(message.slot)
                job.on_return(message.slot)
            case Kind.NOTE:
                job.note(decode_body(message, NoteInfo))
            case Kind.END | Kind.FAILED:
                if not job.done.done():
                    self._settle_outcome(job, message)
                for event in self._waiting:
                    event.set()
                job.end()

    def _settle_outcome(self, job: _Job, message: Message) -> None:
        if message.kind is Kind.END:
            job.done.set_result(decode_body(message, EndInfo).stats)
        else:
            info = decode_body(message, FailedInfo)
            job.done.set_exception(errors.from_wire(info.code, info.message, info.url, info.fields, info.stats))

    def _on_closed(self) -> None:
        for job in list(self._jobs.values()):
            job.lost()
        for event in self._waiting:
            event.set()

    def close(self) -> None:
        self._pipe.close()
        self._on_closed()
