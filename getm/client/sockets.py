"""Flags for sends and receives that do not wait."""

from __future__ import annotations

import socket

# Plain numbers: joining the enumeration's members costs more than the call they are for.
NO_WAIT = int(socket.MSG_DONTWAIT)
# A program may have SIGPIPE as the system has it: an engine's death is no reason to end that program.
NO_SIGNAL = int(getattr(socket, "MSG_NOSIGNAL", 0))
SEND_NOW = NO_WAIT | NO_SIGNAL
