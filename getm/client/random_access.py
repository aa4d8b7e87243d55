"""An object that is read at any position: in order by its first transfer, and elsewhere by requests for spans."""

from __future__ import annotations

from collections.abc import Callable

from getm import errors
from getm.client.connection import ClientConnection
from getm.client.parts import ChunkReader
from getm.client.read_ahead import FILES, SKIPPED_BYTES, Pace, ReadAhead, first_span
from getm.client.receiver import Receiver
from getm.client.span_receiver import receive_also, receive_span
from getm.core.spans import MAX_POSITION, Span


class RandomAccess:
    """Where a reader is in its object, and what brings the bytes there.

    `chunks` gives out the bytes from its own position on; `at` is where the next read begins, if that is elsewhere.
    Reads that end beyond `quiet_until` need `request` first.
    """

    def __init__(self, transfer: Receiver, acquire: Callable[[], ClientConnection], pace: Pace = FILES) -> None:
        self._pace = pace
        self.transfer: Receiver = transfer
        self.chunks: ChunkReader = ChunkReader(transfer)
        self.at: int | None = None
        self._acquire = acquire
        # None where everything is on its way.
        self._ahead: ReadAhead | None = None
        head = transfer.head
        if transfer.first_bytes and head is not None and head.ranged:
            self._ahead = ReadAhead(head.size or 0, 0, transfer.first_bytes, pace)
        self.quiet_until: int = MAX_POSITION if self._ahead is None else self._ahead.quiet_until
        # `why_not`, once it is known.
        self._refusal: tuple[str | None] | None = None

    @property
    def position(self) -> int:
        """Where the next read begins."""
        return self.chunks.position if self.at is None else self.at

    def why_not(self) -> str | None:
        """Why the object can only be read on; None where it can be read anywhere."""
        if self._refusal is None:
            self._refusal = (_why_not(self.transfer),)
        return self._refusal[0]

    def seek(self, target: int) -> None:
        """Let the next read begin at `target`. Raises `NotSeekable`."""
        chunks = self.chunks
        if target < chunks.position and not chunks.holds(target) and self.why_not() is not None:
            raise self.cannot_go_back(chunks.position, target)
        self.at = None if target == chunks.position else target

    def cannot_go_back(self, position: int, target: int) -> errors.NotSeekable:
        """The error for a seek from `position` back to `target`."""
        return errors.NotSeekable(
            f"it can only be read on from byte {position}, not from {target}: {self.why_not()}; download it to a file "
            "(getm.download), or read all of it: io.BytesIO(getm.read(url))",
            url=self.transfer.url,
        )

    @property
    def beyond_end(self) -> bool:
        """Whether nothing is to be read where the reader is."""
        return self.at is not None and self.transfer.size is not None and self.at >= self.transfer.size

    def ready(self, count: int) -> bool:
        """Whether the next `count` bytes come without anything being done."""
        return self.at is None and self.chunks.position + count <= self.quiet_until

    def arrive(self, count: int) -> bool:
        """Bring `chunks` to `at`, for a read of `count` bytes; False where something has to come first."""
        target, chunks = self.at, self.chunks
        if target is None or self.beyond_end:
            return True
        if not chunks.back(target):
            if target < chunks.position or not (self._reaches(target) or self.why_not()):
                self._jump(target, count)
            self.request(target, target)
            if not self.chunks.skip(target):
                # It may have turned out to be beyond the end.
                return self.transfer.finished
        self.at = None
        return True

    @property
    def outstanding(self) -> int:
        """How many bytes were requested and have not come."""
        if self._ahead is None or not self.transfer.in_flight:
            return 0
        return max(0, self._ahead.requested - self.chunks.received)

    def has_near(self, target: int) -> bool:
        """Whether a read at `target` needs no request of its own: the bytes there are here, or on their way."""
        return self.chunks.holds(target) or (target >= self.chunks.position and self._reaches(target))

    def _reaches(self, target: int) -> bool:
        """Whether the transfer is soon at `target`."""
        received = self.chunks.received
        if self._ahead is None:
            return target - received <= SKIPPED_BYTES
        return target <= received or self._ahead.reaches(target, received)

    def request(self, position: int, stop: int) -> None:
        """Request what a read from `position` to `stop` needs, and what is to be read ahead."""
        if self._ahead is None or stop <= self.quiet_until:
            return
        if self.transfer.in_flight or self.transfer.connection.team[0].alive:
            self.transfer.want(self._ahead.request(position, stop))
            self.quiet_until = self._ahead.quiet_until
        else:
            # The engine has ended after some idle minutes.
            self._jump(position, stop - position)
            self.at = position

    def _jump(self, target: int, count: int) -> None:
        size = self.transfer.size or 0
        span = first_span(size, target, target + count, self._pace)
        # Before the request is sent, which takes with it that their slots are free.
        self.chunks.clear()
        before, self.transfer = self.transfer, receive_span(self.transfer, span, self._acquire)
        if self.transfer is before:
            self.chunks.position = span.start
        else:
            self.chunks = ChunkReader(self.transfer, span.start, keeps=True)
        self._begin_run(target, span)

    def _begin_run(self, target: int, span: Span) -> None:
        self._ahead = ReadAhead(self.transfer.size or 0, target, span.stop, self._pace)
        self.quiet_until = self._ahead.quiet_until

    def another(self, connection: ClientConnection, target: int, count: int) -> RandomAccess:
        """A second reader of the same version, over `connection`, which begins by a read of `count` bytes at `target`,
        not at the end."""
        span = first_span(self.transfer.size or 0, target, target + count, self._pace)
        other = RandomAccess(receive_also(self.transfer, span, connection), self._acquire, self._pace)
        other.chunks = ChunkReader(other.transfer, span.start, keeps=True)
        other._begin_run(target, span)
        other.seek(target)
        return other

    def clear(self) -> None:
        """The reader is closed, and nobody uses this."""
        self.transfer.close()
        self.chunks.clear()


def _why_not(transfer: Receiver) -> str | None:
    """Why nothing but a whole response can be had of the object."""
    info = transfer.head
    if info is None or transfer.strict:
        return "strict was asked for, and only what is read from start to end can be verified"
    if info.size is None:
        return "the server does not say how long it is"
    if info.version.strong is None:
        return "the server sends no strong validator (ETag or Last-Modified), by which versions can be told apart"
    granted = info.head.status == 206 or (info.head.get("accept-ranges") or "").strip().lower() == "bytes"
    return None if granted else "the server does not grant range requests"
