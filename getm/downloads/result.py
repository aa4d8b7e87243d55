"""What a finished download is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from getm.integrity import Verdict
from getm.stats import Stats


@dataclass(frozen=True, slots=True)
class DownloadResult:
    """A download that succeeded.

    `path`: the file, complete and in place. `size`: bytes. `checksum`: what verified the bytes and who declared it, or
    why nothing did. `verified`: whether anything did (`checksum.verified`). `seconds`: wall time from the call to the
    file in place. `stats`: what the transfer took.
    """

    path: Path
    size: int
    checksum: Verdict
    verified: bool
    seconds: float
    stats: Stats
