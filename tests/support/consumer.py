"""A consumer that opens several objects on one connection of an engine, and takes the parts of all as they come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from getm import errors
from getm.client.connection import ClientConnection
from getm.client.pool import EnginePool
from getm.core.retry import Retries
from getm.protocol.messages import AdaptedInfo, EndInfo, HeadInfo, NoteInfo, OpenRequest


def open_request(url: str, **fields: Any) -> OpenRequest:
    """What opens `url` as one stream, with any field set to something else."""
    usual: dict[str, Any] = {
        "url": url,
        "headers": (),
        "concurrency": 1,
        "checksums": (),
        "strict": False,
        "connect_s": 20.0,
        "stall_s": 20.0,
        "total_s": None,
        "floor_bytes_s": None,
        "floor_window_s": 30.0,
        "tail_s": None,
        "custom_retries": Retries(2, base_s=0.001, cap_s=0.002),
        "cacert": None,
        "environment": {},
    }
    return OpenRequest(**{**usual, **fields})


class Received:
    """What came of one object: the bytes by their offsets, copied at once."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.head: HeadInfo | None = None
        self.parts: dict[int, bytes] = {}
        self.notes: list[NoteInfo] = []
        self.adapted: list[AdaptedInfo] = []
        self.end: EndInfo | None = None
        self.error: errors.GetmError | None = None

    def on_head(self, info: HeadInfo) -> None:
        self.head = info

    def on_bytes(self, offset: int, slot: int, start: int, length: int, *, full: bool) -> None:
        self.parts[offset] = bytes(self._connection.lease(slot, start, length))

    def on_note(self, info: NoteInfo) -> None:
        self.notes.append(info)

    def on_adapted(self, info: AdaptedInfo) -> None:
        self.adapted.append(info)

    def on_expired(self, serial: int) -> None:
        raise AssertionError("nothing is opened as renewable")

    def on_end(self, info: EndInfo) -> None:
        self.end = info

    def on_written(self, offset: int, length: int) -> None:
        raise AssertionError("opened without a file")

    def on_failed(self, error: errors.GetmError) -> None:
        self.error = error

    @property
    def over(self) -> bool:
        return self.end is not None or self.error is not None

    def spans(self) -> list[tuple[int, int]]:
        """What was delivered, as sorted spans; those that meet are joined."""
        joined: list[tuple[int, int]] = []
        for start, data in sorted(self.parts.items()):
            if joined and joined[-1][1] == start:
                joined[-1] = (joined[-1][0], start + len(data))
            else:
                joined.append((start, start + len(data)))
        return joined


class Consumer:
    """Opens objects on one connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.last_number = 0

    def open(self, url: str, *, concurrency: int = 1, **fields: Any) -> Received:
        received = Received(self.connection)
        request = open_request(url, **{"concurrency": concurrency, **fields})
        self.last_number = self.connection.open(request, received)
        return received

    def receive(self, *objects: Received) -> None:
        """Until all of these are over; the parts of others are taken, too."""
        while not all(received.over for received in objects):
            self.connection.pump(wait=True)

    def fetch(self, url: str, **fields: Any) -> Received:
        """Open, receive, and return it. Raises what it failed with."""
        received = self.open(url, **fields)
        self.receive(received)
        if received.error is not None:
            raise received.error
        return received


@contextmanager
def consumer(concurrency: int | None = 1, *, processes: int = 1, max_memory: int = 256 * 1024**2) -> Iterator[Consumer]:
    """On a connection for that concurrency; the engines end with the context."""
    pool = EnginePool(processes, max_memory)
    try:
        yield Consumer(pool.acquire(pool.wanted(1024 * 1024, concurrency)))
    finally:
        pool.close()
