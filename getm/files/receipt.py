"""The receipt: a line of JSON for each downloaded file, by which the folder can be verified again.

    {"status": "done", "url": "https://...", "path": "a.bam", "size": 123, "checksums": ["sha256:..."], ...}

A line is written by one call to a descriptor in append mode. So a kill leaves whole lines, and several processes may
write one receipt (POSIX, write(): "the file offset shall be set to the end of the file prior to each write"). Lines are
added to what a receipt holds already: of each path the last one that says "done" counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

from getm.core.stats import Stats
from getm.errors import Cancelled, HTTPStatusError, InvalidInput, URLExpired
from getm.events import Event, Failed, Finished, Skipped, Started
from getm.files.os_errors import as_target_error
from getm.files.streams import needs_order
from getm.integrity.files import check_file
from getm.integrity.hashing.threads import HashPool
from getm.integrity.values import Checksum, parse_checksum
from getm.results import DownloadResult

# The checksum of a file for which none was computed.
_OWN_ALGORITHM = "sha256"


class ReceiptLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. Empty fields are left out; a reader ignores fields that it does not know.

    `url`: redacted. `path`: relative to the receipt's folder where it lies below it, else absolute; None where no file
    was written (standard output, a device). `size`: bytes. `host`: that sent the bytes, after redirects. `checksums`:
    all that were computed, canonical. `verified_by`: the one that had been declared, and matched; `declared_by`: by
    whom ("caller", or a header's name). `reason`: why nothing verified the bytes, or why it was skipped. `started`,
    `ended`: RFC 3339, UTC. `requests`: made for it; `retries`: those of them made again. `error`, `message`,
    `status_code`: of a failure, as on standard error.
    """

    status: Literal["done", "failed", "skipped"]
    url: str | None = None
    path: str | None = None
    size: int | None = None
    host: str | None = None
    checksums: tuple[str, ...] = ()
    verified_by: str | None = None
    declared_by: str | None = None
    reason: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    started: str | None = None
    ended: str | None = None
    requests: int = 0
    retries: int = 0
    error: str | None = None
    message: str | None = None
    status_code: int | None = None


# Writing -------------------------------------------------------------------------------------------------------------


class Receipt:
    """Appends to the receipt at `path`, made where there is none, a line for each file that ends. A context manager;
    `on_event` may be called from any thread.

    A file for which no checksum was computed is read once more, in a thread of its own: its line holds the SHA-256 of
    what is on the disk. On leaving the context all lines are there; after an exception the files still to be read get
    a line without a checksum, at once. Raises `TargetError` where the receipt cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        with as_target_error(self._path):
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._folder = os.path.realpath(self._path.parent)
        # When downloads that have not ended were started.
        self._started: dict[int, datetime] = {}
        # One reader is enough: it reads ahead while the pool hashes.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="getm-receipt")
        self._pool = HashPool()
        self._hurry = threading.Event()
        self._error: Exception | None = None
        try:
            self._end_torn_line()
        except BaseException:
            os.close(self._descriptor)
            raise

    def on_event(self, event: Event) -> None:
        """Write the line of a download that has ended. Raises `TargetError`, also for lines before this one."""
        if self._error is not None:
            raise self._error
        match event:
            case Started():
                self._started[event.index] = datetime.now(UTC)
            case Finished():
                self._finished(event.result, self._started.pop(event.index, None))
            case Failed():
                self._write(self._failed(event, self._started.pop(event.index, None)))
            case Skipped():
                path, now = self._named(event.path), _rfc3339(datetime.now(UTC))
                self._write(ReceiptLine("skipped", path=path, reason=event.reason, ended=now))

    def _finished(self, result: DownloadResult, started: datetime | None) -> None:
        line = self._done(result, result.started_at or started)
        if line.checksums or line.path is None:
            self._write(line)
        else:
            self._reader.submit(self._read_and_write, result.path, line)

    def _done(self, result: DownloadResult, started: datetime | None) -> ReceiptLine:
        verdict, version = result.checksum, result.version
        computed = verdict.computed or (() if verdict.checksum is None else (verdict.checksum,))
        ended = datetime.now(UTC) if started is None else started + timedelta(seconds=result.seconds)
        return ReceiptLine(
            "done",
            url=result.url,
            path=self._named(result.path),
            size=result.size,
            host=result.url_host,
            checksums=tuple(str(each) for each in computed),
            verified_by=None if verdict.checksum is None else str(verdict.checksum),
            declared_by=verdict.source,
            reason=verdict.reason,
            etag=None if version is None else version.etag,
            last_modified=None if version is None else version.last_modified,
            started=_rfc3339(started),
            ended=_rfc3339(ended),
            requests=result.stats.requests,
            retries=sum(result.stats.retries.values()),
        )

    def _failed(self, event: Failed, started: datetime | None) -> ReceiptLine:
        error = event.error
        stats = error.stats or Stats()
        return ReceiptLine(
            "failed",
            url=event.url,
            path=self._named(event.path),
            started=_rfc3339(started),
            ended=_rfc3339(datetime.now(UTC)),
            requests=stats.requests,
            retries=sum(stats.retries.values()),
            error=error.code,
            message=error.message,
            status_code=error.status if isinstance(error, HTTPStatusError | URLExpired) else None,
        )

    def _named(self, path: Path | None) -> str | None:
        """`path` as the receipt has it."""
        if path is None or os.fspath(path) == "-" or needs_order(path):
            return None
        folder = _real_folder(os.path.abspath(path.parent))  # noqa: PTH100 - as the key of a cache
        full = f"{folder.rstrip('/')}/{path.name}"
        below = f"{self._folder.rstrip('/')}/"
        return full.removeprefix(below)

    # Files that nothing has hashed, in the reader's thread -----------------------------------------------------------

    def _read_and_write(self, path: Path, line: ReceiptLine) -> None:
        try:
            own: tuple[Checksum, ...] = ()
            # Moved or deleted already, or no time: the line can only say what was downloaded.
            with contextlib.suppress(OSError, Cancelled):
                own = check_file(path, (), also=(_OWN_ALGORITHM,), pool=self._pool, on_bytes=self._on_bytes).computed
            self._write(msgspec.structs.replace(line, checksums=tuple(map(str, own))))
        except Exception as error:
            # Raised by the next event, or at the end.
            self._error = error

    def _on_bytes(self, count: int) -> None:
        if self._hurry.is_set():
            raise Cancelled("the receipt was closed before all files were read")

    # The file --------------------------------------------------------------------------------------------------------

    def _write(self, line: ReceiptLine) -> None:
        # json, not msgspec: it writes names that are not UTF-8 (as lone surrogates), which msgspec refuses.
        data = f"{json.dumps(msgspec.to_builtins(line))}\n".encode()
        with as_target_error(self._path):
            written = os.write(self._descriptor, data)
            if written < len(data):
                # The disk is full, which the next write reports.
                os.write(self._descriptor, data[written:])

    def _end_torn_line(self) -> None:
        """End a last line that a full disk or a power failure has cut, so that the next line is whole."""
        with as_target_error(self._path):
            size_bytes = os.fstat(self._descriptor).st_size
            # A pipe has no size, and nothing before it.
            if size_bytes and os.pread(self._descriptor, 1, size_bytes - 1) != b"\n":
                os.write(self._descriptor, b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._hurry.set()
        try:
            self._reader.shutdown()
            self._pool.close()
        finally:
            os.close(self._descriptor)
        if error is None and self._error is not None:
            raise self._error


@lru_cache(maxsize=1024)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _rfc3339(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Reading -------------------------------------------------------------------------------------------------------------


class ReceiptEntry(msgspec.Struct, frozen=True):
    """A file that the receipt says is there: `path` as it can be opened, `size` in bytes, `checksums` that it has
    (perhaps none), and the number of its line from 1."""

    path: Path
    size: int
    checksums: tuple[Checksum, ...]
    line: int


class ReceiptFiles(msgspec.Struct, frozen=True):
    """What a receipt says is on the disk, in the order of its lines; and a sentence for each line that could not be
    understood."""

    entries: tuple[ReceiptEntry, ...]
    problems: tuple[str, ...]


def read_receipt(lines: Iterable[bytes], folder: str | os.PathLike[str]) -> ReceiptFiles:
    """The files of a receipt in `folder`: for each path the last line with "done". Lines of failures and skipped files
    say nothing about the disk and are ignored."""
    entries: dict[str, ReceiptEntry] = {}
    problems: list[str] = []
    for number, data in enumerate(lines, 1):
        if data.isspace():
            continue
        try:
            entry = _entry(data, number, folder)
        except (ValueError, RecursionError, InvalidInput) as error:
            problems.append(f"line {number} is no line of a receipt: {error}")
            continue
        if entry is not None:
            key = os.path.abspath(entry.path)  # noqa: PTH100 - resolving each would cost as much as reading small files
            entries.pop(key, None)
            entries[key] = entry
    return ReceiptFiles(tuple(entries.values()), tuple(problems))


def _entry(data: bytes, number: int, folder: str | os.PathLike[str]) -> ReceiptEntry | None:
    # json and then msgspec, as in writing: names need not be UTF-8.
    line = msgspec.convert(json.loads(data), ReceiptLine)
    if line.status != "done" or line.path is None:
        return None
    if "\0" in line.path:
        raise InvalidInput("`path` holds a NUL character; no file can have it in its name")
    if line.size is None or line.size < 0:
        raise InvalidInput(f"expected `size`, a number of bytes, got {line.size}")
    checksums = tuple(parse_checksum(text) for text in line.checksums)
    return ReceiptEntry(Path(folder, line.path), line.size, checksums, number)
