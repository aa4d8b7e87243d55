"""One download of a batch: from its first request to its file in place, through restarts and dead engines."""

from __future__ import annotations

import copy
import enum
import os
import random
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from getm import errors
from getm.batch.attempt import Attempt
from getm.client.connection import ClientConnection
from getm.core.log import get_logger
from getm.core.redact import host_of, redact
from getm.core.retry import Fail, cannot_be_joined, cause, is_transient
from getm.core.units import MIB
from getm.core.version import Version
from getm.events import Failed, Finished, Progressed, Retried, Skipped, Started
from getm.files import (
    PartialFile,
    StreamTarget,
    changed_name,
    is_special,
    journal_name,
    needs_order,
    open_partial,
    resolve_target,
    target_error,
)
from getm.files.names import unusable
from getm.integrity.declared.types import Declared
from getm.integrity.files import check_file
from getm.integrity.values import parse_checksum
from getm.integrity.verdict import Verdict, unverified
from getm.protocol.messages import EndInfo, HeadInfo, NoteInfo, OpenRequest
from getm.results import DownloadResult, Stats

if TYPE_CHECKING:
    from getm.batch.scheduler import Batch

_log = get_logger()

# Files up to this size are put in place in groups: larger ones are worth a wait for the disk each.
_SMALL_BYTES = 8 * MIB
# How often a download starts over after its object was replaced during it, or after partial data of an earlier run
# proved wrong.
_MAX_RESTARTS = 2
# How often it continues with another engine. Otherwise an object that kills every engine would be tried for ever.
_MAX_ENGINE_DEATHS = 3
# Statuses by which a host allows no more connections at a time (RFC 6585, section 4; RFC 9110, section 15.6.4).
_TOO_MANY = frozenset({429, 503})
# Statuses about the object, or the server's load, and not about the request for a part. The engine handles 416.
_NOT_OF_RANGES = frozenset({404, 410, 416, 429})


class Call(msgspec.Struct, frozen=True):
    """One download as it was requested. `path` as `resolve_target` reads it; `request` lacks only what depends on the
    connection it goes over, and on what an earlier run left. `root`: the folder that the target may not leave, not even
    by symbolic links; None: it may be anywhere. `waived`: see `Finished`."""

    index: int
    path: str | None
    root: str | None
    request: OpenRequest
    waived: bool = False


class State(enum.Enum):
    """WAITING for its turn, or for a while before it asks again; RUNNING: an attempt is under way; COMPLETE: all bytes
    have come and the file is being finished; ENDED: it is over, though its file may still be closing."""

    WAITING = enum.auto()
    RUNNING = enum.auto()
    COMPLETE = enum.auto()
    ENDED = enum.auto()


class Job:
    """Runs one download; see `State`. Everything happens in the batch's thread, apart from `check`, which may run in
    the one that finishes files.

    `connections`: how many it may open to its host, fewer than asked for where the batch has no more left for it.
    `done`: bytes that are there, an earlier run's included. `not_before_s`, `deadline_s`: when it may ask again, and
    when it must have ended, by the monotonic clock; None: no matter.
    """

    def __init__(self, batch: Batch, call: Call) -> None:
        self.call: Call = call
        self.url: str = redact(call.request.url)
        self.host: str | None = host_of(call.request.url)
        self.connections: int = call.request.concurrency
        self.state: State = State.WAITING
        self.done: int = 0
        self.not_before_s: float | None = None
        self.deadline_s: float | None = None
        self._batch = batch
        self._began_s = time.monotonic()
        self._attempt: Attempt | None = None
        # The target of the bytes.
        self._path: Path | None = None
        self._partial: PartialFile | None = None
        self._stream: StreamTarget | None = None
        self._opens_stream = False
        # Whether the path is only what the URL suggests; and whether that was found to be wrong.
        self._is_guess = False
        self._misnamed = False
        # The name by the server or the URL, where a safe name was made of it.
        self._suggested: str | None = None
        # What is known about the object.
        self._size: int | None = None
        self._version: Version | None = None
        # By the first response, where a later one brings only the rest.
        self._declared: tuple[str, str] | None = None
        self._resumed = False
        self._verdict: Verdict = unverified("not finished")
        self._announced_start = False
        # Earlier attempts: why they ended, and their statistics together.
        self._restarts = self._deaths = self._retries = 0
        self._one_stream = False
        self._before: Stats | None = None
        # What the host refused it with, until others show whether that was for their sake; what these had brought when
        # it was last refused, or began; and whether they had brought any since the time before.
        self._refusal: errors.GetmError | None = None
        # How the server refused to send only the rest: then all of it is asked for.
        self._rest_refused: errors.GetmError | None = None
        self._others_progressed = False
        self._others_bytes = 0
        self._own_bytes = 0

    # Requests -------------------------------------------------------------------------------------------------------

    def start(self, connection: ClientConnection) -> None:
        """Send the request. What goes wrong becomes this job's failure, apart from the engine's death."""
        self.state = State.RUNNING
        if self._before is None:
            self._note_others()
        if self.deadline_s is None and (total_s := self.call.request.total_s) is not None:
            self.deadline_s = time.monotonic() + total_s
        self._attempt = Attempt(self, connection)
        try:
            if self._path is None:
                self._path = Path(self.call.path or "") if self._is_fixed() else self._foreseen()
            if self._path is not None and self._stream is None and self._partial is None and not self._open(self._path):
                return
            self._send()
        except errors.EngineDied:
            raise
        except errors.GetmError as error:
            self.fail(error)

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

    def _foreseen(self) -> Path | None:
        """The target by the URL alone, where an earlier run has left partial data under that name, most likely of the
        same object: then only the rest need be requested. None where there is none."""
        options, path = self._batch.options, self.call.path
        if self._misnamed or not options.resume or options.no_clobber or options.dry_run:
            return None
        if path is not None and needs_order(path):
            return None
        target = resolve_target(path, url=self.url, headers=())
        self._is_guess = os.path.lexists(target.parent / journal_name(target.name))
        return target if self._is_guess else None

    def _open(self, path: Path) -> bool:
        """Use `path` for this download; False where it is to be skipped."""
        options = self._batch.options
        if options.no_clobber and os.path.lexists(path):
            self._skip(path, "it exists")
            return False
        self._batch.targets.take(path, self.call.index)
        self._path = path
        # Text: a Path compares and hashes ten times as slowly.
        folder = self._batch.open_folder(os.path.dirname(str(path)), self.call.root)  # noqa: PTH120
        self._partial = open_partial(path, resume=options.resume, folder=folder)
        return True

    def _send(self) -> None:
        """Request what is missing: all of it, where no partial data is known."""
        attempt, partial = self._attempt, self._partial
        if attempt is None:
            return
        request = self.call.request
        total_s = request.total_s
        changes: dict[str, Any] = {}
        if self.deadline_s is not None and self._before is not None:
            total_s = self.deadline_s - time.monotonic()
            if total_s <= 0:
                raise self._too_late()
        saved = None if partial is None or self._rest_refused is not None else partial.saved
        if partial is not None and saved is not None and saved.size is not None:
            missing = tuple((span.start, span.stop) for span in partial.missing())
            changes = {"spans": missing, "version": saved, "or_whole": True}
        changes |= {
            "total_s": total_s,
            "concurrency": 1 if self._one_stream else self.connections,
        }
        if any(getattr(request, name) != value for name, value in changes.items()):
            request = msgspec.structs.replace(request, **changes)
        attempt.send(request)

    # What an attempt reports -----------------------------------------------------------------------------------------

    @property
    def in_order(self) -> bool:
        """Whether its target takes bytes in their order only."""
        return self._stream is not None

    def begin(self, info: HeadInfo) -> None:
        """The head of the response has come."""
        self._size = info.size
        self._resumed = info.resumed
        for note in info.notes:
            _log.warning("%s: %s", self.url, note)
        if self._batch.options.dry_run:
            self._foresee(info)
            return
        if self._is_guess and not self._check_guess(info):
            return
        version = self._version = info.version
        if self._partial is None and self._stream is None:
            if self.call.path is not None and needs_order(self.call.path):
                self._path = Path(self.call.path)
                # Said before, for whoever stops the batch: a FIFO without a reader blocks here.
                self._opens_stream = True
                self._stream = StreamTarget.open(self._path)
            elif not self._open_named(info):
                return
            elif self._partial is not None and _is_same(self._partial.saved, version):
                # Its name was not known before the head: request again, only what is missing.
                self._ask_again()
                return
        if self._partial is not None:
            self._declared = self._partial.declared if info.resumed else None
            declared = info.declared[0] if info.declared else None
            self._partial.begin(version, declared=declared, resumed=info.resumed)
            self.done = self._partial.done_bytes
        self._report_start(self._path)

    def _open_named(self, info: HeadInfo) -> bool:
        opened = self._open(self._named_by(info))
        if opened:
            self._report_name(info)
        return opened

    def _report_name(self, info: HeadInfo) -> None:
        self._suggested = changed_name(self.url, info.head.headers)
        if self._suggested is not None:
            _log.warning("%s is called %r, which is no safe name; saved as %s", self.url, self._suggested, self.path)

    def _named_by(self, info: HeadInfo) -> Path:
        options, path = self._batch.options, self.call.path
        try:
            return resolve_target(path, url=self.url, headers=info.head.headers, may_exist=options.no_clobber)
        except errors.TargetError:
            # Where it is another download's of this batch, that is what the caller can do something about.
            self._batch.targets.take(
                resolve_target(path, url=self.url, headers=info.head.headers, may_exist=True), self.call.index
            )
            raise

    def _check_guess(self, info: HeadInfo) -> bool:
        """False: the server gives it another name. The partial data under the guessed one is left alone, and the
        request is repeated."""
        self._is_guess = False
        if self._named_by(info) == self._path:
            self._report_name(info)
            return True
        self._misnamed = True
        self._batch.targets.leave(self.path)
        self._cancel()
        self._close_file(keep=True)
        self._path = None
        self._wait()
        return False

    def _ask_again(self) -> None:
        attempt = self._attempt
        self._cancel()
        if attempt is None or attempt.connection.closed:
            self._wait()
            return
        self._attempt = Attempt(self, attempt.connection)
        self._send()

    def _foresee(self, info: HeadInfo) -> None:
        """Report what would be done with the object, and end."""
        path = self._named_by(info)
        if self._batch.options.no_clobber and os.path.lexists(path):
            self._skip(path, "it exists")
            return
        self._batch.targets.take(path, self.call.index)
        self._report_start(path)
        self._cancel()
        self._end()

    def write(self, offset: int, view: memoryview) -> None:
        """Bytes of the object have come. Raises `TargetError`, `SizeMismatch`."""
        if self._partial is not None:
            self._partial.write(offset, view)
        elif self._stream is not None:
            self._stream.write(offset, view)
        length = len(view)
        self.done += length
        self._own_bytes += length
        self._batch.hosts.received(self.host, length)
        expected = self.call.request.size
        if expected is not None and self.done > expected:
            # Of unknown size, and longer than it may be: the rest would only fill the disk.
            raise errors.SizeMismatch.of(expected, self.done, self.url)

    def wrote(self) -> None:
        """All bytes so far have been written."""
        self._batch.progressed(self)
        if self._partial is not None and self._partial.checkpoint_due:
            self._batch.checkpoint(self, self._partial)

    def checkpoint_failed(self, partial: PartialFile, error: errors.TargetError) -> None:
        """The disk failed to take the bytes of `partial`."""
        if self._partial is partial and self.state is State.RUNNING:
            self.fail(error)

    def note_retry(self, note: NoteInfo) -> None:
        _log.info("retry %d of %s in %.1f s (%s): %s", note.attempt, self.url, note.delay_s, note.cause, note.message)
        self._batch.post(Retried(self.call.index, note.cause, note.attempt, note.delay_s, note.message))

    def complete(self, info: EndInfo) -> None:
        """All bytes have come."""
        self._size = info.total
        if self._batch.options.dry_run:
            return
        if self._batch.wants_events:
            self._batch.post(self.progress())
        self.state = State.COMPLETE
        self._batch.to_finish(self)

    # Failures: what is tried again, and what is not -------------------------------------------------------------------

    def attempt_failed(self, error: errors.GetmError) -> None:
        """The engine has given up, after its own retries."""
        if self._before is not None and isinstance(error, errors.TimedOut) and error.phase == "total":
            # The time limit of this attempt was the rest of the deadline.
            reported, error = error.stats, self._too_late()
            error.stats = reported
        if self._stream is not None and self.done:
            # Bytes that were written to a pipe cannot be taken back.
            self.fail(error)
        elif isinstance(error, errors.RemoteChanged | errors.RangesRefused) and self._restarts < _MAX_RESTARTS:
            # What came so far is of a version that is gone, or cannot be completed.
            self._restarts += 1
            # The servers behind one name may not agree on the version: one response is of one of them.
            self._one_stream = self._restarts == _MAX_RESTARTS or isinstance(error, errors.RangesRefused)
            self._again(error, self._restarts, keep=False)
        elif isinstance(error, errors.EngineDied):
            # A helper engine: its connection cannot be used any more.
            if self._attempt is not None:
                self._batch.lost(self._attempt.connection, error)
        elif self._is_refusal(error) and (self._note_others() or self._batch.hosts.has_others(self.host)):
            self._refused(error)
        elif self._rest_refused is not None and self._never_answered and isinstance(error, errors.HTTPStatusError):
            # All of it is refused as well: it was not the range.
            self.fail(self._rest_refused)
        elif self._refuses_rest(error):
            self._ask_for_all(error)
        elif self._cannot_be_joined(error):
            self._retry(error)
        else:
            self.fail(error)

    def engine_died(self, error: errors.GetmError) -> None:
        """Continue with another engine: what is written stays."""
        self._deaths += 1
        if (
            self._deaths > _MAX_ENGINE_DEATHS
            or not isinstance(error, errors.EngineDied)
            or (self.streams and self.done)
        ):
            self.fail(error)
        else:
            self._again(error, self._deaths, keep=True)

    def _note_others(self) -> bool:
        """Whether other downloads have received bytes from the host since this was last asked."""
        others_bytes = self._batch.hosts.received_bytes(self.host) - self._own_bytes
        self._others_progressed = others_bytes > self._others_bytes
        self._others_bytes = others_bytes
        return self._others_progressed

    def _refused(self, error: errors.GetmError) -> None:
        hosts = self._batch.hosts
        hosts.refused(self.host, self.connections)
        if hosts.has_others(self.host):
            self._refusal = error
            self._cancel()
            self._wait()
        else:
            # They have just ended; the host may need a moment to notice.
            delay_s = random.random() * self.call.request.retries.base_s
            self._again(error, self._retries + 1, keep=True, delay_s=delay_s)

    def may_ask(self) -> bool | None:
        """Whether a waiting job may request again now. None: it has failed instead.

        One that its host has refused may when others from there have received bytes since: then the host only allows
        fewer connections at a time. If all others have ended without any, it has failed.
        """
        if self.not_before_s is not None and self.not_before_s > time.monotonic():
            return False
        error, hosts = self._refusal, self._batch.hosts
        if error is None:
            return hosts.has_room(self.host)
        if self._others_progressed or hosts.received_bytes(self.host) - self._own_bytes > self._others_bytes:
            self._refusal = None
            self._prepare_again(error, self._retries + 1, keep=True)
            return hosts.has_room(self.host)
        if hosts.is_used(self.host):
            return False
        hosts.succeeded(self.host)
        self.fail(error)
        return None

    def _is_refusal(self, error: errors.GetmError) -> bool:
        """Whether the host may only allow no further connection while the others are open."""
        if isinstance(error, errors.HTTPStatusError):
            return error.status in _TOO_MANY
        if isinstance(error, errors.TimedOut) and error.phase == "total":
            return False
        # A response that breaks HTTP is none for the want of a connection.
        broken = isinstance(error, errors.BadResponse)
        return is_transient(error) and not broken and self._never_answered

    @property
    def _never_answered(self) -> bool:
        return self._attempt is None or self._attempt.head is None

    def _refuses_rest(self, error: errors.GetmError) -> bool:
        """Whether the server may only refuse to send a part of the object, which it need not (RFC 9110, section 14.2):
        in a later run, or after the connection broke."""
        if self._attempt is None or not (self._attempt.resumes or self._attempt.received_bytes):
            return False
        if isinstance(error, errors.HTTPStatusError):
            return error.status not in _NOT_OF_RANGES
        return isinstance(error, errors.BadResponse)

    def _ask_for_all(self, error: errors.GetmError) -> None:
        """Start over without a range. What is there is only removed when the server sends all of it: a signed URL that
        has expired is refused in the same way, and the next one can bring the rest."""
        first = self._rest_refused is None
        if not first and self._retries >= self.call.request.retries.attempts:
            self.fail(error)
            return
        self._retries += not first
        self._rest_refused = error
        self._again(error, self._retries + 1, keep=True)

    def _cannot_be_joined(self, error: errors.GetmError) -> bool:
        """Whether the connection broke within an object of which no later response can bring just the rest (RFC 9110,
        section 13.1.5): the engine could not retry that, and a file can start over."""
        head = None if self._attempt is None else self._attempt.head
        return head is not None and cannot_be_joined(error, head.version, self.call.request.retries.statuses)

    def _retry(self, error: errors.GetmError) -> None:
        """Start over, by the retry policy."""
        left_s = None if self.deadline_s is None else self.deadline_s - time.monotonic()
        # Not a secret; only to keep many clients from returning at the same moment.
        jitter = random.random()
        decision = self.call.request.retries.decide(error, self._retries + 1, jitter=jitter, left_s=left_s)
        if isinstance(decision, Fail):
            self.fail(error)
            return
        self._retries += 1
        self._again(error, self._retries, keep=False, delay_s=decision.delay_s)

    def _again(self, error: errors.GetmError, number: int, *, keep: bool, delay_s: float = 0.0) -> None:
        """Ask again after `error`: for what is missing where what came is of use (`keep`), else for all of it."""
        try:
            self._prepare_again(error, number, keep=keep, delay_s=delay_s)
        except errors.TargetError as refused:
            self.fail(refused)
        else:
            self._wait(delay_s)

    def _prepare_again(self, error: errors.GetmError, number: int, *, keep: bool, delay_s: float = 0.0) -> None:
        why = cause(error)
        self._before = self._stats_with(error.stats) + Stats(retries={why: 1})
        self._cancel()
        self._attempt = None
        self.note_retry(NoteInfo(why, number, delay_s, str(error)))
        if self._partial is not None:
            self._partial.interrupt(keep=keep)
        self.done = 0

    def _wait(self, delay_s: float = 0.0) -> None:
        self.state = State.WAITING
        self.not_before_s = time.monotonic() + delay_s if delay_s else None
        self._batch.again(self)

    def _too_late(self) -> errors.TimedOut:
        limit_s = self.call.request.total_s or 0.0
        return errors.TimedOut(f"the download took longer than its {limit_s:g} s", phase="total", timeout_s=limit_s)

    def expire(self) -> None:
        """Its deadline has passed while it waited to request again."""
        self.fail(self._too_late())

    def _stats_with(self, reported: Stats | None) -> Stats:
        """The statistics of all attempts. `reported`: by an engine, of the last one; None where it died, or had no
        request."""
        now = (reported or Stats()) if self._attempt is None else self._attempt.stats(reported)
        return now if self._before is None else self._before + now

    # The end --------------------------------------------------------------------------------------------------------

    @property
    def streams(self) -> bool:
        """Whether it writes to something that may block for ever."""
        return self._opens_stream or self._stream is not None

    @property
    def file(self) -> tuple[PartialFile, float | None] | None:
        """The file to be put in place, with its time of change; None for a stream."""
        if self._partial is None:
            return None
        head = None if self._attempt is None or not self._batch.options.remote_time else self._attempt.head
        return self._partial, None if head is None else head.head.modified_at()

    @property
    def path(self) -> Path:
        """The target, as far as it is known."""
        return self._path or Path(self.call.path or ".")

    @property
    def small(self) -> bool:
        """Whether finishing it is quick enough to be done together with others."""
        return not self._resumed and self._size is not None and self._size <= _SMALL_BYTES

    def check(self) -> errors.GetmError | None:
        """Verify by reading what the engine could not verify during the transfer: a file of which an earlier run, or an
        engine that died, brought a part. Returns what is wrong. In any thread."""
        try:
            self._verify()
        except errors.GetmError as error:
            return error
        except OSError as error:
            return target_error(error, self.path)
        return None

    def _verify(self) -> None:
        """Raises `ChecksumMismatch`, `Unverified`."""
        attempt = self._attempt
        if attempt is None or attempt.end is None or attempt.head is None:
            return
        self._verdict = attempt.end.verdict
        if not self._resumed or self._partial is None or self.call.request.checksums is None:
            return
        # A partial response may declare less than the first one did.
        declared = attempt.head.declared or (() if self._declared is None else (self._declared,))
        if declared:
            expected = (Declared(parse_checksum(text), source) for text, source in declared)
            self._verdict = check_file(self._partial.path_now, expected)
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
        self._batch.hosts.succeeded(self.host)
        self._batch.post(Finished(self.call.index, self._result(), self.call.waived))
        self._close_file(keep=True)
        self._end()

    def finish_failed(self, error: errors.GetmError) -> None:
        """The file could not be finished."""
        if isinstance(error, errors.IntegrityError) and self._resumed and self._restarts < _MAX_RESTARTS:
            # The partial data on the disk was not of this object: all of it is fetched again.
            if self._attempt is not None and self._attempt.end is not None:
                error.stats = self._attempt.end.stats
            self._restarts += 1
            self._again(error, self._restarts, keep=False)
        else:
            self.fail(error)

    def stop(self) -> None:
        """The batch ends before this download: keep partial data."""
        self._cancel()
        self.state = State.ENDED
        self._close_file(keep=self._batch.options.resume)

    def fail(self, error: errors.GetmError) -> None:
        """It has failed for good."""
        if self.state is State.ENDED:
            return
        # A copy: an error that ends several downloads must not name the URL of one of them.
        own = copy.copy(error)
        own.__cause__ = error.__cause__
        if own.url is None:
            own.url = self.url
        own.stats = self._stats_with(error.stats)
        self._cancel()
        self._end(failed=True)
        event = Failed(self.call.index, self.url, self._path, own)
        # Bytes that proved wrong are useless to a later run.
        keep = self._batch.options.resume and not isinstance(error, errors.IntegrityError)
        self._close_file(keep=keep, event=event)

    def _cancel(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()

    def _end(self, *, failed: bool = False) -> None:
        self.state = State.ENDED
        self._batch.over(self, failed=failed)

    def _close_file(self, *, keep: bool, event: Failed | None = None) -> None:
        """Close the target; `event` is posted when a later run could use the partial data."""
        partial, self._partial = self._partial, None
        if self._stream is not None:
            self._stream.close()
        if partial is not None and partial.begun:
            self._batch.close_file(partial, keep=keep, event=event)
            return
        if partial is not None:
            partial.close()
        if event is not None:
            self._batch.post(event)

    def progress(self) -> Progressed:
        """Its progress."""
        return Progressed(self.call.index, self.done, self._size)

    def _result(self) -> DownloadResult:
        attempt, verdict = self._attempt, self._verdict
        head, end = (None, None) if attempt is None else (attempt.head, attempt.end)
        seconds = time.monotonic() - self._began_s
        return DownloadResult(
            path=self.path,
            size=self._size or 0,
            checksum=verdict,
            verified=verdict.verified,
            seconds=seconds,
            stats=self._stats_with(None if end is None else end.stats),
            url=self.url,
            url_host=None if head is None else host_of(head.head.url),
            version=self._version,
            started_at=datetime.now(UTC) - timedelta(seconds=seconds),
            index=self.call.index,
            suggested_name=self._suggested,
        )

    def _report_start(self, path: Path | None) -> None:
        if not self._announced_start and self._batch.wants_events:
            self._announced_start = True
            self._batch.post(Started(self.call.index, self.url, path, self._size, self.done))

    def _skip(self, path: Path, reason: str) -> None:
        self._cancel()
        self._batch.post(Skipped(self.call.index, path, reason))
        self._end()


def _is_same(saved: Version | None, version: Version) -> bool:
    """Whether the partial data of an earlier run seems to be of the object of the response."""
    return saved is not None and saved.size == version.size and saved.strong == version.strong
