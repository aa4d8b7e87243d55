"""The outcome of a verification: by which checksum, declared where, or why there was none."""

from __future__ import annotations

from msgspec import Struct

from getm.core.brief import cut
from getm.errors import ChecksumMismatch
from getm.integrity.blocks import BlockSums
from getm.integrity.declared.types import Declared
from getm.integrity.values import Checksum


class Mismatch(Struct, frozen=True):
    """A declared checksum that the bytes do not have, and the one that they have."""

    declared: Declared
    actual: Checksum

    def as_error(self, url: str | None = None) -> ChecksumMismatch:
        """The error to raise; `url` must be redacted already. Callers search its message for "Checksum failed!"."""
        return ChecksumMismatch(
            f"Checksum failed! Expected {self.declared.checksum} (from {self.declared.source}), "
            f"but the bytes have {self.actual}: fetch them again, or ask whoever published the checksum",
            url=url,
            algorithm=self.declared.checksum.algorithm,
            expected=str(self.declared.checksum),
            actual=str(self.actual),
            source=self.declared.source,
        )


class Verdict(Struct, frozen=True, gc=False):
    """The outcome of the verification of one object: `checksum` of a reader or a download result. True if verified.

    Attributes:
        verified: whether a checksum matched.
        checksum: the one that was computed and matched; None if none did.
        source: who declared it: "caller", or the name of a response header; None if none matched.
        reason: why the bytes are not verified; None if they are.
        computed: every checksum that was computed, matched or not.
        mismatch: the first that differed from what was declared; None if none did.
        blocks: the CRC32C of blocks of the bytes; None unless a receipt is written, and for small objects.

    Example:
        >>> fh.checksum
        Verdict(verified=True, checksum=Checksum(algorithm='md5', ...), source='Content-MD5', ...)
    """

    verified: bool
    checksum: Checksum | None
    source: str | None
    reason: str | None
    computed: tuple[Checksum, ...] = ()
    mismatch: Mismatch | None = None
    blocks: BlockSums | None = None

    def __bool__(self) -> bool:
        return self.verified

    def __repr__(self) -> str:
        return f"<{cut(f'Verdict {self}', 97)}>"

    def __str__(self) -> str:
        if self.verified:
            return f"verified: {self.checksum} (from {self.source})"
        if self.mismatch is not None:
            return (
                f"wrong: expected {self.mismatch.declared.checksum} (from {self.mismatch.declared.source}), "
                f"got {self.mismatch.actual}"
            )
        return f"not verified: {self.reason}"


def unverified(reason: str, computed: tuple[Checksum, ...] = (), blocks: BlockSums | None = None) -> Verdict:
    """A verdict for bytes that nothing verified, and why."""
    return Verdict(False, None, None, reason, computed, blocks=blocks)
