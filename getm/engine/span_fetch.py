"""The bytes of one part, by one response after another until they are all there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiohttp
from msgspec import Struct
from msgspec.structs import replace

from getm import errors
from getm.core.retry import SLOW_TAIL
from getm.engine.attempts import Answered, Requests
from getm.engine.counters import Counters
from getm.engine.hedge import Hedger
from getm.engine.http.body import receive
from getm.engine.http.limits import ReadLimits
from getm.engine.http.requests import Response
from getm.engine.http.responses import agreed
from getm.engine.http.throttle import Throttle
from getm.engine.sinks.ring import RingSink
from getm.engine.sources import Source

# What is slow by every connection is not made faster by asking on and on.
_MAX_HEDGES = 3


class Answer(Struct, frozen=True):
    """A response of `source` that brings the bytes from `start` to `stop` (None: as many as there are), of which `read`
    were read from it already."""

    response: Response
    source: Source
    start: int
    stop: int | None
    read: bytes = b""

    @property
    def to_come(self) -> int | None:
        """How many bytes there are beyond `read`."""
        return None if self.stop is None else self.stop - self.start - len(self.read)


class Part:
    """Brings the bytes that `writer` wants: the first by `answer`, where there is one, the rest by requests to `source`
    or who may take its place. Owns the writer and the responses.

    Where nothing would tell whether the rest is of the same version as `answer`, no request follows it. `total`: the
    object's size, where it is known. `alternate`: who is asked in a race against a slow connection to a source; None
    where there are no races.
    """

    def __init__(
        self,
        requests: Requests,
        source: Source,
        writer: RingSink,
        answer: Answer | None,
        *,
        total: int | None,
        alternate: Callable[[Source], Source] | None,
        read_limits: ReadLimits,
        throttle: Throttle | None,
        counters: Counters,
    ) -> None:
        self._requests = requests
        self._source = source
        self._writer = writer
        self._total = total
        self._alternate = alternate
        self._patience = read_limits
        self._throttle = throttle
        self._tally = counters
        # What the next attempt goes on with.
        self._answer = answer
        # Ends the attempts under way, where another connection is to go on.
        self._scope: asyncio.Timeout | None = None
        self._hedge: asyncio.Task[None] | None = None
        self._hedges = 0
        # The connection that has won a race.
        self._ahead: Answer | None = None

    async def run(self, tail: Hedger | None = None) -> int:
        """Bring the bytes, watched by `tail`; returns the position where they ended."""
        writer, start = self._writer, self._writer.position
        try:
            await writer.begin()
            if tail is None:
                await self._ask_around()
            else:
                with tail.watch(self):
                    await self._ask_around()
            return writer.position
        finally:
            self._tally.received_bytes += writer.position - start
            if self._hedge is not None:
                self._hedge.cancel()
            for unused in (self._answer, self._ahead):
                if unused is not None:
                    unused.response.raw.close()
            writer.close()

    async def _ask_around(self) -> None:
        """One source after the other, until all bytes are there."""
        while True:
            asked, joinable = self._source, self._answer is None or self._source.identity is not None
            asked.active += 1
            try:
                if not joinable:
                    await self._attempt()
                elif self._alternate is None:
                    await self._requests.retry(self._source, self._attempt, self._progress)
                else:
                    await self._retry_with_hedges()
                return
            except errors.NetworkError as error:
                if self._writer.stop is None:
                    raise
                self._source = self._requests.after(self._source, error)
            finally:
                asked.active -= 1

    async def _retry_with_hedges(self) -> None:
        """By one connection after another, where a race may be run."""
        while True:
            scope = asyncio.timeout(None)
            try:
                async with scope:
                    self._scope = scope
                    await self._requests.retry(self._source, self._attempt, self._progress)
                return
            except (TimeoutError, errors.GetmError):
                # Ended by the scope, or failed just when another connection had got ahead.
                if self._ahead is None:
                    raise
                self._answer, self._ahead = self._ahead, None
                self._source = self._answer.source
            finally:
                self._scope = None

    def _progress(self) -> int:
        return self._writer.position

    async def _attempt(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            await self._receive(answer)
        while not self._writer.complete:
            await self._receive(await self._ask(self._source))

    async def _ask(self, source: Source) -> Answer:
        """Request what the writer lacks now."""
        wanted, identity = self._writer.remaining, source.identity
        response = await self._requests.get(source, wanted, None if identity is None else identity.if_range)
        try:
            # Another part may have learnt meanwhile what the source has.
            found, source.identity = agreed(source.identity, response.head, wanted, self._total or 0)
        except errors.GetmError:
            response.raw.close()
            raise
        return Answer(response, source, found.start, found.stop)

    async def _receive(self, answer: Answer) -> None:
        # Not the loop's clock, which stands still while what has come already is copied.
        began, position = time.monotonic(), self._writer.position
        raw = answer.response.raw
        try:
            # What came by another connection while this one was being opened.
            known = position - answer.start
            if known <= len(answer.read):
                if answer.read:
                    await self._writer.write(answer.read[known:])
                await receive(raw, self._writer, answer.to_come, self._patience, self._throttle)
        finally:
            count = self._writer.position - position
            self._requests.sources.received(answer.source, count, time.monotonic() - began)
            # A content that was not read to its end leaves a connection that cannot be used again.
            if not raw.content.at_eof():
                raw.close()

    # The slow tail --------------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        return self._writer.position

    @property
    def left(self) -> int:
        return len(self._writer.remaining)

    @property
    def waited(self) -> bool:
        return self._writer.waited

    @waited.setter
    def waited(self, value: bool) -> None:
        self._writer.waited = value

    def hedge(self) -> None:
        """The connection is slow: let another one run against it from the byte where it stands. It goes on once it is
        ahead of the slow one; there is one writer, so no byte can come from both. Has no effect during a race, nor
        after a few of them, nor where a further response could not be joined to what has come."""
        if self._alternate is None or self._scope is None or self._hedges == _MAX_HEDGES:
            return
        if self._hedge is None or self._hedge.done():
            self._hedges += 1
            self._hedge = asyncio.get_running_loop().create_task(self._run_hedge(self._alternate(self._source)))

    async def _run_hedge(self, alternate: Source) -> None:
        try:
            answer = await self._ask(alternate)
        except (errors.GetmError, Answered):
            # Whatever it was, the connection that is being raced goes on, and meets it by itself if it lasts.
            return
        try:
            self._ahead = await self._overtake(answer)
        finally:
            if self._ahead is None:
                answer.response.raw.close()
        if self._ahead is not None and self._scope is not None:
            told = f"a connection was far slower than the others: from byte {self._ahead.start} on by another one"
            self._requests.again(SLOW_TAIL, self._hedges, 0.0, told)
            self._scope.reschedule(asyncio.get_running_loop().time())

    async def _overtake(self, answer: Answer) -> Answer | None:
        """Read from the new connection until it is ahead of the old one; None where it cannot be."""
        raw, end, data = answer.response.raw, answer.start, b""
        try:
            while end <= self._writer.position:
                data = await raw.readany()
                if not data:
                    return None
                end += len(data)
        except (aiohttp.ClientError, OSError, errors.GetmError):
            return None
        if answer.stop is not None and end > answer.stop:
            # More than its Content-Range tells of, which nobody asked for.
            data, end = data[: answer.stop - end], answer.stop
        return replace(answer, start=end - len(data), read=data)
