"""The receipt: a line of JSON for each downloaded file, by which the folder can be verified again.

    {"status": "done", "url": "https://...", "path": "a.bam", "size": 123, "checksums": ["sha256:..."], ...}

A line is written by one call to a descriptor in append mode. So a kill leaves whole lines, and several processes may
write one receipt (POSIX, write(): "the file offset shall be set to the end of the file prior to each write").
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

from getm.core.stats import Stats
from getm.core.url_path import URLPath, as_path
from getm.errors import Cancelled, HTTPStatusError, URLExpired
from getm.events import Event, Failed, Finished, Skipped, Started
from getm.files.os_errors import as_target_error
from getm.files.receipt_lines import ReceiptEntry, ReceiptLine, full_path, read_receipt
from getm.files.streams import needs_order
from getm.integrity.blocks import BlockSums
from getm.integrity.files import check_file
from getm.integrity.hashing.threads import HashPool
from getm.integrity.values import STRENGTH, Checksum
from getm.results import DownloadResult

# The checksum of a file for which none was computed.
_OWN_ALGORITHM = "sha256"


class Receipt:
    """Appends to the receipt at `path`, made where there is none, a line for each file that ends; and knows what it
    says of files that are there. A context manager; `on_event` may be called from any thread.

    Args:
        path: The receipt.
        reads: Whether `find` will be called.
        writes: Whether it is written.
        lists_left: Whether files that were left get a line.
        ignored: What the list of the downloads has and getm does not use; a line of its own.

    A file for which no checksum was computed is read once more, in a thread of its own: its line holds the SHA-256 of
    what is on the disk, if that is what was received. On leaving the context all lines are there; after an exception
    the files still to be read get a line at once, without a checksum. Raises `TargetError` where the receipt cannot be
    read or written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        reads: bool = False,
        writes: bool = True,
        lists_left: bool = True,
        ignored: tuple[str, ...] = (),
    ) -> None:
        self._lists_left = lists_left
        self._path = Path(path)
        self._ignored = ignored
        self._reads = reads
        self.writes = writes
        self._descriptor = -1
        self._folder = os.path.realpath(self._path.parent)
        self._known: dict[str, ReceiptEntry] = {}
        # When downloads that have not ended were started.
        self._started: dict[int, datetime] = {}
        # One reader is enough: it reads ahead while the pool hashes.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="getm-receipt")
        self._pool = HashPool()
        self._hurry = threading.Event()
        self._error: Exception | None = None

    def open(self) -> None:
        """Before anything else, unless it is used as a context manager. Raises `TargetError`."""
        with as_target_error(self._path):
            if self._reads:
                self._read()
            if self.writes:
                flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, 0o666)
                self._end_torn_line()
        if self.writes and self._ignored:
            self._write(ReceiptLine("list", ended=_rfc3339(datetime.now(UTC)), ignored=self._ignored))

    def _read(self) -> None:
        """Read what earlier runs have written; nothing where it is a pipe."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        with os.fdopen(fd, "rb") as file:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                entries = read_receipt(file, self._folder).entries
                self._known = {full_path(entry.path): entry for entry in entries}

    def find(self, path: str) -> ReceiptEntry | None:
        """What the receipt said of the file at `path` when it was opened; None where it said nothing."""
        return self._known.get(_full(as_path(path))) if self._known else None

    def on_event(self, event: Event) -> None:
        """Write the line of a download that has ended. Raises `TargetError`, also for lines before this one."""
        if self._error is not None:
            raise self._error
        if not self.writes:
            return
        match event:
            case Started():
                self._started[event.index] = datetime.now(UTC)
            case Finished():
                self._finished("done", event.result, self._started.pop(event.index, None))
            case Failed():
                self._write(self._failed(event, self._started.pop(event.index, None)))
            case Skipped() if not self._lists_left:
                pass
            case Skipped() if event.result is not None and event.result.checksum.computed:
                # Its bytes were read.
                self._finished("left", event.result, None)
            case Skipped():
                path, now = self._named(event.path), _rfc3339(datetime.now(UTC))
                self._write(ReceiptLine("skipped", path=path, reason=event.reason, ended=now))

    def _finished(self, status: Literal["done", "left"], result: DownloadResult, started: datetime | None) -> None:
        line = self._line(status, result, result.started_at or started)
        if line.checksums or line.path is None:
            self._write(line)
        else:
            self._reader.submit(self._read_and_write, result.path, line, result.checksum.blocks)

    def _line(self, status: Literal["done", "left"], result: DownloadResult, started: datetime | None) -> ReceiptLine:
        verdict, version = result.checksum, result.version
        computed = verdict.computed or (() if verdict.checksum is None else (verdict.checksum,))
        ended = datetime.now(UTC) if started is None else started + timedelta(seconds=result.seconds)
        path = self._named(result.path)
        return ReceiptLine(
            status,
            url=result.url,
            path=path,
            size=result.size,
            host=result.url_host,
            checksums=tuple(str(each) for each in computed),
            verified_by=None if verdict.checksum is None else str(verdict.checksum),
            declared_by=verdict.source,
            reason=result.left or verdict.reason,
            etag=None if version is None else version.etag,
            last_modified=None if version is None else version.last_modified,
            block_bytes=0 if verdict.blocks is None else verdict.blocks.block_bytes,
            blocks=None if verdict.blocks is None else verdict.blocks.text,
            changed_ns=None if path is None else _changed_ns(result),
            started=_rfc3339(started),
            ended=_rfc3339(ended),
            requests=result.stats.requests,
            retries=sum(result.stats.retries.values()),
            limited_by=result.stats.time_facts()[0],
            suggested_name=result.suggested_name,
            content_coding=result.content_coding,
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
        if path is None or os.fspath(path) == "-" or (not isinstance(path, URLPath) and needs_order(path)):
            return None
        return _full(path).removeprefix(f"{self._folder.rstrip('/')}/")

    # Files that nothing has hashed, in the reader's thread -----------------------------------------------------------

    def _read_and_write(self, path: Path, line: ReceiptLine, received: BlockSums | None) -> None:
        try:
            # What was received, if that is known: a disk that has damaged it must not be taken for its witness.
            known = () if received is None else (received.whole,)
            own: tuple[Checksum, ...] = known
            # Moved or deleted already, or no time: the line can only say what was downloaded.
            with contextlib.suppress(OSError, Cancelled):
                found = check_file(path, known, also=(_OWN_ALGORITHM,), pool=self._pool, on_bytes=self._on_bytes)
                strongest_first = sorted(found.computed, key=lambda each: STRENGTH.index(each.algorithm))
                own = known if found.mismatch is not None else tuple(strongest_first)
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
        try:
            self.open()
        except BaseException:
            self.close(hurry=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(hurry=error is not None)

    def close(self, *, hurry: bool) -> None:
        """Write all lines, and close it. `hurry`: read no file for that any more, and raise nothing."""
        if hurry:
            self._hurry.set()
        try:
            self._reader.shutdown()
            self._pool.close()
        finally:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)
        if self._error is not None and not hurry:
            raise self._error


def _full(path: Path) -> str:
    """The path with its folder resolved, though not the file itself. A URL is one already."""
    if isinstance(path, URLPath):
        return str(path)
    folder = _real_folder(os.path.abspath(path.parent))  # noqa: PTH100 - as the key of a cache
    return f"{folder.rstrip('/')}/{path.name}"


def _changed_ns(result: DownloadResult) -> int | None:
    """When the file was changed last; None where it is not the one that was written any more."""
    try:
        status = result.path.stat()
    except OSError:
        return None
    return status.st_ctime_ns if status.st_size == result.size else None


@lru_cache(maxsize=1024)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _rfc3339(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
