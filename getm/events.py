"""What happens while files are downloaded, as typed values, for progress displays and receipts.

`to_json` gives the facts of one as plain values, on one level, as `getm --json` prints them. `msgspec.json.encode` and
`msgspec.to_builtins` take events as they are, with their fields; the first refuses a path that is not UTF-8.

The order for one entry: any number of `Examining`, then `Started`, any number of `Progressed`, `Retried` and `Adapted`,
and one of `Finished`, `Failed` and `Skipped`, each of which may also come without a `Started` before it. URLs are
redacted; no event has a secret.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import msgspec

from getm.core.brief import brief_repr
from getm.core.json_form import ERROR, PATH, Json, keep, keeping
from getm.errors import GetmError
from getm.results import DownloadResult


class Event(msgspec.Struct, frozen=True, tag_field="event", tag=str.lower):
    """Base of all events. `name` is the event's name in JSON."""

    name: ClassVar[str] = "event"

    def __init_subclass__(cls) -> None:
        cls.name = cls.__name__.lower()

    def to_json(self) -> dict[str, Json]:
        """The fields as JSON values, "event" (the name) first. A path that is not UTF-8 has lone surrogates, as
        `os.fsdecode` makes them: `json.dumps` writes them, stricter encoders refuse."""
        facts: dict[str, Json] = msgspec.to_builtins(self)
        return facts

    def __repr__(self) -> str:
        return brief_repr(self)


class Planned(Event, frozen=True):
    """What is known about all downloads: before the first request, and again when more is known.

    Attributes:
        files: how many; None where it is not known.
        total_bytes: the sum of their sizes; None where it is not known.
        ignored: names of columns and keys of their list that were understood and are not used.
    """

    files: int | None
    total_bytes: int | None
    ignored: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        return {**super().to_json(), "ignored": list(self.ignored)}


@keeping(path=PATH)
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

    def __post_init__(self) -> None:
        keep(self)


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


@keeping(path=PATH)
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

    def __post_init__(self) -> None:
        keep(self)


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


@keeping(path=PATH)
class Examining(Event, frozen=True):
    """A large file that is there already is being read, as `existing` asks for it; nothing is downloaded meanwhile.

    Attributes:
        index: the entry's position in the list.
        path: the file.
        done_bytes: how many of its bytes have been read.
        total_bytes: its size.
    """

    index: int
    path: Path
    done_bytes: int
    total_bytes: int

    def __post_init__(self) -> None:
        keep(self)


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
        return {"event": self.name, "index": self.index, **self.result.to_json()}


@keeping(path=PATH)
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

    def __post_init__(self) -> None:
        keep(self)

    def to_json(self) -> dict[str, Json]:
        path = None if self.path is None else os.fspath(self.path)
        facts = {"path": path} if self.result is None else self.result.to_json()
        return {"event": self.name, "index": self.index, **facts, "reason": self.reason}


@keeping(path=PATH, error=ERROR)
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

    def __post_init__(self) -> None:
        keep(self)

    def to_json(self) -> dict[str, Json]:
        path = None if self.path is None else os.fspath(self.path)
        return {"event": self.name, "index": self.index, **self.error.to_json(), "url": self.url, "path": path}
