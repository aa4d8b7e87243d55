"""Hashing and verifying many files, on all cores."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from getm.core.lazy import importing
from getm.errors import Cancelled
from getm.integrity.algorithms import require_algorithm
from getm.integrity.files import check_file
from getm.integrity.hashing.threads import HashPool, borrowed, usable_cpus
from getm.integrity.values import Checksum
from getm.integrity.verdict import Verdict

if TYPE_CHECKING:
    from concurrent.futures import Future

OnBytes = Callable[[Path, int], None]
"""(path, bytes just read); called from several reading threads, so it must be quick and thread-safe."""

_QUEUED_PER_JOB = 8
"""Files being read or finished ahead of the one being yielded: keeps memory bounded for endless lists."""


@dataclass(frozen=True, slots=True)
class FileReport:
    """One file's outcome: `verdict` (its `computed` holds the checksums), or why it cannot be read."""

    path: Path
    verdict: Verdict | None
    error: OSError | None = None


def hash_files(
    paths: Iterable[str | os.PathLike[str]],
    algorithms: Sequence[str],
    *,
    jobs: int | None = None,
    pool: HashPool | None = None,
    on_bytes: OnBytes | None = None,
) -> Generator[FileReport, None, None]:
    """Compute checksums of many files, `jobs` at a time (default: the usable CPUs); reports in the order of `paths`.

    Raises `InvalidInput` and `MissingExtra` for the algorithms before any file is opened. Leaving the iterator early
    stops the work.
    """
    names = tuple(require_algorithm(algorithm) for algorithm in algorithms)
    work = ((Path(path), (), names) for path in paths)
    return _reports(work, jobs, pool, on_bytes)


def verify_files(
    entries: Iterable[tuple[str | os.PathLike[str], Checksum | Sequence[Checksum]]],
    *,
    jobs: int | None = None,
    pool: HashPool | None = None,
    on_bytes: OnBytes | None = None,
) -> Generator[FileReport, None, None]:
    """Check many files, `jobs` at a time, each against a checksum or against several in one pass; reports in the order
    of `entries`; see `hash_files`.

    Raises `MissingExtra` at the first entry whose algorithm's package is not installed.
    """
    work = ((Path(path), (expected,) if isinstance(expected, Checksum) else expected, ()) for path, expected in entries)
    return _reports(work, jobs, pool, on_bytes)


_Work = tuple[Path, Sequence[Checksum], Sequence[str]]


def _reports(
    work: Iterable[_Work], jobs: int | None, pool: HashPool | None, on_bytes: OnBytes | None
) -> Generator[FileReport, None, None]:
    count = max(1, usable_cpus() if jobs is None else jobs)
    stopped = threading.Event()
    remaining = iter(work)
    ahead: deque[Future[FileReport]] = deque()
    # Here, since a thread that outlives the main one cannot import it any more.
    with importing:
        from concurrent.futures import ThreadPoolExecutor

    # The executor ends first: its threads wait for the hashing threads.
    with borrowed(pool) as hashing, ThreadPoolExecutor(count, thread_name_prefix="getm-files") as executor:

        def refill(number: int) -> None:
            for item in islice(remaining, number):
                ahead.append(executor.submit(_report, item, hashing, on_bytes, stopped))

        try:
            refill(count * _QUEUED_PER_JOB)
            while ahead:
                report = ahead.popleft().result()
                refill(1)
                yield report
        finally:
            # Ctrl-C or an abandoned iterator: files being read stop at the next read, others never start.
            stopped.set()
            executor.shutdown(wait=False, cancel_futures=True)


def _report(item: _Work, pool: HashPool, on_bytes: OnBytes | None, stopped: threading.Event) -> FileReport:
    path, expected, names = item
    try:
        verdict = check_file(path, expected, also=names, pool=pool, on_bytes=partial(_on_read, path, on_bytes, stopped))
    except OSError as error:
        return FileReport(path, None, error)
    return FileReport(path, verdict)


def _on_read(path: Path, on_bytes: OnBytes | None, stopped: threading.Event, count: int) -> None:
    if stopped.is_set():
        raise Cancelled(f"hashing of {path.name} was stopped")
    if on_bytes is not None:
        on_bytes(path, count)
