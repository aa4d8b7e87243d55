"""The bytes of one span, by one response after another until they are all there."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from getm import errors
from getm.core.retry import SLOW_TAIL
from getm.core.spans import MAX_POSITION
from getm.engine.attempts import Attempts, Failed
from getm.engine.hedge import Watch
from getm.engine.http.body import READ_ERRORS, receive
from getm.engine.http.connections import Begun
from getm.engine.http.requests import Response
from getm.engine.plan import continues
from getm.engine.sources import Ranges, Source
from getm.protocol.messages import NoteInfo

if TYPE_CHECKING:
    from getm.engine.sinks.sink import Sink

# What is slow over every connection does not become faster by further ones.
_MAX_HEDGES = 3


class Answer(Struct, frozen=True):
    """A response of `source` that brings the bytes from `start` to `stop` (`MAX_POSITION`: as many as there are), of
    which `read` were read from it already."""

    response: Response
    source: Source
    start: int
    stop: int
    read: bytes = b""


class SpanFetch:
    """Fetches one span, retrying and failing over between sources, into `writer`: the first bytes by `answer`, where
    there is one, the rest by requests, of which the first may have `begun`. Owns the writer and the responses.

    Where nothing would show that the rest is of the same version as `answer`, no request follows it.
    """

    def __init__(
        self, attempts: Attempts, source: Source, writer: Sink, answer: Answer | None, begun: Begun | None = None
    ) -> None:
        self.writer: Sink = writer
        self.start: int = writer.position
        self._attempts = attempts
        self._source = source
        self._writer = writer
        # Whether a response from the object's start on may be used, by skipping what is there already.
        self._may_skip = not attempts.in_parts
        # The response that the next attempt continues with.
        self._answer = answer
        # Ends the current attempts, where another connection continues.
        self._scope: asyncio.Timeout | None = None
        self._hedge: asyncio.Task[None] | None = None
        self._hedges = 0
        # The response of a hedged request that got ahead.
        self._ahead: Answer | None = None
        self._begun = begun

    async def prove(self) -> None:
        """Request the bytes by a range, once, before anything relies on that: `run` then begins with the response.
        Raises `Failed` or another error, and is over, where it brings none of them."""
        self._may_skip = False
        try:
            await self._writer.begin()
            with self._attempts.attempt(self._source):
                self._answer = await self._ask(self._source, proves=True)
        except BaseException:
            self._writer.close()
            raise

    async def run(self, tail: Watch | None = None) -> int:
        """Bring the bytes, watched by `tail`; returns the position where they ended."""
        writer, start = self._writer, self.start
        try:
            await writer.begin()
            with nullcontext() if tail is None else tail.watch(writer, self.hedge):
                await self._fetch()
            return writer.position
        finally:
            self._attempts.counters.received_bytes += writer.position - start
            if self._hedge is not None:
                self._hedge.cancel()
            for unused in (self._answer, self._ahead):
                if unused is not None:
                    unused.response.raw.close()
            if self._begun is not None:
                self._begun.connection.close()
            writer.close()
            self._attempts.part_ended(complete=not writer.remaining)

    async def _fetch(self) -> None:
        """Fetch by one response after another, from one source after another, until all bytes have come."""
        while True:
            scope = asyncio.timeout(None)
            try:
                async with scope:
                    self._scope = scope
                    await self._attempts.run(self._source, self._attempt, lambda: self._writer.position)
                return
            except (TimeoutError, errors.GetmError):
                # Ended by the scope, or failed just when a hedged request had got ahead.
                if self._ahead is None:
                    raise
                self._answer, self._ahead = self._ahead, None
                self._source = self._answer.source
            finally:
                self._scope = None

    async def _attempt(self, source: Source) -> None:
        answer, self._answer = self._answer, None
        self._source = source
        try:
            with self._attempts.attempt(source):
                if answer is not None:
                    await self._receive(answer)
                while self._writer.remaining:
                    await self._receive(await self._ask(source))
        except errors.NetworkError as error:
            if answer is not None and not source.version.joinable:
                raise Failed(error, final=True) from None
            raise

    async def _ask(self, source: Source, *, proves: bool = False) -> Answer:
        """Request what the writer lacks. `proves`: to learn whether ranges are granted."""
        wanted, version, began_s = self._writer.remaining, source.version, time.monotonic()
        begun, self._begun = self._begun, None
        if begun is not None and not source.takes_spans:
            # Another part has learnt in the meantime that it has to be asked otherwise.
            begun.connection.close()
            begun = None
        response = await self._attempts.get(
            source, wanted, version.strong, may_skip=self._may_skip, proves=proves, begun=begun
        )
        self._attempts.began(time.monotonic() - began_s)
        try:
            # Another part may have learnt in the meantime what the source has.
            found, source.version = continues(source.version, response.head, wanted, self._attempts.size or 0)
            if found.start < wanted.start and not self._may_skip:
                raise errors.RangesRefused(
                    f"the server sent the whole object in place of bytes {wanted.start} to {wanted.stop}: it granted "
                    "range requests and stopped to; read it with concurrency=1"
                )
        except errors.GetmError as error:
            response.raw.close()
            if isinstance(error, errors.BadResponse) and self._may_skip:
                # It takes no ranges as it should: by the next attempt it is asked for the whole.
                source.ranges = Ranges.REFUSED
            raise
        return Answer(response, source, found.start, found.stop)

    async def _receive(self, answer: Answer) -> None:
        # Not the loop's clock, which does not advance while received bytes are copied.
        began, position = time.monotonic(), self._writer.position
        raw = answer.response.raw
        try:
            # What came before, by a response that broke off or by another connection.
            known = position - answer.start
            stop = min(answer.stop, self._writer.stop)
            if read := answer.read[known:]:
                await self._writer.write(read)
            await receive(
                raw,
                self._writer,
                None if stop == MAX_POSITION else stop - self._writer.position,
                self._attempts.request,
                self._attempts.http.throttle,
                skip=max(0, known - len(answer.read)),
                # The whole object was sent in place of a span.
                surplus=stop < answer.stop,
            )
        finally:
            count = self._writer.position - position
            self._attempts.sources.received(answer.source, count, time.monotonic() - began)
            # A content that was not read to its end leaves a connection that cannot be reused.
            if not raw.content.at_eof():
                raw.close()

    # Hedged requests ------------------------------------------------------------------------------------------------

    def hedge(self) -> None:
        """The connection is slow: hedge it by another one from the current byte on, which takes over once it is ahead.
        There is one writer, so no byte can come from both. Has no effect during a hedged request, nor after a few of
        them, nor where a further response could not be joined to what has come."""
        hedging = self._hedge is not None and not self._hedge.done()
        if self._scope is not None and not hedging and self._hedges < _MAX_HEDGES:
            self._hedges += 1
            alternate = self._attempts.alternate(self._source)
            self._hedge = asyncio.get_running_loop().create_task(self._run_hedge(alternate))

    async def _run_hedge(self, alternate: Source) -> None:
        """Read from another connection until it is ahead. Where it fails, the slow one continues, and meets the same
        failure by itself if it lasts."""
        with suppress(Failed, *READ_ERRORS):
            answer = await self._ask(alternate)
            raw, end, data = answer.response.raw, answer.start, b""
            try:
                while end <= self._writer.position and (data := await raw.readany()):
                    end += len(data)
                if end <= self._writer.position or self._scope is None:
                    return
                if end > answer.stop:
                    # More than its Content-Range says, which was not requested.
                    data, end = data[: answer.stop - end], answer.stop
                start = end - len(data)
                self._ahead = replace(answer, start=start, read=data)
            finally:
                if self._ahead is None:
                    raw.close()
            message = f"a connection was far slower than the others: from byte {start} on by another one"
            self._attempts.again(NoteInfo(SLOW_TAIL, self._hedges, 0.0, message))
            self._scope.reschedule(asyncio.get_running_loop().time())
