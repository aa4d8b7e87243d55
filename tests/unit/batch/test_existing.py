"""Files that are there: what is asked about them, and what an answer means."""

from __future__ import annotations

from pathlib import Path

import pytest

from getm.batch.existing import Examined, Here, here
from getm.core.head import ResponseHead
from getm.core.version import Version
from getm.files.receipt_lines import ReceiptEntry
from getm.integrity.values import Checksum
from getm.integrity.verdict import Verdict

DATE, LATER = "Tue, 01 Jul 2025 00:00:00 GMT", "Wed, 02 Jul 2025 00:00:00 GMT"
DATE_S = 1751328000.0
NOW_S = 1.8e9
TAGGED = Here(Version(5, '"a"', DATE))
DATED = Here(Version(5, None, DATE))
TIMED = Here(Version(5, None, DATE), by_time=True)
READ = Verdict(True, Checksum("crc32", bytes(4)), "receipt", None)


def entry(etag: str | None = None, modified: str | None = None) -> ReceiptEntry:
    return ReceiptEntry(Path("x"), 5, (), 1, version=Version(5, etag, modified))


@pytest.mark.parametrize(
    ("examined", "known", "expected"),
    [
        (Examined(5, 7.0, unchanged=True), entry('"a"', DATE), Here(Version(5, '"a"', DATE))),
        (Examined(5, 7.0, verdict=READ), entry(None, DATE), Here(Version(5, None, DATE))),
        # No validator was received: its own time.
        (Examined(5, DATE_S + 0.9, unchanged=True), entry(), TIMED),
        (Examined(5, DATE_S), None, TIMED),
        (Examined(5, 0.0), None, Here(Version(5, None, "Thu, 01 Jan 1970 00:00:00 GMT"), by_time=True)),
        (Examined(5, NOW_S + 1), None, "its time lies in the future, or before 1970"),
        (Examined(5, -1.0), None, "its time lies in the future, or before 1970"),
        (Examined(5, wrong="wrong"), entry('"a"'), "wrong"),
        (Examined(5, DATE_S), entry('"a"'), "it may have been changed since it was received, and nothing says what it"
         " should be"),
    ],
)  # fmt: skip
def test_what_is_asked(examined: Examined, known: ReceiptEntry | None, expected: Here | str) -> None:
    assert here(examined, known, NOW_S) == expected


@pytest.mark.parametrize(
    ("known", "status", "size", "etag", "modified", "current"),
    [
        # A 304 is believed, unless it names another version.
        (TAGGED, 304, None, None, None, True),
        (TAGGED, 304, None, '"a"', LATER, True),
        (TAGGED, 304, None, 'W/"a"', None, True),
        (TAGGED, 304, None, '"b"', DATE, False),
        (TAGGED, 304, 6, '"a"', DATE, False),
        (DATED, 304, None, '"new"', "Mon, 30 Jun 2025 00:00:00 GMT", True),
        (TIMED, 304, None, None, "Mon, 30 Jun 2025 00:00:00 GMT", True),
        # A 200 with the same validator, and the size.
        (TAGGED, 200, 5, '"a"', LATER, True),
        (TAGGED, 200, None, '"a"', None, True),
        (TAGGED, 206, 5, 'W/"a"', DATE, True),
        (TAGGED, 200, 6, '"a"', DATE, False),
        (TAGGED, 200, 5, '"b"', DATE, False),
        (TAGGED, 200, 5, None, None, False),
        (DATED, 200, 5, '"a"', DATE, True),
        (DATED, 200, None, '"a"', DATE, False),
        (DATED, 200, 5, '"a"', LATER, False),
        (DATED, 200, 5, None, None, False),
        # Without a receipt: no older than the file, and of its size.
        (TIMED, 200, 5, '"a"', DATE, True),
        (TIMED, 200, 5, None, "Mon, 30 Jun 2025 00:00:00 GMT", True),
        (TIMED, 200, 5, None, LATER, False),
        (TIMED, 200, 6, None, DATE, False),
        (TIMED, 200, None, None, DATE, False),
        (TIMED, 200, 5, None, "yesterday", False),
        (TIMED, 200, 5, '"a"', None, False),
    ],
)
def test_what_an_answer_means(
    known: Here, status: int, size: int | None, etag: str | None, modified: str | None, current: bool
) -> None:
    fields = {"ETag": etag, "Last-Modified": modified}
    head = ResponseHead.of(status, "http://h/", tuple((name, value) for name, value in fields.items() if value))
    assert known.is_current(head, size) is current
