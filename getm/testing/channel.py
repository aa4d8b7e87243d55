"""One accepted connection of the fault server, over TCP or TLS, with its end under control.

asyncio's own transports hide when bytes leave and how a connection ends; a fault server must say exactly that. So this
is a raw socket, and for TLS an `SSLObject` between two memory buffers: what was sent has been handed to the kernel.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct

_READ_BYTES = 64 * 1024


class Channel:
    """A TCP connection. `recv` gives b"" when the client has ended its side; owns and closes the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._unread = b""

    @property
    def client(self) -> str:
        """The address at the other end; "" where that has reset the connection."""
        try:
            peer = self._sock.getpeername()
            # Of a Unix-domain socket it is a text, which is empty.
            return str(peer[0]) if isinstance(peer, tuple) else ""
        except OSError:
            return ""

    async def open(self) -> None:
        """Whatever must pass before the first request: nothing over TCP."""

    async def recv(self) -> bytes:
        if self._unread:
            data, self._unread = self._unread, b""
            return data
        return await self._recv_more()

    async def readable(self) -> None:
        """Wait until the client has sent something, or has ended its side. Unlike a `recv`, it may be cancelled at any
        moment without losing what has come."""
        if self._unread:
            return
        came, descriptor = self._loop.create_future(), self._sock.fileno()
        self._loop.add_reader(descriptor, lambda: None if came.done() else came.set_result(None))
        try:
            await came
        finally:
            self._loop.remove_reader(descriptor)

    def unrecv(self, data: bytes) -> None:
        """Give back bytes that were read too early: the next `recv` returns them."""
        self._unread = data + self._unread

    async def _recv_more(self) -> bytes:
        return await self._loop.sock_recv(self._sock, _READ_BYTES)

    async def send(self, data: bytes | memoryview) -> None:
        await self._loop.sock_sendall(self._sock, data)

    async def finish(self) -> None:
        """End in order: everything sent so far arrives, then the end of data."""
        self.close()

    def close(self) -> None:
        """End the TCP connection (FIN) after what was sent; over TLS without the farewell that proves a whole reply."""
        self._sock.close()

    def reset(self) -> None:
        """End the connection with RST. What the client has not received yet may be lost."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


class TLSChannel(Channel):
    """The same over TLS. `open` shakes hands and raises `ssl.SSLError` when the client refuses."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def open(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except ssl.SSLError:
                # The alert that says why.
                await self._flush()
                raise
            else:
                await self._flush()
                return

    async def _recv_more(self) -> bytes:
        while True:
            try:
                return self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def send(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view[:_READ_BYTES]) :]
            await self._flush()

    async def finish(self) -> None:
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            await self._flush()  # our farewell is out; the client's need not be waited for
        self.close()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._loop.sock_sendall(self._sock, self._outgoing.read())

    async def _feed(self) -> None:
        data = await self._loop.sock_recv(self._sock, _READ_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
