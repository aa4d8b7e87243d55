"""The last steps of downloads whose bytes have all come: verify, make durable, put in place. For several at once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from getm import errors
from getm.batch.job import Job
from getm.files.commit import commit_files

Steps = Generator[Callable[[], None], None, dict[Job, errors.GetmError | None]]


def finishing(jobs: Sequence[Job]) -> Steps:
    """Verify files that must be read back, and put all in place as `commit_files` does. Yields what waits for the disk,
    which may be called in any thread; the rest belongs to the batch's. Returns each job's error, or None."""
    failures: dict[Job, errors.GetmError | None] = dict.fromkeys(jobs)
    read_back = [job for job in jobs if job.to_be_read_back]
    if read_back:
        yield lambda: failures.update({job: job.check() for job in read_back})
    files = {job: job.file for job in jobs if failures[job] is None and job.file is not None}
    committed = yield from commit_files(list(files.values()))
    return failures | dict(zip(files, committed, strict=True))
