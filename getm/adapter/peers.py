"""Whose connection it is: tokens are part of a program's arguments, which every user of the machine can read."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress

# sock_diag(7): one TCP socket of IPv4, by its addresses, whatever its state and its cookie.
_PROTOCOL = 4
_BY_FAMILY = 20
_REQUEST = 1
_ERROR = 2
_HEADER = struct.Struct("=IHHII")
_QUERY = struct.Struct("=BBBBI")
_ADDRESSES = struct.Struct("!HH4s12x4s12x12s")
_ANY = struct.pack("=III", 0, 2**32 - 1, 2**32 - 1)
# What is told of it: state and the like, addresses, and the last two of five numbers are the user's and the inode's.
_ANSWER = struct.Struct(f"=4x{_ADDRESSES.size}x12xII")

Address = tuple[str, int]


def is_of_this_user(peer: Address, own: Address) -> bool:
    """Whether the socket at address `peer`, which is connected to `own`, belongs to the user of this process, or to
    root. True where the system does not say."""
    return owner(peer, own) in (os.geteuid(), 0, None)


def owner(local: Address, remote: Address) -> int | None:
    """The number of the user whose socket has these addresses; None where the system does not know it, or does not
    say."""
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        return None
    addresses = _ADDRESSES.pack(local[1], remote[1], socket.inet_aton(local[0]), socket.inet_aton(remote[0]), _ANY)
    query = _QUERY.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 2**32 - 1) + addresses
    with suppress(OSError), socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _PROTOCOL) as kernel:
        kernel.send(_HEADER.pack(_HEADER.size + len(query), _BY_FAMILY, _REQUEST, 0, 0) + query)
        answer = kernel.recv(8192)
        if _HEADER.unpack_from(answer)[1] == _BY_FAMILY:
            user: int = _ANSWER.unpack_from(answer, _HEADER.size)[0]
            return user
    return None
