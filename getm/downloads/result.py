"""What a finished download is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from getm.errors import GetmError
from getm.head import Validator
from getm.integrity import Verdict
from getm.stats import Stats


@dataclass(frozen=True, slots=True)
class DownloadResult:
    """A download that succeeded.

    `path`: the file, complete and in place. `size`: bytes. `checksum`: what verified the bytes and who declared it, or
    why nothing did. `verified`: whether anything did (`checksum.verified`). `seconds`: wall time from the call to the
    file in place. `stats`: what the transfer took. `url`: what was asked for, redacted. `url_host`: that sent the
    bytes, after redirects, with its port where the URL names one. `validator`: ETag and Last-Modified of the version
    that was fetched. `started_at`: when it began, in UTC. `index`: of many downloads, the position of its entry.
    """

    path: Path
    size: int
    checksum: Verdict
    verified: bool
    seconds: float
    stats: Stats
    url: str | None = None
    url_host: str | None = None
    validator: Validator | None = None
    started_at: datetime | None = None
    index: int = 0


@dataclass(frozen=True, slots=True)
class DownloadFailure:
    """A download of several that failed.

    `index`: its entry's position. `url`: redacted. `path`: the target, None where it was not known yet. `error`: what
    it failed with.
    """

    index: int
    url: str
    path: Path | None
    error: GetmError
