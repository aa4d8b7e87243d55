"""The receive low-water mark of a socket: the loop wakes up once enough has arrived, not for every packet.

On a link of 1 Gbit/s a packet arrives every 12 us, and without a mark the loop would wake up for a few of them at a
time, only to put them into a slot that is far from full. With SO_RCVLOWAT (socket(7), "on Linux also for poll and epoll
since 2.6.28") the kernel reports the socket readable once `mark` bytes are there, or the connection has ended.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios

from getm.engine.http.tls import RECORD_BYTES, TLSTransport

# Measured on loopback, HTTP: 256 KiB to 2 MiB all save about a tenth of the CPU. The kernel grows the receive
# buffer to twice the mark where it must, so a small one keeps its memory small.
_MARK_BYTES = 512 * 1024
# Below this the system calls that set it would cost more than they save.
_MIN_MARK_BYTES = 64 * 1024
_INT = bytes(4)


class LowWater:
    """Sets the mark for a content of `length` bytes; 0, and without effect, where it cannot be set.

    The mark is never above what is still to come: the kernel would wait for bytes that nobody sends.
    """

    def __init__(self, transport: asyncio.Transport, length: int) -> None:
        self._mark = 0
        # With fewer bytes than this still to come, `lower` must be called.
        self.floor: int = 0
        self._reserve = RECORD_BYTES if isinstance(transport, TLSTransport) else 0
        # uvloop's own TLS (behind a proxy) buffers bytes that no mark can see.
        hidden = transport.get_extra_info("sslcontext") is not None and not self._reserve
        self._socket = transport.get_extra_info("socket")
        self._usable = self._socket is not None and not hidden
        self.lower(length)

    def lower(self, missing: int) -> None:
        """Only `missing` bytes are still to come: the kernel may not wait for more, nor for what OpenSSL has read. 0:
        wake up for every byte, for a consumer that waits for it."""
        mark = min(_MARK_BYTES, missing - self._reserve) if self._usable else 0
        if mark < _MIN_MARK_BYTES:
            mark = 0
        if mark != self._mark and set_mark(self._socket, mark):
            self._mark, self.floor = mark, mark + self._reserve if mark else 0

    def waiting(self) -> int:
        """How many bytes the kernel holds for us."""
        return unread_bytes(self._socket) if self._mark else 0


def set_mark(sock: socket.socket, mark: int) -> bool:
    """Have the socket reported readable only when so many bytes are there; False where that cannot be set. (A timer may
    fire after the socket was closed and before its owner learns of it.)"""
    if sys.platform != "linux" or sock.fileno() < 0:
        return False
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, max(1, mark))
    return True


def unread_bytes(sock: socket.socket) -> int:
    """How many bytes the kernel holds that were not read from `sock`; 0 where it is closed."""
    if sock.fileno() < 0:
        return 0
    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.FIONREAD, _INT), sys.byteorder)
