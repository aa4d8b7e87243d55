"""One download of a batch: from its first request to its file in place, through restarts and dead engines."""

from __future__ import annotations

import os
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from getm import errors
from getm.client.connection import ClientConnection
from getm.client.receiver import verdict_of
from getm.core.head import Head
from getm.core.log import get_logger
from getm.core.redact import host_of, redact
from getm.core.retry import cause
from getm.core.units import MIB
from getm.core.version import Validator
from getm.events import Failed, Finished, Progressed, Retried, Skipped, Started
from getm.files import (
    Folder,
    PartialFile,
    Saved,
    StreamTarget,
    is_special,
    journal_name,
    needs_order,
    open_partial,
    resolve_target,
)
from getm.files.names import unusable
from getm.integrity import Declared, Verdict, parse_checksum, unverified, verify_file
from getm.protocol.messages import EndInfo, HeadInfo, NoteInfo, OpenRequest, ResumeInfo
from getm.results import DownloadResult, Stats

if TYPE_CHECKING:
    from getm.batch.scheduler import Batch

_log = get_logger()

# Files that are put in place in groups: more than that is worth a wait for the disk of its own.
_SMALL_BYTES = 8 * MIB
# How often a download is begun anew: after its object was replaced midway, after what an earlier run left proved wrong.
_MAX_RESTARTS = 2
# How often it goes on with another engine. An object that kills every engine would otherwise be tried for ever.
_MAX_ENGINE_DEATHS = 3


class Call(msgspec.Struct, frozen=True):
    """One download as it was asked for. `path` as `resolve_target` reads it; `request` lacks only what depends on the
    connection it goes over, and on what an earlier run left. `root`: the folder that the target may not leave, not even
    by symbolic links; None: it may be anywhere. `waived`: see `Finished`."""

    index: int
    path: str | None
    root: str | None
    request: OpenRequest
    waived: bool = False


class Job:
    """Hears what a connection tells of its object, and writes it. Everything happens in the batch's thread, apart from
    `finish`, which may run in the one that finishes files."""

    def __init__(self, batch: Batch, call: Call) -> None:
        self.call = call
        self.url: str = redact(call.request.url)
        self.connections: int = call.request.concurrency
        """How many it may open to its host: fewer than asked for where the batch has no more left for it."""
        self.host: str | None = host_of(call.request.url)
        self.done: int = 0
        self._batch = batch
        self._began = time.monotonic()
        self._connection: ClientConnection | None = None
        self._number = 0
        self._path: Path | None = None
        self._folder: Folder | None = None
        self._partial: PartialFile | None = None
        self._stream: StreamTarget | None = None
        # Where they are, by offset: bytes that came before their turn, for a stream.
        self._early: dict[int, tuple[int, int, int, bool]] = {}
        self.streams: bool = False
        """Whether it writes to something that may make it wait for ever."""
        self._head: HeadInfo | None = None
        self._end: EndInfo | None = None
        self._size: int | None = None
        self._resumed = False
        # By the first response, where this one brings only the rest.
        self._declared: tuple[str, str] | None = None
        self._verdict: Verdict = unverified("not finished")
        self._validator: Validator | None = None
        # Whether the path is only what the URL suggests; and whether that was found to be wrong.
        self._is_guess = False
        self._misnamed = False
        self._told_start = False
        self._restarts = 0
        self._deaths = 0
        # What attempts took that were given up, when this one began, and the bytes that it brought.
        self._before: Stats | None = None
        self._asked_at = self._first_asked_at = time.monotonic()
        self._received = 0

    # Requests -------------------------------------------------------------------------------------------------------

    def start(self, connection: ClientConnection) -> None:
        """Send the request. What goes wrong becomes this job's failure, apart from the engine's death."""
        self._connection = connection
        if self._before is None:
            self._first_asked_at = time.monotonic()
        try:
            if self._path is None:
                self._path = Path(self.call.path or "") if self._is_fixed() else self._foretold()
            if self._path is not None and self._stream is None and not self._claim(self._path):
                return
            self._send()
        except errors.EngineDied:
            raise
        except errors.GetmError as error:
            self._fail(error)

    def _is_fixed(self) -> bool:
        """Whether the path is known before the response is: neither a folder, nor something to be written in order."""
        path = self.call.path
        if not path or path.endswith(os.sep) or self._batch.options.dry_run:
            return False
        try:
            mode = os.stat(path).st_mode  # noqa: PTH116 - a hundred thousand times
        except OSError:
            mode = stat.S_IFREG
        except ValueError:
            raise unusable(path) from None
        return stat.S_ISREG(mode) and not is_special(path)

    def _foretold(self) -> Path | None:
        """The target by the URL alone, where an earlier run left something of that name, most likely the same object:
        then only what is missing need be asked for. None where nothing speaks for it."""
        options, path = self._batch.options, self.call.path
        if self._misnamed or not options.resume or options.no_clobber or options.dry_run:
            return None
        if path is not None and needs_order(path):
            return None
        target = resolve_target(path, url=self.url, headers=())
        self._is_guess = os.path.lexists(target.parent / journal_name(target.name))
        return target if self._is_guess else None

    def _check_guess(self, info: HeadInfo) -> bool:
        """False: the server gives it another name. What lies under the guessed one is left alone, and all begins
        anew."""
        self._is_guess = False
        if resolve_target(self.call.path, url=self.url, headers=info.headers) == self._path:
            return True
        self._misnamed = True
        self._cancel()
        self._close(keep=True)
        self._batch.leave_target(self.path)
        self._path = None
        self._batch.again(self)
        return False

    def _claim(self, path: Path) -> bool:
        """Take `path` for this download; False where it is to be left alone."""
        options = self._batch.options
        if options.no_clobber and os.path.lexists(path):
            self._skip(path, "it exists")
            return False
        self._batch.take_target(path, self.call.index)
        self._path = path
        self._folder = self._batch.folders.use(path, self.call.root)
        self._partial = open_partial(path, resume=options.resume, folder=self._folder)
        return True

    def _send(self) -> None:
        """Ask for what is missing: all of it, where nothing is known to be there."""
        connection, partial = self._connection, self._partial
        if connection is None:
            return
        self._head = self._end = None
        self._asked_at, self._received = time.monotonic(), 0
        request = self.call.request
        resume, total_s = None, request.total_s
        if total_s is not None and self._before is not None:
            total_s -= self._asked_at - self._first_asked_at
            if total_s <= 0:
                raise self._too_late()
        if partial is not None and (saved := partial.saved) is not None:
            missing = tuple((span.start, span.stop) for span in partial.missing())
            resume = ResumeInfo(saved.size, saved.etag, saved.last_modified, saved.if_range, missing)
        part_slots = connection.layout.part_slots
        changes = {"resume": resume, "total_s": total_s, "part_slots": part_slots, "concurrency": self.connections}
        if any(getattr(request, name) != value for name, value in changes.items()):
            request = msgspec.structs.replace(request, **changes)
        self._number = connection.open(request, self)

    def _cancel(self) -> None:
        if self._connection is not None and self._end is None:
            self._connection.cancel(self._number)
            for slot, _, _, full in self._early.values():
                if full:
                    self._connection.give_back(slot)
            self._early.clear()
        self._connection = None

    # What the connection tells ---------------------------------------------------------------------------------------

    def on_head(self, info: HeadInfo) -> None:
        try:
            self._on_head(info)
        except errors.GetmError as error:
            self._fail(error)

    def _on_head(self, info: HeadInfo) -> None:
        self._head = info
        self._size = info.size
        self._resumed = info.resumed
        for note in info.notes:
            _log.warning("%s: %s", self.url, note)
        if self._batch.options.dry_run:
            self._foresee(info)
            return
        if self._is_guess and not self._check_guess(info):
            return
        if_range = info.if_range
        self._validator = Validator(info.etag, info.last_modified)
        if self._partial is None and self._stream is None:
            if self.call.path is not None and needs_order(self.call.path):
                self._path = Path(self.call.path)
                self.streams = True
                self._stream = StreamTarget.open(self._path)
            elif not self._claim(resolve_target(self.call.path, url=self.url, headers=info.headers)):
                return
            elif self._partial is not None and _fits(self._partial.saved, info.size, if_range):
                # Its name was not known before the head was: ask again, for what is missing only.
                connection = self._connection
                self._cancel()
                if connection is None or connection.closed:
                    self._close(keep=True)
                    self._batch.again(self)
                    return
                self._connection = connection
                self._send()
                return
        if self._partial is not None:
            saved = self._partial.saved
            if saved is not None and info.resumed:
                self.done, self._declared = sum(map(len, saved.done)), saved.declared
            self._partial.begin(
                info.size,
                etag=info.etag,
                last_modified=info.last_modified,
                if_range=if_range,
                declared=info.declared[0] if info.declared else None,
                resumed=info.resumed,
            )
        self._tell_start(self._path)

    def _foresee(self, info: HeadInfo) -> None:
        """Tell what would be done with the object, and leave it at that."""
        path = resolve_target(self.call.path, url=self.url, headers=info.headers)
        if self._batch.options.no_clobber and os.path.lexists(path):
            self._skip(path, "it exists")
            return
        self._batch.take_target(path, self.call.index)
        self._tell_start(path)
        self._cancel()
        self._over()

    def on_bytes(self, offset: int, slot: int, start: int, length: int, *, full: bool) -> None:
        connection = self._connection
        if connection is None:
            return
        if self._stream is not None and offset != self.done:
            # It is safe to keep its slot: the part whose turn it is has all that it needs (engine/sinks/slots.py).
            self._early[offset] = slot, start, length, full
            return
        self._write(connection, offset, slot, start, length, full)
        while self.done in self._early:
            self._write(connection, self.done, *self._early.pop(self.done))
        self._batch.progressed(self)

    def _write(self, connection: ClientConnection, offset: int, slot: int, start: int, length: int, full: bool) -> None:
        expected = self.call.request.size
        try:
            view = connection.view(slot, start, length)
            if self._partial is not None:
                self._partial.write(offset, view)
            elif self._stream is not None:
                self._stream.write(offset, view)
            self.done += length
            self._received += length
            if expected is not None and self.done > expected:
                # Of unknown size, and longer than it may be: the rest would only fill the disk.
                raise errors.SizeMismatch.of(expected, self.done, self.url)
        except errors.GetmError as error:
            self._fail(error)
        finally:
            if full:
                connection.give_back(slot)

    def progressed(self) -> Progressed:
        """How far it has come."""
        return Progressed(self.call.index, self.done, self._size)

    def on_note(self, note: NoteInfo) -> None:
        _log.info("retry %d of %s in %.1f s (%s): %s", note.attempt, self.url, note.delay_s, note.cause, note.message)
        self._batch.post(Retried(self.call.index, note.cause, note.attempt, note.delay_s, note.message))

    def on_end(self, info: EndInfo) -> None:
        self._end = info
        self._size = info.total
        if self._batch.options.dry_run:
            return
        if self._batch.wants_events:
            self._batch.post(self.progressed())
        self._batch.to_finish(self)

    def _too_late(self) -> errors.TimedOut:
        limit_s = self.call.request.total_s or 0.0
        return errors.TimedOut(f"the download took longer than its {limit_s:g} s", phase="total", timeout_s=limit_s)

    def on_failed(self, error: errors.GetmError) -> None:
        if self._before is not None and isinstance(error, errors.TimedOut) and error.phase == "total":
            # This attempt had only what the others had left of the time.
            told, error = error, self._too_late()
            error.stats = told.stats
        if isinstance(error, errors.RemoteChanged) and self._restarts < _MAX_RESTARTS and self._stream is None:
            # One clean restart: what came so far is of a version that is gone.
            self._restart(error)
        elif isinstance(error, errors.EngineDied):
            # A helper's engine. The one behind the connection lives, and never gets back the slots that it had sent.
            if self._connection is not None:
                self._batch.drop(self._connection)
            self.engine_died(error)
        else:
            self._fail(error)

    def engine_died(self, error: errors.GetmError) -> None:
        """Go on with another engine: what is written stays."""
        self._connection = None
        self._deaths += 1
        if self._deaths > _MAX_ENGINE_DEATHS or self._stream is not None or not isinstance(error, errors.EngineDied):
            self._fail(error)
            return
        self._go_on(error, keep=True)

    def _restart(self, error: errors.GetmError) -> None:
        self._restarts += 1
        self._go_on(error, keep=False)

    def _go_on(self, error: errors.GetmError, *, keep: bool) -> None:
        """Ask again after `error`: for all of it, or for what is missing where what came is of use (`keep`)."""
        why = cause(error)
        self._before = self._stats_with(error.stats) + Stats(retries={why: 1})
        self.on_note(NoteInfo(why, self._restarts + self._deaths, 0.0, str(error)))
        self.done = 0
        self._close(keep=keep)
        self._batch.again(self)

    def _stats_with(self, told: Stats | None) -> Stats:
        """What all attempts took. `told`: what an engine told of the last one; None where it died, or was not asked."""
        if told is None:
            told = Stats(received_bytes=self._received, seconds=time.monotonic() - self._asked_at)
        return told if self._before is None else self._before + told

    # The end --------------------------------------------------------------------------------------------------------

    @property
    def file(self) -> tuple[PartialFile, float | None] | None:
        """The file to be put in place, with its time of change; None for a stream."""
        if self._partial is None:
            return None
        head = self._head if self._batch.options.remote_time else None
        return self._partial, None if head is None else Head(head.status, head.url, head.headers).modified_at()

    @property
    def path(self) -> Path:
        """The target, as far as it is known."""
        return self._path or Path(self.call.path or ".")

    @property
    def small(self) -> bool:
        """Whether finishing it is quick enough to be done together with others."""
        return not self._resumed and self._size is not None and self._size <= _SMALL_BYTES

    def check(self) -> None:
        """Verify by reading what the engine could not verify as it came: a file of which an earlier run, or an engine
        that died, brought a part. Raises `ChecksumMismatch`, `Unverified`. In any thread."""
        end, head = self._end, self._head
        if end is None or head is None:
            return
        self._verdict = verdict_of(end)
        if not self._resumed or self._partial is None or self.call.request.checksums is None:
            return
        # A partial response may declare less than the first one did.
        declared = head.declared or (() if self._declared is None else (self._declared,))
        if declared:
            expected = (Declared(parse_checksum(text), source) for text, source in declared)
            self._verdict = verify_file(self._partial.path_now, *expected)
        if self._verdict.mismatch is not None:
            raise self._verdict.mismatch.as_error(self.url)
        if self.call.request.strict and not self._verdict.verified:
            raise errors.Unverified(
                f"strict was asked for and nothing verified the bytes: {self._verdict.reason}; give a checksum",
                url=self.url,
                reason=self._verdict.reason,
            )

    def succeed(self) -> None:
        """The file is in place."""
        self._close(keep=True)
        self._batch.post(Finished(self.call.index, self._result(), self.call.waived))
        self._over()

    def finish_failed(self, error: errors.GetmError) -> None:
        """The file could not be finished."""
        if isinstance(error, errors.IntegrityError) and self._resumed and self._restarts < _MAX_RESTARTS:
            # What lay on the disk was not what it was taken for (faults.md row 46): all of it is fetched again.
            error.stats = None if self._end is None else self._end.stats
            self._restart(error)
        else:
            self._fail(error)

    def stop(self) -> None:
        """The batch ends before this download: keep what can be used later."""
        self._cancel()
        self._close(keep=self._batch.options.resume)

    def _result(self) -> DownloadResult:
        end, head, verdict = self._end, self._head, self._verdict
        seconds = time.monotonic() - self._began
        return DownloadResult(
            path=self.path,
            size=self._size or 0,
            checksum=verdict,
            verified=verdict.verified,
            seconds=seconds,
            stats=self._stats_with(None if end is None else end.stats),
            url=self.url,
            url_host=None if head is None else host_of(head.url),
            validator=self._validator,
            started_at=datetime.now(UTC) - timedelta(seconds=seconds),
            index=self.call.index,
        )

    def _tell_start(self, path: Path | None) -> None:
        if not self._told_start and self._batch.wants_events:
            self._told_start = True
            self._batch.post(Started(self.call.index, self.url, path, self._size, self.done))

    def _skip(self, path: Path, reason: str) -> None:
        self._cancel()
        self._batch.post(Skipped(self.call.index, path, reason))
        self._over()

    def _fail(self, error: errors.GetmError) -> None:
        if error.url is None:
            error.url = self.url
        error.stats = self._stats_with(error.stats)
        self._cancel()
        # Bytes that were proved wrong are of no use to a later run.
        self._close(keep=self._batch.options.resume and not isinstance(error, errors.IntegrityError))
        self._batch.post(Failed(self.call.index, self.url, self._path, error))
        self._over(failed=True)

    def _close(self, *, keep: bool) -> None:
        partial, self._partial = self._partial, None
        folder, self._folder = self._folder, None
        try:
            if partial is not None:
                partial.suspend() if keep else partial.discard()
        finally:
            if folder is not None:
                self._batch.folders.release(folder)
            if self._stream is not None:
                self._stream.discard()

    def _over(self, *, failed: bool = False) -> None:
        self._batch.over(self, failed=failed)


def _fits(saved: Saved | None, size: int | None, if_range: str | None) -> bool:
    """Whether what an earlier run left seems to be of the object that the response announces."""
    return saved is not None and saved.size == size and saved.if_range == if_range and bool(saved.done)
