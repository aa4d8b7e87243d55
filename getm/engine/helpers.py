"""The lead engine's end of a pipe to another engine, which fetches spans of the same object into the same segment."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from getm import errors
from getm.core.spans import Span
from getm.core.stats import Stats
from getm.engine.attempts import Attempts
from getm.engine.hedge import Watch
from getm.engine.message_socket import Pipe
from getm.engine.sinks.ring import Emit
from getm.engine.sinks.slots import Claim
from getm.engine.sources import Source
from getm.protocol.codec import decode_body, encode, encode_body
from getm.protocol.messages import (
    FROM_ENGINE,
    NO_URLS,
    EndInfo,
    FailedInfo,
    Kind,
    Message,
    NoteInfo,
    OpenRequest,
    RenewedInfo,
)
from getm.protocol.order import Conversation

if TYPE_CHECKING:
    from getm.buffers.object_memory import WritableMemory


class HelperURLs:
    """The URL that a helper has of `source`, and new ones for it."""

    def __init__(self, attempts: Attempts, source: Source) -> None:
        self._attempts = attempts
        self._source = source
        self._given = source.origin
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def renew(self, answer: Callable[[RenewedInfo], None]) -> None:
        """The helper has found that it has expired: `answer` gets the new one."""
        if not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._renew(answer))

    async def _renew(self, answer: Callable[[RenewedInfo], None]) -> None:
        expired = errors.URLExpired("a helper engine found the URL expired")
        found = await self._attempts.renewal.renew(self._source, expired, self._given)
        self._given = self._source.origin
        answer(RenewedInfo((self._given,), 0) if found else NO_URLS)

    def close(self) -> None:
        """The helper needs none any more."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()


class _Job:
    """One span at the helper. Its slots come from `claim`; unfilled ones go back to it."""

    def __init__(
        self, urls: HelperURLs, span: Span, claim: Claim, emit: Emit, note: Callable[[NoteInfo], None]
    ) -> None:
        self.urls = urls
        self._stop = span.stop
        self.claim = claim
        self._emit = emit
        self.note = note
        self.position = span.start
        self.waited = False
        self.waits = 0
        # The slots that the helper has, and the prefix of one of them that the consumer may already read.
        self.granted: set[int] = set()
        self._prefix: tuple[int, int, int] | None = None
        # What the helper has answered, and the same once it has no slot any more.
        self.outcome: Stats | errors.GetmError | None = None
        self.settled: asyncio.Future[Stats | errors.GetmError] = asyncio.get_running_loop().create_future()

    @property
    def remaining(self) -> Span:
        return Span(self.position, self._stop)

    def on_bytes(self, offset: int, slot: int, length: int, *, full: bool) -> None:
        """A slot has come, or a prefix of one: those of one span come in order."""
        new, self.position = offset + length - self.position, offset + length
        self._prefix = None if full else (offset, slot, length)
        if full:
            self.granted.discard(slot)
        self._emit(offset, slot, length, new, full=full)
        self._settle()

    def on_return(self, slot: int) -> None:
        self.granted.discard(slot)
        self.claim.put_back(slot)
        self._settle()

    def end(self, outcome: Stats | errors.GetmError) -> None:
        """The helper has ended it."""
        if self.outcome is None:
            self.outcome = outcome
        # It waits for no more slots.
        self.claim.on_slot()
        self._settle()

    def _settle(self) -> None:
        if self.outcome is not None and not self.granted and not self.settled.done():
            self.settled.set_result(self.outcome)

    def lost(self) -> None:
        """The helper is gone: its slots are ours again."""
        if self._prefix is not None:
            self.on_bytes(*self._prefix, full=True)
        for slot in sorted(self.granted):
            self.on_return(slot)
        self.end(_died())


class _PlacedJob:
    """One span at the helper, which writes it to its place in `memory`."""

    def __init__(
        self,
        urls: HelperURLs,
        span: Span,
        memory: WritableMemory,
        on_block: Callable[[int, memoryview], None],
        note: Callable[[NoteInfo], None],
    ) -> None:
        self.urls = urls
        self._stop = span.stop
        self._memory = memory
        self._on_block = on_block
        self.note = note
        self.position = span.start
        self.waited = False
        self.waits = 0
        self.settled: asyncio.Future[Stats | errors.GetmError] = asyncio.get_running_loop().create_future()

    @property
    def remaining(self) -> Span:
        return Span(self.position, self._stop)

    def on_written(self, offset: int, length: int) -> None:
        self.position = offset + length
        self._on_block(offset, self._memory.bytes(offset, self.position))

    def end(self, outcome: Stats | errors.GetmError) -> None:
        if not self.settled.done():
            self.settled.set_result(outcome)

    def lost(self) -> None:
        self.end(_died())


def _died() -> errors.EngineDied:
    return errors.EngineDied("a helper engine died while it was fetching a part")


class HelperPipe:
    """A consumer of another engine. Every slot granted to it comes back with a PART or a RETURN."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._conversation = Conversation()
        # All that are wanted, and those that were opened, by their numbers.
        self._wanted: set[_Job | _PlacedJob] = set()
        self._jobs: dict[int, _Job | _PlacedJob] = {}
        self._last = 0
        self._pipe = Pipe(loop, sock, FROM_ENGINE, self._on_message, self._on_closed)

    @property
    def closed(self) -> bool:
        """Whether the helper has ended it."""
        return self._pipe.closed

    async def fetch(
        self, request: OpenRequest, source: Source, claim: Claim, emit: Emit, attempts: Attempts, tail: Watch
    ) -> None:
        """Have one span fetched from `source`; `emit` is called for its slots, `attempts` has its retries and
        statistics, and `tail` watches it. Raises the helper's error."""
        job = _Job(HelperURLs(attempts, source), Span(*request.spans[0]), claim, emit, attempts.note)
        self._wanted.add(job)
        number = 0
        try:
            if self._pipe.closed:
                job.lost()
            while job.outcome is None and not claim.start():
                await claim.wait()
            # Not before: numbers must rise in the order of the OPENs, and other spans may have started in the meantime.
            self._last = number = self._last + 1
            self._jobs[number] = job
            if job.outcome is None:
                self._conversation.pass_(Kind.OPEN, number)
                self._pipe.send(encode_body(Kind.OPEN, number, request))
            with attempts.attempt(source), tail.watch(job, lambda: self._hedge(number)):
                await self._grant(number, job)
                await self._outcome(job, attempts)
        finally:
            if number:
                await self._end(number, job)
            self._wanted.discard(job)
            claim.close()

    async def fetch_placed(
        self,
        request: OpenRequest,
        source: Source,
        memory: WritableMemory,
        on_block: Callable[[int, memoryview], None],
        attempts: Attempts,
        tail: Watch,
    ) -> None:
        """`fetch` of a span that goes to its place in `memory`; `on_block` is called for what is there."""
        job = _PlacedJob(HelperURLs(attempts, source), Span(*request.spans[0]), memory, on_block, attempts.note)
        self._wanted.add(job)
        self._last = number = self._last + 1
        self._jobs[number] = job
        try:
            if self._pipe.closed:
                job.lost()
            else:
                self._conversation.pass_(Kind.OPEN, number)
                self._pipe.send(encode_body(Kind.OPEN, number, request))
                self._pipe.send(encode(Kind.PLACE, number, offset=memory.size), memory.descriptor)
            with attempts.attempt(source), tail.watch(job, lambda: self._hedge(number)):
                await self._outcome(job, attempts)
        finally:
            await self._end(number, job)
            self._wanted.discard(job)

    async def _outcome(self, job: _Job | _PlacedJob, attempts: Attempts) -> None:
        """Wait for the end; raises the helper's error."""
        outcome = await asyncio.shield(job.settled)
        stats = outcome.stats if isinstance(outcome, errors.GetmError) else outcome
        if stats is not None:
            attempts.counters.add(stats)
        if isinstance(outcome, errors.GetmError):
            raise outcome

    async def _grant(self, number: int, job: _Job) -> None:
        """Pass on the slots of the claim as they become available."""
        missing = job.claim.needed or 0
        while missing and job.outcome is None:
            slot = job.claim.next()
            if slot is None:
                job.waited = True
                job.waits += 1
                await job.claim.wait()
            else:
                missing -= 1
                job.granted.add(slot)
                self._pipe.send(encode(Kind.GRANT, number, slot=slot, length=1))

    async def _end(self, number: int, job: _Job | _PlacedJob) -> None:
        """Wait until the helper has released the object, whatever ended it here: it may be writing into its slots."""
        job.urls.close()
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
        if cancelled:
            raise asyncio.CancelledError

    def _hedge(self, number: int) -> None:
        self._conversation.pass_(Kind.HEDGE, number)
        self._pipe.send(encode(Kind.HEDGE, number))

    def _renewed(self, number: int, info: RenewedInfo) -> None:
        if number in self._conversation.phases:
            self._pipe.send(encode_body(Kind.RENEWED, number, info))

    def _on_message(self, message: Message) -> None:
        self._conversation.pass_(message.kind, message.object)
        job = self._jobs[message.object]
        match message.kind:
            case Kind.WRITTEN if isinstance(job, _PlacedJob):
                job.on_written(message.offset, message.length)
            case Kind.PREFIX | Kind.PART if isinstance(job, _Job):
                job.on_bytes(message.offset, message.slot, message.length, full=message.kind is Kind.PART)
            case Kind.RETURN if isinstance(job, _Job):
                job.on_return(message.slot)
            case Kind.NOTE:
                job.note(decode_body(message, NoteInfo))
            case Kind.EXPIRED:
                job.urls.renew(partial(self._renewed, message.object))
            case Kind.END:
                job.end(decode_body(message, EndInfo).stats)
            case Kind.FAILED:
                job.end(decode_body(message, FailedInfo).error())

    def _on_closed(self) -> None:
        for job in list(self._wanted):
            job.lost()

    def close(self) -> None:
        self._pipe.close()
        self._on_closed()
