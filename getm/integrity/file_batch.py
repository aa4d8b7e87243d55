"""Hashing and verifying many files, on all cores."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from getm.core.lazy import importing
from getm.core.this_process import usable_cpus
from getm.errors import Cancelled
from getm.integrity.algorithms import require_algorithm
from getm.integrity.files import check_file
from getm.integrity.hashing.threads import HashPool
from getm.integrity.values import Checksum
from getm.integrity.verdict import Verdict

if TYPE_CHECKING:
    from concurrent.futures import Future

OnBytes = Callable[[Path, int], None]
"""(path, bytes just read); called from several reading threads, so it must be quick and thread-safe."""

_QUEUED_PER_JOB = 8
"""Files being read or finished ahead of the one being yielded: keeps memory bounded for endless lists."""


class FileReport(Struct, frozen=True):
    """One file's outcome: `verdict` (its `computed` holds the checksums), or why it cannot be read."""

    path: Path
    verdict: Verdict | None
    error: OSError | None = None


def check_files(
    entries: Iterable[tuple[str | os.PathLike[str], Sequence[Checksum]]],
    *,
    also: Sequence[str] = (),
    jobs: int | None = None,
    on_bytes: OnBytes = lambda path, count: None,
) -> Generator[FileReport, None, None]:
    """Check many files, `jobs` at a time (default: the usable CPUs), each against its checksums, and compute the
    algorithms `also`, in one pass; reports in the order of `entries`. Leaving the iterator early stops the work.

    Raises `InvalidInput` and `MissingExtra` for `also` before any file is opened, and `MissingExtra` at the first entry
    whose algorithm's package is not installed.
    """
    names = tuple(map(require_algorithm, also))
    count = max(1, usable_cpus() if jobs is None else jobs)
    stopped = threading.Event()
    remaining = iter(entries)
    ahead: deque[Future[FileReport]] = deque()
    # Here, since a thread that outlives the main one cannot import it any more.
    with importing:
        from concurrent.futures import ThreadPoolExecutor

    def report(file: str | os.PathLike[str], expected: Sequence[Checksum]) -> FileReport:
        path = Path(file)

        def on_read(count: int) -> None:
            if stopped.is_set():
                raise Cancelled(f"hashing of {path.name} was stopped")
            on_bytes(path, count)

        try:
            return FileReport(path, check_file(path, expected, also=names, pool=pool, on_bytes=on_read))
        except OSError as error:
            return FileReport(path, None, error)

    # The executor ends first: its threads wait for the hashing threads.
    with HashPool() as pool, ThreadPoolExecutor(count, thread_name_prefix="getm-files") as executor:
        try:
            ahead.extend(executor.submit(report, *entry) for entry in islice(remaining, count * _QUEUED_PER_JOB))
            while ahead:
                found = ahead.popleft().result()
                ahead.extend(executor.submit(report, *entry) for entry in islice(remaining, 1))
                yield found
        finally:
            # Ctrl-C or an abandoned iterator: files being read stop at the next read, others never start.
            stopped.set()
            executor.shutdown(wait=False, cancel_futures=True)
