"""From a response's content to slots: by taking over the transport, or by the plain path.

Once the head has been read, `SlotSink` replaces aiohttp's protocol on the transport: from then on the kernel (or TLS
decryption) writes straight into the slot. After the last byte aiohttp's protocol is set again and notified of the end
of the content, and the connection goes to the keep-alive pool as usual.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from aiohttp import hdrs
from aiohttp.client_exceptions import ClientError, ClientPayloadError

from getm import errors
from getm.engine import counters
from getm.engine.http.connections import Reply
from getm.engine.http.limits import StallMonitor
from getm.engine.http.low_water import LowWater
from getm.engine.http.throttle import Meter, Throttle
from getm.protocol.messages import OpenRequest

if TYPE_CHECKING:
    from getm.engine.sinks.sink import Sink

READ_ERRORS = (ClientError, OSError, errors.GetmError)
"""What reading a content raises."""


class SlotSink(asyncio.BufferedProtocol):
    """Replaces aiohttp's protocol while `length` bytes of a content are received into slots."""

    def __init__(
        self,
        transport: asyncio.Transport,
        original: asyncio.BaseProtocol,
        writer: Sink,
        length: int,
        request: OpenRequest,
        meter: Meter | None,
    ):
        self._transport = transport
        self._original = original
        self._writer = writer
        self._length = self._missing = length
        # None while reading is paused: no slot is free, or the rate limit allows nothing.
        self._view: memoryview | None = None
        self._meter = meter
        # Whether the writer wanted no more before the content has ended.
        self.cut: bool = False
        # No mark with a rate limit: what the kernel holds back until it is reached would come as a burst.
        self._low_water = LowWater(transport, length if meter is None else 0)
        self._monitor = StallMonitor(request, self._progress, self._abort)
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Take the transport over until the last byte has come. Raises a `NetworkError`."""
        self._writer.notify(self._go_on, self._on_pace)
        self._next_space()
        self._transport.set_protocol(self)
        if self._meter is not None and self._view is not None:
            self._transport.resume_reading()
        try:
            await self._done
        except asyncio.CancelledError:
            self._abort(errors.Cancelled("the transfer was cancelled"))
            # The future is not awaited any more: an exception left in it would be reported as never retrieved.
            self._done.exception()
            raise
        finally:
            self._monitor.cancel()
            _count(self._monitor)

    def _progress(self) -> int:
        # Bytes that wait below the low-water mark are progress, too.
        return self._length - self._missing + self._low_water.waiting()

    def _next_space(self) -> None:
        try:
            space = self._writer.space()
        except errors.MemoryUnavailable as error:
            self._view = None
            self._abort(error)
            return
        if space is None and self._writer.ended:
            # Others bring the rest. The connection cannot be used again: what it brings is not wanted.
            self.cut = True
            self._finish()
            self._transport.abort()
            return
        if space is None or (self._meter is not None and not self._meter.ready(self._go_on)):
            self._monitor.pause()
            self._transport.pause_reading()
            self._view = None
            return
        # A response may cover less than the span (a short 206): never read beyond its own end.
        most = self._missing if self._meter is None else min(self._missing, self._meter.allowed)
        self._view = space if len(space) <= most else space[:most]

    def _go_on(self) -> None:
        if self._view is None and not self._done.done():
            self._monitor.resume()
            self._next_space()
            if self._view is not None:
                self._transport.resume_reading()

    def _on_pace(self) -> None:
        # On a slow connection, a consumer would have to wait until the mark is reached.
        if not self._done.done():
            self._low_water.lower(self._missing if self._writer.fast and self._meter is None else 0)

    def get_buffer(self, sizehint: int) -> memoryview:
        # Never empty, which uvloop takes for an error: there is a view whenever reading is not paused.
        return cast(memoryview, self._view)

    def buffer_updated(self, nbytes: int) -> None:
        self._missing -= nbytes
        if self._missing < self._low_water.floor:
            self._low_water.lower(self._missing)
        if self._meter is not None:
            self._meter.allowed -= nbytes
        if self._writer.advance(nbytes):
            if self._missing:
                self._next_space()
                if self._meter is None and self._writer.fast:
                    self._low_water.lower(self._missing)
        elif self._missing and self._view is not None:
            self._view = self._view[nbytes:]
            if not self._view:
                # The allowance is used up.
                self._next_space()
        if not self._missing:
            self._finish()

    def _finish(self) -> None:
        self._writer.silence()
        self._view = None
        # Before anything else can arrive: the next bytes on this connection belong to the next response.
        self._transport.set_protocol(self._original)
        if not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        # What it was to fill may be unmapped from now on.
        self._view = None
        if not self._done.done():
            self._writer.silence()
            if isinstance(exc, OSError):
                self._done.set_exception(errors.NetworkError(f"the connection broke ({exc})"))
            else:
                self._done.set_exception(_cut_off(self._length - self._missing, self._missing))
        # aiohttp takes the connection out of its books.
        self._original.connection_lost(exc)

    def _abort(self, error: errors.GetmError) -> None:
        """End the reading with `error`; the connection cannot be used again."""
        # Now, and not when the connection is lost: then another response may be filling the writer.
        self._writer.silence()
        if not self._done.done():
            self._done.set_exception(error)
        self._transport.abort()


async def receive(
    response: Reply,
    writer: Sink,
    length: int | None,
    request: OpenRequest,
    throttle: Throttle | None,
    *,
    skip: int = 0,
    surplus: bool = False,
) -> None:
    """Bring the content of `response` to `writer`: `length` bytes, or all until it ends where that is None.

    Returns the connection to aiohttp's pool, if the content has ended. Raises a `NetworkError`; the bytes before it
    stay in `writer`. The sink must have begun. The time in which `throttle` allows no bytes counts neither as silence
    nor as slowness. `skip`: bytes at its start that are not wanted; `surplus`: there are more behind those that are,
    which are left unread.
    """
    meter = None if throttle is None else Meter(throttle)
    try:
        # What stands on the connection is a transfer coding's bytes, not the content's: aiohttp takes it off (RFC 9112,
        # section 7).
        coded = response.coded or hdrs.TRANSFER_ENCODING in response.message.headers
        if length is not None and not (skip or surplus or coded):
            length = await _receive_directly(response, writer, length, request, meter)
        if length != 0:
            await _receive_plain(response, writer, length, request, meter, skip)
    finally:
        if meter is not None:
            meter.close()
            counted = counters.current.get(None)
            if counted is not None:
                counted.limit_s += meter.waited_s


async def _receive_directly(
    response: Reply, writer: Sink, length: int, request: OpenRequest, meter: Meter | None
) -> int:
    """Without aiohttp's reader, apart from what that has already. Returns how many bytes only it can bring."""
    # A content that ends with its connection may have more bytes than its Content-Range says.
    while length and response.content.exception() is None and (data := response.content.read_nowait(length)):
        length -= len(data)
        if meter is not None and response.connection is not None and response.connection.transport is not None:
            # Nothing more is read while these bytes wait for an allowance: the sink resumes it.
            response.connection.transport.pause_reading()
        await _write(data, writer, meter)
    bypass = response.begin_bypass() if length else None
    if bypass is None:
        return length
    direct = SlotSink(*bypass, writer, length, request, meter)
    await direct.run()
    if not direct.cut:
        response.end_bypass()
    return 0


async def _receive_plain(
    response: Reply, writer: Sink, missing: int | None, request: OpenRequest, meter: Meter | None, skip: int
) -> None:
    """By aiohttp's own reader: chunked and close-delimited contents, those that came with the head, and those of which
    only some bytes are wanted.

    `missing` bytes are wanted, all of them where that is None. Whatever comes beyond is left unread.
    """
    received = 0
    ended = response.end_of_connection() if missing is None else None
    monitor = StallMonitor(request, lambda: received, response.close)
    try:
        while missing != 0 and (data := await response.readany()):
            received += len(data)
            if skip:
                data, skip = data[skip:], max(0, skip - len(data))
            if missing is not None:
                data = data[:missing]
                missing -= len(data)
            monitor.pause()
            await _write(data, writer, meter)
            monitor.resume()
    except errors.GetmError:
        # Of the monitor, of a transfer coding, of the writer.
        raise
    except ClientPayloadError as error:
        if response.broken_by is not None:
            raise errors.NetworkError(f"the connection broke ({response.broken_by})") from None
        raise _cut_off(received, missing, error) from None
    except (ClientError, OSError) as error:
        raise errors.NetworkError(f"the connection broke ({error})") from None
    finally:
        monitor.cancel()
        _count(monitor)
    if missing:
        raise errors.Truncated(
            f"the content ended {missing} bytes before the end of its range", received=writer.position, expected=None
        )
    if ended is not None and ended.done() and (lost := ended.exception()) is not None:
        # aiohttp takes any end of the connection for the end of such a content, also a reset.
        raise errors.NetworkError(f"the connection broke ({lost})")
    if missing is None:
        writer.end_of_content()


def _count(monitor: StallMonitor) -> None:
    counted = counters.current.get(None)
    if counted is not None:
        counted.network_s += monitor.asked_s


def _cut_off(received: int, missing: int | None, error: Exception | None = None) -> errors.Truncated:
    """The error where the connection ends within a content, `missing` bytes before its end; None: `error` says how."""
    if missing is None:
        return errors.Truncated(f"the content ended before its end was marked ({error})", received=received)
    return errors.Truncated(
        f"the connection was closed {missing} bytes before the end of the response",
        received=received,
        expected=received + missing,
    )


async def _write(data: bytes, writer: Sink, meter: Meter | None) -> None:
    """Copy `data` into slots, as fast as the rate limit allows."""
    rest = memoryview(data)
    while meter is not None and rest:
        count = min(await meter.wait(), len(rest))
        meter.allowed -= count
        await writer.write(rest[:count])
        rest = rest[count:]
    await writer.write(rest)
