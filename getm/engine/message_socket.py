"""One end of a message socket on the engine's event loop."""

from __future__ import annotations

import asyncio
import os
import socket
from array import array
from collections import deque
from collections.abc import Callable

from getm.core.log import get_logger
from getm.errors import ProtocolError
from getm.protocol.codec import Decoder
from getm.protocol.messages import Kind, Message

_log = get_logger("engine")

_READ_BYTES = 64 * 1024
# The kernel passes the descriptors of one message at a time, and each message has one at most.
_ANCILLARY_BYTES = socket.CMSG_SPACE(4)


def _copy(descriptor: int | None) -> int | None:
    return None if descriptor is None else os.dup(descriptor)


class Pipe:
    """Calls back for received messages, and sends bytes immediately; what the socket does not take is queued until it
    does.

    `kinds` are those that the peer may send. `on_message(message)` for each message; `on_closed()` once, when the peer
    is gone or breaks the protocol. The queue is bounded: a consumer that reads nothing has all slots, and without slots
    nothing is sent.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        kinds: frozenset[Kind],
        on_message: Callable[[Message], None],
        on_closed: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._on_message = on_message
        self._on_closed = on_closed
        self._decoder = Decoder(kinds)
        # Each with a descriptor that goes with it, if any: a copy of the sender's.
        self._unsent: deque[tuple[bytes, int | None]] = deque()
        # Descriptors that came, in order, and of which the messages were not read yet.
        self._descriptors: deque[int] = deque()
        self.closed: bool = False
        loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_READ_BYTES, _ANCILLARY_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, ancillary = b"", []
        for _, _, content in ancillary:
            self._descriptors.extend(array("i", content))
        if not data:
            self._lost()
            return
        try:
            for message in self._decoder.feed(data):
                self._on_message(message)
                if self.closed:
                    return
        except ProtocolError:
            # A peer with another protocol gets no answer that it could misread: the pipe ends.
            self._lost()
        except Exception:
            # A bug in getm: messages are lost, and whoever waits for an answer to them must see an end.
            _log.exception("a message could not be acted on")
            self._lost()

    def take_descriptor(self) -> int | None:
        """The descriptor that came with the message that is being read, which the caller closes; None where this
        process had no room for it."""
        return self._descriptors.popleft() if self._descriptors else None

    def send(self, data: bytes, descriptor: int | None = None) -> None:
        """Send one or several encoded messages. Does nothing once the peer is gone: `on_closed` was called. The peer
        gets a copy of `descriptor`."""
        if self._unsent:
            self._unsent.append((data, _copy(descriptor)))
        elif not self.closed and (left := self._send(data, descriptor)):
            # It went with the first byte.
            self._unsent.append((left, _copy(descriptor) if len(left) == len(data) else None))
            self._loop.add_writer(self._sock.fileno(), self._writable)

    def _send(self, data: bytes, descriptor: int | None) -> bytes:
        """Send immediately; returns what the socket does not take."""
        try:
            if descriptor is None:
                return data[self._sock.send(data) :]
            return data[socket.send_fds(self._sock, [data], [descriptor]) :]
        except (BlockingIOError, InterruptedError):
            return data
        except OSError:
            self._lost()
            return b""

    def _writable(self) -> None:
        while self._unsent:
            data, descriptor = self._unsent[0]
            left = self._send(data, descriptor)
            if self.closed:
                return
            if len(left) < len(data) and descriptor is not None:
                os.close(descriptor)
                descriptor = None
            if left:
                self._unsent[0] = left, descriptor
                return
            self._unsent.popleft()
        self._loop.remove_writer(self._sock.fileno())

    def _lost(self, on_closed: Callable[[], None] | None = None) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._descriptors.extend(descriptor for _, descriptor in self._unsent if descriptor is not None)
        self._unsent.clear()
        while self._descriptors:
            os.close(self._descriptors.popleft())
        try:
            (on_closed or self._on_closed)()
        finally:
            # Last: a peer that waits for our end of file may rely on what `on_closed` has released.
            self._sock.close()

    def close(self) -> None:
        """Close the socket. Does not call `on_closed`."""
        self._lost(lambda: None)
