"""The synchronous face: a file-like reader, and iterators of parts."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, overload

from getm import errors
from getm.client.receiver import ChunkReader, Receiver, ResponseInfo


def wait(transfer: Receiver) -> None:
    """Block until the engine has sent something. Raises `SlotsExhausted` where it cannot."""
    if transfer.starved() and transfer.still_starved(transfer.wait(transfer.grace_s())):
        raise transfer.exhausted()
    transfer.pump(wait=True)


def _writable(buffer: Any) -> memoryview:
    """The bytes of any buffer that a file could be read into. Raises what a file raises, before anything is read."""
    io.BytesIO().readinto(buffer)
    try:
        view = memoryview(buffer)
    except ValueError:
        # NumPy's dates have no format that a view could have.
        view = memoryview(buffer.reshape(-1).view("B"))
    if "O" in view.format:
        raise TypeError("a buffer of Python objects cannot be read into")
    return view.cast("B") if view.nbytes else memoryview(bytearray())


class Reader(ResponseInfo, io.RawIOBase):
    """An open URL, read in order. An `io.RawIOBase`: wrap it in `io.BufferedReader` where lines or `bytes` are wanted.

    Not to be used by two threads at once. Closing it stops the transfer; views that were read stay valid.
    """

    def __init__(self, transfer: Receiver, name: Callable[[Receiver], str]) -> None:
        ResponseInfo.__init__(self, transfer)
        self._assembler = ChunkReader(transfer)
        self._name = name

    @property
    def name(self) -> str:
        """A file name for the object, safe to use: from Content-Disposition, or else the URL's path."""
        return self._name(self._transfer)

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        """How many bytes were read."""
        self._check()
        return self._assembler.position

    def _check(self) -> None:
        if self.closed:
            raise errors.ReaderClosed("the reader is closed", url=self._transfer.url)

    # Any: `io` and `shutil` are declared for readers of `bytes`, and take every buffer.
    @overload
    def read(self, size: None = None, /) -> memoryview: ...
    @overload
    def read(self, size: int = -1, /) -> Any: ...
    def read(self, size: int | None = -1, /) -> memoryview:
        """Exactly `size` bytes as a read-only view, fewer only at the end, empty there; all that is left by default.

        No copy where the bytes lie within one slot of shared memory, or in slots next to each other. One copy where
        they do not, or where the read is longer than half the ring. The view is valid as long as anyone holds it or
        anything made from it, also after `close()`.

        Raises `ChecksumMismatch` instead of returning the last byte where the whole is not what was declared, and
        `SlotsExhausted` where the caller's own views leave no slot to receive into.
        """
        self._check()
        wanted = None if size is None or size < 0 else size
        while (view := self._assembler.try_read(wanted)) is None:
            wait(self._transfer)
        return view

    def readall(self) -> bytes:
        """All that is left, as `bytes`: what `io.BufferedReader` demands of it. `read()` saves this copy."""
        return bytes(self.read())

    def readinto(self, buffer: object, /) -> int:
        """Copy what has come into any writable buffer, waiting for the first byte: the count of bytes, 0 at the end."""
        self._check()
        target = _writable(buffer)
        while (count := self._assembler.try_readinto(target)) is None:
            wait(self._transfer)
        return count

    def readline(self, size: int | None = -1, /) -> bytes:
        raise io.UnsupportedOperation("for lines wrap the reader: io.BufferedReader(fh)")

    def close(self) -> None:
        """Stop the transfer, if it is not over, and let its connection and slots serve others."""
        if not self.closed:
            self._assembler.clear()
            self._transfer.close()
        super().close()


class _Parts(ResponseInfo):
    """An iterator that is a context manager, too."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # An abandoned loop: the engine must not go on filling slots for nobody.
        if not self._transfer.closed:
            self.close()

    def close(self) -> None:
        """Stop the transfer. Views that were given out stay valid."""
        self._transfer.close()


class ContentIterator(_Parts, Iterator[memoryview]):
    """The object in order, as read-only views of `chunk_size` bytes, the last one shorter. Nothing to release."""

    def __init__(self, transfer: Receiver, chunk_size: int | None) -> None:
        super().__init__(transfer)
        self._assembler = ChunkReader(transfer)
        self._chunk_size = chunk_size
        self._over = False

    def __next__(self) -> memoryview:
        if self._over:
            raise StopIteration
        while (view := self._assembler.try_read_chunk(self._chunk_size)) is None:
            wait(self._transfer)
        if not view:
            self._over = True
            self.close()
            raise StopIteration
        return view

    def close(self) -> None:
        self._assembler.clear()
        super().close()


class UnorderedIterator(_Parts, Iterator[tuple[int, memoryview]]):
    """Pairs of an offset and a read-only view, as they arrive. Together they cover the object exactly."""

    _over = False

    def __next__(self) -> tuple[int, memoryview]:
        while not self._over:
            part = self._transfer.next_part(ordered=False)
            if part is not None:
                return part.offset, part.view
            if self._transfer.finished:
                self._over = True
                self.close()
            else:
                wait(self._transfer)
        raise StopIteration
