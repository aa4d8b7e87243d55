"""The receive low-water mark of a socket: wake up for a good mouthful, not for every packet.

On a link of 1 Gbit/s packets come every 12 us, and without a mark the loop would wake up for a few of them at a time
only to put them into a slot that is far from full. With SO_RCVLOWAT (socket(7), "on Linux also for poll and epoll
since 2.6.28") the kernel reports the socket readable once `mark` bytes are there, or the connection has ended.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import socket
import sys
import termios

# Measured on loopback, HTTP: 256 KiB to 2 MiB all save about a tenth of the CPU. The kernel grows the receive
# buffer to twice the mark where it must, so a small one keeps its memory small.
_MARK_BYTES = 512 * 1024


class LowWater:
    """Sets the mark for a content of `length` bytes; 0 and without effect where there is none to set.

    Never above what is still to come: the kernel would wait for bytes that nobody sends.
    """

    def __init__(self, transport: asyncio.Transport, length: int) -> None:
        self.mark = 0
        # TLS reads the socket itself, record by record; what lies in its buffers no mark can see.
        if sys.platform != "linux" or transport.get_extra_info("sslcontext") is not None:
            return
        self._socket = transport.get_extra_info("socket")
        if self._socket is not None and length > _MARK_BYTES:
            self._set(_MARK_BYTES)

    def _set(self, mark: int) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)
        self.mark = mark if mark > 1 else 0

    def lower(self, missing: int) -> None:
        """`missing` bytes are still to come, fewer than the mark."""
        self._set(max(1, missing))

    def waiting(self) -> int:
        """How many bytes the kernel holds for us."""
        if not self.mark:
            return 0
        count = array.array("i", [0])
        fcntl.ioctl(self._socket.fileno(), termios.FIONREAD, count)
        return count[0]
