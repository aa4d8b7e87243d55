"""One end of a message socket on the engine's event loop."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable

from getm.errors import ProtocolError
from getm.protocol.codec import Decoder
from getm.protocol.messages import Kind, Message

_READ_BYTES = 64 * 1024


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
        self._unsent: deque[bytes] = deque()
        self.closed: bool = False
        loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
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

    def send(self, data: bytes) -> None:
        """Send one or several encoded messages. Does nothing once the peer is gone: `on_closed` was called."""
        if self.closed:
            return
        if not self._unsent:
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self._lost()
                return
            if sent == len(data):
                return
            data = data[sent:]
            self._loop.add_writer(self._sock.fileno(), self._writable)
        self._unsent.append(data)

    def _writable(self) -> None:
        while self._unsent:
            data = self._unsent[0]
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._lost()
                return
            if sent < len(data):
                self._unsent[0] = data[sent:]
                return
            self._unsent.popleft()
        self._loop.remove_writer(self._sock.fileno())

    def _lost(self) -> None:
        if self._fall_silent():
            try:
                self._on_closed()
            finally:
                # Last: a peer that waits for our end of file may rely on what `on_closed` has released.
                self._sock.close()

    def close(self) -> None:
        """Close the socket. Does not call `on_closed`."""
        if self._fall_silent():
            self._sock.close()

    def _fall_silent(self) -> bool:
        """Whether this call ends it."""
        if self.closed:
            return False
        self.closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._unsent.clear()
        return True
