"""aiohttp's end of one connection, with each head whole, and a small response whole where that is wanted."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from aiohttp.client_exceptions import ServerDisconnectedError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader
from msgspec import Struct

from getm.core.head import HeadError
from getm.engine.http.framing import PlainHead, frame, plain_head, usual_length
from getm.engine.http.low_water import set_mark, unread_bytes

# Signed redirects (CloudFront, Hugging Face) have Locations of several KiB.
_MAX_HEADER_BYTES = 64 * 1024
# All of a head together: curl takes 300 KiB.
_MAX_HEAD_BYTES = 256 * 1024
_MAX_HEADERS = 256
_READ_BYTES = 64 * 1024
# A longer one is none of the plain ones.
_MAX_PLAIN_HEAD_BYTES = 16 * 1024
# What is received at once: all of a response that is awaited whole; of any other one the head, and no more of the
# content than a small object has, since that is copied.
_WHOLE_BYTES = 256 * 1024 + _MAX_PLAIN_HEAD_BYTES


class WholeListener(Protocol):
    """Receives a small response of that status whole; see `ResponseProtocol.expect_whole`."""

    status: int

    def knows(self, head: bytes) -> int | None:
        """The length of the content where it is certain that `accepts` would take that head; None where it is not."""

    def accepts(self, head: PlainHead) -> bool:
        """Whether the content that follows the head for which `knows` was asked is to be awaited whole."""

    def came(self, content: memoryview) -> None:
        """All of it is there, until this returns."""

    def is_other(self) -> None:
        """It is none that can be awaited whole: it comes as after `expect_head`."""


class _Awaited(Struct):
    """A response that is awaited whole: what has come of it, where its head ends (0: not yet), and how many bytes are
    to come then."""

    listener: WholeListener
    pieces: list[bytes]
    stop: int = 0
    missing: int = 0


class Receiving(asyncio.BufferedProtocol):
    """Receives for a `ResponseProtocol`, into memory that all connections share: what is in it is used up, or copied,
    before anything else is received. The loop's own would be new memory for each read, whose pages the kernel clears
    each time."""

    def __init__(self, protocol: ResponseProtocol, buffer: memoryview) -> None:
        self._protocol = protocol
        self._whole = buffer
        self._first = buffer[:_READ_BYTES]

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._whole if self._protocol.awaits_whole else self._first

    def buffer_updated(self, nbytes: int) -> None:
        self._protocol.receive(self._whole[:nbytes])

    def eof_received(self) -> None:
        self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


class ResponseProtocol(ResponseHandler):
    """aiohttp's end of one connection, which gets each head whole and apart from what follows it. Whole, so that its
    framing can be normalised first: aiohttp's parser refuses some of what RFC 9112 permits, and passes on some of what
    it forbids. Apart, since the parser drops a message where an error comes after it in the same bytes: what is beyond
    the end of a response is about the connection, not about the response.
    """

    codings: tuple[str, ...] = ()
    """Transfer codings of the last response that are not decoded yet; see `Framing`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, buffer: memoryview) -> None:
        """`buffer`: of `receive_buffer`."""
        super().__init__(loop)
        self.receiving: Receiving = Receiving(self, buffer)
        self._head = bytearray()
        # Between `expect_head` and the head of a final response, which is the one answer to a request.
        self._in_head = False
        self._answered = False
        self._responses = 0
        # While another protocol receives the content instead of this one.
        self.bypassed = False
        self._awaited: _Awaited | None = None
        # How many bytes are to be there before the loop wakes up; 0: any.
        self._mark = 0
        # What has broken the connection, where that is no clean end.
        self.broken_by: OSError | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # (uvloop's are none by their class.)
        cast(asyncio.Transport, transport).set_protocol(self.receiving)

    @property
    def awaits_whole(self) -> bool:
        """Whether the next response is awaited whole."""
        return self._awaited is not None

    def expect_head(self, *, alone: bool = False) -> None:
        """Expect the head of a response next. `alone`: it answers a HEAD, and no content follows, whatever it says
        (RFC 9112, section 6.3)."""
        self._in_head = True
        self._answered = False
        self._responses += 1
        self._wake_at(0)
        self.set_response_params(
            skip_payload=alone,
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=_READ_BYTES,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            max_headers=_MAX_HEADERS,
        )

    def expect_whole(self, listener: WholeListener, least: int = 0) -> None:
        """Expect a small response of the usual form next, with a content of at least so many bytes: less does not wake
        the loop. aiohttp's parser and reader, and a task that waits for both, would take longer than all the rest of a
        small object."""
        self._responses += 1
        self._awaited = _Awaited(listener, [])
        self._wake_at(least)

    def _wake_at(self, count: int) -> None:
        if count != self._mark and self.transport is not None:
            self._mark = count if set_mark(self.transport.get_extra_info("socket"), count) else 0

    def give_up_whole(self) -> None:
        """What has come so far is received as after `expect_head`, and so is the rest. Harmless where nothing is
        awaited whole."""
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            self._responses -= 1
            self.expect_head()
            awaited.listener.is_other()
            if awaited.pieces:
                self.data_received(b"".join(awaited.pieces))

    def _take_whole(self, awaited: _Awaited, data: memoryview) -> None:
        if awaited.stop:
            awaited.missing -= len(data)
        else:
            if awaited.pieces:
                data = memoryview(b"".join((*awaited.pieces, data)))
                awaited.pieces.clear()
            start = bytes(data[:_MAX_PLAIN_HEAD_BYTES])
            awaited.stop = _head_end(start)
            length = _accepted_length(start[: awaited.stop], awaited.listener) if awaited.stop else None
            if length is not None:
                awaited.missing = length + awaited.stop - len(data)
            elif awaited.stop or len(data) > _MAX_PLAIN_HEAD_BYTES:
                awaited.missing = -1
            else:
                awaited.missing = 1
        if not awaited.missing:
            self._awaited = None
            # Joined once, if at all: these are few and small.
            whole = memoryview(b"".join((*awaited.pieces, data))) if awaited.pieces else data
            awaited.listener.came(whole[awaited.stop :])
            return
        awaited.pieces.append(bytes(data))
        # What is missing may be less than the mark.
        self._wake_at(0)
        if awaited.missing < 0:
            # None of the usual form; or what comes beyond its end, which is the connection's matter.
            self.give_up_whole()

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        if self._answered:
            self._refuse(HeadError("another response came beyond the end of the response"))
            return
        self._answered = data[0].code >= 200 or data[0].code == 101
        super().feed_data(data, size)

    def receive(self, data: memoryview) -> None:
        """Take what has come, which is there until this returns."""
        if self._awaited is not None:
            self._take_whole(self._awaited, data)
        else:
            self.data_received(bytes(data))

    def data_received(self, data: bytes) -> None:
        # One head after another: interim responses may come by the thousand.
        rest = self._take(data)
        while rest:
            rest = self._take(rest)

    def _take(self, data: bytes) -> bytes:
        """Receive `data` up to the end of one head; returns what is to be received after it."""
        if not self._in_head:
            if self.exception() is not None:
                # What came before is wrong already.
                return b""
            if data and (self.bypassed or (self._payload is not None and self._payload.is_eof())):
                # It was not requested. Kept, it would be taken for the answer to the next request.
                self._refuse(HeadError("bytes came beyond the end of the response"))
            else:
                super().data_received(data)
            return b""
        seen = len(self._head)
        if seen:
            self._head += data
            data = bytes(self._head) if _head_end(self._head, seen - 2) else b""
        elif data[:1] in b"\r\n":
            data = data.lstrip(b"\r\n")
        stop = _head_end(data)
        if not stop:
            self._head += data
        if not b"HTTP/".startswith((self._head or data)[:5]) and self._responses > 1:
            # Late bytes beyond the end of the response before: another connection has the answer.
            self._refuse(ServerDisconnectedError())
            return b""
        if not stop:
            if not b"HTTP/".startswith(self._head[:5]):
                # Not HTTP: the parser says so, and need not see its end.
                self._pass_head_on()
            elif len(self._head) > _MAX_HEAD_BYTES:
                self._refuse(_too_long())
            return b""
        self._head.clear()
        self._in_head = False
        head = data[:stop]
        length = usual_length(head)
        if length is not None and len(data) - stop <= length and stop <= _MAX_HEAD_BYTES:
            self.codings = ()
            super().data_received(data)
            return b""
        try:
            if stop > _MAX_HEAD_BYTES:
                raise _too_long()
            framing = frame(head)
        except HeadError as error:
            self._refuse(error)
            return b""
        self.codings = framing.codings
        super().data_received(framing.head)
        if not framing.reusable:
            self.force_close()
        self._in_head = framing.interim
        return data[stop:]

    @property
    def out_of_step(self) -> bool:
        """Whether bytes wait that came after the last response, and before another request: they would be taken for its
        answer. (Over TLS they may be tickets of the session, RFC 8446, section 4.6.1.)"""
        if self._responses == 0 or self.transport is None or self.transport.get_extra_info("ssl_object") is not None:
            return False
        return unread_bytes(self.transport.get_extra_info("socket")) > 0

    async def read_head(self, limit_s: float | None) -> tuple[RawResponseMessage, StreamReader]:
        """The next head, and the content that follows it. Raises `TimeoutError` after `limit_s` seconds."""
        if limit_s is None:
            return await self.read()
        # A timer alone costs half of `asyncio.timeout`, which counts for a small object.
        timer = self._loop.call_later(limit_s, self.set_exception, TimeoutError())
        try:
            return await self.read()
        finally:
            timer.cancel()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.broken_by = exc if isinstance(exc, OSError) else None
        self.give_up_whole()
        if self._head:
            # The parser says what is wrong with it, if more than its end is missing.
            self._pass_head_on()
        super().connection_lost(exc)

    def _pass_head_on(self) -> None:
        head = bytes(self._head)
        self._head.clear()
        self._in_head = False
        super().data_received(head)

    def _refuse(self, error: Exception) -> None:
        self._head.clear()
        self._in_head = False
        if self.transport is not None:
            self.transport.close()
        self.set_exception(error)


def _accepted_length(start: bytes, listener: WholeListener) -> int | None:
    """How long the content is that follows a head; None where that is none that is to be awaited whole."""
    length = listener.knows(start)
    if length is None:
        head = plain_head(start, listener.status)
        if head is not None and listener.accepts(head):
            length = head.length
    return length


def receive_buffer() -> memoryview:
    """Memory for what the connections of one event loop receive."""
    return memoryview(bytearray(_WHOLE_BYTES))


def _head_end(data: bytes | bytearray, start: int = 0) -> int:
    """Where the head in `data` ends, 0 where it does not. A line may end without CR (RFC 9112, section 2.2)."""
    start = max(0, start)
    found = data.find(b"\n\r\n", start)
    bare = data.find(b"\n\n", start, len(data) if found < 0 else found)
    if bare >= 0:
        return bare + 2
    return 0 if found < 0 else found + 3


def _too_long() -> HeadError:
    return HeadError(f"the head is longer than {_MAX_HEAD_BYTES} bytes")
