"""The synchronous API: a file-like reader, and iterators of parts."""

from __future__ import annotations

import io
import operator
import sys
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from getm import errors
from getm.client.connection import ClientConnection
from getm.client.exclusive import Exclusive
from getm.client.parts import BufferFiller, Parts, WholeObject
from getm.client.random_access import RandomAccess
from getm.client.receiver import Receiver, ResponseInfo
from getm.core.spans import Span

if TYPE_CHECKING:
    from getm.buffers.object_memory import ObjectMemory
    from getm.client.collected_spans import CollectedSpans


def collect_spans(transfer: Receiver, spans: CollectedSpans) -> None:
    """Wait until all of `spans` are there."""
    while not spans.collect(transfer):
        _wait(transfer)


def read_all(transfer: Receiver) -> memoryview:
    """Read the whole object."""
    whole = WholeObject(transfer)
    while (view := whole.try_read()) is None:
        _wait(transfer)
    return view


def read_memory(transfer: Receiver) -> ObjectMemory:
    """Read the whole object into sealed memory, which the caller closes."""
    whole = WholeObject(transfer)
    while (memory := whole.try_memory()) is None:
        _wait(transfer)
    return memory


def fill(transfer: Receiver, buffer: memoryview, wanted: Span) -> int:
    """Copy the object, or a span of it, into `buffer`; returns the count of bytes."""
    filler = BufferFiller(transfer, buffer, wanted)
    while (count := filler.try_fill()) is None:
        _wait(transfer)
    return count


def _wait(transfer: Receiver) -> None:
    """Block until the engine has sent something. Raises `SlotsExhausted` where it cannot."""
    if transfer.starved() and transfer.still_starved(transfer.wait(transfer.grace_s())):
        raise transfer.exhausted()
    transfer.pump(wait=True)


def writable(buffer: Any) -> memoryview:
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
    """An open URL, read in order or, where the server grants range requests, at any position (`seek`). An
    `io.RawIOBase`: wrap it in `io.BufferedReader` where lines or `bytes` are wanted, or use `getm.open`.

    For one thread at a time: a second one gets `ReaderBusy`. Any thread may close it: that stops the transfer, and a
    waiting read raises `ReaderClosed`. Views that were read stay valid.
    """

    def __init__(
        self, transfer: Receiver, name: Callable[[Receiver], str], acquire: Callable[[], ClientConnection]
    ) -> None:
        """`acquire`: gives a connection, where the engine of that of `transfer` has ended, idle."""
        ResponseInfo.__init__(self, transfer)
        self._access = RandomAccess(transfer, acquire)
        self._use = Exclusive(self._access.clear)
        self._name = name
        # Where the read ends that the next `readinto`s are parts of.
        self.expected_stop: int = 0

    @property
    def _transfer(self) -> Receiver:
        return self._access.transfer

    @property
    def mode(self) -> str:
        """As a file has it: "rb"."""
        return "rb"

    @property
    def name(self) -> str:
        """A file name for the object, safe to use: from Content-Disposition, or else the URL's path."""
        return self._name(self._transfer)

    def readable(self) -> bool:
        """True: a reader can be read."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read at any position: the server grants range requests and sends a strong validator, which
        holds all of them to one version.

        Example:
            >>> with getm.urlopen("https://data.example.org/reads.bam") as fh:
            ...     print(fh.seekable())
        """
        self._check()
        return self._access.why_not() is None

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Change the position of the next read. Where the bytes there are not here, nor on their way, that read
        requests them: as many as it needs, and the more ahead the longer the reads then follow each other.

        What is read after that is not verified (see `checksum`), but all of it is of one version. Where the object
        cannot be had in parts, a seek forward reads on.

        Args:
            offset: Bytes from the start, from the position or from the end, by `whence`.
            whence: `io.SEEK_SET`, `io.SEEK_CUR` or `io.SEEK_END`.

        Returns:
            The position from the start. It may be behind the end, where reads return nothing.

        Raises:
            NotSeekable: The server does not grant range requests (an `io.UnsupportedOperation`).
            InvalidInput: The position would be before the start.
            RemoteChanged: By the next read: the object was replaced.
            ReaderClosed: The reader was closed.

        Example:
            >>> with getm.urlopen("https://data.example.org/reads.bam") as fh:
            ...     position = fh.seek(-28, io.SEEK_END)
            ...     print(len(fh.read()))
        """
        with self._use:
            self._check()
            target = self._target(offset, whence, self._access.position)
            self._access.seek(target)
            return target

    def _target(self, offset: int, whence: int, position: int) -> int:
        """Where a seek leads to from `position`. Raises `InvalidInput`, `NotSeekable`."""
        count = operator.index(offset)
        if whence == io.SEEK_CUR:
            count += position
        elif whence == io.SEEK_END:
            count += self._end()
        elif whence != io.SEEK_SET:
            raise errors.InvalidInput(f"whence must be 0, 1 or 2, not {whence!r}")
        if count < 0:
            raise errors.InvalidInput(f"the position {count} is before the start: positions are counted from 0")
        return count

    def onwards(self, offset: int, whence: int, position: int) -> int:
        """Where a `seek` leads to, from `position` on, for a buffer that reads on to there."""
        self._check()
        target = self._target(offset, whence, position)
        if target < position:
            raise self._access.cannot_go_back(position, target)
        return target

    def _end(self) -> int:
        if self.size is None:
            raise errors.NotSeekable(
                "the server does not say where the end is: download it to a file (getm.download), or read all of it: "
                "io.BytesIO(getm.read(url))",
                url=self._transfer.url,
            )
        return self.size

    def tell(self) -> int:
        """The position: where the next read begins.

        Raises:
            ReaderClosed: The reader was closed.

        Example:
            >>> with getm.urlopen("https://data.example.org/reads.bam") as fh:
            ...     print(len(fh.read(4)), fh.tell())
        """
        self._check()
        return self._access.position

    def _check(self) -> None:
        if self.closed:
            raise errors.ReaderClosed("the reader is closed", url=self._transfer.url)

    def _prepare(self, count: int) -> bool:
        """For a read of `count` bytes, go to where `seek` has pointed, and request more; whether it can be read."""
        access = self._access
        self._arrive(count)
        if not access.beyond_end:
            access.request(access.position, access.position + count)
            if access.at is not None:
                self._arrive(count)
        return access.at is None

    def _arrive(self, count: int) -> None:
        access = self._access
        while not access.arrive(count):
            # It may have been closed while `access` took another transfer.
            self._check()
            _wait(access.transfer)
        self._check()

    # Any: `io` and `shutil` are declared for readers of `bytes`, and take every buffer.
    @overload
    def read(self, size: None = None, /) -> memoryview: ...
    @overload
    def read(self, size: int = -1, /) -> Any: ...
    def read(self, size: int | None = -1, /) -> memoryview:
        """Read exactly `size` bytes, fewer only at the end.

        Args:
            size: Bytes; None or a negative number: all that is left.

        Returns:
            A read-only view, empty at the end. It stays valid as long as anything refers to it or to what was made from
            it, also after `close()`. Short ones are copies, which can be hashed and compared like `bytes`; others are
            copies only where the bytes are not contiguous in shared memory, or longer than half the ring.

        Raises:
            NetworkError: The connection failed, and trying again did not help.
            ChecksumMismatch: The whole is not what was declared; raised in place of the last bytes.
            SlotsExhausted: The caller's own views leave no slot to receive into.
            ReaderClosed: The reader, or its session, was closed.
            TypeError: `size` is no whole number; nothing was read.

        Example:
            >>> with getm.urlopen("https://data.example.org/reads.bam") as fh:
            ...     magic, rest = fh.read(4), fh.read()
        """
        # As a plain int: the position is one, and the engine takes no other.
        wanted = None if size is None or (count := operator.index(size)) < 0 else count
        with self._use:
            self._check()
            access, count = self._access, sys.maxsize if wanted is None else wanted
            if not access.ready(count) and not self._prepare(count):
                return memoryview(b"")
            while (view := access.chunks.try_read(wanted)) is None:
                _wait(access.transfer)
            return view

    def readall(self) -> bytes:
        """Read the rest into `bytes`, as `io.BufferedReader` needs it.

        Example:
            >>> with getm.urlopen("https://data.example.org/reads.bam") as fh:
            ...     data = fh.readall()
        """
        with self._use:
            self._check()
            access, whole = self._access, io.BytesIO()
            if access.ready(sys.maxsize) or self._prepare(sys.maxsize):
                while (view := access.chunks.try_read_chunk(None)) is None or view:
                    if view is None:
                        _wait(access.transfer)
                    else:
                        whole.write(view)
            # Without another copy: nobody else has it.
            return whole.getvalue()

    def readinto(self, buffer: object, /) -> int:
        """Copy what has come into a buffer, waiting for the first byte.

        Args:
            buffer: Any writable buffer, contiguous in memory.

        Returns:
            The count of bytes; 0 at the end.

        Raises:
            TypeError: The buffer cannot be written to; nothing was read.
            GetmError: As `read`.

        Example:
            >>> with getm.urlopen("https://data.example.org/reads.bam") as fh:
            ...     buffer = bytearray(65536)
            ...     while count := fh.readinto(buffer):
            ...         crc = zlib.crc32(memoryview(buffer)[:count], crc)
        """
        target = writable(buffer)
        with self._use:
            self._check()
            access = self._access
            # What has been requested is enough for this one.
            if not access.ready(1) and not self._prepare(max(len(target), self.expected_stop - access.position)):
                return 0
            while (count := access.chunks.try_readinto(target)) is None:
                _wait(access.transfer)
            return count

    def readline(self, size: int | None = -1, /) -> bytes:
        """Not here: use `getm.open`, or wrap the reader in `io.BufferedReader`.

        Raises:
            io.UnsupportedOperation: Always.

        Example:
            >>> for line in io.BufferedReader(getm.urlopen("https://data.example.org/notes.txt")):
            ...     print(line)
        """
        raise io.UnsupportedOperation("for lines use getm.open, or wrap the reader: io.BufferedReader(fh)")

    def close(self) -> None:
        """Stop the transfer, if it is not over, and let its connection and slots serve others. From any thread."""
        if not self.closed:
            super().close()
            self._transfer.close()
            self._use.close()


_T = TypeVar("_T")


class _Iterator(ResponseInfo, Iterator[_T]):
    """An iterator that is also a context manager. For one thread at a time; any thread may close it."""

    def __init__(self, transfer: Receiver, parts: Parts[_T]) -> None:
        super().__init__(transfer)
        self._parts = parts
        self._use = Exclusive(parts.clear)

    def __next__(self) -> _T:
        with self._use:
            while not self._parts.complete:
                if (part := self._parts.next()) is not None:
                    return part
                if not self._parts.complete:
                    _wait(self._transfer)
            self._transfer.close()
            raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # The loop over it was left: the engine must not fill slots that nobody reads.
        self.close()

    def close(self) -> None:
        """Stop the transfer, and every wait for its next part. Views that were given out stay valid."""
        self._transfer.close()
        self._use.close()


class ContentIterator(_Iterator[memoryview]):
    """The object in order, as read-only views of `chunk_size` bytes, the last one shorter. Nothing to release."""


class UnorderedIterator(_Iterator[tuple[int, memoryview]]):
    """Pairs of an offset and a read-only view, as they arrive. Together they cover the object exactly."""
