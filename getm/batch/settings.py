"""The settings for all downloads of a batch."""

from __future__ import annotations

from dataclasses import dataclass

MAX_JOBS = 256
DEFAULT_JOBS = 8
# The most connections to one host, over all its downloads. Public archives begin to refuse at a few dozen.
DEFAULT_PER_HOST = 64


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How the downloads of a batch are done; checked by the session.

    `jobs`: files at once. `concurrency`: range requests at once for each file; None: the engine runs in a thread of
    this process. `per_host`: connections to one host at most. `resume`: continue the partial data of an earlier run.
    `no_clobber`: skip targets that exist. `remote_time`: give files the server's modification time. `keep_going`:
    continue after a failure. `dry_run`: ask each server for the head only, and write nothing.
    """

    jobs: int = DEFAULT_JOBS
    concurrency: int | None = 1
    per_host: int = DEFAULT_PER_HOST
    resume: bool = True
    no_clobber: bool = False
    remote_time: bool = False
    keep_going: bool = False
    dry_run: bool = False
