"""What people and programs read of a download: the same words on a terminal, in a log and in log records."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from getm.events import Failed
from getm.files.names import name_from_url
from getm.results import DownloadResult

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def printable(text: str) -> str:
    """`text` on one line, harmless for a terminal: what is not printable is escaped as in a Python string. A name
    could else forge lines, move the cursor, or run from right to left."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def json_text(facts: Mapping[str, object]) -> str:
    """`facts` as one line: everything beyond ASCII is escaped, so that it is one for every reader, in any encoding."""
    # Most runs print none.
    import json

    return json.dumps(facts)


def name_of(path: Path | None, url: str = "") -> str:
    """What a download is called: its target as it was written, or, while that is not known, its (redacted) URL."""
    return printable(url if path is None else os.fspath(path))


def bytes_text(count: int) -> str:
    """`count` bytes in a unit that leaves up to four digits before the point."""
    return amount_text(count, count)


def amount_text(done_bytes: int, total_bytes: int | None) -> str:
    """How much of how much, in one unit: "1.5/20.0 MiB"."""
    unit = min(len(_UNITS) - 1, max(0, max(done_bytes, total_bytes or 0).bit_length() - 1) // 10)
    places = 1 if unit else 0
    done = f"{done_bytes / 1024**unit:.{places}f}"
    if total_bytes is None or total_bytes == done_bytes:
        return f"{done} {_UNITS[unit]}"
    return f"{done}/{total_bytes / 1024**unit:.{places}f} {_UNITS[unit]}"


def duration_text(seconds: float) -> str:
    """Hours, minutes and seconds: "1:02:03"."""
    return str(timedelta(seconds=round(seconds)))


def finished_text(result: DownloadResult, *, digest: bool = True) -> str:
    """How a download ended well. `digest`: with the checksum's value, too long for a line on a terminal."""
    verdict = result.checksum
    by = str(verdict)
    if not digest and verdict.checksum is not None:
        by = f"verified by {verdict.checksum.algorithm} (from {verdict.source})"
    return f"{name_of(result.path)}: {result.size:,} bytes in {result.seconds:.1f} s, {printable(by)}"


def failed_text(event: Failed) -> str:
    """How a download failed, on one line."""
    name = name_from_url(event.url) if event.path is None else os.fspath(event.path)
    return error_text(printable(event.error.message), name, event.error.url or event.url)


def error_text(message: str, name: str | None = None, url: str | None = None) -> str:
    """An error for people: "reads.bam: 404 Not Found (https://host/reads.bam)". `name`: of the file, where it is about
    one; `url` is redacted. Further lines of a message are lines of this as well."""
    lines = [printable(line) for line in message.removesuffix(".").split("\n")]
    if name not in (None, "-") and not message.startswith(name):
        lines[0] = f"{printable(name)}: {lines[0]}"
    if url is not None and url not in message:
        lines[0] = f"{lines[0]} ({printable(url)})"
    return "\n".join(lines)
