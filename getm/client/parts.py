"""What a caller gets of an object: reads of any length, chunks of one size, or parts as they come."""

from __future__ import annotations

import contextlib
import operator
import sys
from collections import deque
from typing import TYPE_CHECKING, Protocol, TypeVar

from getm.client.receiver import Part, Receiver
from getm.core.lazy import importing
from getm.core.spans import Span, resolve
from getm.errors import SizeMismatch

if TYPE_CHECKING:
    from getm.buffers.object_memory import ObjectMemory


# Shorter reads are copies: a few bytes are cheaper than a view of shared memory, and keeping them keeps no slot.
_COPIED_BYTES = 64 * 1024
# Longer parts are not kept to go back to: whoever reads so much goes on.
_KEPT_BYTES = 256 * 1024


_T_co = TypeVar("_T_co", covariant=True)


class Parts(Protocol[_T_co]):
    """What an iterator gives out, one after another. `complete`: all of it was given out, and verified."""

    complete: bool

    def next(self) -> _T_co | None:
        """The next one; None where it has not come, or where all were given out."""

    def clear(self) -> None:
        """Drop what was received and not given out."""


class ContentParts:
    """The object in order, as read-only views of `chunk_size` bytes, the last one shorter; None: whatever has come."""

    def __init__(self, receiver: Receiver, chunk_size: int | None) -> None:
        self._reader = ChunkReader(receiver)
        # A plain int, as the position of the reader is.
        self._chunk_size = None if chunk_size is None else operator.index(chunk_size)
        self.complete: bool = False

    def clear(self) -> None:
        self._reader.clear()

    def next(self) -> memoryview | None:
        view = self._reader.try_read_chunk(self._chunk_size)
        self.complete = view is not None and not view
        return view or None


class UnorderedParts:
    """Pairs of an offset and a read-only view, as they come."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.complete: bool = False

    def next(self) -> tuple[int, memoryview] | None:
        part = self._receiver.next_part(ordered=False)
        if part is not None:
            return part.offset, part.view
        self.complete = self._receiver.finished
        return None

    def clear(self) -> None:
        """Nothing is kept here."""


class WholeObject:
    """The whole object in one view: in memory of its own where it was placed there, else as `ChunkReader` joins it."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._chunks = ChunkReader(receiver)

    def try_memory(self) -> ObjectMemory | None:
        """Sealed memory that has the object, once it is complete: the caller's to close. None before."""
        if not self._placed:
            view = self._chunks.try_read(None)
            if view is None:
                return None
            with importing:
                from getm.buffers.object_memory import ObjectMemory

            return ObjectMemory.holding(view)
        return self._receiver.take_memory() if self._receiver.finished else None

    def try_read(self) -> memoryview | None:
        """The object; None where more must come first."""
        if not self._placed:
            return self._chunks.try_read(None)
        memory = self.try_memory()
        if memory is None:
            return None
        with contextlib.closing(memory):
            return memory.view()

    @property
    def _placed(self) -> bool:
        return self._receiver.has_head() and self._receiver.head is not None and self._receiver.head.placed


class BufferFiller:
    """Copies the object, or its span `wanted`, into the caller's buffer, each part to its place as it comes."""

    # What is in the buffer before the end may come again.
    position = 0

    def __init__(self, receiver: Receiver, buffer: memoryview, wanted: Span) -> None:
        self._receiver = receiver
        receiver.reader = self
        self._buffer = buffer
        self._wanted = wanted
        self._filled = 0

    def clear(self) -> None:
        self._filled = 0

    def try_fill(self) -> int | None:
        """Copy what has come: the count of bytes once all are there, and verified; None where more must come first.
        Raises `SizeMismatch` where they do not fit: before any of them is copied, where the size is known."""
        size = self._receiver.size
        if size is not None and not self._filled:
            self._check(len(resolve(self._wanted, size)))
        while (part := self._receiver.next_part(ordered=False)) is not None:
            start = part.offset - (self._wanted if size is None else resolve(self._wanted, size)).start
            self._check(start + len(part.view))
            self._buffer[start : start + len(part.view)] = part.view
            self._filled += len(part.view)
        return self._filled if self._receiver.finished else None

    def _check(self, count: int) -> None:
        if count > len(self._buffer):
            raise SizeMismatch(
                f"the buffer has {len(self._buffer):,} bytes, and the object has {count:,} or more for it: give a "
                "larger one",
                url=self._receiver.url,
                expected=len(self._buffer),
                actual=count,
            )


class ChunkReader:
    """Cuts the ordered parts of an object into reads of any length.

    A read within one slot, or over adjacent slots, is a view of them. Otherwise, or where the read is longer than half
    the ring, its bytes are copied once, into memory of its own; so are short reads (`_COPIED_BYTES`).

    It begins at `position`. `keeps`: `back` is to find the last bytes that were read, where their part was a small one.
    """

    def __init__(self, receiver: Receiver, position: int = 0, *, keeps: bool = False) -> None:
        self._receiver = receiver
        receiver.reader = self
        self.position: int = position
        self._keeps = keeps
        self.clear()

    def clear(self) -> None:
        """Drop everything that was not read."""
        # What comes next, copied out of the ring during a long read.
        self._copy = bytearray()
        # What follows it, how many bytes of the first part were read already, and how many are left of all.
        self._parts: deque[Part] = deque()
        self._used = self._have = 0
        self._last: Part | None = None

    @property
    def received(self) -> int:
        """Up to where the bytes are here."""
        return self.position + len(self._copy) + self._have + self._receiver.waiting

    def holds(self, target: int) -> bool:
        """Whether `back` can go there."""
        count = self.position - target
        last = 0 if self._last is None else len(self._last.view)
        return 0 <= count <= self._used + last and not self._copy

    def back(self, target: int) -> bool:
        """Go back to `target`, where that is still here."""
        if not self.holds(target):
            return False
        count = self.position - target
        if count > self._used and self._last is not None:
            self._parts.appendleft(self._last)
            self._used += len(self._last.view)
            self._last = None
        self._used -= count
        self._have += count
        self.position = target
        return True

    def skip(self, target: int) -> bool:
        """Drop what comes before `target`, which is not before the position; False where not all of that has come."""
        while (count := target - self.position) and (self._copy or self._have or self._fetch()):
            if self._copy:
                dropped = min(count, len(self._copy))
                del self._copy[:dropped]
            else:
                dropped = len(self._pop(count))
            self.position += dropped
        return not count

    def try_read(self, size: int | None) -> memoryview | None:
        """The next `size` bytes (None: all that is left), fewer only at the end; None where more must come first."""
        count = sys.maxsize if size is None else size
        while self._have + len(self._copy) < count:
            if self._fetch():
                # With the bytes that were read, those that its parts keep from being filled again.
                if (self._have + self._used) * 2 > self._receiver.connection.reserved_bytes:
                    self._spill(min(self._have, count - len(self._copy)))
            elif self._receiver.finished:
                count = self._have + len(self._copy)
            else:
                if self._parts and self._receiver.starved():
                    self._spill(self._have)
                return None
        return self._take(count)

    def try_read_chunk(self, size: int | None) -> memoryview | None:
        """The next `size` bytes as `try_read` gives them; None: whatever has come, a slot at most."""
        if size is not None:
            return self.try_read(size)
        if self._copy:
            # Of a long read that was interrupted.
            return self._take(len(self._copy))
        if self._have or self._fetch():
            return self._take(len(self._parts[0].view) - self._used)
        return memoryview(b"") if self._receiver.finished else None

    def try_readinto(self, buffer: memoryview) -> int | None:
        """Copy what has come into `buffer`: the count of bytes, 0 at the end; None where nothing has come yet."""
        filled = min(len(buffer), len(self._copy))
        buffer[:filled], self._copy = self._copy[:filled], self._copy[filled:]
        while filled < len(buffer) and (self._have or self._fetch()):
            piece = self._pop(len(buffer) - filled)
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
        self.position += filled
        return filled if filled or self._receiver.finished or not len(buffer) else None

    def _fetch(self) -> bool:
        """Whether another part has come."""
        part = self._receiver.next_part(ordered=True)
        if part is None:
            return False
        self._parts.append(part)
        self._have += len(part.view)
        return True

    def _spill(self, count: int) -> None:
        """Copy bytes out of the ring, so that the engine can continue during a long read."""
        while count > 0:
            piece = self._pop(count)
            self._copy += piece
            count -= len(piece)

    def _pop(self, count: int) -> memoryview:
        """Up to `count` bytes from the first part."""
        part = self._parts[0]
        length = len(part.view)
        # Mostly a chunk is a slot.
        piece = part.view if not self._used and count >= length else part.view[self._used : self._used + count]
        self._have -= len(piece)
        self._used += len(piece)
        if self._used == length:
            self._parts.popleft()
            self._used = 0
            if self._keeps:
                self._last = part if length <= _KEPT_BYTES else None
        return piece

    def _take(self, count: int) -> memoryview:
        """The next `count` bytes, which have come."""
        self.position += count
        view = None
        if self._parts and not self._copy:
            if count <= len(self._parts[0].view) - self._used:
                view = self._pop(count)
            elif count >= _COPIED_BYTES:
                view = self._join(count)
        if view is None:
            self._spill(count - len(self._copy))
            view, self._copy = memoryview(self._copy)[:count], self._copy[count:]
        # Short ones as `bytes`, which can be hashed and compared, as those of other readers can.
        return view.toreadonly() if count >= _COPIED_BYTES else memoryview(bytes(view))

    def _join(self, count: int) -> memoryview | None:
        """The next `count` bytes without a copy, where the parts that have them are adjacent in memory."""
        start = end = self._parts[0].address
        views = []
        for part in self._parts:
            if part.address != end:
                return None
            views.append(part.view)
            end += len(part.view)
            if end - start >= self._used + count:
                break
        view = self._receiver.connection.ring.join(views, start + self._used, count)
        while count:
            count -= len(self._pop(count))
        return view
