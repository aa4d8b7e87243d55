"""The last steps of downloads whose bytes have all come: verify, make durable, put in place. For several at once."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from getm import errors
from getm.batch.job import Job
from getm.files.commit import commit_files


def finishing(jobs: Sequence[Job]) -> Generator[None, None, dict[Job, errors.GetmError | None]]:
    """Verify files that must be read back, then the steps of `commit_files`. The first and the third wait for the disk,
    and may be done in any thread; the others belong to the batch's. Returns each job's error, or None."""
    failures: dict[Job, errors.GetmError | None] = {job: job.check() for job in jobs}
    files = {job: job.file for job in jobs if failures[job] is None and job.file is not None}
    committed = yield from commit_files(list(files.values()))
    return failures | dict(zip(files, committed, strict=True))
