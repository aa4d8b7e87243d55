"""What a report reads of a receipt's lines: pure values, without a page."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import get_args

import msgspec

from getm.core.text import brief
from getm.files.receipt_lines import Status, decode_line

_STATUSES = get_args(Status)


class Row(msgspec.Struct, frozen=True, gc=False):
    """The fields of `ReceiptLine` (getm/files/receipt_lines.py) that a report shows. The others may be large."""

    status: str
    url: str | None = None
    path: str | None = None
    size: int | None = None
    host: str | None = None
    verified_by: str | None = None
    declared_by: str | None = None
    reason: str | None = None
    started: str | None = None
    ended: str | None = None
    requests: int = 0
    retries: int = 0
    limited_by: str | None = None
    error: str | None = None
    message: str | None = None
    status_code: int | None = None
    suggested_name: str | None = None
    content_coding: str | None = None
    ignored: tuple[str, ...] = ()

    @property
    def began_at(self) -> datetime | None:
        return _time(self.started)

    @property
    def ended_at(self) -> datetime | None:
        return _time(self.ended)

    @property
    def seconds(self) -> float | None:
        """How long it took; None where the line does not say."""
        began, ended = self.began_at, self.ended_at
        return None if began is None or ended is None else max(0.0, (ended - began).total_seconds())

    @property
    def bytes_s(self) -> float | None:
        """Bytes a second, of what was downloaded and took a time that can be measured."""
        seconds = self.seconds
        return self.size / seconds if self.status == "done" and self.size and seconds else None


class Rows(msgspec.Struct, frozen=True):
    """The rows of a receipt: the last line of each file. `earlier`: how many lines these replace; `ignored`: what lists
    had and getm did not use; `problems`: a sentence for each line that could not be understood."""

    rows: tuple[Row, ...]
    earlier: int
    ignored: tuple[str, ...]
    problems: tuple[str, ...]


def read_rows(lines: Iterable[bytes]) -> Rows:
    """The rows of a receipt, in the order of their lines."""
    rows: dict[str, Row] = {}
    ignored: dict[str, None] = {}
    problems: list[str] = []
    count = 0
    for number, data in enumerate(lines, 1):
        if data.isspace():
            continue
        try:
            row = _row(data)
        except (ValueError, RecursionError) as error:
            problems.append(f"line {number} is no line of a receipt: {brief(str(error))}")
            continue
        if row.status == "list":
            ignored.update(dict.fromkeys(row.ignored))
            continue
        # What has no path (standard output, a failure before the name was known) is told apart by its URL.
        named = f"path {row.path}" if row.path is not None else f"url {row.url}"
        key = named if row.path is not None or row.url is not None else f"line {number}"
        rows.pop(key, None)
        rows[key] = row
        count += 1
    return Rows(tuple(rows.values()), count - len(rows), tuple(ignored), tuple(problems))


def _row(data: bytes) -> Row:
    row = decode_line(data, _decoder)
    if row.status not in _STATUSES:
        raise ValueError(f"the status {row.status[:40]!r} is not known")
    if row.size is not None and row.size < 0:
        raise ValueError("a negative size")
    return row


def _time(text: str | None) -> datetime | None:
    try:
        time = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None
    # Of two, one without a zone could not be compared.
    return None if time is None or time.tzinfo is None else time


_decoder = msgspec.json.Decoder(Row)
