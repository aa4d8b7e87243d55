"""The last steps of downloads whose bytes have all come: verify, make durable, put in place. For several at once."""

from __future__ import annotations

from collections.abc import Iterable

from getm import errors
from getm.batch.job import Job
from getm.files import Commit, target_error


class Finishing:
    """The jobs go through `check_and_write_out`, `put_in_place`, `settle` and `finish`, in this order. The first and
    the third wait for the disk, and may be called in any thread; the others belong to the batch's.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.jobs: list[Job] = list(jobs)
        self._failures: dict[Job, errors.GetmError | None] = {}
        self._with_file: list[Job] = []
        self._commit = Commit(())

    def check_and_write_out(self) -> None:
        """Verify the files that must be read back, and bring the bytes onto the disk."""
        files = []
        for job in self.jobs:
            failure = self._failures[job] = _checked(job)
            file = job.file
            if failure is None and file is not None:
                self._with_file.append(job)
                files.append(file)
        self._commit = Commit(files)
        self._commit.write_out()

    def put_in_place(self) -> None:
        self._commit.put_in_place()

    def settle(self) -> None:
        """Bring the new names onto the disk."""
        self._commit.settle()

    def finish(self) -> dict[Job, errors.GetmError | None]:
        """Remove the journals and close everything; each job, and its error."""
        self._commit.finish()
        self._failures.update(zip(self._with_file, self._commit.errors, strict=True))
        return self._failures

    def run(self) -> None:
        """All steps but the last."""
        self.check_and_write_out()
        self.put_in_place()
        self.settle()


def _checked(job: Job) -> errors.GetmError | None:
    try:
        job.check()
    except errors.GetmError as error:
        return error
    except OSError as error:
        return target_error(error, job.path)
    return None
