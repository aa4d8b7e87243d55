"""What is at a target before its download: whether it is as it should be already, or what the server has."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate

from msgspec import Struct

from getm import errors
from getm.core.head import ResponseHead
from getm.core.this_process import usable_cpus
from getm.core.threads import WorkerThreads
from getm.core.version import Version
from getm.files.receipt_lines import ReceiptEntry
from getm.integrity.declared.types import Declared
from getm.integrity.files import check_file
from getm.integrity.hashing.threads import HashPool
from getm.integrity.values import parse_checksum
from getm.integrity.verdict import Verdict

NOTHING_SAYS = "nothing says what it should be"


class Expected(Struct, frozen=True):
    """What a file must be. `size`: in bytes, None for any. `declared`: its checksums, all of which must match; none:
    nothing says what it must be. `changed_ns`: when it was changed last (st_ctime) if it still is what was received:
    then it need not be read; None: it is read in any case."""

    size: int | None
    declared: tuple[Declared, ...] = ()
    changed_ns: int | None = None

    @classmethod
    def of_list(cls, size: int | None, checksums: Sequence[str]) -> Expected:
        """By what the caller says. `checksums`: in canonical text."""
        return cls(size, tuple([Declared(parse_checksum(text), "caller") for text in checksums]))

    @classmethod
    def of_server(cls, size: int | None, declared: Sequence[tuple[str, str]]) -> Expected:
        """By what a response declares, of which the strongest is enough."""
        return cls(size, tuple([Declared(parse_checksum(text), source) for text, source in declared[:1]]))

    @classmethod
    def of_receipt(cls, entry: ReceiptEntry, *, may_trust: bool) -> Expected:
        """By what was received. `may_trust`: a file that was not changed since need not be read."""
        declared = tuple([Declared(checksum, "receipt") for checksum in entry.proofs])
        return cls(entry.size, declared, entry.changed_ns if may_trust else None)


class Examined(Struct, frozen=True):
    """What was found. `size`: of the file, in bytes; `modified_s`: its modification time, in seconds since 1970.
    `unchanged`: nobody has changed it since it was received. `verdict`: what verified it; None: it was not read, or
    nothing verified it. `wrong`: why it is not what it should be."""

    size: int = 0
    modified_s: float = 0.0
    unchanged: bool = False
    verdict: Verdict | None = None
    wrong: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether it certainly is what it should be."""
        return self.unchanged or self.verdict is not None

    @property
    def left(self) -> str:
        """Why it is left, where something verified it."""
        if self.verdict is None or self.verdict.checksum is None:
            return ""
        return f"verified in place by {self.verdict.checksum.algorithm} (from {self.verdict.source})"


class Examiner:
    """Reads and hashes files that are there, several at once, in threads of its own."""

    def __init__(self) -> None:
        self._readers = WorkerThreads("getm-examine", usable_cpus())
        self._pool = HashPool()

    def submit(self, work: Callable[[], None]) -> None:
        """Do `work`, which calls `examine`, in one of the threads."""
        self._readers.submit(work)

    def examine(
        self, path: str, expected: Expected, on_bytes: Callable[[int], None], *, blocks: bool = False
    ) -> Examined:
        """Hold the file against what it must be. `on_bytes`, `blocks`: see `check_file`. Raises `MissingExtra`."""
        try:
            # A FIFO that was put there would block for ever.
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            return Examined(wrong=_unreadable(error))
        try:
            return self._examine(fd, expected, on_bytes, blocks)
        except OSError as error:
            return Examined(wrong=_unreadable(error))
        finally:
            os.close(fd)

    def _examine(self, fd: int, expected: Expected, on_bytes: Callable[[int], None], blocks: bool) -> Examined:
        status = os.fstat(fd)
        size, modified_s = status.st_size, status.st_mtime
        if not stat.S_ISREG(status.st_mode):
            return Examined(wrong="it is not a regular file")
        if expected.size not in (None, size):
            return Examined(size, modified_s, wrong=f"it has {size:,} bytes, expected {expected.size:,}")
        if expected.changed_ns == status.st_ctime_ns:
            return Examined(size, modified_s, unchanged=True)
        if not expected.declared:
            return Examined(size, modified_s)
        verdict = check_file(fd, expected.declared, blocks=blocks, pool=self._pool, on_bytes=on_bytes)
        if verdict.verified:
            return Examined(size, modified_s, verdict=verdict)
        return Examined(size, modified_s, wrong=str(verdict))

    def close(self) -> None:
        """Wait for what is being read, and end the threads."""
        self._readers.close()
        self._pool.close()


def _unreadable(error: OSError) -> str:
    return f"it cannot be read ({error.strerror or error})"


class Here(Struct, frozen=True):
    """The version that is at a target: what the request for a newer one is about. `by_time`: nothing is known of it but
    when the file was changed, which is later than the object was, if that is the same."""

    version: Version
    by_time: bool = False

    def is_current(self, head: ResponseHead, size: int | None) -> bool:
        """Whether the server still has it, by its response; `size`: of the object there, where it says so."""
        known, found = self.version, head.version(size)
        if head.status == 304:
            # One with another tag, which is a broken server's, is no answer.
            return Version(known.size, known.etag).agrees(found) is not False
        # It ignores the condition, or compares other than we do (nginx: only equal times). The same tag says as much as
        # a 304. A time says so with the size, which is certain to the second.
        if not self.by_time:
            return known.agrees(found) is True and (found.size is not None or known.etag is not None)
        modified_s, here_s = head.modified_at(), _seconds(known.last_modified)
        return size == known.size and modified_s is not None and here_s is not None and modified_s <= here_s


def here(examined: Examined, known: ReceiptEntry | None, now_s: float | None = None) -> Here | str:
    """The version at a target, for a conditional request; or why it must be downloaded again. `known`: what a receipt
    says of it, from the same URL. `now_s`: the time, in seconds since 1970."""
    if examined.wrong is not None:
        return examined.wrong
    if known is not None:
        if not examined.is_known:
            return f"it may have been changed since it was received, and {NOTHING_SAYS}"
        if known.version.condition() is not None:
            return Here(known.version)
    now_s = time.time() if now_s is None else now_s
    if not 0 <= examined.modified_s <= now_s:
        return "its time lies in the future, or before 1970"
    return Here(Version(examined.size, last_modified=formatdate(int(examined.modified_s), usegmt=True)), by_time=True)


def _seconds(http_date: str | None) -> float | None:
    return ResponseHead.of(0, "", (("Last-Modified", http_date or ""),)).modified_at()


def not_replaced(path: str, why: str) -> errors.TargetError:
    """The error where only the server chose the name of a file that is there, and is another one."""
    return errors.TargetError(
        f"The server names this download {os.path.basename(path)!r}, and such a file is there already, "  # noqa: PTH119
        f"which cannot be taken for it: {why}. Give a path to replace it.",
        path=path,
    )
