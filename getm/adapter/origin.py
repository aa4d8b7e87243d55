"""Objects at their origins, as they are read for programs: each in one version, by requests that are bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from copy import copy

from getm import aio, errors
from getm.client.opening import Opening
from getm.client.random_access import RandomAccess
from getm.client.read_ahead import MIN_BYTES, SKIPPED_BYTES, Pace
from getm.core.head import ResponseHead
from getm.core.spans import MAX_POSITION, Span
from getm.core.units import KIB, MIB
from getm.core.version import Version
from getm.resolve.resource import URLInput
from getm.session import Session
from getm.transfers import aopen_transfer

# An open range says nothing about where its reader stops. An eighth of what it has read is requested ahead, so that
# little is transferred in vain; at most what fits the ring of a stream, so that no request waits for a slow program.
PROGRAMS = Pace(1, 8, 8 * MIB, 0, 0, small_bytes=16 * MIB)
# Bytes of one write to a program.
_PIECE_BYTES = 256 * KIB
# Streams that are kept for the next request of a program, over all objects: each has a ring and a connection.
_MAX_IDLE = 8


class IdleStreams:
    """Streams that nobody reads now, the oldest first."""

    def __init__(self) -> None:
        self._streams: list[tuple[Origin, RandomAccess]] = []

    def keep(self, origin: Origin, stream: RandomAccess) -> None:
        """Keep a stream, in place of the oldest one where there are many."""
        self._streams.append((origin, stream))
        if len(self._streams) > _MAX_IDLE:
            self._streams.pop(0)[1].clear()

    def take(self, origin: Origin, start: int) -> RandomAccess | None:
        """A stream of that object: one that has the bytes at `start`, or soon has them, or else any that can go there
        now. None where there is none."""
        own = [pair for pair in self._streams if pair[0] is origin]
        for pair in own:
            if not pair[1].transfer.connection.team[0].alive:
                # Its engine has ended after some idle minutes.
                self._streams.remove(pair)
                pair[1].clear()
        own = [pair for pair in own if pair in self._streams]
        near = [pair for pair in own if pair[1].has_near(start)]
        # What is nearly complete is left to come: to give it up would cost a connection.
        free = [pair for pair in own if not 0 < pair[1].outstanding <= SKIPPED_BYTES]
        if not (near or free):
            return None
        best = (near or free)[0]
        self._streams.remove(best)
        return best[1]

    def clear(self) -> None:
        """Close all."""
        while self._streams:
            self._streams.pop()[1].clear()


class Origin:
    """One object, in the version that it had when it was first asked for: in `version`, where that is known."""

    def __init__(
        self, session: Session, name: str, url: URLInput, idle: IdleStreams, version: Version | None = None
    ) -> None:
        self._session = session
        self._name = name
        self._url = url
        self._idle = idle
        self._lock = asyncio.Lock()
        # The first stream: others are made of it.
        self._first: RandomAccess | None = None
        self._opening: Opening | None = None
        self._changed: errors.RemoteChanged | None = None
        self.head: ResponseHead = ResponseHead(0, "")
        self.version: Version = version or Version()
        # How many answers are under way.
        self.users: int = 0
        # Why it can only be read from start to end; None where it can be read anywhere.
        self.why_whole: str | None = None

    async def open(self, first_bytes: int = 0) -> None:
        """Learn what the object is, where that is not known: `head`, `version`, `why_whole`. `first_bytes`: how many
        bytes from its start will be read at once; 0: none. Raises `NetworkError` and what else `getm.open` raises."""
        async with self._lock:
            if self._first is not None:
                return
            # A range of one byte tells all that is to be known.
            stream = await self._open_stream(max(1, first_bytes))
            self._require_version(stream)
            info = stream.transfer.head
            if info is not None:
                self.head, self.version = info.head, info.version
            self.why_whole = stream.why_not()
            self._first = stream
            if self.why_whole is not None and not first_bytes:
                # Otherwise all of it would come.
                stream.clear()
            else:
                self._put_back(stream)

    async def _open_stream(self, first_bytes: int) -> RandomAccess:
        """The object from its start on, where it can be had in parts with so many bytes at first."""
        if self._opening is None:
            self._opening = self._session._opening_for_program(self._url, self._name, first_bytes)
        transfer = await aopen_transfer(self._opening, lambda transfer: None)
        return RandomAccess(transfer, self._opening.acquire, PROGRAMS)

    async def pieces(self, span: Span, *, is_open: bool) -> AsyncGenerator[memoryview]:
        """The bytes of a span as they come. `is_open`: whoever reads may stop anywhere in it; otherwise all of it will
        be read. Raises what `open` raises, `RemoteChanged` where the object was replaced."""
        if self._changed is not None:
            raise copy(self._changed)
        most = MIN_BYTES if is_open else PROGRAMS.max_ahead
        stream = await self._stream_at(span.start, min(len(span), most))
        ask = span.start
        try:
            while (position := stream.position) < span.stop:
                if ask - position <= most // 2:
                    ask = min(span.stop, position + most)
                view = await _next(stream, span.stop, ask)
                if view:
                    yield view
                elif span.stop == MAX_POSITION:
                    break
                else:
                    raise errors.Truncated(
                        f"the object ended at byte {position}",
                        url=stream.transfer.url,
                        expected=span.stop,
                        received=position,
                    )
        except errors.RemoteChanged as error:
            self._changed = error
            raise
        finally:
            self._put_back(stream)

    async def _stream_at(self, start: int, at_once: int) -> RandomAccess:
        stream = self._idle.take(self, start)
        if self.why_whole is not None:
            if stream is not None and stream.position == 0:
                return stream
            stream = await self._open_stream(MIN_BYTES)
            self._require_version(stream)
            return stream
        for last in (False, True):
            try:
                if stream is None:
                    stream = await self._another(start, at_once)
                stream.seek(start)
                return stream
            except errors.EngineDied:
                if last:
                    raise
                stream = None
        raise errors.EngineDied("the engine ended twice")

    def _require_version(self, stream: RandomAccess) -> None:
        """Raises `RemoteChanged`."""
        if stream.transfer.head is not None:
            try:
                self.version.require(stream.transfer.head.version, stream.transfer.url)
            except errors.RemoteChanged as error:
                self._changed = error
                stream.clear()
                raise

    async def _another(self, start: int, at_once: int) -> RandomAccess:
        if self._first is None or self._opening is None:
            raise errors.ReaderClosed("the object is not open")
        try:
            connection = await aio.acquire(self._opening)
        except errors.MemoryUnavailable:
            # Streams that nobody reads have it.
            self._idle.clear()
            connection = await aio.acquire(self._opening)
        return self._first.another(connection, start, at_once)

    def _put_back(self, stream: RandomAccess) -> None:
        """Nobody reads the stream now."""
        if stream.transfer.is_open and (self.why_whole is None or not stream.position):
            self._idle.keep(self, stream)
        else:
            stream.clear()


async def _next(stream: RandomAccess, stop: int, ask: int) -> memoryview:
    """The next bytes before `stop`, as many as have come; empty at the end of the object. Those up to `ask` are
    requested."""
    while True:
        if stream.arrive(ask - stream.position):
            if stream.beyond_end:
                return memoryview(b"")
            stream.request(stream.position, ask)
            if stream.at is None:
                chunks = stream.chunks
                here = min(chunks.received, stop) - chunks.position
                # Where nothing is here, it may have ended, or failed.
                view = chunks.try_read(max(1, min(here, _PIECE_BYTES)))
                if view is None and stop == MAX_POSITION:
                    # The last part of an object whose size is not known comes with its end.
                    view = chunks.try_read_chunk(None)
                if view is not None:
                    return view
        await aio.wait(stream.transfer)
