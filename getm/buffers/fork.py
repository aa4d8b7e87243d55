"""Views across a fork: a child has copies of what was leased, made before its first instruction and before the parent
lets anything be overwritten.

The memory of a ring is shared with the engine, so without this a child's views would show other bytes as soon as the
parent lets go of a slot. During a fork no slot is given back; the child copies the slots on lease to memory of its own,
at the same addresses, and the parent waits for that.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from getm.core.readable import readable

if TYPE_CHECKING:
    from getm.buffers.lease import LeaseRing

_MAP_FIXED = 0x10
# A child copies some gigabytes in a second. One that is stopped within its fork must not stop its parent for ever.
_COPY_S = 10.0

# The rings on shared memory.
rings: weakref.WeakSet[LeaseRing] = weakref.WeakSet()
# The threads that fork, and the ends of a pipe (for reading, for writing) whose end of file says that the child has its
# copies. A child closes all that it inherits, so an end is taken out before it is closed: its number may be another
# file's the next moment.
_under_way: dict[int, list[int]] = {}
_delayed: deque[tuple[Callable[[int], None], int]] = deque()

_mmap = ctypes.CDLL(None, use_errno=True).mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)


def give_back(call: Callable[[int], None], slot: int) -> None:
    """`call(slot)`, at once or after the fork that is under way. In any thread, from within garbage collection."""
    _delayed.append((call, slot))
    if not _under_way:
        _catch_up()


def _catch_up() -> None:
    while _delayed:
        try:
            call, slot = _delayed.popleft()
        except IndexError:
            # Another thread was faster.
            return
        call(slot)


def make_private(address: int, size: int, slots: list[int], slot_bytes: int) -> None:
    """Replace the mapping of `size` bytes at `address` by memory of this process, with the same bytes in the slots at
    these addresses."""
    copies = [(start, ctypes.string_at(start, slot_bytes)) for start in slots]
    protection, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
    if _mmap(address, size, protection, flags, -1, 0) != address:
        raise OSError(ctypes.get_errno(), "views of a forked process could not be copied: they may change")
    for start, data in copies:
        ctypes.memmove(start, data, len(data))


def _before() -> None:
    leased = [ring for ring in list(rings) if ring.live]
    if not leased:
        return
    try:
        _under_way[threading.get_ident()] = list(os.pipe())
    except OSError:
        # No descriptor is left: the slots on lease are not used again.
        for ring in leased:
            ring.retire()


def _after_in_parent() -> None:
    me = threading.get_ident()
    ends = _under_way.get(me)
    if ends is None:
        return
    try:
        os.close(ends.pop())
        if not readable(ends[0], _COPY_S):
            for ring in list(rings):
                ring.retire()
    finally:
        os.close(ends.pop())
        del _under_way[me]
        if not _under_way:
            _catch_up()


def _after_in_child() -> None:
    try:
        for ring in list(rings):
            ring.keep_copy()
    finally:
        for ends in _under_way.values():
            for end in ends:
                os.close(end)
        _under_way.clear()
        _delayed.clear()


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
