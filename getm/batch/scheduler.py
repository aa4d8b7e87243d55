"""The thread that runs a batch: starts jobs, receives their bytes, has complete files finished."""

from __future__ import annotations

import contextlib
import functools
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from getm import errors
from getm.batch.attempt import Leftover, SmallFile
from getm.batch.connections import Connections
from getm.batch.feed import Feed
from getm.batch.finishing import Finishing, Outcomes
from getm.batch.folders import Folders
from getm.batch.hosts import FEW, Host
from getm.batch.job import Job
from getm.batch.reports import Post, Reports
from getm.batch.settings import DEFAULT_JOBS, BatchOptions
from getm.batch.targets import Targets
from getm.batch.workers import Workers
from getm.client.connection import ClientConnection
from getm.client.pool import EnginePool
from getm.core.log import get_logger
from getm.core.this_process import file_mode
from getm.core.url import is_tls
from getm.events import Event
from getm.files.partial import JOURNALED_FROM_BYTES, PartialFile
from getm.protocol.messages import FileRequest

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

    from getm.batch.existing import Examiner
    from getm.destinations.store import Stores
    from getm.files.receipt_lines import Received
    from getm.resolve.locator import Found

# The most downloads whose bytes have all come and whose files are not finished: more would only fill memory.
_MAX_UNFINISHED = 1024
# How many jobs are examined beyond those whose host has all the connections that it may have.
_LOOK_AHEAD = 256
# How many files that are there are examined, or wait for that, at a time.
_MAX_EXAMINED = 64
_STREAM_GRACE_S = 1.0
# How long the end of a batch waits for engines to say what small files they have written that nobody wants.
_LEFTOVERS_S = 1.0
# How long the end of a batch waits for stores to answer.
_STORES_S = 10.0
_log = get_logger()

_T = TypeVar("_T")


class Batch:
    """Runs the downloads that `jobs_of(batch)` makes in a thread of its own, as many at once as `options.jobs` says.

    A thread of its own, so that an exception in the caller's (a signal's above all) can never come between two steps
    that belong together, and so that one engine serves synchronous and asynchronous callers. `post(events)` is called
    with the events, at most once a turn; an empty list means that the caller is to call `read_on`, None is the end.
    `receipt`: what earlier runs have received. `wants_events`: whether anything reads more than how downloads ended.
    """

    def __init__(
        self,
        jobs_of: Callable[[Batch], Iterable[Job]],
        pool: EnginePool,
        options: BatchOptions,
        post: Post,
        receipt: Received | None = None,
        *,
        wants_events: bool,
    ) -> None:
        self.options: BatchOptions = options
        self.receipt: Received | None = receipt
        self.wants_events: bool = wants_events
        self._pool = pool
        # Those that request again, before the others, one after another: a host may need a moment after a refusal.
        self._again: list[Job] = []
        self._waiting: list[Job] = []
        self._active: dict[Job, ClientConnection] = {}
        self._connections = Connections(pool, options, self.awaken)
        # Known as long as a job of theirs is: a list may name a hundred thousand.
        self._hosts: weakref.WeakValueDictionary[str | None, Host] = weakref.WeakValueDictionary()
        self.targets: Targets = Targets()
        self.folders: Folders = Folders()
        self.workers: Workers = Workers(self.awaken)
        self._file_mode = file_mode()
        # Of cancelled attempts whose end has not come.
        self._leftovers: dict[Leftover, ClientConnection] = {}
        self._reports = Reports(post)
        # Jobs whose bytes have all come.
        self._unfinished: set[Job] = set()
        self._finishing = Finishing(self.workers, self._finished, fsync=options.fsync)
        self._checkpointing: set[PartialFile] = set()
        # How many files that are there are being examined.
        self._examining = 0
        # The event loop of the caller, where it has one; what finds the objects of jobs.
        self.loop: asyncio.AbstractEventLoop | None = None
        self._finding: set[Future[Found]] = set()
        # Jobs of which all bytes have come, and are not in their store yet.
        self._uploading: set[Job] = set()
        self._stopping = False
        self._failed = False
        self._wake_end, self._wake = socket.socketpair()
        # Which connections `_turn` waits for, by their descriptors.
        self._poll: select.poll | None = None
        self._polled: dict[int, ClientConnection] = {}
        self._wake_end.setblocking(False)
        self._wake.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="getm-batch", daemon=True)
        self._feed = Feed(jobs_of(self), options.most_jobs, ask=lambda: post([]), wake=self.awaken)
        self.error: BaseException | None = None

    # The caller's side ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()
        self.read_on()

    def read_on(self) -> None:
        """Read on in the iterable, for a short while, in the caller's thread. What it raises ends the batch."""
        try:
            self._feed.fill()
        except Exception as error:
            self.error = error
            self.halt()

    def halt(self) -> None:
        """Stop, and do not wait: partial data is kept for a later run where that is possible."""
        self._stopping = True
        self.awaken()

    def stop(self) -> None:
        """`halt`, and wait for the end. Harmless afterwards."""
        self.halt()
        while self._thread.is_alive():
            self._thread.join(_STREAM_GRACE_S)
            if any(job.may_block for job in list(self._active)):
                # A pipe that has no reader, or whose reader has stopped, blocks for ever: such a thread is left behind.
                break
        self._wake.close()
        self._wake_end.close()

    def awaken(self) -> None:
        """Wake the batch's thread. In any thread."""
        with contextlib.suppress(OSError):
            # A full buffer wakes as well as one more byte; where it is closed, nothing needs waking.
            self._wake.send(b"\0")

    # Called by jobs ---------------------------------------------------------------------------------------------------

    def host(self, name: str | None) -> Host:
        options = self.options
        # With one connection each, a few more are worth it.
        few = FEW if options.concurrency == "auto" else DEFAULT_JOBS
        return self._hosts.setdefault(name, Host(options.per_host, adaptive=options.jobs == "auto", few=few))

    def post(self, event: Event) -> None:
        self._reports.add(event)

    def progressed(self, job: Job) -> None:
        """More of its bytes have come. Nothing is reported of a job that this has ended."""
        if self.wants_events and job in self._active:
            self._reports.progressed(job)

    def checkpoint(self, job: Job, partial: PartialFile) -> None:
        """Bring what was written onto the disk, in another thread: one at a time for each file."""
        if partial in self._checkpointing:
            return
        self._checkpointing.add(partial)

        def follow(error: errors.TargetError | None) -> None:
            self._checkpointing.discard(partial)
            if error is not None:
                job.checkpoint_failed(partial, error)

        self.workers.on_disk(partial.checkpoint, follow)

    def close_file(self, partial: PartialFile, *, keep: bool, event: Event | None) -> None:
        """Close a partial file, kept for a later run or removed, in another thread; then post `event`. One that cannot
        be removed is hidden, and removed by the next run."""
        self.workers.on_disk(
            partial.suspend if keep else partial.discard, lambda _: None if event is None else self.post(event)
        )

    def to_finish(self, job: Job) -> None:
        """All its bytes have come."""
        self._release(job)
        self._unfinished.add(job)
        if job.uploads:
            # It is there when `uploaded` is called.
            self._uploading.add(job)
            return
        self._finishing.add(job)

    def uploaded(self, job: Job, error: errors.GetmError | None) -> None:
        """A job's object is in its place, or why it is not."""
        self._uploading.discard(job)
        self._finished({job: error})

    def file_request(self, small: SmallFile | None) -> FileRequest:
        """That an engine is to write an object to a file, and where to where that is small."""
        if small is None:
            return FileRequest()
        return FileRequest(self.folders.entry(small.folder, small.name), self._file_mode, JOURNALED_FROM_BYTES)

    def leave(self, small: SmallFile, connection: ClientConnection) -> Leftover:
        """Remove that file, when it is known whether the engine has written it."""
        leftover = Leftover(small, self._leftovers.__delitem__)
        self._leftovers[leftover] = connection
        return leftover

    def examine(
        self,
        job: Job,
        work: Callable[[Examiner, Callable[[int], None]], _T],
        then: Callable[[_T | errors.GetmError], None],
    ) -> None:
        """Have `work` done in another thread, for a job that requests nothing meanwhile, and call `then` with what it
        returns or raises. It calls its second argument now and then, which raises `Cancelled` where the batch ends."""
        follow = self._examining_for(job, then)
        self.workers.examine(lambda examiner: work(examiner, self._go_on_reading), follow)

    def examine_object(
        self,
        job: Job,
        work: Callable[[Stores, Callable[[int], None]], _T],
        then: Callable[[_T | errors.GetmError], None],
    ) -> None:
        """`examine` for an object in a store."""
        self.workers.in_store(lambda stores: work(stores, self._go_on_reading), self._examining_for(job, then))

    def _examining_for(
        self, job: Job, then: Callable[[_T | errors.GetmError], None]
    ) -> Callable[[_T | errors.GetmError], None]:
        """A job requests nothing from now on, until the answer comes for which this is."""
        self._release(job)
        self._examining += 1

        def follow(found: _T | errors.GetmError) -> None:
            self._examining -= 1
            if self._stopping:
                job.stop()
            else:
                then(found)

        return follow

    def _go_on_reading(self, _: int) -> None:
        """Ends the reading of a file where the batch ends. In any thread."""
        if self._stopping:
            raise errors.Cancelled("the batch has ended")

    def report(self, event: Event) -> None:
        """Pass an event on at once. In any thread."""
        self._reports.at_once(event)

    def ready(self, job: Job) -> None:
        """It may request, as soon as there is room for it."""
        self._release(job)
        self._waiting.append(job)

    def again(self, job: Job) -> None:
        """It requests again: from the start, for the rest, or over another connection."""
        self._release(job)
        if self._stopping:
            job.stop()
        else:
            self._again.append(job)

    def over(self, job: Job, *, failed: bool) -> None:
        """Nothing more comes of it."""
        self._release(job)
        self._failed = self._failed or failed

    def _release(self, job: Job) -> None:
        self._reports.forget(job)
        if self._active.pop(job, None) is not None:
            job.host.give_back(job.connections, job.size)

    # The thread -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:
            self.error = self.error or error
        finally:
            try:
                self._wind_up()
            except BaseException as error:
                self.error = self.error or error
            # Nothing is held back any more, whatever ended it: how a download failed may be among it.
            self._reports.end()

    def _loop(self) -> None:
        while not self._ending:
            # First: files that are finished make room for further jobs.
            self._finishing.go_on(nothing_else=not self._expects_more)
            self._start_jobs()
            self._reports.go_on(hurry=not self._busy)
            # A job that could not be started may have been the last one: then nothing would wake this.
            if self._ending or (self._feed.exhausted and not self._busy):
                return
            # Where one of them is gone, there may be nothing to wait for before its jobs begin again.
            if all([self._alive(connection, connection.flush) for connection in self._connections]):
                self._turn(self._timeout_ms())

    @property
    def _busy(self) -> bool:
        return bool(self._active or self._unfinished or self.workers.pending or self._again or self._waiting)

    @property
    def _expects_more(self) -> bool:
        """Whether more jobs or bytes come, or other threads are waited for."""
        jobs = self._active or self._again or self._waiting
        return bool(jobs or self.workers.pending or not self._feed.exhausted)

    @property
    def _ending(self) -> bool:
        return self._stopping or (self._failed and not self.options.continue_after_error)

    @property
    def _has_room(self) -> bool:
        """Whether another job may be active. Otherwise that comes with an event: one of those that are there ends."""
        return self._occupied < self.options.most_jobs and len(self._unfinished) < _MAX_UNFINISHED

    def _turn(self, timeout_ms: float | None) -> None:
        """Wait for an event, and act on it."""
        by_descriptor = {connection.fileno(): connection for connection in self._connections}
        if by_descriptor.keys() != self._polled.keys() or self._poll is None:
            self._poll, self._polled = select.poll(), by_descriptor
            for descriptor in (self._wake_end.fileno(), *by_descriptor):
                self._poll.register(descriptor, select.POLLIN)
        for descriptor, _events in self._poll.poll(timeout_ms):
            if descriptor in by_descriptor:
                connection = by_descriptor[descriptor]
                self._alive(connection, functools.partial(connection.pump, wait=False))
            else:
                with contextlib.suppress(BlockingIOError):
                    self._wake_end.recv(4096)
        self.workers.follow_up()

    def _timeout_ms(self) -> float | None:
        """How long to wait until something is due; None: for ever."""
        due = [time_s for time_s in (self._finishing.due_s, self._reports.due_s) if time_s is not None]
        due += [job.deadline_s for job in self._again if job.deadline_s is not None]
        if self._has_room:
            due += [job.not_before_s for job in self._again if job.not_before_s is not None]
        return max(0.0, min(due) - time.monotonic()) * 1000 if due else None

    def _alive(self, connection: ClientConnection, step: Callable[[], None]) -> bool:
        """Do something with a connection. False: its engine has died, or the session was closed."""
        try:
            step()
        except errors.GetmError as error:
            self.lost(connection, error)
            return False
        return True

    def lost(self, connection: ClientConnection, error: errors.GetmError) -> None:
        """Its engine, or a helper of that, is gone: its jobs continue with another one."""
        self._connections.lose(connection)
        for leftover in [each for each, its in self._leftovers.items() if its is connection]:
            del self._leftovers[leftover]
            leftover.file.remove()
        for job in [job for job, its in self._active.items() if its is connection]:
            job.engine_died(error)

    # Starting -------------------------------------------------------------------------------------------------------

    def _start_jobs(self) -> None:
        now = time.monotonic()
        for late in [job for job in self._again if job.deadline_s is not None and job.deadline_s <= now]:
            self._again.remove(late)
            late.expire()
        while self._has_room:
            if self._ending or (job := self._next_job()) is None:
                break
            self._start(job)

    @property
    def _occupied(self) -> int:
        """How many jobs run, or will as soon as their objects are found. Those that wait for a store keep bytes in
        memory."""
        return len(self._active) + len(self._finding) + len(self._uploading)

    def _next_job(self) -> Job | None:
        for jobs in (self._again, self._waiting):
            for job in list(jobs):
                may_ask = job.may_ask()
                if may_ask is not False:
                    jobs.remove(job)
                if may_ask and not self._find(job):
                    return job
                if self._occupied >= self.options.most_jobs:
                    return None
        while (
            len(self._waiting) < _LOOK_AHEAD
            and self._examining < _MAX_EXAMINED
            and self._occupied < self.options.most_jobs
            and not self._ending
            and (new := self._feed.take()) is not None
        ):
            new.began_s = time.monotonic()
            if not new.is_named and self._find(new):
                continue
            if new.examine_existing():
                continue
            if self._find(new):
                continue
            if new.host.has_room:
                return new
            self._waiting.append(new)
        return None

    def _find(self, job: Job) -> bool:
        """Have the object of a job found that is not; it then comes back. False where it is known where that is."""
        finding = None if job.is_located else job.find(self._pool, self.loop)
        if finding is None:
            return False
        unnamed = not job.is_named

        def follow(_: errors.TargetError | None) -> None:
            self._finding.discard(finding)
            if self._stopping:
                job.stop()
            elif finding.cancelled():
                job.fail(errors.ReaderClosed("the session was closed"))
            elif isinstance(error := finding.exception(), errors.GetmError):
                job.fail(error)
            else:
                job.found()
                if not (unnamed and job.examine_existing()):
                    self._waiting.append(job)

        self._finding.add(finding)
        self._pool.end_with(finding)
        self.workers.run(lambda run: finding.add_done_callback(lambda _: run()), lambda: None, follow)
        return True

    def _start(self, job: Job) -> None:
        try:
            connection = self._connections.choose(tls=is_tls(job.request.url), wait=self._wait_for_memory)
        except errors.GetmError as error:
            job.finish_failed(error)
            return
        if connection is None:
            job.stop()
            return
        self._active[job] = connection
        connections = job.request.concurrency
        if job.request.adaptive:
            # What it does not need now it may need later, but no other job could have it then.
            connections = min(connections, job.host.share(job.size, self._others_to_come()))
        job.connections = job.host.take(connections, job.size)
        self._alive(connection, functools.partial(job.start, connection))

    def _wait_for_memory(self, seconds: float) -> bool:
        self._turn(seconds * 1000)
        return not self._stopping

    def _others_to_come(self) -> int:
        """How many more jobs may run beside those that do."""
        free = self.options.most_jobs - len(self._active)
        return min(free, len(self._again) + len(self._waiting) + self._examining + self._feed.upcoming(free))

    # Finishing ------------------------------------------------------------------------------------------------------

    def _finished(self, outcomes: Outcomes) -> None:
        for job, error in outcomes.items():
            self._unfinished.discard(job)
            if error is None:
                job.succeed()
            else:
                job.finish_failed(error)

    def _wind_up(self) -> None:
        """Whatever ended the loop: nothing is left open, and files that were being finished are."""
        interrupted, self._stopping = self._stopping, True
        for finding in list(self._finding):
            finding.cancel()
        for job in [*self._active, *self._again, *self._waiting, *self._uploading]:
            job.stop()
        if interrupted:
            for job in self._uploading:
                job.hurry()
        self._active.clear()
        self._again.clear()
        self._waiting.clear()
        self._finishing.at_once()
        self._wait_for_finishers(hurry=interrupted)
        self.workers.close()
        for connection in self._connections:
            connection.corked = False
            with contextlib.suppress(errors.EngineDied, errors.ReaderClosed):
                # Send pending cancellations; an engine that is dead needs none.
                connection.flush()
        self._wait_for_leftovers()
        self._connections.release()
        self.folders.close()

    def _wait_for_leftovers(self) -> None:
        """An engine that is told to cancel answers at once; one that waits for its disk may not."""
        deadline = time.monotonic() + _LEFTOVERS_S
        while self._leftovers and (left_s := deadline - time.monotonic()) > 0:
            self._turn(left_s * 1000)
        for leftover, connection in self._leftovers.items():
            # With its pipe closed, the engine removes what it writes from now on.
            connection.close()
            leftover.file.remove()

    def _wait_for_finishers(self, *, hurry: bool) -> None:
        """A store that does not answer for a while is left alone with what it has; without `hurry` only where no object
        is being put in its place."""
        deadline = time.monotonic() + _STORES_S
        while self.workers.pending:
            timeout_ms = self._timeout_ms()
            if self.workers.pending == self.workers.asked_stores and (hurry or not self._uploading):
                left_ms = (deadline - time.monotonic()) * 1000
                if left_ms <= 0:
                    _log.warning(
                        "a store does not answer: what was uploaded of %d objects may stay", self.workers.pending
                    )
                    return
                timeout_ms = left_ms if timeout_ms is None else min(timeout_ms, left_ms)
            try:
                self._turn(timeout_ms)
            except BaseException as error:
                self.error = self.error or error
