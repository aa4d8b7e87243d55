"""The line that sums up a batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from getm import DownloadResult, Event, Failed, Finished, GetmError, Progressed, Skipped, Started, Stats
from getm.cli.output.summary import Summary
from getm.integrity.verdict import Verdict, unverified

VERIFIED = Verdict(True, None, "caller", None)
MIB = 1024 * 1024


def finished(
    index: int, verdict: Verdict = VERIFIED, *, name: str | None = None, coding: str | None = None
) -> Finished:
    result = DownloadResult(
        Path("x"), MIB, verdict, verdict.verified, 0.1, Stats(), suggested_name=name, content_coding=coding
    )
    return Finished(index, result)


def started(index: int) -> Started:
    return Started(index, "https://h/x", Path("x"), MIB)


FAILED = Failed(0, "https://h/x", None, GetmError("no"))


@pytest.mark.parametrize(
    ("files", "continues", "events", "text"),
    [
        (0, True, [], "0 files, 0 bytes, 0.0 s, 0 verified, 0 not verified, 0 failed"),
        (2, True, [finished(0), finished(1)], "2 files, 2.0 MiB, 0.0 s, 2 verified, 0 not verified, 0 failed"),
        (
            2,
            True,
            [started(0), Progressed(0, 1, 2), finished(0, unverified("no")), Skipped(1, None, "it exists")],
            "2 files, 1.0 MiB, 0.0 s, 0 verified, 2 not verified, 0 failed, 1 left as they were",
        ),
        (
            1,
            True,
            [Skipped(0, Path("x"), "it has the checksum", finished(0).result)],
            "1 file, 1.0 MiB, 0.0 s, 1 verified, 0 not verified, 0 failed, 1 left as they were",
        ),
        (
            9,
            False,
            [finished(1), started(2), FAILED],
            "1 file, 1.0 MiB, 0.0 s, 1 verified, 0 not verified, 1 of 9 failed, 1 interrupted, 6 not tried "
            "(-c tries them)",
        ),
        (
            3,
            True,
            [started(0), FAILED],
            "0 files, 0 bytes, 0.0 s, 0 verified, 0 not verified, 1 of 3 failed, 2 not tried",
        ),
        (
            2,
            True,
            [finished(0, name="../x", coding="gzip"), finished(1, coding="br")],
            "2 files, 2.0 MiB, 0.0 s, 2 verified, 0 not verified, 0 failed, 1 renamed, 2 content-coded",
        ),
    ],
)
def test_what_it_says(files: int, continues: bool, events: list[Event], text: str) -> None:
    summary = Summary(files, continues)
    for event in events:
        summary.count(event)
    assert summary.text() == text


@pytest.mark.parametrize(
    ("failed", "done", "continues", "text"),
    [
        (3, 9, False, "3 of 2000 failed, 1988 not tried (-c tries them)"),
        (3, 9, True, "3 of 2000 failed, 1988 not tried"),
        (3, 1997, True, "3 of 2000 downloads failed."),
    ],
)
def test_what_it_says_of_failures(failed: int, done: int, continues: bool, text: str) -> None:
    assert Summary(2000, continues, verified=done, failed=failed).failed_text() == text


def test_it_is_json() -> None:
    summary = Summary(2, seconds=1 / 3)
    summary.count(finished(0))
    assert json.loads(json.dumps(summary.to_json())) == {
        "event": "summary",
        "files": 2,
        "total_bytes": MIB,
        "seconds": 0.333333,
        "verified": 1,
        "not_verified": 0,
        "failed": 0,
        "skipped": 0,
        "interrupted": 0,
        "not_tried": 1,
        "names_changed": 0,
        "coded": 0,
        "commands_failed": 0,
    }
