"""What happens while files are downloaded, as typed values, for progress displays and receipts.

The order for one entry: `Started`, any number of `Progressed`, `Retried` and `Adapted`, and one of `Finished`, `Failed`
and `Skipped`, each of which may also come without a `Started` before it. URLs are redacted; no event has a secret.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, cast

from msgspec import Struct

from getm.errors import GetmError, HTTPStatusError, URLExpired
from getm.results import DownloadResult

Json = str | int | float | bool | None | dict[str, "Json"] | list["Json"]


class Event(Struct, frozen=True):
    """Base of all events. `name` is the event's name in JSON."""

    name: ClassVar[str] = "event"

    def __init_subclass__(cls) -> None:
        cls.name = cls.__name__.lower()

    def to_json(self) -> dict[str, Json]:
        """The fields as JSON values, "event" (the name) first. A path that is not UTF-8 has lone surrogates, as
        `os.fsdecode` makes them: `json.dumps` writes them, stricter encoders refuse."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {"event": self.name, **{name: _plain(value) for name, value in values.items()}}


class Planned(Event, frozen=True):
    """What is known about all downloads: before the first request, and again when more is known.

    Attributes:
        files: how many; None where it is not known.
        total_bytes: the sum of their sizes; None where it is not known.
    """

    files: int | None
    total_bytes: int | None


class Started(Event, frozen=True):
    """The head of the response has come.

    Attributes:
        index: the entry's position in the list, from 0, in this and all other events.
        url: its URL, redacted.
        path: the target.
        size: the object's size in bytes; None where the server does not declare it.
        resumed_bytes: how many of them an earlier run has left.
    """

    index: int
    url: str
    path: Path | None
    size: int | None
    resumed_bytes: int = 0


class Progressed(Event, frozen=True):
    """More bytes have come.

    Attributes:
        index: the entry's position in the list.
        done_bytes: bytes that are there, resumed ones included; 0 again where a download starts over.
        total_bytes: the object's size; None where it is not known.
    """

    index: int
    done_bytes: int
    total_bytes: int | None


class Retried(Event, frozen=True):
    """A request failed and is retried.

    Attributes:
        index: the entry's position in the list.
        cause: why it failed, in a word or two (the keys of `Stats.retries`).
        attempt: how many failures there were in a row without progress.
        delay_s: seconds until the retry.
        message: why it failed, in a sentence.
        reason: the same in a few words ("503 Service Unavailable"); empty where it is not waited for.
        attempts: how many such failures are retried; 0 where that is not counted.
        url: its URL, redacted.
        path: the target; None where it is not known.
    """

    index: int
    cause: str
    attempt: int
    delay_s: float
    message: str
    reason: str = ""
    attempts: int = 0
    url: str = ""
    path: Path | None = None


class Adapted(Event, frozen=True):
    """A download with `concurrency="auto"` comes over another number of connections from now on.

    Attributes:
        index: the entry's position in the list.
        connections: how many.
        reason: why, in a few words.
    """

    index: int
    connections: int
    reason: str


class Finished(Event, frozen=True):
    """The file is complete, verified as far as it can be, and in place.

    Attributes:
        index: the entry's position in the list.
        result: the result of the download.
        waived: the caller or the list asked for no verification, so unverified bytes are no reason for a warning.
    """

    index: int
    result: DownloadResult
    waived: bool = False

    def to_json(self) -> dict[str, Json]:
        verdict, stats = self.result.checksum, self.result.stats
        return {
            "event": self.name,
            "index": self.index,
            **_result_facts(self.result),
            "reason": verdict.reason,
            "received_bytes": stats.received_bytes,
            "requests": stats.requests,
            "retries": dict(stats.retries),
            "suggested_name": self.result.suggested_name,
            "content_coding": self.result.content_coding,
            **({} if self.result.replaced is None else {"replaced": self.result.replaced}),
        }


class Skipped(Event, frozen=True):
    """Nothing was downloaded, on purpose: a file that is there was left.

    Attributes:
        index: the entry's position in the list.
        path: the target; None where it is not known.
        reason: why.
        result: that file, and what verified it; None in a dry run.
    """

    index: int
    path: Path | None
    reason: str
    result: DownloadResult | None = None

    def to_json(self) -> dict[str, Json]:
        facts = {} if self.result is None else {**_result_facts(self.result), "requests": self.result.stats.requests}
        return {"event": self.name, "index": self.index, **facts, "path": _plain(self.path), "reason": self.reason}


class Failed(Event, frozen=True):
    """The download failed for good.

    Attributes:
        index: the entry's position in the list.
        url: its URL, redacted.
        path: the target; None where it was not known yet.
        error: why it failed.
    """

    index: int
    url: str
    path: Path | None
    error: GetmError

    def to_json(self) -> dict[str, Json]:
        facts = {**error_facts(self.error), "url": self.url, "path": _plain(self.path)}
        return {"event": self.name, "index": self.index, **facts}


def _result_facts(result: DownloadResult) -> dict[str, Json]:
    """What there is to say of a file, however it came there."""
    verdict = result.checksum
    return {
        "url": result.url,
        "path": _plain(result.path),
        "size": result.size,
        "seconds": round(result.seconds, 6),
        "verified": verdict.verified,
        "checksum": None if verdict.checksum is None else str(verdict.checksum),
        "source": verdict.source,
    }


def error_facts(error: GetmError) -> dict[str, Json]:
    """What is known of an error, as on standard error: "message", "error" (its code), "url" (redacted) and its fields,
    without those that are not known. The status of the server is "status_code"."""
    facts: dict[str, Json] = {"message": error.message, "error": error.code, "url": error.url, **error.fields()}
    if isinstance(error, HTTPStatusError | URLExpired):
        facts["status_code"] = facts.pop("status")
    return {name: value for name, value in facts.items() if value is not None}


def _plain(value: object) -> Json:
    return os.fspath(value) if isinstance(value, Path) else cast("Json", value)
