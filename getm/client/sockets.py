"""Flags for sends and receives that do not wait."""

from __future__ import annotations

import socket

# Plain numbers: joining the enumeration's members costs more than the call they are for.
NO_WAIT = int(socket.MSG_DONTWAIT)
SEND_NOW = int(socket.MSG_DONTWAIT) | int(getattr(socket, "MSG_NOSIGNAL", 0))
