"""What people and programs read of a download: the same words on a terminal, in a log and in log records."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from getm.events import Failed
from getm.files.names import name_from_url
from getm.results import DownloadResult

# The same in the form that says most, and in shorter ones for narrower terminals.
Texts = tuple[str, ...]

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
    """Minutes and seconds, and hours where there are any: "2:03", "1:02:03"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def ignored_text(names: tuple[str, ...]) -> str:
    """What a list has and getm does not use."""
    return f"understood and not used: {', '.join(map(printable, names))}"


def finished_text(result: DownloadResult) -> str:
    """How a download ended well."""
    texts = [f"{result.size:,} bytes in {result.seconds:.1f} s", printable(str(result.checksum)), *_notes(result)]
    return f"{name_of(result.path)}: {', '.join(texts)}"


def result_texts(result: DownloadResult) -> Texts:
    """The same for a line on a terminal."""
    verdict, notes = result.checksum, _notes(result)
    by = why = "verified" if result.verified else "not verified"
    if verdict.checksum is not None:
        by = f"verified by {verdict.checksum.algorithm}"
        why = f"{by} (from {verdict.source})"
    elif verdict.reason is not None:
        why = f"not verified: {printable(verdict.reason)}"
    size = bytes_text(result.size)
    speed = f" ({bytes_text(round(result.size / result.seconds))}/s)" if result.seconds >= 1 else ""
    parts = (
        (f"{size} in {result.seconds:.1f} s{speed}", why, *notes),
        (f"{size} in {result.seconds:.1f} s", why, *notes),
        (f"{size} in {result.seconds:.1f} s", by, *notes),
        (size, by, *notes),
        (size, by),
        (size,),
        (),
    )
    return tuple(": ".join(filter(None, (name_of(result.path), ", ".join(each)))) for each in parts)


def _notes(result: DownloadResult) -> list[str]:
    """What a person may not expect of a file."""
    notes = []
    if result.suggested_name is not None:
        notes.append(f"name changed from {printable(result.suggested_name)!r}")
    if result.content_coding is not None:
        notes.append(f"the file is coded: {printable(result.content_coding)}")
    return notes


def failed_text(event: Failed) -> str:
    """How a download failed, on one line."""
    name = os.fspath(event.path or "")
    if name in ("", "/dev/stdout"):
        name = name_from_url(event.url)
    return error_text(printable(event.error.message), name, event.error.url or event.url)


def error_text(message: str, name: str | None = None, url: str | None = None) -> str:
    """An error for people: "reads.bam: 404 Not Found (https://host/reads.bam)". `name`: of the file, where it is about
    one; `url` is redacted. Further lines of a message are lines of this as well."""
    lines = [printable(line) for line in message.removesuffix(".").split("\n")]
    # Most messages about the disk begin with the name. (One that begins with a number begins with a status.)
    if name not in (None, "-") and (name.isdecimal() or not message.startswith(name)):
        lines[0] = f"{printable(name)}: {lines[0]}"
    if url is not None and url not in message:
        lines[0] = f"{lines[0]} ({printable(url)})"
    return "\n".join(lines)
