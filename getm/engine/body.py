"""From a response's content to slots: the hand-over of the transport, and the plain path beside it.

The hand-over takes aiohttp's protocol off the transport once the head has been read, and puts `SlotSink` in its place:
from then on the kernel (or TLS decryption) writes straight into the slot. After the last byte aiohttp's protocol is put
back and told that the content has ended, and the connection goes to the keep-alive pool as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import aiohttp

from getm import errors
from getm.engine.lowwater import LowWater
from getm.engine.slots import Claim
from getm.spans import Span

# How long a consumer that has nothing to read waits for a full slot before it gets what there is.
_PATIENCE_S = 0.1

# Called with (offset, slot, length) for each slot that is full, or holds the last bytes of its part.
Emit = Callable[[int, int, int], None]


class PartWriter:
    """Fills slots with the bytes of one part, in order: from `start` to `stop`, or to the end where that is None."""

    def __init__(
        self,
        memory: memoryview,
        slot_bytes: int,
        claim: Claim,
        start: int,
        stop: int | None,
        emit: Emit,
        *,
        prompt: bool,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._memory = memory
        self._slot_bytes = slot_bytes
        self._claim = claim
        self._emit = emit
        self._start = start
        self.position = start
        self.stop = stop
        self._slot: int | None = None
        self._filled = 0
        # Bytes that may go into the current slot.
        self._room = 0
        # Whether what little there is should go out at once, and the timer that decides it.
        self._hungry = False
        self._hunger: asyncio.TimerHandle | None = None
        self._on_hungry: Callable[[], None] | None = None
        self._prompt = prompt
        self._waiter: asyncio.Future[None] | None = None
        self._on_space: Callable[[], None] | None = None
        claim.on_slot = self._slot_ready
        if prompt:
            claim.on_starved = self.starved

    @property
    def remaining(self) -> Span:
        """What is still to come of a part of known length."""
        return Span(self.position, self.position if self.stop is None else self.stop)

    def _slot_ready(self) -> None:
        if self._on_space is not None:
            self._on_space()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def begin(self) -> None:
        """Wait until the part may start: its slots are there, or it is the one the consumer waits for."""
        while not self._claim.start():
            await self._wait()
        if self._prompt:
            self.starved()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def notify(self, on_space: Callable[[], None] | None, on_hungry: Callable[[], None] | None = None) -> None:
        """Call `on_space()` when there is space again after `space()` found none; `on_hungry()` when the consumer has
        waited so long that it should get whatever comes: what `space()` returned before is then no longer ours."""
        self._on_space = on_space
        self._on_hungry = on_hungry

    def starved(self) -> None:
        """The consumer has nothing left to read. If no slot is full soon, it gets what there is: on a slow connection
        a slot takes seconds to fill."""
        if self._hunger is None and not self._hungry:
            self._hunger = self._loop.call_later(_PATIENCE_S, self._grow_hungry)

    def _grow_hungry(self) -> None:
        self._hunger = None
        if self._filled:
            self._send()
        else:
            self._hungry = True
        if self._on_hungry is not None:
            self._on_hungry()

    def _sated(self) -> None:
        self._hungry = False
        if self._hunger is not None:
            self._hunger.cancel()
            self._hunger = None

    def space(self) -> memoryview | None:
        """Where the next bytes go: the rest of the current slot or of the part, whichever ends first; never empty.
        None where no slot is free."""
        if self._slot is None:
            self._slot = self._claim.next()
            if self._slot is None:
                return None
            # Slots end at whole slots of the object, whatever was sent before its time: a chunk stays in one slot.
            self._room = self._slot_bytes - (self.position - self._start) % self._slot_bytes
            if self.stop is not None:
                self._room = min(self._room, self.stop - self.position)
        start = self._slot * self._slot_bytes
        return self._memory[start + self._filled : start + self._room]

    def advance(self, count: int) -> bool:
        """`count` bytes were written to `space()`. True where the slot went out: `space()` then means another one."""
        self._filled += count
        self.position += count
        if self._filled == self._room or self._hungry:
            self._send()
            return True
        return False

    def _send(self) -> None:
        if self._slot is not None:
            slot, length = self._slot, self._filled
            self._slot, self._filled = None, 0
            self._sated()
            if length < self._room:
                self._claim.one_more()
            self._emit(self.position - length, slot, length)

    def end_of_content(self) -> None:
        """The content of unknown length ended here."""
        if self._filled:
            self._send()
        self.stop = self.position

    async def write(self, data: bytes) -> None:
        """Copy `data` into slots, waiting for them as needed: the plain path."""
        rest = memoryview(data)
        while rest:
            space = self.space()
            if space is None:
                await self._wait()
                continue
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            rest = rest[count:]
            self.advance(count)

    def close(self) -> None:
        """The part is over, complete or not: every slot that was not sent goes back."""
        self._sated()
        if self._slot is not None:
            self._claim.put_back(self._slot)
            self._slot = None
        self._claim.close()


class SlotSink(asyncio.BufferedProtocol):
    """Stands in for aiohttp's protocol while a content of known length is received into slots."""

    def __init__(self, transport: asyncio.Transport, original: asyncio.BaseProtocol, writer: PartWriter, length: int):
        self._transport = transport
        self._original = original
        self._writer = writer
        self._missing = length
        self._view: memoryview | None = None
        self._low_water = LowWater(transport, length)
        self.received = 0
        self.paused = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        """Take the transport over."""
        self._writer.notify(self._on_space, self._on_hungry)
        self._next_space()
        self._transport.set_protocol(self)

    def _next_space(self) -> None:
        space = self._writer.space()
        if space is None:
            self.paused = True
            self._transport.pause_reading()
        elif len(space) > self._missing:
            # A response may cover less than the part (a short 206): never read past its own end.
            space = space[: self._missing]
        self._view = space

    def _on_space(self) -> None:
        if self.paused and not self.done.done():
            self.paused = False
            self._next_space()
            if not self.paused:
                self._transport.resume_reading()

    def _on_hungry(self) -> None:
        if not self.done.done():
            self._low_water.off()
            # The slot that was being filled may be the consumer's by now: not another byte may go there.
            if not self.paused:
                self._next_space()

    def get_buffer(self, sizehint: int) -> memoryview:
        # Never empty: uvloop would take that for an error. There is a view whenever reading is not paused.
        return cast(memoryview, self._view)

    def buffer_updated(self, nbytes: int) -> None:
        self.received += nbytes
        self._missing -= nbytes
        if self._missing < self._low_water.floor:
            self._low_water.lower(self._missing)
        if self._writer.advance(nbytes):
            if self._missing:
                self._next_space()
                self._low_water.lower(self._missing)
        elif self._missing and self._view is not None:
            self._view = self._view[nbytes:]
        if not self._missing:
            self._finish()

    def _finish(self) -> None:
        self._writer.notify(None)
        self._view = None
        # Before anything else can arrive: the next bytes on this connection belong to the next response.
        self._transport.set_protocol(self._original)
        if not self.done.done():
            self.done.set_result(None)

    def in_kernel(self) -> int:
        """Bytes that wait below the low-water mark: they are progress, too."""
        return self._low_water.waiting()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._writer.notify(None)
        if not self.done.done():
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
        if not self.done.done():
            self.done.set_exception(error)
        self._transport.abort()


class _StallWatch:
    """One timer that asks, a limit after the last time it saw progress, whether there has been more."""

    def __init__(self, sink: SlotSink, stall_s: float) -> None:
        self._sink = sink
        self._stall_s = stall_s
        self._seen = -1
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(stall_s, self._look)

    def _look(self) -> None:
        # Waiting for the consumer is not the server's fault: a paused transfer cannot stall.
        now = self._sink.received + self._sink.in_kernel()
        if now == self._seen and not self._sink.paused:
            self._sink.abort(_stalled(self._stall_s))
            return
        self._seen = -1 if self._sink.paused else now
        self._timer = self._loop.call_later(self._stall_s, self._look)

    def cancel(self) -> None:
        self._timer.cancel()


def _stalled(stall_s: float) -> errors.Timeout:
    return errors.Timeout(f"no byte came for {stall_s:g} s", phase="body", timeout_s=stall_s)


async def receive(
    response: aiohttp.ClientResponse, writer: PartWriter, length: int | None, stall_s: float | None
) -> None:
    """Bring the content of `response` to `writer`: `length` bytes, or all until it ends where that is None.

    Returns with the connection given back to aiohttp's pool. Raises a `NetworkError` with the bytes that came before
    it kept in `writer`. The part must have begun.
    """
    content = response.content
    if length is None:
        await _receive_plain(response, writer, stall_s)
        return
    taken = 0
    while data := content.read_nowait(-1):
        taken += len(data)
        await writer.write(data)
    connection = response.connection
    transport = None if connection is None else connection.transport
    if taken == length or content.is_eof() or connection is None or connection.protocol is None or transport is None:
        await _receive_plain(response, writer, stall_s)
        return
    sink = SlotSink(transport, connection.protocol, writer, length - taken)
    sink.start()
    watch = None if stall_s is None else _StallWatch(sink, stall_s)
    try:
        await sink.done
    except asyncio.CancelledError:
        sink.abort(errors.Cancelled("the transfer was cancelled"))
        # Nobody awaits the future any more: an exception left in it would be reported as never retrieved.
        sink.done.exception()
        raise
    finally:
        if watch is not None:
            watch.cancel()
    content.feed_eof()


async def _receive_plain(response: aiohttp.ClientResponse, writer: PartWriter, stall_s: float | None) -> None:
    """By aiohttp's own reader: chunked and close-delimited contents, and those that came with the head."""
    content = response.content
    while not content.at_eof():
        try:
            async with asyncio.timeout(stall_s):
                data = await content.readany()
        except TimeoutError:
            raise _stalled(stall_s or 0.0) from None
        except aiohttp.ClientPayloadError as error:
            raise errors.Truncated(
                f"the content ended before its end was marked ({error})", received=writer.position
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise errors.NetworkError(f"the connection broke ({error})") from None
        if data:
            await writer.write(data)
    if writer.stop is None:
        writer.end_of_content()
