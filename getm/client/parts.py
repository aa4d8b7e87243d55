"""What a caller gets of an object: reads of any length, chunks of one size, or parts as they come."""

from __future__ import annotations

from collections import deque
from typing import Protocol, TypeVar

from getm.client.receiver import Part, Receiver

# Shorter reads are copies: a few bytes are cheaper than a view of shared memory, and keeping them keeps no slot.
_COPIED_BYTES = 64 * 1024


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
        self._chunk_size = chunk_size
        self.clear = self._reader.clear
        self.complete: bool = False

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


class ChunkReader:
    """Cuts the ordered parts of an object into reads of any length.

    A read within one slot, or over adjacent slots, is a view of them. Otherwise, or where the read is longer than half
    the ring, its bytes are copied once, into memory of its own; so are short reads (`_COPIED_BYTES`).
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        receiver.reader = self
        self._parts: deque[Part] = deque()
        # Bytes of the first part that were read already.
        self._used = 0
        self._have = 0
        self._copy: bytearray | None = None
        self.position: int = 0

    def try_read(self, size: int | None) -> memoryview | None:
        """The next `size` bytes (None: all that is left), fewer only at the end; None where more must come first."""
        while True:
            copied = 0 if self._copy is None else len(self._copy)
            missing = None if size is None else size - copied - self._have
            if missing is not None and missing <= 0:
                return self._take(size or 0)
            part = self._receiver.next_part(ordered=True)
            if part is None:
                if self._receiver.finished:
                    return self._take(copied + self._have)
                if self._parts and self._receiver.starved():
                    self._spill(self._have)
                return None
            self._append(part)
            if self._held * 2 > self._receiver.ring_bytes:
                self._spill(self._have if missing is None else min(self._have, self._have - len(part.view) + missing))

    def try_read_chunk(self, size: int | None) -> memoryview | None:
        """The next `size` bytes as `try_read` gives them; None: whatever has come, a slot at most."""
        if size is not None:
            return self.try_read(size)
        if not self._fetch_one():
            return memoryview(b"") if self._receiver.finished else None
        return self._take(len(self._parts[0].view) - self._used)

    def try_readinto(self, buffer: memoryview) -> int | None:
        """Copy what has come into `buffer`: the count of bytes, 0 at the end; None where nothing has come yet."""
        filled = 0
        while filled < len(buffer) and self._fetch_one():
            piece = self._pop(len(buffer) - filled)
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
        self.position += filled
        return filled if filled or self._receiver.finished or not len(buffer) else None

    def _fetch_one(self) -> bool:
        """Whether there is a byte to read."""
        if not self._have:
            part = self._receiver.next_part(ordered=True)
            if part is None:
                return False
            self._append(part)
        return True

    def _append(self, part: Part) -> None:
        self._parts.append(part)
        self._have += len(part.view)

    @property
    def _held(self) -> int:
        """Bytes of the ring that its parts keep from being filled again."""
        return self._have + self._used

    def _spill(self, count: int) -> None:
        """Copy bytes out of the ring, so that the engine can continue during a long read."""
        if self._copy is None:
            self._copy = bytearray()
        while count:
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
        return piece

    def _take(self, count: int) -> memoryview:
        self.position += count
        if self._copy is None and count:
            if count >= _COPIED_BYTES:
                view = self._view(count)
                if view is not None:
                    return view
            elif count <= len(self._parts[0].view) - self._used:
                return memoryview(bytes(self._pop(count)))
        copied = 0 if self._copy is None else len(self._copy)
        self._spill(count - copied)
        data, self._copy = self._copy, None
        # Short ones as `bytes`, which can be hashed and compared, as those of other readers can.
        return memoryview(data or b"").toreadonly() if count >= _COPIED_BYTES else memoryview(bytes(data or b""))

    def _view(self, count: int) -> memoryview | None:
        """`count` bytes without a copy, where the memory allows it."""
        if count <= len(self._parts[0].view) - self._used:
            return self._pop(count)
        needed, parts = count + self._used, []
        next_address = self._parts[0].address
        for part in self._parts:
            if part.address != next_address:
                return None
            parts.append(part)
            needed -= len(part.view)
            if needed <= 0:
                break
            next_address += len(part.view)
        start = self._parts[0].address + self._used
        view = self._receiver.connection.ring.join([part.view for part in parts], start, count)
        left = count
        while left:
            left -= len(self._pop(left))
        return view

    def clear(self) -> None:
        """Drop everything that was not read."""
        self._parts.clear()
        self._have = 0
        self._copy = None
