"""The results of transfers: statistics, and how downloads ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from getm.core.version import Version
    from getm.errors import GetmError
    from getm.integrity.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Stats:
    """The statistics of a transfer, over all its requests and engines.

    Before its end only `received_bytes` and `seconds` are known; the others have their defaults.

    Attributes:
        received_bytes: bytes of the object that came over the network.
        requests: requests sent, without those of redirects and those repeated because the server had just closed a
            kept-alive connection.
        connections: connections opened for them; a kept-alive one is not counted again.
        retries: how often the rest was requested again, by cause: "connect", "tls", "reset", "truncation", "stall",
            "slow", "status", "changed", "redirect", "bad response"; "mirror" where another URL was used instead of one
            that failed, "slow tail" where a slow connection was replaced by a faster one.
        stalls: how often a connection was silent for too long.
        first_byte_s: seconds until the head of the response, redirects and retries included; None where none came.
        seconds: seconds from the request to the verdict.
    """

    received_bytes: int = 0
    requests: int = 0
    connections: int = 0
    retries: Mapping[str, int] = field(default_factory=dict)
    stalls: int = 0
    first_byte_s: float | None = None
    seconds: float = 0.0

    def __add__(self, later: Stats) -> Stats:
        """The statistics of two attempts, `later` after this one."""
        first_byte_s = self.first_byte_s
        if first_byte_s is None and later.first_byte_s is not None:
            first_byte_s = self.seconds + later.first_byte_s
        causes = [*self.retries, *(cause for cause in later.retries if cause not in self.retries)]
        return Stats(
            received_bytes=self.received_bytes + later.received_bytes,
            requests=self.requests + later.requests,
            connections=self.connections + later.connections,
            retries={cause: self.retries.get(cause, 0) + later.retries.get(cause, 0) for cause in causes},
            stalls=self.stalls + later.stalls,
            first_byte_s=first_byte_s,
            seconds=self.seconds + later.seconds,
        )

    @property
    def throughput(self) -> float:
        """Bytes a second, from the request to the verdict; 0.0 where no time has passed."""
        return self.received_bytes / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class DownloadResult:
    """A download that succeeded.

    Attributes:
        path: the file, complete and in place.
        size: its size in bytes.
        checksum: what verified the bytes and who declared it, or why nothing did.
        verified: whether anything did (`checksum.verified`).
        seconds: wall time from the call to the file in place.
        stats: the statistics of the transfer.
        url: the URL that was given, redacted.
        url_host: the host that sent the bytes, after redirects, with its port where the URL names one.
        version: Size and validators of what was fetched.
        started_at: when it began, in UTC.
        index: of several downloads, the position of its entry, from 0.
        suggested_name: what the server or the URL calls it, where that was not safe and another name was made of it.
    """

    path: Path
    size: int
    checksum: Verdict
    verified: bool
    seconds: float
    stats: Stats
    url: str | None = None
    url_host: str | None = None
    version: Version | None = None
    started_at: datetime | None = None
    index: int = 0
    suggested_name: str | None = None

    def __repr__(self) -> str:
        verified = "verified" if self.verified else "not verified"
        return f"DownloadResult({_cut(repr(self.path.name), 40)}, {self.size} bytes, {verified})"


@dataclass(frozen=True, slots=True)
class DownloadFailure:
    """One of several downloads, which failed.

    Attributes:
        index: the position of its entry, from 0.
        url: its URL, redacted.
        path: the target; None where it was not known yet.
        error: why it failed.
    """

    index: int
    url: str
    path: Path | None
    error: GetmError

    def __repr__(self) -> str:
        name = repr(self.url if self.path is None else self.path.name)
        return _cut(f"DownloadFailure({_cut(name, 40)}, {type(self.error).__name__}: {self.error.message}", 98) + ")"


def _cut(text: str, width: int) -> str:
    """One line in a notebook for each result: the attributes have the rest."""
    return text if len(text) <= width else f"{text[: width - 3]}..."
