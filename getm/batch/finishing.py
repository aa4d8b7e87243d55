"""The last steps of downloads whose bytes have all come: verify, make durable, put in place."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence

from getm import errors
from getm.batch.job import Job
from getm.batch.workers import Workers
from getm.files.commit import all_steps, commit_files

# Small files are put in place in groups of so many, or after so long: each time costs a wait for the disk.
_GROUP_FILES = 256
_GROUP_S = 0.05

Outcomes = dict[Job, errors.GetmError | None]
_Steps = Generator[Callable[[], None], None, Outcomes]


class Finishing:
    """Finishes large files one by one and small ones in groups, one group at a time.

    Only the steps that wait for the disk are done in another thread: one that makes many small system calls takes the
    GIL from the batch's busy one after each, or waits for it.

    Args:
        workers: The other threads.
        finished: Called with what became of jobs.
        fsync: Whether files are made durable, which waits for the disk.
    """

    def __init__(self, workers: Workers, finished: Callable[[Outcomes], None], *, fsync: bool) -> None:
        self._workers = workers
        self._finished = finished
        self._fsync = fsync
        # Jobs of the next group, since when it has any, and whether one is being finished.
        self._group: list[Job] = []
        self._group_since = 0.0
        self._busy = False

    def add(self, job: Job) -> None:
        """All bytes of its file have come."""
        if not job.small:
            self._step(_finishing([job]), self._finished)
            return
        if not self._group:
            self._group_since = time.monotonic()
        self._group.append(job)

    @property
    def due_s(self) -> float | None:
        """When `go_on` has something to do, as `time.monotonic()` says it; None: there is nothing."""
        return self._group_since + _GROUP_S if self._group and not self._busy else None

    def go_on(self, *, nothing_else: bool) -> None:
        """Finish the group, if it is time. `nothing_else`: the batch has nothing else to do meanwhile."""
        if not self._group or self._busy:
            return
        if not self._fsync or nothing_else:
            self.at_once()
        elif len(self._group) >= _GROUP_FILES or time.monotonic() >= self._group_since + _GROUP_S:
            self._busy = True
            group, self._group = self._group, []
            self._step(_finishing(group), self._group_is_finished)

    def at_once(self) -> None:
        """Finish the group in this thread."""
        if self._group:
            group, self._group = self._group, []
            self._finished(all_steps(_finishing(group)))

    def _group_is_finished(self, outcomes: Outcomes) -> None:
        self._busy = False
        self._finished(outcomes)

    def _step(self, steps: _Steps, then: Callable[[Outcomes], None]) -> None:
        try:
            work = next(steps)
        except StopIteration as end:
            then(end.value)
        else:
            self._workers.on_disk(work, lambda _: self._step(steps, then))


def _finishing(jobs: Sequence[Job]) -> _Steps:
    """Verify files that must be read back, and put all in place as `commit_files` does. Yields what waits for the disk,
    which may be called in any thread; the rest belongs to the batch's. Returns each job's error, or None."""
    failures: Outcomes = dict.fromkeys(jobs)
    read_back = [job for job in jobs if job.to_be_read_back]
    if read_back:
        yield lambda: failures.update({job: job.check() for job in read_back})
    files = {job: job.file for job in jobs if failures[job] is None and job.file is not None}
    committed = yield from commit_files(list(files.values()))
    return failures | dict(zip(files, committed, strict=True))
