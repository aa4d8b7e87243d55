"""A wait for a descriptor."""

from __future__ import annotations

import select


def readable(descriptor: int, timeout_s: float | None) -> bool:
    """Whether it becomes readable, or ends, within that time. None: no limit."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))
