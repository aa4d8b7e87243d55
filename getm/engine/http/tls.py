"""TLS over a non-blocking socket that OpenSSL reads itself.

uvloop's own TLS (and asyncio's) feeds OpenSSL through a memory BIO: every byte is copied into a buffer, from there into
OpenSSL's, and decrypted from there. Where OpenSSL reads the socket itself, the kernel copies into its record buffer,
from which it decrypts into the slot. Measured for 1 GB from nginx on loopback: the CPU time of curl, instead of 1.45
times that.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable
from typing import Any

# After this much, other connections are served and full slots are sent: with more, slots leave the processor's cache.
_TURN_BYTES = 1024 * 1024
_READ_BYTES = 64 * 1024
# The start of a record may lie in OpenSSL's buffer, where the kernel does not count it.
RECORD_BYTES = 32 * 1024


async def open_tls(
    loop: asyncio.AbstractEventLoop,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    sock: Any,
    context: ssl.SSLContext,
    server_hostname: str | None,
) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
    """Do the handshake on a connected, non-blocking socket, and own it; as `loop.create_connection` does.

    Raises `ssl.SSLError` (a certificate that is not trusted among them) and `OSError`; the socket is then closed.
    """
    wrapped = context.wrap_socket(
        sock, do_handshake_on_connect=False, suppress_ragged_eofs=False, server_hostname=server_hostname
    )
    try:
        while True:
            try:
                wrapped.do_handshake()
                break
            except ssl.SSLWantReadError:
                await _ready(loop.add_reader, loop.remove_reader, wrapped.fileno())
            except ssl.SSLWantWriteError:
                await _ready(loop.add_writer, loop.remove_writer, wrapped.fileno())
    except ssl.SSLError as error:
        wrapped.close()
        # Python 3.11.2, which Debian 12 has, makes no SSLEOFError of it.
        if isinstance(error, ssl.SSLEOFError) or error.reason == "UNEXPECTED_EOF_WHILE_READING":
            # Nobody has refused anything, as a certificate or an alert would: a server that is busy or ends does so.
            raise ConnectionResetError(errno.ECONNRESET, "it ended within the TLS handshake") from error
        raise
    except BaseException:
        wrapped.close()
        raise
    protocol = protocol_factory()
    transport = TLSTransport(loop, wrapped, protocol)
    protocol.connection_made(transport)
    transport.resume_reading()
    return transport, protocol


async def _ready(add: Callable[..., Any], remove: Callable[[int], Any], descriptor: int) -> None:
    came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    add(descriptor, lambda: None if came.done() else came.set_result(None))
    try:
        await came
    finally:
        remove(descriptor)


class TLSTransport(asyncio.Transport):
    """A transport over an `ssl.SSLSocket` whose handshake is done."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: ssl.SSLSocket, protocol: asyncio.BaseProtocol) -> None:
        super().__init__({"socket": sock, "ssl_object": sock, "sslcontext": sock.context})
        self._loop = loop
        self._sock = sock
        self._descriptor = sock.fileno()
        self._reading = False
        self._turn_scheduled = False
        self._closing = False
        self._unsent = bytearray()
        self.set_protocol(protocol)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        # OpenSSL may hold decrypted bytes that no event will announce.
        self._schedule_turn()

    def is_closing(self) -> bool:
        return self._closing

    # Reading --------------------------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._descriptor)

    def resume_reading(self) -> None:
        if not self._reading and not self._closing:
            self._reading = True
            self._loop.add_reader(self._descriptor, self._readable)
            self._schedule_turn()

    def _schedule_turn(self) -> None:
        if self._reading and not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_scheduled = False
        if self._reading:
            self._readable()

    def _readable(self) -> None:
        left = _TURN_BYTES
        try:
            while self._reading and left > 0:
                protocol = self._protocol
                if isinstance(protocol, asyncio.BufferedProtocol):
                    count = self._read_into(protocol)
                else:
                    count = self._read_some(protocol)
                if not count:
                    # The peer's close_notify: a clean end. (An end without it is an `ssl.SSLEOFError`.)
                    self.pause_reading()
                    protocol.eof_received()  # type: ignore[attr-defined]  # a Protocol
                    # A transport over TLS cannot stay half open, whatever the protocol answers.
                    self.close()
                    return
                left -= count
        except ssl.SSLWantReadError:
            return
        except ssl.SSLWantWriteError:
            # A key update must be answered first; the answer goes out with the next thing written, or now.
            self._loop.add_writer(self._descriptor, self._writable)
            return
        except (OSError, ssl.SSLError) as error:
            self._lost(error)
            return
        self._schedule_turn()

    def _read_into(self, protocol: asyncio.BufferedProtocol) -> int:
        """Fill the protocol's buffer, record by record, and notify it once. 0 at the end of the stream."""
        buffer = memoryview(protocol.get_buffer(-1))
        size, filled = len(buffer), 0
        # What SSLSocket.read calls itself, after checks in Python for each record of 16 KB that take a twentieth of the
        # CPU time of this transport. It is not public: where a Python does not have it, SSLSocket.read is used.
        records: Any = getattr(self._sock, "_sslobj", self._sock)
        read = records.read
        try:
            while filled < size:
                count = read(size - filled, buffer[filled:])
                if not count:
                    break
                filled += count
        except (OSError, ssl.SSLError):
            # What came before it is delivered first; a lasting error shows again with the next read.
            if not filled:
                raise
        if filled:
            protocol.buffer_updated(filled)
        return filled

    def _read_some(self, protocol: asyncio.BaseProtocol) -> int:
        data = self._sock.read(_READ_BYTES)
        if data:
            protocol.data_received(data)  # type: ignore[attr-defined]  # a Protocol
        return len(data)

    # Writing --------------------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or not data:
            return
        self._unsent += data
        if len(self._unsent) == len(data):
            self._writable()

    def _writable(self) -> None:
        try:
            while self._unsent:
                sent = self._sock.send(self._unsent)
                del self._unsent[:sent]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._loop.add_writer(self._descriptor, self._writable)
            return
        except (OSError, ssl.SSLError) as error:
            self._lost(error)
            return
        self._loop.remove_writer(self._descriptor)
        if self._closing:
            self._lost(None)

    # The end --------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.pause_reading()
            if not self._unsent:
                self._lost(None)

    def abort(self) -> None:
        self._lost(None)

    def _lost(self, error: Exception | None) -> None:
        if self._descriptor >= 0:
            self._closing = True
            self.pause_reading()
            self._unsent.clear()
            self._loop.remove_writer(self._descriptor)
            self._descriptor = -1
            self._sock.close()
            self._loop.call_soon(self._protocol.connection_lost, error)
