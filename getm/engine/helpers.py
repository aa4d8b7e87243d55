"""The lead engine's end of a pipe to another engine, which fetches parts of the same object into the same segment."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from getm import errors
from getm.buffers.ledger import Owner, SlotLedger
from getm.core.spans import Span
from getm.engine.hedge import Hedger
from getm.engine.message_socket import Pipe
from getm.engine.sinks.slots import Claim
from getm.protocol.codec import decode_body, encode, encode_body
from getm.protocol.messages import FROM_ENGINE, EndInfo, FailedInfo, Kind, Message, NoteInfo, OpenRequest
from getm.protocol.order import Conversation
from getm.results import Stats


class _Job:
    """One part at the helper."""

    def __init__(
        self,
        span: Span,
        emit: Callable[[int, int, int], None],
        note: Callable[[NoteInfo], None],
        hedge: Callable[[], None],
    ) -> None:
        self._stop = span.stop
        self._emit = emit
        self.note = note
        self.hedge = hedge
        self.position = span.start
        self.waited = False
        self.done: asyncio.Future[Stats] = asyncio.get_running_loop().create_future()

    @property
    def left(self) -> int:
        return self._stop - self.position

    def emit(self, offset: int, slot: int, length: int) -> None:
        """A slot came: those of one part come in order."""
        self.position = offset + length
        self._emit(offset, slot, length)


class HelperPipe:
    """A consumer of another engine. Every slot granted to it comes back with a PART."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, slots: int) -> None:
        self._ledger = SlotLedger(slots, Owner.HELD)
        self._conversation = Conversation()
        self._jobs: dict[int, _Job] = {}
        self._last = 0
        self._pipe = Pipe(loop, sock, FROM_ENGINE, self._on_message, self._on_closed)

    async def fetch(
        self,
        request: OpenRequest,
        claim: Claim,
        emit: Callable[[int, int, int], None],
        note: Callable[[NoteInfo], None],
        tail: Hedger,
    ) -> Stats:
        """Have one part fetched; `emit` is called for each of its slots, `note` with what was tried again, and `tail`
        watches it. Returns what it took. Raises what the helper failed with, its `stats` with it."""
        if self._pipe.closed:
            claim.close()
            raise errors.EngineDied("a helper engine is gone")
        number = 0
        job = _Job(Span(*(request.span or (0, 0))), emit, note, lambda: self._hurry(number))
        woken = asyncio.Event()
        claim.on_slot = woken.set
        try:
            while not claim.start():
                await woken.wait()
                woken.clear()
            # Only now: numbers must rise in the order of the OPENs, and other parts may have started meanwhile.
            self._last = number = self._last + 1
            self._jobs[number] = job
            self._conversation.pass_(Kind.OPEN, number)
            self._pipe.send(encode_body(Kind.OPEN, number, request))
            with tail.watch(job):
                for _ in range(claim.needed or 0):
                    while (slot := claim.next()) is None:
                        job.waited = True
                        await woken.wait()
                        woken.clear()
                    self._ledger.give_back(slot)
                    self._pipe.send(encode(Kind.GRANT, slot=slot, length=1))
                return await job.done
        finally:
            if number in self._conversation.open_objects():
                self._pipe.send(encode(Kind.CANCEL, number))
            job.done.cancel()
            claim.close()

    def _hurry(self, number: int) -> None:
        self._conversation.pass_(Kind.HEDGE, number)
        self._pipe.send(encode(Kind.HEDGE, number))

    def _on_message(self, message: Message) -> None:
        self._conversation.pass_(message.kind, message.object)
        job = self._jobs[message.object]
        if message.kind is Kind.PART:
            self._ledger.receive(message.slot)
            if not job.done.done():
                job.emit(message.offset, message.slot, message.length)
        elif message.kind is Kind.NOTE:
            if not job.done.done():
                job.note(decode_body(message, NoteInfo))
        elif message.kind is Kind.END:
            del self._jobs[message.object]
            if not job.done.done():
                job.done.set_result(decode_body(message, EndInfo).stats)
        elif message.kind is Kind.FAILED:
            del self._jobs[message.object]
            if not job.done.done():
                info = decode_body(message, FailedInfo)
                job.done.set_exception(errors.from_wire(info.code, info.message, info.url, info.fields, info.stats))

    def _on_closed(self) -> None:
        for job in self._jobs.values():
            if not job.done.done():
                job.done.set_exception(errors.EngineDied("a helper engine died while it was fetching a part"))
        self._jobs.clear()

    def close(self) -> None:
        self._pipe.close()
        self._on_closed()
