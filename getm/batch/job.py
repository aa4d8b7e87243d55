"""One download of a batch: from its first request to its file in place, through restarts and dead engines."""

from __future__ import annotations

import copy
import enum
import os
import random
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from getm import errors
from getm.batch.attempt import Attempt, Leftover, SmallFile
from getm.batch.crowd import Crowd
from getm.batch.hosts import Host
from getm.batch.target import Opened, Target
from getm.client.connection import ClientConnection
from getm.core.lazy import importing
from getm.core.log import get_logger
from getm.core.redact import host_of, redact
from getm.core.retry import Fail, cannot_be_joined, cause, is_refusal, short_reason
from getm.core.stats import Stats, Times
from getm.core.units import MIB
from getm.core.url_path import is_url
from getm.events import Adapted, Failed, Finished, Progressed, Retried, Skipped, Started
from getm.files.commit import CompleteFile
from getm.files.os_errors import target_error
from getm.files.partial import PartialFile
from getm.integrity.values import Checksum
from getm.integrity.verdict import Verdict, unverified
from getm.protocol.messages import AdaptedInfo, EndInfo, HeadInfo, NoteInfo, OpenRequest, RenewedInfo
from getm.resolve.request import locator_of
from getm.results import DownloadResult

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from concurrent.futures import Future

    from getm.batch.existing_file import ExistingFile
    from getm.batch.object_target import ObjectTarget
    from getm.batch.scheduler import Batch
    from getm.client.pool import EnginePool
    from getm.core.version import Version
    from getm.resolve.locator import Found, Locator

_log = get_logger()

# Files up to this size are put in place in groups: larger ones are worth a wait for the disk each.
_SMALL_BYTES = 8 * MIB
# How often a download starts over after its object was replaced during it, or after partial data of an earlier run, or
# a content that may have been cut off, proved wrong.
_MAX_RESTARTS = 2
# How often it continues with another engine. Otherwise an object that kills every engine would be tried for ever.
_MAX_ENGINE_DEATHS = 3


class State(enum.Enum):
    """WAITING for its turn, or for a while before it asks again; RUNNING: an attempt is under way; COMPLETE: all bytes
    have come and the file is being finished; ENDED: it is over, though its file may still be closing."""

    WAITING = enum.auto()
    RUNNING = enum.auto()
    COMPLETE = enum.auto()
    ENDED = enum.auto()


class Job:
    """One download, from its request to its end; see `State`. Everything happens in the batch's thread, apart from
    `check`, which may run in the one that finishes files.

    `path`: as `resolve_target` reads it. `root`: the folder that the target may not leave, not even by symbolic links;
    None: it may be anywhere. `request` lacks only what depends on the connection it goes over, and on what an earlier
    run left. `waived`: see `Finished`.

    `connections`: how many it may open to its host, fewer than asked for where the batch has no more left for it.
    `size`: of its object, in bytes, as far as it is known. `done`: bytes that are there, an earlier run's included.
    `in_order`: whether it writes to something that takes bytes in order; `may_block`: and may block for ever.
    `not_before_s`, `deadline_s`: when it may ask again, and when it must have ended, by the monotonic clock; None: no
    matter.
    """

    def __init__(
        self,
        batch: Batch,
        index: int,
        path: str | None,
        root: str | None,
        request: OpenRequest,
        *,
        waived: bool = False,
    ) -> None:
        self.index: int = index
        self.request: OpenRequest = request
        self._locator: Locator | None = locator_of(request)
        self.url: str = redact(request.url) if self._locator is None else self._locator.name or self._locator.label
        self.host: Host = batch.host(host_of(request.url))
        self.connections: int = request.concurrency
        self.size: int | None = request.size
        self.state: State = State.WAITING
        self.done: int = 0
        self.in_order: bool = False
        self.may_block: bool = False
        self.began_s: float = 0.0
        self.not_before_s: float | None = None
        self.deadline_s: float | None = None
        self._batch = batch
        self._target: Target | ObjectTarget
        if path is not None and is_url(path):
            with importing:
                from getm.batch.object_target import ObjectTarget
            self._target = ObjectTarget(batch, index, self.url, path, self._take_more, self._uploaded)
            # The CRC32C of what comes, to compare with that of what is uploaded.
            self.request = msgspec.structs.replace(request, blocks=True)
        else:
            self._target = Target(batch, index, self.url, path, root)
        self._waived = waived
        self._attempt = Attempt(self)
        self._verdict: Verdict = unverified("not finished")
        self._announced_start = False
        # Earlier attempts: why they ended, and their statistics together.
        self._restarts = self._deaths = self._retries = 0
        self._before: Stats | None = None
        self._existing: ExistingFile | None = None
        if batch.options.existing != "replace":
            self._existing = self._target.existing(self)
        self._crowd = Crowd()
        # When its last byte had come, and how long it took to read it back.
        self._complete_s = self._checking_s = 0.0

    # What is there already --------------------------------------------------------------------------------------------

    def examine_existing(self) -> bool:
        """Before the first request: have a file that is there examined, in another thread. False where none is, as far
        as that is known."""
        return self._existing is not None and self._existing.examine()

    # Where the object is ---------------------------------------------------------------------------------------------

    @property
    def is_located(self) -> bool:
        """Whether it is known where the object is; otherwise it is to be found just before the request."""
        return self._locator is None or self._locator.is_current

    @property
    def is_named(self) -> bool:
        """Whether there is a name to call it by, for messages and its file, before it is found."""
        return self._locator is None or self._locator.name is not None or self._locator.is_current

    def find(self, pool: EnginePool, loop: asyncio.AbstractEventLoop | None) -> Future[Found] | None:
        """Ask where the object is. `pool`: for requests that this takes. `loop`: of the batch's caller, in asyncio."""
        if self._locator is None:
            return None
        with importing:
            from getm.client.pages import fetch_page
        return self._locator.locate(self.request, partial(fetch_page, pool), loop)

    def found(self) -> None:
        """It has become known where the object is."""
        if self._locator is not None:
            self.request = self._locator.applied(self.request)
            self.host = self._batch.host(host_of(self.request.url))
            self.size = self.request.size if self.size is None else self.size
            if self._locator.name is None:
                self.url = self._target.url = redact(self.request.url)

    def renew(self, serial: int, answer: Callable[[RenewedInfo], None]) -> None:
        """The URLs with that serial number have expired."""
        if self._locator is None:
            raise errors.ProtocolError("EXPIRED for an object whose URL cannot be renewed")
        self._locator.renew(self.request, serial, answer)

    # Attempts --------------------------------------------------------------------------------------------------------

    def end_attempt(self, stats: Stats | None) -> None:
        """What it asked for is not needed, or has come; another attempt may follow. `stats`: its statistics; None where
        it made no request."""
        self._attempt.cancel()
        if stats is not None:
            self._before = self._stats_with(stats)
        self._attempt = Attempt(self)

    def leave_existing(self, path: str, size: int, verdict: Verdict, why: str, version: Version | None = None) -> None:
        """The file that is there stays. Raises `TargetError` where it is another download's target."""
        self._target.leave(path)
        result = None
        if not self._batch.options.dry_run:
            result = msgspec.structs.replace(
                self._result(), size=size, checksum=verdict, verified=verdict.verified, version=version, left=why
            )
        self._batch.post(Skipped(self.index, self._target.path, why, result))
        self._end()

    def _let_existing_come_first(self) -> None:
        if self._existing is not None:
            head, end = self._attempt.head, self._attempt.end
            # Only the end says more than that there was a request.
            stats = None if head is None else Stats(requests=1) if end is None else end.stats
            self._existing.come_first(head, stats)

    # Requests -------------------------------------------------------------------------------------------------------

    def start(self, connection: ClientConnection) -> None:
        """Send the request. What goes wrong becomes this job's failure, apart from the engine's death."""
        self.state = State.RUNNING
        if self._before is None:
            self._crowd.has_progressed(self.host)
        if self.deadline_s is None and self.request.total_s is not None:
            self.deadline_s = time.monotonic() + self.request.total_s
        try:
            if (self._existing is not None and self._existing.asks) or self._target.foresee():
                self._send(connection)
            else:
                self._let_existing_come_first()
        except errors.EngineDied:
            raise
        except errors.GetmError as error:
            self.fail(error)

    def _send(self, connection: ClientConnection) -> None:
        """Request what is missing: all of it, where no partial data is known; or what the server says of it."""
        if self._locator is not None:
            self.request = self._locator.applied(self.request)
        partial, small = self._target.partial, None
        changes: dict[str, Any] = {}
        if self.deadline_s is not None and self._before is not None:
            changes["total_s"] = self.deadline_s - time.monotonic()
            if changes["total_s"] <= 0:
                raise self._too_late()
        if self._existing is not None and self._existing.asks:
            changes |= self._existing.changes()
        elif partial is not None and partial.saved is not None:
            missing = tuple((span.start, span.stop) for span in partial.missing())
            changes |= {"spans": missing, "version": partial.saved, "or_whole": True}
        if not (changes.get("spans") == () or self._batch.options.dry_run or self._target.takes_in_order):
            if not (changes.get("or_whole") or changes.get("unless")):
                small = self._target.small_file()
            changes["file"] = self._batch.file_request(small)
        request = msgspec.structs.replace(self.request, concurrency=self.connections, **changes)
        self._attempt.send(connection, request, small)

    def leave(self, small: SmallFile, connection: ClientConnection) -> Leftover:
        """A cancelled attempt's small file, which may be there by now."""
        return self._batch.leave(small, connection)

    # What an attempt reports -----------------------------------------------------------------------------------------

    def begin(self, info: HeadInfo) -> None:
        """The head of the response has come."""
        self._hear(info)
        if self._existing is not None and self._existing.begin(info):
            return
        target = self._target
        if self._batch.options.dry_run:
            # Only what would be done with the object is reported.
            if target.name_by(info):
                self._report_start()
                self._attempt.cancel()
                self._end()
            else:
                self._let_existing_come_first()
            return
        # Said before, for whoever stops the batch: a FIFO without a reader blocks.
        self.in_order, self.may_block = target.takes_in_order, target.may_block
        opened = target.open_for(info)
        if opened is Opened.NOT:
            self._let_existing_come_first()
            return
        if opened is Opened.WITH_PART:
            self._ask_again()
            return
        if target.partial is not None:
            declared = info.declared[0] if info.declared else None
            target.partial.begin(info.version, declared=declared, resumed=info.resumed)
            partial = target.partial
            self._attempt.write_to(self._batch.folders.entry(partial.folder, partial.name, resumable=partial.resumable))
            self.done = partial.done_bytes
        self._report_start()

    def _ask_again(self) -> None:
        """Only now it is known what an earlier run has left of the object: this response brings too much of it, or too
        little."""
        connection = self._attempt.connection
        self._attempt.cancel()
        self._attempt = Attempt(self)
        if connection is None or connection.closed:
            self._wait()
        else:
            self._send(connection)

    def begin_stored(self, info: HeadInfo, small: SmallFile) -> bool:
        """All of a small object is there, of which this is the head. False where it is not wanted. Raises
        `TargetError`; the file is still the caller's then."""
        self._hear(info)
        if not self._target.adopt(info, small):
            self._let_existing_come_first()
            return False
        # Nothing of it is from before.
        self._report_start()
        self.done = info.size or 0
        return True

    def _hear(self, info: HeadInfo) -> None:
        for note in info.notes:
            _log.warning("%s: %s", self.url, note)
        if info.size is not None:
            self.host.sized(self.size, info.size)
            self.size = info.size
        if self._existing is not None:
            self._existing.check_version(info)

    def write(self, offset: int, view: memoryview) -> None:
        """Bytes of an object that goes to a stream have come. Raises `TargetError`, `SizeMismatch`."""
        if self._target.upload is not None:
            self._target.upload.write(view)
        elif self._target.stream is not None:
            self._target.stream.write(offset, view, may_be_last=self._attempt.may_be_last(offset + len(view)))
        self._count(len(view))

    @property
    def ready(self) -> bool:
        """Whether it takes more bytes now."""
        return self._target.upload is None or self._target.upload.ready

    @property
    def uploads(self) -> bool:
        """Whether its bytes go to a store of objects."""
        return self._target.upload is not None

    def _take_more(self) -> None:
        self._attempt.go_on()

    def _uploaded(self, outcome: Checksum | errors.GetmError) -> None:
        """Its object is in its place, and has that checksum; or why it is not."""
        if isinstance(outcome, Checksum):
            computed = (*self._verdict.computed, outcome)
            self._verdict = msgspec.structs.replace(self._verdict, computed=tuple(dict.fromkeys(computed)))
            self._batch.uploaded(self, None)
        elif isinstance(outcome, errors.Cancelled):
            # By `hurry`.
            self._end()
            self._target.close(keep=False)
        elif self.state is State.COMPLETE:
            self._batch.uploaded(self, outcome)
        else:
            self.fail(outcome)

    def wrote_to_file(self, offset: int, length: int) -> None:
        """The engine has written bytes of the object to its file. Raises `TargetError`, `SizeMismatch`."""
        if self._target.partial is not None:
            self._target.partial.wrote(offset, length)
        self._count(length)

    def _count(self, length: int) -> None:
        self.done += length
        self._crowd.received(self.host, length)
        expected = self.request.size
        if expected is not None and self.done > expected:
            # Of unknown size, and longer than it may be: the rest would only fill the disk.
            raise errors.SizeMismatch.of(expected, self.done, self.url)

    def wrote(self) -> None:
        """All bytes so far have been written."""
        self._batch.progressed(self)
        if self._target.partial is not None and self._target.partial.checkpoint_due:
            self._batch.checkpoint(self, self._target.partial)

    def checkpoint_failed(self, partial: PartialFile, error: errors.TargetError) -> None:
        """The disk failed to take the bytes of `partial`."""
        if self._target.partial is partial and self.state is State.RUNNING:
            self.fail(error)

    def note_retry(self, note: NoteInfo) -> None:
        _log.info("%s", note.line(self.url))
        if not note.attempt:
            return
        path = self._target.known_path
        told = note.cause, note.attempt, note.delay_s, note.message, note.reason, note.attempts
        self._batch.post(Retried(self.index, *told, self.url, path))

    def note_adapted(self, info: AdaptedInfo) -> None:
        """It comes over another number of connections."""
        _log.info("%s: %d connections: %s", self.url, info.connections, info.reason)
        self._batch.post(Adapted(self.index, info.connections, info.reason))

    def complete(self, end: EndInfo) -> None:
        """All bytes have come."""
        if self._existing is not None and self._existing.complete(end, self._attempt.head):
            return
        if self._batch.options.dry_run:
            return
        if self._target.stream is not None:
            self._target.stream.finish()
        if self._batch.wants_events:
            self._batch.post(Progressed(self.index, end.total, end.total))
        self._verdict = end.verdict
        self._complete_s = time.monotonic()
        self.state = State.COMPLETE
        self._batch.to_finish(self)
        if self._target.upload is not None:
            self._target.upload.finish(end.verdict)

    # Failures: what is tried again, and what is not -------------------------------------------------------------------

    def attempt_failed(self, error: errors.GetmError) -> None:
        """The engine has given up, after its own retries."""
        head = self._attempt.head
        if self._locator is not None:
            error = self._locator.explain(error)
        if self._before is not None and isinstance(error, errors.TimedOut) and error.phase == "total":
            # The time limit of this attempt was the rest of the deadline.
            reported, error = error.stats, self._too_late()
            error.stats = reported
        if self._target.stream is not None and self._target.stream.written:
            # Bytes that were written to a pipe cannot be taken back.
            self.fail(error)
        elif isinstance(error, errors.TargetError) and error.errno is not None:
            # The engine's, which knows nothing but a hidden file.
            self.fail(target_error(OSError(error.errno, os.strerror(error.errno)), self._target.path))
        elif isinstance(error, errors.RemoteChanged | errors.RangesRefused) and self._restarts < _MAX_RESTARTS:
            # What came so far is of a version that is gone, or cannot be completed.
            self._restarts += 1
            if self._restarts == _MAX_RESTARTS or isinstance(error, errors.RangesRefused):
                # The servers behind one name may not agree on the version: one response is of one of them.
                self.request = msgspec.structs.replace(self.request, concurrency=1)
            self._again(error, self._restarts, keep=False)
        elif isinstance(error, errors.ChecksumMismatch) and self._may_be_cut() and self._restarts < _MAX_RESTARTS:
            self._restarts += 1
            self._again(error, self._restarts, keep=False)
        elif isinstance(error, errors.EngineDied):
            # A helper engine: its connection cannot be used any more.
            if self._attempt.connection is not None:
                self._batch.lost(self._attempt.connection, error)
        elif self._is_refusal(error) and self._crowd.may_be_why(self.host, has_asked=self._before is not None):
            self._refused(error)
        elif head is not None and cannot_be_joined(error, head.version, self.request.retries.statuses):
            # The engine could not retry it, and a file can start over.
            self._retry(error)
        else:
            self.fail(error)

    def _may_be_cut(self) -> bool:
        """Whether only the end of the connection said where the content ends (RFC 9112, section 6.3): then nothing but
        a checksum tells one that was cut off."""
        head = None if self._attempt.head is None else self._attempt.head.head
        return head is not None and self._attempt.size is None and not head.is_chunked()

    def engine_died(self, error: errors.GetmError) -> None:
        """Continue with another engine: what is written stays."""
        self._deaths += 1
        written = self._target.stream is not None and self._target.stream.written
        if self._deaths > _MAX_ENGINE_DEATHS or not isinstance(error, errors.EngineDied) or written:
            self.fail(error)
        else:
            self._again(error, self._deaths, keep=True)

    def _refused(self, error: errors.GetmError) -> None:
        self.host.refused(self.connections)
        if self.host.jobs > 1:
            self._crowd.refusal = error
            self._attempt.cancel()
            self._wait()
        else:
            # They have just ended; the host may need a moment to notice.
            delay_s = random.random() * self.request.retries.base_s
            self._again(error, self._retries + 1, keep=True, delay_s=delay_s)

    def may_ask(self) -> bool | None:
        """Whether a waiting job may request again now. None: it has failed instead.

        One that its host has refused may when others from there have received bytes since: then the host only allows
        fewer connections at a time. If all others have ended without any, it has failed.
        """
        if self.not_before_s is not None and self.not_before_s > time.monotonic():
            return False
        # From now on it waits for nothing but room, which comes with an event.
        self.not_before_s = None
        error = self._crowd.refusal
        if error is not None:
            if self._crowd.is_to_be_waited_for(self.host):
                return False
            self._crowd.refusal = None
            if not self._crowd.made_room(self.host):
                self.host.succeeded()
                self.fail(error)
                return None
            self._prepare_again(error, self._retries + 1, keep=True)
        return self.host.has_room

    def _is_refusal(self, error: errors.GetmError) -> bool:
        """Whether the host may only allow no further connection while the others are open."""
        late = isinstance(error, errors.TimedOut) and error.phase == "total"
        begun = self._attempt.head is not None and not isinstance(error, errors.HTTPStatusError)
        return is_refusal(error) and not (late or begun)

    def _retry(self, error: errors.GetmError) -> None:
        """Start over, by the retry policy."""
        left_s = None if self.deadline_s is None else self.deadline_s - time.monotonic()
        # Not a secret; only to keep many clients from returning at the same moment.
        jitter = random.random()
        decision = self.request.retries.decide(error, self._retries + 1, jitter=jitter, left_s=left_s)
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
        self._attempt.cancel()
        self._attempt = Attempt(self)
        self.note_retry(NoteInfo(why, number, delay_s, str(error), short_reason(error), self.request.retries.attempts))
        self._target.interrupt(keep=keep)
        self.done = 0

    def _wait(self, delay_s: float = 0.0) -> None:
        self.state = State.WAITING
        self.not_before_s = time.monotonic() + delay_s if delay_s else None
        self._batch.again(self)

    def _too_late(self) -> errors.TimedOut:
        limit_s = self.request.total_s or 0.0
        return errors.TimedOut(f"the download took longer than its {limit_s:g} s", phase="total", timeout_s=limit_s)

    def expire(self) -> None:
        """Its deadline has passed while it waited to request again."""
        self.fail(self._too_late())

    def _stats_with(self, reported: Stats | None) -> Stats:
        """The statistics of all attempts. `reported`: by an engine, of the last one; None where it died, or had no
        request."""
        now = self._attempt.stats(reported)
        return now if self._before is None else self._before + now

    # The end --------------------------------------------------------------------------------------------------------

    @property
    def file(self) -> tuple[CompleteFile, float | None] | None:
        """The file to be put in place, with its time of change; None for a stream."""
        file = self._target.stored or self._target.partial
        if file is None:
            return None
        head = self._attempt.head if self._batch.options.takes_time else None
        return file, None if head is None else head.head.modified_at()

    @property
    def small(self) -> bool:
        """Whether finishing it is quick enough to be done together with others."""
        return not self._attempt.resumed and (self._attempt.size or 0) <= _SMALL_BYTES

    @property
    def to_be_read_back(self) -> bool:
        """Whether `check` has anything to do."""
        return self._attempt.resumed and (self.request.checksums is not None or self.request.blocks)

    def check(self) -> errors.GetmError | None:
        """Verify by reading what the engine could not verify during the transfer: a file of which an earlier run, or an
        engine that died, brought a part. Returns what is wrong. In any thread."""
        began_s = time.monotonic()
        try:
            self._verify()
        except errors.GetmError as error:
            return error
        except OSError as error:
            return target_error(error, self._target.path)
        finally:
            self._checking_s = time.monotonic() - began_s
        return None

    def _verify(self) -> None:
        """Raises `ChecksumMismatch`, `Unverified`."""
        if self._attempt.head is None or self._target.partial is None:
            return
        with importing:
            # And with it all that hashes, which is otherwise an engine's work.
            from getm.batch.read_back import read_back
        self._verdict = read_back(
            self._target.partial, self._attempt.head.declared, blocks=self.request.blocks, unread=self._verdict
        )
        if self._verdict.mismatch is not None:
            raise self._verdict.mismatch.as_error(self.url)
        if self.request.strict and not self._verdict.verified:
            raise errors.Unverified(
                f"strict was asked for and nothing verified the bytes: {self._verdict.reason}; give a checksum",
                url=self.url,
                reason=self._verdict.reason,
            )

    def succeed(self) -> None:
        """The file is in place."""
        self.host.succeeded()
        self._batch.post(Finished(self.index, self._result(), self._waived))
        self._target.in_place()
        self._end()

    def finish_failed(self, error: errors.GetmError) -> None:
        """The file could not be finished."""
        end, wrong = self._attempt.end, isinstance(error, errors.IntegrityError)
        if wrong and self._attempt.resumed and self._restarts < _MAX_RESTARTS:
            # The partial data on the disk was not of this object: all of it is fetched again.
            error.stats = None if end is None else end.stats
            self._restarts += 1
            self._again(error, self._restarts, keep=False)
        else:
            self.fail(error)

    def stop(self) -> None:
        """The batch ends before this download: keep partial data."""
        if self._target.upload is not None and self._target.upload.committing:
            # As a file that is being finished, which may be in its place already.
            return
        self._attempt.cancel()
        self.state = State.ENDED
        self._target.close(keep=self._batch.options.resume)

    def hurry(self) -> None:
        """End its upload soon, which the end of the batch has waited for: its object is in its place or not."""
        if self._target.upload is not None:
            self._target.upload.cancel()

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
        self._attempt.cancel()
        self._end(failed=True)
        event = Failed(self.index, self.url, self._target.known_path, own)
        # Bytes that proved wrong, or are of a version that is gone, are useless to a later run.
        useless = isinstance(error, errors.IntegrityError | errors.RemoteChanged)
        keep = self._batch.options.resume and not useless
        self._target.close(keep=keep, event=event)

    def _end(self, *, failed: bool = False) -> None:
        self.state = State.ENDED
        self._batch.over(self, failed=failed)

    def progress(self) -> Progressed:
        """Its progress."""
        return Progressed(self.index, self.done, self._attempt.size)

    def _result(self) -> DownloadResult:
        verdict, head, end = self._verdict, self._attempt.head, self._attempt.end
        now = time.monotonic()
        seconds = now - self.began_s
        stats = self._stats_with(None if end is None else end.stats)
        if self.uploads:
            stats = stats.for_store(now - self._complete_s)
        elif self._target.stored is None and not self.small:
            # Small ones wait for others that are put in place with them.
            finishing_s = now - self._complete_s
            stats = stats.and_then(Times(disk_s=max(0.0, finishing_s - self._checking_s), hashing_s=self._checking_s))
        return DownloadResult(
            path=self._target.path,
            size=self._attempt.size or 0,
            checksum=verdict,
            verified=verdict.verified,
            seconds=seconds,
            stats=stats,
            url=self.url,
            url_host=None if head is None else host_of(head.head.url),
            version=None if head is None else head.version,
            started_at=datetime.now(UTC) - timedelta(seconds=seconds),
            index=self.index,
            suggested_name=self._target.suggested,
            replaced=None if self._existing is None else self._existing.replaced,
            content_coding=None if head is None else head.head.content_coding(),
        )

    def _report_start(self) -> None:
        if not self._announced_start and self._batch.wants_events:
            self._announced_start = True
            self._batch.post(Started(self.index, self.url, self._target.known_path, self._attempt.size, self.done))
