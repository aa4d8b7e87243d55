"""The settings for all downloads of a batch."""

from __future__ import annotations

from typing import Literal, get_args

from msgspec import Struct
from msgspec.structs import force_setattr

from getm.core.validate import refuse, validate_bool, validate_integer
from getm.options import MAX_CONCURRENCY

MAX_JOBS = 256
DEFAULT_JOBS = 8
# With "auto": of small files. Large ones are few; see `Host`.
MAX_AUTO_JOBS = 64
# The most connections to one host, over all its downloads. Public archives begin to refuse at a few dozen.
DEFAULT_PER_HOST = 64

Existing = Literal["replace", "keep", "verify", "update", "repair"]
EXISTING: tuple[Existing, ...] = get_args(Existing)


class BatchOptions(Struct, frozen=True):
    """How the downloads of a batch are done. Raises `InvalidInput` for what cannot be used.

    `jobs`: files at once; "auto": many small ones, and few large ones. `concurrency`: range requests at once for each
    file; "auto": as many as bring more; None: the engine runs in a thread of this process. `per_host`: connections to
    one host at most. `resume`: continue the partial data of an earlier run. `fsync`: bring files onto the disk before
    they appear. `existing`: what becomes of targets that exist. "replace": they are downloaded again; "keep": they are
    left; "verify": those that are as they should be are left; "update": those of the version that the server still has
    are left, and others get its time; "repair": as "verify", and only damaged blocks are downloaded of those that a
    receipt has the blocks of. `remote_time`: give files the server's modification time. `continue_after_error`: do not
    end the others after a failure. `dry_run`: ask each server for the head only, and write nothing.
    """

    jobs: int | Literal["auto"] = DEFAULT_JOBS
    concurrency: int | Literal["auto"] | None = "auto"
    per_host: int = DEFAULT_PER_HOST
    resume: bool = True
    fsync: bool = True
    existing: Existing = "replace"
    remote_time: bool = False
    continue_after_error: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.jobs, str) and self.jobs == "auto"):
            force_setattr(self, "jobs", validate_integer(self.jobs, "jobs", 1, MAX_JOBS, none=', or "auto"'))
        force_setattr(self, "per_host", validate_integer(self.per_host, "per_host", 1, MAX_JOBS * MAX_CONCURRENCY))
        for name in ("resume", "fsync", "remote_time", "continue_after_error", "dry_run"):
            validate_bool(getattr(self, name), name)
        if self.existing not in EXISTING:
            refuse("existing", f"one of {', '.join(EXISTING)}", self.existing)

    @property
    def examines(self) -> bool:
        """Whether files that are there are examined."""
        return self.existing in ("verify", "update", "repair")

    @property
    def takes_time(self) -> bool:
        """Whether files get the server's modification time: by it alone, "update" can ask for a newer version."""
        return self.remote_time or self.existing == "update"

    @property
    def most_jobs(self) -> int:
        """The most files at once."""
        return MAX_AUTO_JOBS if self.jobs == "auto" else self.jobs
