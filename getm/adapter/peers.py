"""Whose connection it is: tokens are part of a program's arguments, which every user of the machine can read."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

# The kernel's table of TCP sockets over IPv4: see proc(5), "/proc/net/tcp".
_TABLE = Path("/proc/net/tcp")


def is_of_this_user(peer: tuple[str, int], own: tuple[str, int]) -> bool:
    """Whether the socket at address `peer`, which is connected to `own`, belongs to the user of this process, or to
    root. True where the system does not say."""
    try:
        table = _TABLE.read_text(encoding="ascii")
    except OSError:
        return True
    return owner(table, peer, own) in (os.geteuid(), 0, None)


def owner(table: str, local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """The user's number for the socket with these addresses; None where the table does not have it."""
    wanted = f" {_form(local)} {_form(remote)} "
    line = next((line for line in table.splitlines() if wanted in line), None)
    # sl, local and remote address, state, queues, timer, retransmissions, uid.
    return None if line is None else int(line.split()[7])


def _form(address: tuple[str, int]) -> str:
    """An address as the table has it: in hexadecimal, the host in the order of this machine's bytes."""
    host = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return f"{host:08X}:{address[1]:04X}"
