"""What is at a target before its download: whether it is as it should be already."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence

from msgspec import Struct

from getm import errors
from getm.core.this_process import usable_cpus
from getm.core.threads import WorkerThreads
from getm.integrity.declared.types import Declared
from getm.integrity.files import check_file
from getm.integrity.hashing.threads import HashPool
from getm.integrity.values import parse_checksum
from getm.integrity.verdict import Verdict


class Expected(Struct, frozen=True):
    """What a file must be. `size`: in bytes, None for any. `declared`: its checksums, all of which must match; none:
    nothing says what it must be."""

    size: int | None
    declared: tuple[Declared, ...] = ()

    @classmethod
    def of(cls, size: int | None, checksums: Sequence[str], source: str = "caller") -> Expected:
        """With checksums in canonical text."""
        return cls(size, tuple([Declared(parse_checksum(text), source) for text in checksums]))


class Examined(Struct, frozen=True):
    """What was found. `size`: of the file, in bytes. `verdict`: what verified it. `wrong`: why it is not what it should
    be; None with no verdict: nothing says what it should be."""

    size: int
    verdict: Verdict | None = None
    wrong: str | None = None

    @property
    def left(self) -> str:
        """Why it is left, where something verified it."""
        checksum = None if self.verdict is None else self.verdict.checksum
        return (
            ""
            if checksum is None or self.verdict is None
            else (f"verified in place by {checksum.algorithm} (from {self.verdict.source})")
        )

    def not_replaced(self, path: str) -> errors.TargetError:
        """The error where only the server chose the name of a file that is there, and is another one."""
        name, why = os.path.basename(path), self.wrong or "nothing says what it should be"  # noqa: PTH119
        return errors.TargetError(
            f"The server names this download {name!r}, and such a file is there already, which cannot be taken for it: "
            f"{why}. Give a path to replace it.",
            path=path,
        )


class Examiner:
    """Reads and hashes files that are there, several at once, in threads of its own."""

    def __init__(self) -> None:
        self._readers = WorkerThreads("getm-examine", usable_cpus())
        self._pool = HashPool()

    def submit(self, work: Callable[[], None]) -> None:
        """Do `work`, which calls `examine`, in one of the threads."""
        self._readers.submit(work)

    def examine(self, path: str, expected: Expected, on_bytes: Callable[[int], None]) -> Examined:
        """Hold the file against what it must be. `on_bytes`: see `check_file`. Raises `MissingExtra`."""
        try:
            # A FIFO that was put there would block for ever.
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            return Examined(0, wrong=_unreadable(error))
        try:
            return self._examine(fd, expected, on_bytes)
        except OSError as error:
            return Examined(0, wrong=_unreadable(error))
        finally:
            os.close(fd)

    def _examine(self, fd: int, expected: Expected, on_bytes: Callable[[int], None]) -> Examined:
        status = os.fstat(fd)
        size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            return Examined(0, wrong="it is not a regular file")
        if expected.size not in (None, size):
            return Examined(size, wrong=f"it has {size:,} bytes, expected {expected.size:,}")
        if not expected.declared:
            return Examined(size)
        verdict = check_file(fd, expected.declared, pool=self._pool, on_bytes=on_bytes)
        return Examined(size, verdict if verdict.verified else None, None if verdict.verified else str(verdict))

    def close(self) -> None:
        """Wait for what is being read, and end the threads."""
        self._readers.close()
        self._pool.close()


def _unreadable(error: OSError) -> str:
    return f"it cannot be read ({error.strerror or error})"
