"""The thread that runs a batch: starts jobs, receives their bytes, has complete files finished."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import functools
import os
import select
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from getm import errors
from getm.batch.attempt import Leftover, SmallFile
from getm.batch.feed import Feed
from getm.batch.finishing import Steps, finishing
from getm.batch.folders import ExistingFolder, open_folder
from getm.batch.hosts import FEW, Host
from getm.batch.job import Job
from getm.batch.settings import DEFAULT_JOBS, BatchOptions
from getm.batch.targets import Targets
from getm.client.connection import ClientConnection
from getm.client.pool import LOOK_S, EnginePool, Holder, Waiter
from getm.core.lazy import importing
from getm.core.log import get_logger
from getm.core.this_process import file_mode, process_number
from getm.core.url import is_tls
from getm.events import Event
from getm.files.commit import all_steps
from getm.files.folder import Folder
from getm.files.partial import JOURNALED_FROM_BYTES, PartialFile
from getm.files.streams import is_special
from getm.options import DEFAULT_CHUNK_BYTES, MAX_AUTO_CONCURRENCY
from getm.protocol.messages import FileRequest, FolderEntry, FolderInfo

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

    from getm.batch.existing import Examiner
    from getm.batch.uploads import Uploads
    from getm.destinations.store import Stores
    from getm.files.receipt_lines import Received
    from getm.resolve.locator import Found

# The most downloads whose bytes have all come and whose files are not finished: more would only fill memory.
_MAX_UNFINISHED = 1024
# How many jobs are examined beyond those whose host has all the connections that it may have.
_LOOK_AHEAD = 256
# How many files that are there are examined, or wait for that, at a time.
_MAX_EXAMINED = 64
_FINISHERS = 4
# How many folders stay open beside those that are in use.
_MAX_FOLDERS = 32
_STREAM_GRACE_S = 1.0
# How long the end of a batch waits for engines to say what small files they have written that nobody wants.
_LEFTOVERS_S = 1.0
# How long the end of a batch waits for stores to answer.
_STORES_S = 10.0
# Small files are put in place in groups of so many, or after so long: each time costs a wait for the disk.
_GROUP_FILES = 256
_GROUP_S = 0.05
# Events are passed on at most so often: each time the caller's thread wakes up, and takes the GIL.
_POST_S = 0.02
# Progress is reported ten times a second: people do not see more.
_PROGRESS_S = 0.1

_log = get_logger()

Post = Callable[[list[Event] | None], None]
_T = TypeVar("_T")
_Work = Callable[[], None]
_Follow = Callable[[errors.TargetError | None], None]
_Outcomes = dict[Job, errors.GetmError | None]


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
        # The thread or task that waits for this batch, and so releases nothing while that waits for memory.
        self._caller = Holder.current()
        self._post = post
        # Those that request again, before the others, one after another: a host may need a moment after a refusal.
        self._again: list[Job] = []
        self._waiting: list[Job] = []
        self._active: dict[Job, ClientConnection] = {}
        self._connections: list[ClientConnection] = []
        # Known as long as a job of theirs is: a list may name a hundred thousand.
        self._hosts: weakref.WeakValueDictionary[str | None, Host] = weakref.WeakValueDictionary()
        self.targets: Targets = Targets()
        self._open_folder = functools.lru_cache(_MAX_FOLDERS)(open_folder)
        self._folders: weakref.WeakKeyDictionary[Folder, FolderInfo] = weakref.WeakKeyDictionary()
        self._existing: weakref.WeakValueDictionary[tuple[str, str | None], ExistingFolder] = (
            weakref.WeakValueDictionary()
        )
        self._file_mode = file_mode()
        # Of cancelled attempts whose end has not come.
        self._leftovers: dict[Leftover, ClientConnection] = {}
        self._events: list[Event] = []
        self._changed: set[Job] = set()
        self._told_at = self._posted_at = 0.0
        # Jobs whose bytes have all come, and those of them whose small files are to be finished as a group.
        self._unfinished: set[Job] = set()
        self._complete: list[Job] = []
        self._complete_since = 0.0
        # Work that waits for the disk in other threads, and what follows in this one.
        self._pending = 0
        self._done: deque[tuple[_Follow, BaseException | None]] = deque()
        self._checkpointing: set[PartialFile] = set()
        self._grouping = False
        self._finishers: concurrent.futures.ThreadPoolExecutor | None = None
        # What examines files that are there, and how many of them now.
        self._examiner: Examiner | None = None
        self._examining = 0
        # The event loop of the caller, where it has one; what finds the objects of jobs.
        self.loop: asyncio.AbstractEventLoop | None = None
        self._finding: set[Future[Found]] = set()
        # What talks to stores of objects, and the jobs of which all bytes have come and are not there yet.
        self._uploads: Uploads | None = None
        self._uploading: set[Job] = set()
        # How many answers of stores are awaited.
        self._asked_stores = 0
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
        self._events.append(event)

    def progressed(self, job: Job) -> None:
        """More of its bytes have come. Nothing is reported of a job that this has ended."""
        if self.wants_events and job in self._active:
            self._changed.add(job)

    def checkpoint(self, job: Job, partial: PartialFile) -> None:
        """Bring what was written onto the disk, in another thread: one at a time for each file."""
        if partial in self._checkpointing:
            return
        self._checkpointing.add(partial)

        def follow(error: errors.TargetError | None) -> None:
            self._checkpointing.discard(partial)
            if error is not None:
                job.checkpoint_failed(partial, error)

        self._in_finisher(partial.checkpoint, follow)

    def close_file(self, partial: PartialFile, *, keep: bool, event: Event | None) -> None:
        """Close a partial file, kept for a later run or removed, in another thread; then post `event`. One that cannot
        be removed is hidden, and removed by the next run."""
        self._in_finisher(
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
        if not job.small:
            self._finish(finishing([job]), self._finished)
            return
        if not self._complete:
            self._complete_since = time.monotonic()
        self._complete.append(job)

    def uploaded(self, job: Job, error: errors.GetmError | None) -> None:
        """A job's object is in its place, or why it is not."""
        self._uploading.discard(job)
        self._finished({job: error})

    def entry(self, folder: Folder, name: str, *, resumable: bool = False) -> FolderEntry:
        """A file in a folder, for an engine."""
        return FolderEntry(self._folders[folder], os.fsencode(name), resumable)

    def file_request(self, small: SmallFile | None) -> FileRequest:
        """That an engine is to write an object to a file, and where to where that is small."""
        if small is None:
            return FileRequest()
        return FileRequest(self.entry(small.folder, small.name), self._file_mode, JOURNALED_FROM_BYTES)

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
        if self._examiner is None:
            with importing:
                from getm.batch.existing import Examiner
            self._examiner = Examiner()
        examiner = self._examiner
        follow = self._examining_for(job, then)
        self._ask(examiner.submit, lambda: work(examiner, self._go_on_reading), follow)

    def examine_object(
        self,
        job: Job,
        work: Callable[[Stores, Callable[[int], None]], _T],
        then: Callable[[_T | errors.GetmError], None],
    ) -> None:
        """`examine` for an object in a store."""
        self.in_store(lambda stores: work(stores, self._go_on_reading), self._examining_for(job, then))

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

    def in_store(self, work: Callable[[Stores], _T], then: Callable[[_T | errors.GetmError], None]) -> None:
        """Have `work` done in a thread that waits for a store of objects, and call `then` with what it returns or
        raises."""
        if self._uploads is None:
            with importing:
                from getm.batch.uploads import Uploads
            self._uploads = Uploads()
        uploads = self._uploads
        self._asked_stores += 1

        def follow(answer: _T | errors.GetmError) -> None:
            self._asked_stores -= 1
            then(answer)

        self._ask(uploads.submit, lambda: work(uploads.stores), follow)

    def _ask(
        self,
        submit: Callable[[_Work], None],
        work: Callable[[], _T],
        then: Callable[[_T | errors.GetmError], None],
    ) -> None:
        """Have `work` done in another thread, and call `then` with what it returns or raises, in this one."""
        answers: list[_T | errors.GetmError] = []

        def run() -> None:
            try:
                answers.append(work())
            except errors.GetmError as error:
                answers.append(error)

        self._in_thread(submit, run, lambda _: then(answers[0]))

    def _go_on_reading(self, _: int) -> None:
        """Ends the reading of a file where the batch ends. In any thread."""
        if self._stopping:
            raise errors.Cancelled("the batch has ended")

    def report(self, event: Event) -> None:
        """Pass an event on at once. In any thread."""
        self._post([event])

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
        self._changed.discard(job)
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
            if self._events:
                self._post(self._events)
            self._post(None)

    def _loop(self) -> None:
        while not self._ending:
            # First: files that are finished make room for further jobs.
            self._finish_complete()
            self._start_jobs()
            self._flush_events()
            # A job that could not be started may have been the last one: then nothing would wake this.
            if self._ending or (self._feed.exhausted and not self._busy):
                return
            # Where one of them is gone, there may be nothing to wait for before its jobs begin again.
            if all([self._alive(connection, connection.flush) for connection in list(self._connections)]):
                self._turn(self._timeout_ms())

    @property
    def _busy(self) -> bool:
        return bool(self._active or self._unfinished or self._pending or self._again or self._waiting)

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
        self._follow_up()

    def _timeout_ms(self) -> float | None:
        """How long to wait until something is due; None: for ever."""
        due = []
        if self._complete and not self._grouping:
            due.append(self._complete_since + _GROUP_S)
        if self._changed:
            # Progress before a silence is reported as well.
            due.append(self._told_at + _PROGRESS_S)
        if self._events:
            due.append(self._posted_at + _POST_S)
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
        connection.close()
        self._connections.remove(connection)
        connection.end_wait()
        self._pool.release(connection)
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
        finding = None if job.is_located else job.find(self.loop)
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
        self._in_thread(lambda run: finding.add_done_callback(lambda _: run()), lambda: None, follow)
        return True

    def _start(self, job: Job) -> None:
        try:
            connection = self._connection(job)
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

    def _others_to_come(self) -> int:
        """How many more jobs may run beside those that do."""
        free = self.options.most_jobs - len(self._active)
        return min(free, len(self._again) + len(self._waiting) + self._examining + self._feed.upcoming(free))

    def _connection(self, job: Job) -> ClientConnection | None:
        """The connection with the fewest jobs; a new one while there are engines without any. None where the batch was
        stopped meanwhile."""
        concurrency, jobs = self.options.concurrency, self.options.jobs
        wanted = 1 if concurrency is None else min(self._pool.processes(), self.options.most_jobs)
        if len(self._connections) >= wanted:
            return self._least_loaded()
        most = MAX_AUTO_CONCURRENCY if concurrency == "auto" else concurrency
        width = None if most is None else min(most, self.options.per_host)
        try:
            # Many at once are small, and need few slots.
            connection = self._acquire(width, DEFAULT_JOBS if jobs == "auto" else jobs, tls=is_tls(job.request.url))
        except (errors.DescriptorsExhausted, errors.MemoryUnavailable):
            if not self._connections:
                raise
            connection = None
        if connection is None:
            return self._least_loaded()
        # As long as this thread has it: `close` in another one then ends the pipe, and not the descriptor.
        if not connection.begin_wait():
            raise errors.ReaderClosed("the session was closed")
        connection.corked = True
        self._connections.append(connection)
        return connection

    def _acquire(self, width: int | None, jobs: int, *, tls: bool) -> ClientConnection | None:
        """A connection. Waits for memory for it while there is no other one to use."""
        adaptive = self.options.concurrency == "auto"
        wanted = self._pool.wanted(DEFAULT_CHUNK_BYTES, width, jobs, adaptive=adaptive, tls=tls)
        waiter = Waiter(self._caller, self.awaken)
        with self._pool.waiting(waiter):
            while (connection := self._pool.try_acquire(wanted)) is None:
                if self._connections or self._stopping:
                    return None
                self._pool.check_wait(waiter)
                self._turn(LOOK_S * 1000)
        return connection

    def _least_loaded(self) -> ClientConnection | None:
        if len(self._connections) < 2:
            return next(iter(self._connections), None)
        return min(self._connections, key=lambda connection: connection.open_objects)

    # Finishing ------------------------------------------------------------------------------------------------------

    def _finish_complete(self) -> None:
        """Have small complete files made durable and put in place as a group."""
        if not self._complete or self._grouping:
            return
        if not self.options.fsync:
            # Nothing waits for the disk.
            self._finished(all_steps(finishing(self._complete)))
        elif not (self._active or self._again or self._waiting or self._pending) and self._feed.exhausted:
            # This thread is not waited for.
            self._finished(all_steps(finishing(self._complete)))
        elif len(self._complete) >= _GROUP_FILES or time.monotonic() >= self._complete_since + _GROUP_S:
            self._grouping = True
            self._finish(finishing(self._complete), self._group_is_finished)
        else:
            return
        self._complete = []

    def _group_is_finished(self, outcomes: _Outcomes) -> None:
        self._grouping = False
        self._finished(outcomes)

    def _finish(self, steps: Steps, then: Callable[[_Outcomes], None]) -> None:
        """Do the steps of finishing. Only those that wait for the disk are done in another thread: one that makes many
        small system calls takes the GIL from this busy one after each, or waits for it."""
        try:
            work = next(steps)
        except StopIteration as end:
            then(end.value)
        else:
            self._in_finisher(work, lambda _: self._finish(steps, then))

    def _finished(self, outcomes: _Outcomes) -> None:
        for job, error in outcomes.items():
            self._unfinished.discard(job)
            if error is None:
                job.succeed()
            else:
                job.finish_failed(error)

    def _in_finisher(self, work: Callable[[], None], follow: _Follow) -> None:
        """Do `work`, which waits for the disk, in another thread, and then `follow` in this one, with its error."""

        def submit(run: _Work) -> None:
            if self._finishers is None:
                # Asking for it imports its module.
                with importing:
                    executor = concurrent.futures.ThreadPoolExecutor
                self._finishers = executor(_FINISHERS, thread_name_prefix="getm-finish")
            self._finishers.submit(run)

        self._in_thread(submit, work, follow)

    def _in_thread(self, submit: Callable[[_Work], None], work: _Work, follow: _Follow) -> None:
        """`submit` the work to another thread, and then `follow` in this one, with its error."""
        self._pending += 1

        def run() -> None:
            failure = None
            try:
                work()
            except BaseException as error:
                failure = error
            self._done.append((follow, failure))
            self.awaken()

        try:
            submit(run)
        except RuntimeError:
            # The main thread has ended: executors take nothing any more.
            run()

    def _follow_up(self) -> None:
        """Continue where other threads have waited for the disk."""
        bug = None
        while self._done:
            follow, failure = self._done.popleft()
            self._pending -= 1
            if failure is None or isinstance(failure, errors.TargetError):
                follow(failure)
            else:
                bug = bug or failure
        if bug is not None:
            # A bug in getm must end the batch, not leave it waiting.
            raise bug

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
        if self._complete:
            self._finished(all_steps(finishing(self._complete)))
        self._wait_for_finishers(hurry=interrupted)
        if self._finishers is not None:
            self._finishers.shutdown()
        if self._examiner is not None:
            self._examiner.close()
        if self._uploads is not None and not self._asked_stores:
            self._uploads.close()
        for connection in self._connections:
            connection.corked = False
            with contextlib.suppress(errors.EngineDied, errors.ReaderClosed):
                # Send pending cancellations; an engine that is dead needs none.
                connection.flush()
        self._wait_for_leftovers()
        for connection in self._connections:
            connection.end_wait()
            self._pool.release(connection)
        self._connections.clear()
        self._open_folder.cache_clear()
        for folder in list(self._folders):
            # The traceback of an error may refer to it still, and its file system is to be unmounted now.
            folder.close()

    def open_folder(self, path: str, root: str | None) -> Folder:
        """The folder at `path`: see `folders.open_folder`. It closes with the batch, or before."""
        folder = self._open_folder(path, root)
        if folder not in self._folders:
            where = os.fsencode(os.path.abspath(folder.path))  # noqa: PTH100 - no link may be resolved
            self._folders[folder] = FolderInfo(process_number(), folder.fd, where, folder.identity)
        return folder

    def existing_folder(self, path: str | None, root: str | None) -> ExistingFolder | None:
        """The folder that `path` names, where it ends as a folder's does and is there already; else None. Raises as
        `open_folder`."""
        if path is None or not path.endswith(os.sep):
            return None
        found = self._existing.get((path, root))
        if found is not None or is_special(path):
            return found
        if os.path.isdir(path):  # noqa: PTH112 - text is faster
            # In the form that the folder of a target has.
            text = os.path.dirname(str(Path(path) / "x"))  # noqa: PTH120
            found = self._existing[path, root] = ExistingFolder(self.open_folder(text, root), text)
        elif os.path.lexists(path.rstrip(os.sep)):
            # Known before anything is requested.
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return found

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
        while self._pending:
            timeout_ms = self._timeout_ms()
            if self._pending == self._asked_stores and (hurry or not self._uploading):
                left_ms = (deadline - time.monotonic()) * 1000
                if left_ms <= 0:
                    _log.warning("a store does not answer: what was uploaded of %d objects may stay", self._pending)
                    return
                timeout_ms = left_ms if timeout_ms is None else min(timeout_ms, left_ms)
            try:
                self._turn(timeout_ms)
            except BaseException as error:
                self.error = self.error or error

    # Events -----------------------------------------------------------------------------------------------------------

    def _flush_events(self) -> None:
        now = time.monotonic()
        if self._changed and now - self._told_at >= _PROGRESS_S:
            self._told_at = now
            self._events.extend(job.progress() for job in self._changed)
            self._changed.clear()
        if self._events and (not self._busy or now - self._posted_at >= _POST_S):
            self._posted_at = now
            self._post(self._events)
            self._events = []
