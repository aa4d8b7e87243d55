"""The displays: what each shows of the events it is told, how rarely, and that none can hurt the downloads."""

from __future__ import annotations

import io
import json
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from getm import DownloadResult, Event, Failed, Finished, Planned, Progressed, Retried, Skipped, Started, Stats, Verdict
from getm.cli.output.formatting import amount_text, bytes_text, duration_text, printable
from getm.cli.output.progress import KINDS, open_display
from getm.cli.output.summary import Summary
from getm.errors import HTTPStatusError, ProxyRefused
from getm.integrity.values import parse_checksum
from getm.integrity.verdict import unverified

MIB = 1024 * 1024
VERIFIED = Verdict(True, parse_checksum(f"md5:{'0f' * 16}"), "x-goog-hash", None)
NAME = Path("data/a.bam")
STATS = Stats(received_bytes=7, requests=3, retries={"reset": 2})


def finished(index: int, path: Path = NAME, verdict: Verdict = VERIFIED, size: int = 20 * MIB) -> Finished:
    return Finished(index, DownloadResult(path, size, verdict, verdict.verified, 1.25, STATS))


EVENTS: tuple[tuple[Event, dict[str, object]], ...] = (
    (Planned(None, None), {"event": "planned", "files": None, "total_bytes": None, "ignored": []}),
    (
        Started(3, "https://host/a", NAME, 7, 2),
        {"event": "started", "index": 3, "url": "https://host/a", "path": "data/a.bam", "size": 7, "resumed_bytes": 2},
    ),
    (Progressed(3, 4, None), {"event": "progressed", "index": 3, "done_bytes": 4, "total_bytes": None}),
    (
        Retried(3, "reset", 1, 0.5, "connection reset"),
        {
            "event": "retried",
            "index": 3,
            "cause": "reset",
            "attempt": 1,
            "delay_s": 0.5,
            "message": "connection reset",
            "reason": "",
            "attempts": 0,
            "url": "",
            "path": None,
        },
    ),
    (
        finished(3),
        {
            "event": "finished",
            "index": 3,
            "url": None,
            "path": "data/a.bam",
            "size": 20 * MIB,
            "seconds": 1.25,
            "verified": True,
            "checksum": f"md5:{'0f' * 16}",
            "source": "x-goog-hash",
            "reason": None,
            "received_bytes": 7,
            "requests": 3,
            "retries": {"reset": 2},
            "limited_by": None,
            "times": {},
            "suggested_name": None,
            "content_coding": None,
        },
    ),
    (
        Failed(3, "https://host/a", None, HTTPStatusError("no such object", status=404, attempts=1)),
        {
            "event": "failed",
            "index": 3,
            "url": "https://host/a",
            "path": None,
            "error": "status",
            "message": "no such object",
            "status_code": 404,
            "attempts": 1,
        },
    ),
    (
        Failed(0, "https://host/a", None, ProxyRefused("no", url="https://host/b", status=407, reason="Denied")),
        {
            "event": "failed",
            "index": 0,
            "url": "https://host/a",
            "path": None,
            "error": "proxy",
            "message": "no",
            "status": 407,
            "reason": "Denied",
        },
    ),
    (
        Skipped(3, Path(os.fsdecode(b"latin-\xe9")), "it exists"),
        {"event": "skipped", "index": 3, "path": os.fsdecode(b"latin-\xe9"), "reason": "it exists"},
    ),
)


@pytest.mark.parametrize(("event", "expected"), EVENTS)
def test_events_as_json(event: Event, expected: dict[str, object]) -> None:
    assert event.to_json() == expected
    assert json.loads(json.dumps(event.to_json())) == expected


# Words ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done", "total", "text"),
    [
        (0, None, "0 bytes"),
        (1023, 1023, "1023 bytes"),
        (512, 1023, "512/1023 bytes"),
        (1536, None, "1.5 KiB"),
        (10 * MIB, 20 * MIB, "10.0/20.0 MiB"),
        (0, 3 * 1024**3, "0.0/3.0 GiB"),
        (2**61, 2**61, "2048.0 PiB"),
    ],
)
def test_amounts(done: int, total: int | None, text: str) -> None:
    assert amount_text(done, total) == text


def test_durations() -> None:
    assert [duration_text(seconds) for seconds in (0, 59.6, 3723)] == ["0:00", "1:00", "1:02:03"]
    assert bytes_text(2048) == "2.0 KiB"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain näme 数", "plain näme 数"),
        ("a\nb\x1b[31m\x9b", "a\\nb\\x1b[31m\\x9b"),
        ("txt.\u202eexe", "txt.\\u202eexe"),
        (os.fsdecode(b"\xe9"), "\\udce9"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


# Lines ---------------------------------------------------------------------------------------------------------------


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def plain(*script: Event | float) -> list[str]:
    """The lines of a plain display that is told events; a number lets so many seconds pass."""
    return _lines("plain", *script)


def _lines(kind: str, *script: Event | float) -> list[str]:
    stream, clock = io.StringIO(), Clock()
    with open_display(stream, kind, clock=clock) as display:
        for step in script:
            if isinstance(step, float):
                clock.now += step
            else:
                display.on_event(step)
    text = stream.getvalue()
    assert text == "" or text.endswith("\n")
    return text.splitlines()


def test_plain_tells_what_matters() -> None:
    error = HTTPStatusError("no such\nobject", status=404)
    assert plain(
        Planned(3, 60 * MIB),
        Started(0, "https://host/a", NAME, 20 * MIB, 5 * MIB),
        Started(1, "https://host/b", None, None),
        Retried(0, "reset", 1, 0.5, "connection reset", "", 0, "https://host/a", NAME),
        Retried(7, "connect", 2, 1.0, "refused", "connection refused", 5, "https://host/h"),
        finished(0),
        Failed(1, "https://host/b", None, error),
        Skipped(2, Path("c"), "it exists"),
    ) == [
        "files: 3, 60.0 MiB",
        "start: data/a.bam: 20.0 MiB, 5.0 MiB of it from before",
        "start: https://host/b: size unknown",
        "retry 1: data/a.bam: connection reset; again in 0.5 s",
        "retry 2 of 5: https://host/h: refused; again in 1.0 s",
        f"done [1/3]: data/a.bam: 20,971,520 bytes in 1.2 s, verified: md5:{'0f' * 16} (from x-goog-hash)",
        "failed [2/3]: b: no such\\nobject (https://host/b)",
        "skipped [3/3]: c: it exists",
    ]


def test_the_last_line_sums_up() -> None:
    summary = Summary(2000, total_bytes=10_171_000, seconds=1.234, verified=1998, not_verified=2)
    for kind in ("plain", "json"):
        stream = io.StringIO()
        with open_display(stream, kind) as display:
            display.finish(summary)
        line = stream.getvalue()
        if kind == "plain":
            assert line == "all: 2000 files, 9.7 MiB, 1.2 s, 1998 verified, 2 not verified, 0 failed\n"
        else:
            assert json.loads(line)["verified"] == 1998


def test_plain_counts_files_whose_number_is_not_known() -> None:
    assert plain(Planned(None, None), finished(0, verdict=unverified("not asked"))) == [
        "files: ?, size unknown",
        "done [1/?]: data/a.bam: 20,971,520 bytes in 1.2 s, not verified: not asked",
    ]


def test_plain_progress_is_a_line_for_a_tenth_and_a_second() -> None:
    steps: list[Event | float] = [Started(0, "https://host/a", NAME, 100 * MIB)]
    for percent in range(1, 101):
        steps += [0.25, Progressed(0, percent * MIB, 100 * MIB)]
    lines = plain(*steps)[1:]
    assert len(lines) == 10
    assert lines[0] == "10 %: data/a.bam: 10.0/100.0 MiB, 4.0 MiB/s"


def test_plain_progress_of_a_fast_file_is_a_line_a_second() -> None:
    steps: list[Event | float] = [Started(0, "https://host/a", NAME, 100 * MIB)]
    for percent in range(1, 101):
        steps += [0.03125, Progressed(0, percent * MIB, 100 * MIB)]
    assert [line.split(":")[0] for line in plain(*steps)[1:]] == ["32 %", "64 %", "96 %"]


def test_plain_progress_of_unknown_size_is_a_sign_of_life() -> None:
    steps: list[Event | float] = [Started(0, "https://host/a", NAME, None)]
    for number in range(1, 101):
        steps += [1.0, Progressed(0, number * MIB, None)]
    assert plain(*steps)[1:] == [f"progress: data/a.bam: {done}.0 MiB, 1.0 MiB/s" for done in (30, 60, 90)]


def test_plain_progress_that_falls_back_and_one_without_a_start() -> None:
    begun = Started(0, "https://host/a", NAME, 10, 8)
    assert plain(begun, 2.0, Progressed(0, 1, 10), Progressed(5, 9, 10))[1:] == [
        "10 %: data/a.bam: 1/10 bytes, 0 bytes/s"
    ]


def test_json_tells_the_progress_before_a_silence() -> None:
    threads = threading.active_count()
    reader, writer = os.pipe()
    with os.fdopen(reader) as lines, os.fdopen(writer, "w") as stream, open_display(stream, "json") as shown:
        for done in (1, 2, 3):
            shown.on_event(Progressed(0, done, 10))
        assert [json.loads(lines.readline())["done_bytes"] for _ in range(2)] == [1, 3]
        shown.on_event(Progressed(0, 4, 10))
        shown.on_event(Skipped(0, Path("x"), "it exists"))
        assert json.loads(lines.readline())["event"] == "skipped"
        shown.on_event(Progressed(1, 1, 10))
        shown.on_event(Progressed(1, 2, 10))
    assert threading.active_count() == threads


def test_json_is_an_object_a_line_and_progress_twice_a_second() -> None:
    steps: list[Event | float] = [Started(0, "https://host/a", NAME, 100)]
    for number in range(20):
        steps += [0.125, Progressed(0, number, 100), Progressed(1, number, 100)]
    steps += [finished(0), Progressed(0, 1, 100)]
    objects = [json.loads(line) for line in _lines("json", *steps)]
    assert [each["event"] for each in objects if each["event"] != "progressed"] == ["started", "finished"]
    told = [each["done_bytes"] for each in objects if each["event"] == "progressed" and each["index"] == 0]
    assert told == [0, 4, 8, 12, 16, 1]


@pytest.mark.parametrize("kind", ["auto", "none"])
def test_nothing_where_no_terminal_is(kind: str) -> None:
    assert _lines(kind, Planned(1, 1), finished(0)) == []


def test_bars_without_a_terminal_are_lines() -> None:
    assert _lines("bar", Planned(1, 1)) == ["files: 1, 1 bytes"]


def test_no_stream() -> None:
    for kind in KINDS:
        with open_display(None, kind) as display:
            display.on_event(finished(0))


@pytest.mark.parametrize("kind", ["plain", "json"])
def test_a_reader_that_has_gone_does_not_hurt(kind: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    with open_display(stream, kind) as display:
        display.on_event(finished(0))
        display.on_event(finished(1))
    with suppress(BrokenPipeError):
        stream.close()
    with open_display(stream, kind) as display:
        display.on_event(finished(0))
