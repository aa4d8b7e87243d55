"""Binding a socket to a network interface."""

from __future__ import annotations

import socket


def bind_to(interface: str, sock: socket.socket) -> socket.socket:
    """Bind `sock` to an interface, or an address of its family, and return it. Raises `OSError`; it is closed then."""
    try:
        try:
            found = socket.getaddrinfo(interface, 0, sock.family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            # Not on every system: elsewhere an address must be given.
            option = getattr(socket, "SO_BINDTODEVICE", None)
            if option is None:
                raise OSError("this system takes only an address") from None
            sock.setsockopt(socket.SOL_SOCKET, option, interface.encode() + b"\0")
        else:
            sock.bind(found[0][4])
        return sock
    except BaseException:
        sock.close()
        raise
