"""What every store of objects has, whichever library talks to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from msgspec import Struct

from getm.destinations.urls import S3_SCHEMES, scheme_of, shown
from getm.errors import TargetError
from getm.integrity.values import Checksum


class Origin(Struct, frozen=True):
    """What is known of an object before its bytes come. `size`: in bytes, None where unknown; `algorithm`: of the
    checksum that the store is to have, see `parts.algorithm_for`; the others as the server states them."""

    size: int | None
    algorithm: str
    media_type: str | None = None
    content_coding: str | None = None


class StoredObject(Struct, frozen=True):
    """What a store says of an object. `size`: in bytes; `checksums`: of all of it; `modified_s`: when it was put there,
    in seconds since 1970."""

    size: int
    checksums: tuple[Checksum, ...] = ()
    modified_s: float | None = None


class Upload(Protocol):
    """An object on its way to a store, where nobody sees it before `commit`. All methods wait for the store, and raise
    `TargetError`, or `Cancelled` after `cancel`."""

    def send(self, number: int, data: bytearray) -> None:
        """Send a part, counted from 0. As many may be sent at once as `Store.parts_at_once` says."""

    def commit(self, whole: bytearray | None, received: Sequence[Checksum]) -> Checksum:
        """Put the object in its place: `whole` is all of it, where no part was sent. `received`: its checksums, as
        they were computed of the bytes that came, with which those that are sent are compared; and these with what the
        store says. Returns the checksum of the object."""

    def cancel(self) -> None:
        """End what is under way, soon. In any thread."""

    def discard(self) -> None:
        """Leave nothing in the store. Called last, once nothing is under way."""


class Store(Protocol):
    """A place for objects. All methods wait for it, and raise `TargetError`. For any thread."""

    def parts_at_once(self, part_bytes: int) -> int:
        """How many parts of that size may be sent at once."""

    def find(self, url: str) -> StoredObject | None:
        """The object at `url`; None where there is none."""

    def read(self, url: str) -> Iterator[bytes]:
        """Its bytes in order, some at a time."""

    def upload(self, url: str, origin: Origin) -> Upload:
        """An upload to `url`. Nothing is sent yet."""

    def close(self) -> None:
        """Close its connections."""


class Stores:
    """The stores that a batch uses: one for each scheme, opened when it is needed first. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stores: dict[str, Store] = {}

    def of(self, url: str) -> Store:
        """The store for `url`. Raises `MissingExtra`, `InvalidInput`, `TargetError`."""
        scheme = scheme_of(url)
        key = "s3" if scheme in S3_SCHEMES and "::" not in url else url.partition("://")[0]
        with self._lock:
            if key not in self._stores:
                self._stores[key] = _opener(key)(url)
            return self._stores[key]

    def close(self) -> None:
        """Close them all."""
        for store in self._stores.values():
            store.close()
        self._stores.clear()


def _opener(key: str) -> Callable[[str], Store]:
    if key == "s3":
        from getm.destinations.s3 import S3Store

        return S3Store
    from getm.destinations.filesystem import FileSystemStore

    return FileSystemStore


def refused(url: str, what: str, why: object) -> TargetError:
    """The error where a store did not do `what`."""
    text = shown(url)
    return TargetError(f"{what} {text} failed: {why}", path=text)
