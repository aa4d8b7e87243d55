"""How downloads ended.

`msgspec.json.encode` and `msgspec.to_builtins` take these values as they are (the first refuses a path that is not
UTF-8); `to_json` gives their facts on one level, as `getm --json` prints them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from getm.core.brief import cut
from getm.core.head import HeaderMap
from getm.core.json_form import ERROR, HEADERS, PATH, Json, keep, keeping
from getm.core.redact import redact
from getm.core.stats import Stats as Stats
from getm.core.stats import Times as Times
from getm.core.version import Version
from getm.errors import GetmError
from getm.integrity.values import Checksum
from getm.integrity.verdict import Verdict


@keeping(headers=HEADERS)
class ObjectInfo(Struct, frozen=True):
    """What a server says of an object.

    Attributes:
        url: The final URL, after redirects. It may have the secret of a signed URL.
        size: Its size in bytes; None where the server does not tell.
        etag: The entity tag as it was sent, with its quotes; None for none.
        last_modified: When it was changed, in UTC; None where the server does not tell.
        media_type: Its media type in lower case, without parameters ("text/html"); None for none.
        content_coding: The coding ("gzip", ...) in which it is sent though none was asked for; None for none.
        accepts_ranges: Whether the server grants range requests; None where it does not tell.
        checksums: What it declares for the whole object, the strongest first. Nothing was read to verify them.
        headers: The response's header fields, by name in any case.
    """

    url: str
    size: int | None
    etag: str | None
    last_modified: datetime | None
    media_type: str | None
    content_coding: str | None
    accepts_ranges: bool | None
    checksums: tuple[Checksum, ...]
    headers: HeaderMap

    def __post_init__(self) -> None:
        keep(self)

    def __repr__(self) -> str:
        return f"ObjectInfo({cut(redact(self.url), 60)!r}, {self.size} bytes)"


@keeping(path=PATH)
class DownloadResult(Struct, frozen=True, gc=False):
    """A download that succeeded, or a file that was there already and was left.

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
        left: why the file that was there was left as it was (`existing`); None: it was downloaded.
        replaced: why the file that was there was downloaded again (`existing`); None: there was none, or nobody looked.
        content_coding: the coding ("gzip", ...) in which the server sent it though none was asked for, and which the
            file has; None for none.
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
    left: str | None = None
    replaced: str | None = None
    content_coding: str | None = None

    def __post_init__(self) -> None:
        keep(self)

    def to_json(self) -> dict[str, Json]:
        """What there is to say of it as plain values, on one level, as `getm --json` prints it."""
        verdict, stats = self.checksum, self.stats
        limited_by, times = stats.time_facts()
        facts: dict[str, Json] = {
            "url": self.url,
            "path": os.fspath(self.path),
            "size": self.size,
            "seconds": round(self.seconds, 6),
            "verified": self.verified,
            "checksum": None if verdict.checksum is None else str(verdict.checksum),
            "source": verdict.source,
            "reason": verdict.reason,
            "received_bytes": stats.received_bytes,
            "requests": stats.requests,
            "retries": dict(stats.retries),
            "limited_by": limited_by,
            "times": {stage: round(seconds, 6) for stage, seconds in times.items()},
            "suggested_name": self.suggested_name,
            "content_coding": self.content_coding,
        }
        notes = {"left": self.left, "replaced": self.replaced}
        return facts | {name: why for name, why in notes.items() if why is not None}

    def __repr__(self) -> str:
        verified = "verified" if self.verified else "not verified"
        left = "" if self.left is None else ", left"
        return f"DownloadResult({cut(repr(self.path.name), 40)}, {self.size} bytes, {verified}{left})"


class SpanContents(list[memoryview]):
    """What `read_ranges` returns: a read-only view for each span, in the order in which they were given.

    Attributes:
        size: bytes of the whole object; None where the server does not say.
        checksum: what verified the bytes, where the spans are all of the object, or why nothing did.
        version: Size and validators of the object, to which all bytes belong.
        stats: the statistics of the transfer.
    """

    def __init__(
        self, views: Iterable[memoryview], size: int | None, checksum: Verdict, version: Version, stats: Stats
    ) -> None:
        super().__init__(views)
        self.size: int | None = size
        self.checksum: Verdict = checksum
        self.version: Version = version
        self.stats: Stats = stats

    def __repr__(self) -> str:
        verified = "verified" if self.checksum.verified else "not verified"
        return f"SpanContents({len(self)} views, {sum(map(len, self))} of {self.size} bytes, {verified})"


@keeping(path=PATH, error=ERROR)
class DownloadFailure(Struct, frozen=True):
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

    def __post_init__(self) -> None:
        keep(self)

    def to_json(self) -> dict[str, Json]:
        """What there is to say of it as plain values, on one level, as `getm --json` prints it."""
        path = None if self.path is None else os.fspath(self.path)
        return {"index": self.index, **self.error.to_json(), "url": self.url, "path": path}

    def __repr__(self) -> str:
        name = repr(self.url if self.path is None else self.path.name)
        return cut(f"DownloadFailure({cut(name, 40)}, {type(self.error).__name__}: {self.error.message}", 98) + ")"
