"""Whether connections can be made over a network interface of this machine."""

from __future__ import annotations

import socket

from getm.engine.interface import bind_to
from getm.errors import InvalidInput


def check_interface(interface: str, ip_version: int | None) -> None:
    """`interface`: the name of a network interface, or, where `ip_version` is known by it, an address.

    Raises:
        InvalidInput: There is none, or this process may not use it.
    """
    family = socket.AF_INET6 if ip_version == 6 else socket.AF_INET
    try:
        bind_to(interface, socket.socket(family, socket.SOCK_STREAM)).close()
    except OSError as error:
        there = ", ".join(name for _, name in socket.if_nameindex())
        raise InvalidInput(
            f"no connection can be made over the interface {interface!r} ({error.strerror or error}); give one of "
            f"{there}, or an address of this machine"
        ) from None
