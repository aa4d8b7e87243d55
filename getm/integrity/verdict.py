"""What came of checking: verified by what, from where, or why not."""

from __future__ import annotations

from dataclasses import dataclass

from getm.errors import ChecksumMismatch
from getm.integrity.declared.types import Declared
from getm.integrity.values import Checksum


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A declared checksum that the bytes do not have, and the one they have instead."""

    declared: Declared
    actual: Checksum

    def as_error(self, url: str | None = None) -> ChecksumMismatch:
        """The error to raise; `url` must be redacted already. Existing callers search for "Checksum failed!"."""
        return ChecksumMismatch(
            f"Checksum failed! Expected {self.declared.checksum} (from {self.declared.source}), "
            f"but the bytes have {self.actual}: fetch them again, or ask whoever published the checksum",
            url=url,
            algorithm=self.declared.checksum.algorithm,
            expected=str(self.declared.checksum),
            actual=str(self.actual),
            source=self.declared.source,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of checking one representation; what `fh.checksum` shows.

    `checksum` is what was computed and matched, `source` who had declared it ("caller" or a response header's name);
    `reason` says, when nothing verified the bytes, why. `computed` holds every checksum computed, matched or not, and
    `mismatch` the first that differed. True in a boolean context when verified.
    """

    verified: bool
    checksum: Checksum | None
    source: str | None
    reason: str | None
    computed: tuple[Checksum, ...] = ()
    mismatch: Mismatch | None = None

    def __bool__(self) -> bool:
        return self.verified

    def __str__(self) -> str:
        if self.verified:
            return f"verified: {self.checksum} (from {self.source})"
        if self.mismatch is not None:
            return (
                f"wrong: expected {self.mismatch.declared.checksum} (from {self.mismatch.declared.source}), "
                f"got {self.mismatch.actual}"
            )
        return f"not verified: {self.reason}"


def unverified(reason: str, computed: tuple[Checksum, ...] = ()) -> Verdict:
    """A verdict that nothing verified the bytes, and why."""
    return Verdict(False, None, None, reason, computed)
