"""What happens while files are downloaded, as typed values: what the progress displays and the receipt are made from.

The order for one entry: `Started`, any number of `Progressed` and `Retried`, and one of `Finished`, `Failed` and
`Skipped`, each of which may also come without a `Started` before it. URLs are redacted; no event holds a secret.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from getm.errors import GetmError

if TYPE_CHECKING:
    from getm.results import DownloadResult

Json = str | int | float | bool | None | dict[str, "Json"] | list["Json"]


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events. `name` is the one that stands in JSON."""

    name: ClassVar[str] = "event"

    def to_json(self) -> dict[str, Json]:
        """Plain fields, "event" (the name) first. A path that is not UTF-8 holds lone surrogates, as `os.fsdecode`
        makes them: `json.dumps` writes them, stricter encoders refuse."""
        return {"event": self.name}


@dataclass(frozen=True, slots=True)
class Planned(Event):
    """What is known of all downloads before the first request, or better known later: how many `files`, and their
    `total_bytes`. None: not known."""

    name: ClassVar[str] = "planned"
    files: int | None
    total_bytes: int | None

    def to_json(self) -> dict[str, Json]:
        return {"event": self.name, "files": self.files, "total_bytes": self.total_bytes}


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The response's head is there. `index`: the entry's position in the list, from 0, in this and all other events.
    `url`: redacted. `path`: the target. `size`: of the object in bytes, None where the server does not tell.
    `resumed_bytes`: those of them that an earlier run left."""

    name: ClassVar[str] = "started"
    index: int
    url: str
    path: Path | None
    size: int | None
    resumed_bytes: int = 0

    def to_json(self) -> dict[str, Json]:
        return {
            "event": self.name,
            "index": self.index,
            "url": self.url,
            "path": _text(self.path),
            "size": self.size,
            "resumed_bytes": self.resumed_bytes,
        }


@dataclass(frozen=True, slots=True)
class Progressed(Event):
    """`done_bytes` of `total_bytes` (None: unknown) are there, resumed ones included. It falls back to 0 where a
    download begins anew, since its object was replaced midway."""

    name: ClassVar[str] = "progressed"
    index: int
    done_bytes: int
    total_bytes: int | None

    def to_json(self) -> dict[str, Json]:
        return {
            "event": self.name,
            "index": self.index,
            "done_bytes": self.done_bytes,
            "total_bytes": self.total_bytes,
        }


@dataclass(frozen=True, slots=True)
class Retried(Event):
    """A request failed for `cause` and is made again in `delay_s` seconds. `attempt` counts the failures without
    progress between them; `message` says it for people."""

    name: ClassVar[str] = "retried"
    index: int
    cause: str
    attempt: int
    delay_s: float
    message: str

    def to_json(self) -> dict[str, Json]:
        return {
            "event": self.name,
            "index": self.index,
            "cause": self.cause,
            "attempt": self.attempt,
            "delay_s": self.delay_s,
            "message": self.message,
        }


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """The file is complete, checked as far as it can be, and in place. `waived`: nothing was to be verified, as the
    caller or the list says, so that unverified bytes are nothing to warn of."""

    name: ClassVar[str] = "finished"
    index: int
    result: DownloadResult
    waived: bool = False

    def to_json(self) -> dict[str, Json]:
        verdict, stats = self.result.checksum, self.result.stats
        return {
            "event": self.name,
            "index": self.index,
            "url": self.result.url,
            "path": _text(self.result.path),
            "size": self.result.size,
            "seconds": round(self.result.seconds, 6),
            "verified": verdict.verified,
            "checksum": None if verdict.checksum is None else str(verdict.checksum),
            "source": verdict.source,
            "reason": verdict.reason,
            "received_bytes": stats.received_bytes,
            "requests": stats.requests,
            "retries": dict(stats.retries),
        }


@dataclass(frozen=True, slots=True)
class Skipped(Event):
    """Nothing was downloaded, on purpose; `reason` says why."""

    name: ClassVar[str] = "skipped"
    index: int
    path: Path | None
    reason: str

    def to_json(self) -> dict[str, Json]:
        return {"event": self.name, "index": self.index, "path": _text(self.path), "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The download has failed for good. `url`: redacted. `path`: None where it was not known yet."""

    name: ClassVar[str] = "failed"
    index: int
    url: str
    path: Path | None
    error: GetmError

    def to_json(self) -> dict[str, Json]:
        fields: dict[str, Json] = {name: value for name, value in self.error.fields().items() if value is not None}
        if "status" in fields:
            # As on standard error and in a receipt.
            fields["status_code"] = fields.pop("status")
        return {
            "event": self.name,
            "index": self.index,
            "url": self.url,
            "path": _text(self.path),
            "error": self.error.code,
            "message": self.error.message,
            **{name: value for name, value in fields.items() if name != "path"},
        }


def _text(path: Path | None) -> str | None:
    return None if path is None else os.fspath(path)
