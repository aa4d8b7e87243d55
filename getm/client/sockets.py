"""What the sockets to engines have in common."""

from __future__ import annotations

import socket

# Plain numbers: joining the enumeration's members costs more than the call they are for.
NO_WAIT = int(socket.MSG_DONTWAIT)
SEND_NOW = int(socket.MSG_DONTWAIT) | int(getattr(socket, "MSG_NOSIGNAL", 0))

# The engine's ends of sockets that are just being sent to it. A child forked at that moment must close them, or the
# end of the engine would never show as end of file.
in_passage: set[socket.socket] = set()
