"""From a response's content to slots: by taking over the transport, or by the plain path.

Once the head has been read, `SlotSink` replaces aiohttp's protocol on the transport: from then on the kernel (or TLS
decryption) writes straight into the slot. After the last byte aiohttp's protocol is set again and notified of the end
of the content, and the connection goes to the keep-alive pool as usual.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import cast

import aiohttp
from aiohttp import hdrs

from getm import errors
from getm.engine.http.connections import Reply
from getm.engine.http.limits import PulledContent, ReadLimits, StallMonitor
from getm.engine.http.low_water import LowWater
from getm.engine.http.throttle import Meter, Throttle
from getm.engine.sinks.ring import RingSink

READ_ERRORS = (aiohttp.ClientError, OSError, errors.GetmError)
"""What reading a content raises."""


class SlotSink(asyncio.BufferedProtocol):
    """Replaces aiohttp's protocol while a content of known length is received into slots."""

    def __init__(
        self,
        transport: asyncio.Transport,
        original: asyncio.BaseProtocol,
        writer: RingSink,
        length: int,
        meter: Meter | None,
    ):
        self._transport = transport
        self._original = original
        self._writer = writer
        self._missing = length
        self._view: memoryview | None = None
        self._meter = meter
        # No mark with a rate limit: what the kernel holds back until it is reached would come as a burst.
        self._low_water = LowWater(transport, length if meter is None else 0)
        self.received: int = 0
        self._loop = asyncio.get_running_loop()
        # Waiting for a slot, or for the rate limit; since when, and how long before that.
        self.paused: bool = False
        self._paused_at = self._paused_s = 0.0
        self.done: asyncio.Future[None] = self._loop.create_future()

    def start(self) -> None:
        """Take the transport over."""
        self._writer.notify(self._go_on, self._on_pace)
        self._next_space()
        self._transport.set_protocol(self)
        if self._meter is not None and not self.paused:
            self._transport.resume_reading()

    def _next_space(self) -> None:
        space = self._writer.space()
        if space is None or (self._meter is not None and not self._meter.ready(self._go_on)):
            self.paused, self._paused_at = True, self._loop.time()
            self._transport.pause_reading()
            self._view = None
            return
        # A response may cover less than the span (a short 206): never read beyond its own end.
        most = self._missing if self._meter is None else min(self._missing, self._meter.allowed)
        self._view = space if len(space) <= most else space[:most]

    def _go_on(self) -> None:
        if self.paused and not self.done.done():
            self._paused_s, self.paused = self.paused_s(), False
            self._next_space()
            if not self.paused:
                self._transport.resume_reading()

    def _on_pace(self) -> None:
        # On a slow connection, a consumer would have to wait until the mark is reached.
        if not self.done.done():
            if self._writer.fast and self._meter is None:
                self._low_water.lower(self._missing)
            else:
                self._low_water.off()

    def get_buffer(self, sizehint: int) -> memoryview:
        # Never empty, which uvloop takes for an error: there is a view whenever reading is not paused.
        return cast(memoryview, self._view)

    def buffer_updated(self, nbytes: int) -> None:
        self.received += nbytes
        self._missing -= nbytes
        if self._missing < self._low_water.floor:
            self._low_water.lower(self._missing)
        if self._meter is not None:
            self._meter.used(nbytes)
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
        self._writer.notify(None)
        self._view = None
        # Before anything else can arrive: the next bytes on this connection belong to the next response.
        self._transport.set_protocol(self._original)
        if not self.done.done():
            self.done.set_result(None)

    def paused_s(self) -> float:
        """How long it was paused, in total."""
        return self._paused_s + (self._loop.time() - self._paused_at if self.paused else 0.0)

    def in_kernel(self) -> int:
        """Bytes that wait below the low-water mark: they are progress, too."""
        return self._low_water.waiting()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._writer.notify(None)
            if isinstance(exc, OSError):
                self.done.set_exception(errors.NetworkError(f"the connection broke ({exc})"))
            else:
                self.done.set_exception(
                    errors.Truncated(
                        f"the connection was closed {self._missing} bytes before the end of the response",
                        received=self.received,
                        expected=self.received + self._missing,
                    )
                )
        # aiohttp takes the connection out of its books.
        self._original.connection_lost(exc)

    def abort(self, error: errors.GetmError) -> None:
        """End the transfer with `error`; the connection cannot be used again."""
        # Now, and not when the connection is lost: then another response may be filling the writer.
        self._writer.notify(None)
        if not self.done.done():
            self.done.set_exception(error)
        self._transport.abort()


def receive(
    response: Reply,
    writer: RingSink,
    length: int | None,
    read_limits: ReadLimits,
    throttle: Throttle | None,
    *,
    skip: int = 0,
    surplus: bool = False,
) -> Awaitable[None]:
    """Bring the content of `response` to `writer`: `length` bytes, or all until it ends where that is None.

    Returns the connection to aiohttp's pool, if the content has ended. Raises a `NetworkError`; the bytes before it
    stay in `writer`. The sink must have begun. The time in which `throttle` allows no bytes counts neither as silence
    nor as slowness. `skip`: bytes at its start that are not wanted; `surplus`: there are more behind those that are,
    which are left unread.
    """
    if skip or surplus:
        return _receive_some(response, writer, length, read_limits, throttle, skip)
    if throttle is None:
        return _receive(response, writer, length, read_limits, None)
    return _receive_metered(response, writer, length, read_limits, throttle)


async def _receive_some(
    response: Reply,
    writer: RingSink,
    length: int | None,
    read_limits: ReadLimits,
    throttle: Throttle | None,
    skip: int,
) -> None:
    meter = None if throttle is None else Meter(throttle)
    try:
        await _receive_plain(response, writer, length, read_limits, meter, skip)
    finally:
        if meter is not None:
            meter.close()


async def _receive_metered(
    response: Reply, writer: RingSink, length: int | None, read_limits: ReadLimits, throttle: Throttle
) -> None:
    meter = Meter(throttle)
    try:
        await _receive(response, writer, length, read_limits, meter)
    finally:
        meter.close()


async def _receive(
    response: Reply, writer: RingSink, length: int | None, read_limits: ReadLimits, meter: Meter | None
) -> None:
    content = response.content
    # What stands on the connection is a transfer coding's bytes, not the content's: aiohttp takes it off (RFC 9112, 7).
    if length is None or response.coded or hdrs.TRANSFER_ENCODING in response.headers:
        await _receive_plain(response, writer, length, read_limits, meter)
        return
    taken = 0
    early = bytearray()
    # A content that ends with its connection may have more bytes than its Content-Range says.
    while taken < length and content.exception() is None and (data := content.read_nowait(length - taken)):
        taken += len(data)
        if meter is None:
            if left := writer.fill(data):
                await writer.write(left)
        else:
            early += data
    if taken == length and not early:
        # The usual case of a small object: all of it came with its head.
        return
    connection = response.connection
    transport = None if connection is None else connection.transport
    if early:
        if transport is not None:
            # Nothing more is read while these bytes wait for an allowance: the sink resumes it.
            transport.pause_reading()
        await _write(early, writer, meter)
    bypass = None if taken == length else response.begin_bypass()
    if bypass is None:
        await _receive_plain(response, writer, length - taken, read_limits, meter)
        return
    sink = SlotSink(*bypass, writer, length - taken, meter)
    sink.start()
    watch = StallMonitor(sink, read_limits)
    try:
        await sink.done
    except asyncio.CancelledError:
        sink.abort(errors.Cancelled("the transfer was cancelled"))
        # The future is not awaited any more: an exception left in it would be reported as never retrieved.
        sink.done.exception()
        raise
    finally:
        watch.cancel()
    response.end_bypass()


async def _receive_plain(
    response: Reply,
    writer: RingSink,
    missing: int | None,
    read_limits: ReadLimits,
    meter: Meter | None,
    skip: int = 0,
) -> None:
    """By aiohttp's own reader: chunked and close-delimited contents, those that came with the head, and those of which
    only some bytes are wanted.

    `missing` bytes are wanted, all of them where that is None. Whatever comes beyond is left unread.
    """
    ended = response.end_of_connection() if missing is None else None
    pulled = PulledContent(response.close)
    watch = StallMonitor(pulled, read_limits)
    try:
        while missing != 0 and not response.at_eof():
            data = await response.readany()
            pulled.received += len(data)
            if skip:
                data, skip = data[skip:], max(0, skip - len(data))
            if missing is not None:
                data = data[:missing]
                missing -= len(data)
            if data:
                pulled.pause()
                await _write(data, writer, meter)
                pulled.resume()
    except errors.GetmError:
        # Of the watch, of a transfer coding, of the writer.
        raise
    except aiohttp.ClientPayloadError as error:
        raise errors.Truncated(
            f"the content ended before its end was marked ({error})", received=writer.position
        ) from None
    except (aiohttp.ClientError, OSError) as error:
        raise errors.NetworkError(f"the connection broke ({error})") from None
    finally:
        watch.cancel()
    if missing:
        raise errors.Truncated(
            f"the content ended {missing} bytes before the end of its range", received=writer.position, expected=None
        )
    if ended is not None and ended.done() and (lost := ended.exception()) is not None:
        # aiohttp takes any end of the connection for the end of such a content, also a reset.
        raise errors.NetworkError(f"the connection broke ({lost})")
    if writer.stop is None:
        writer.end_of_content()


async def _write(data: bytes | bytearray, writer: RingSink, meter: Meter | None) -> None:
    """Copy `data` into slots, as fast as the rate limit allows."""
    rest = memoryview(data)
    while meter is not None and rest:
        count = min(await meter.wait(), len(rest))
        meter.used(count)
        await writer.write(rest[:count])
        rest = rest[count:]
    await writer.write(rest)
