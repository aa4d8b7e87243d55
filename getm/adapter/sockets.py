"""The socket of an adapter: known, and connected to, before anything serves it."""

from __future__ import annotations

import socket
from contextlib import suppress

HOST = "127.0.0.1"
# What a program does not read of an answer is transferred in vain, so little of it is kept in the kernel, and in short
# segments: with longer ones, which loopback has, so small a buffer would wait for delayed acknowledgements.
_SEND_BUFFER_BYTES = 16 * 1024
_SEGMENT_BYTES = 32_000


def listen() -> socket.socket:
    """A socket for a server, at a port that is free."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with suppress(OSError):
        # Inherited by its connections.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    listener.bind((HOST, 0))
    listener.listen(128)
    return listener


def url_of(listener: socket.socket, path: str) -> str:
    """The URL of a path at that server."""
    return f"http://{HOST}:{listener.getsockname()[1]}{path}"
