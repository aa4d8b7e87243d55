"""The bars, on a pseudo-terminal."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from getm import Event, Failed, Planned, Progressed, Retried, Skipped, Started
from getm.cli.output.bars import Bars
from getm.cli.output.cells import width_of
from getm.cli.output.progress import open_display
from getm.cli.output.summary import Summary
from getm.cli.output.terminal import Terminal
from getm.errors import HTTPStatusError
from getm.integrity.verdict import unverified
from tests.support.terminal import PseudoTerminal
from tests.unit.cli.test_progress import MIB, NAME, Clock, finished


class Shown(PseudoTerminal):
    """A terminal with bars on it."""

    bars: Bars
    clock: Clock

    def tell(self, *events: Event) -> None:
        for event in events:
            self.bars.on_event(event)


@contextmanager
def shown(
    monkeypatch: pytest.MonkeyPatch, columns: int = 100, lines: int = 40, encoding: str = "utf-8", **environment: str
) -> Iterator[Shown]:
    for name, value in {"TERM": "xterm", "NO_COLOR": "", **environment}.items():
        monkeypatch.setenv(name, value)
    with Shown(columns, lines) as terminal, os.fdopen(terminal.end, "w", encoding=encoding) as stream:
        terminal.clock = Clock()
        with open_display(stream, clock=terminal.clock) as display:
            assert isinstance(display, Bars)
            terminal.bars = display
            yield terminal


def begun(index: int, path: Path, size: int | None = None, resumed: int = 0) -> Started:
    return Started(index, "https://host/a", path, size, resumed)


def test_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown(monkeypatch) as terminal:
        terminal.tell(
            Planned(3, 60 * MIB),
            Retried(0, "connect", 1, 0.0, "refused"),
            begun(0, NAME, 20 * MIB, 5 * MIB),
            begun(1, Path("x" * 90)),
        )
        lines = terminal.shows("0/3 files", "data/a.bam", "5.0/20.0 MiB")
        assert "1 retry" in next(line for line in lines if line.startswith("data/a.bam"))
        assert any(line.startswith("…xxx") for line in lines)
        terminal.clock.now += 4.0
        terminal.tell(Progressed(0, 13 * MIB, 20 * MIB), Progressed(1, 7 * MIB, None))
        lines = terminal.shows("13.0/20.0 MiB", "20.0/60.0 MiB", "3.8 MiB/s")
        (overall,) = (line for line in lines if "files" in line)
        assert "33 %" in overall and "0:11" in overall
        (row,) = (line for line in lines if line.startswith("data/a.bam"))
        assert "65 %" in row and "2.0 MiB/s" in row and "0:04" in row
        terminal.tell(
            Failed(1, "https://host/b", Path("b\x1b[31m"), HTTPStatusError("no such object", status=404)),
            finished(0),
            Skipped(2, Path("[red]c"), "it exists"),
        )
        terminal.shows("3/3 files", "1 failed")
        terminal.bars.finish(Summary(3, verified=1, not_verified=1, failed=1, skipped=1))
    assert terminal.end_of_output() == [
        "✗ [1/3] b\\x1b[31m: no such object (https://host/b)",
        "✓ [2/3] data/a.bam: 20.0 MiB in 1.2 s (16.0 MiB/s), verified by md5 (from x-goog-hash), 1 retry",
        "· [3/3] [red]c: skipped, it exists",
        "2 files, 0 bytes, 0.0 s, 1 verified, 1 not verified, 1 of 3 failed, 1 left as they were",
    ]


def test_ten_files_are_shown_and_the_others_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown(monkeypatch, lines=60) as terminal:
        terminal.tell(Planned(50, None), *(begun(number, Path(f"name{number:03}"), 1) for number in range(50)))
        lines = terminal.shows("and 40 more")
        assert sum(line.startswith("name") for line in lines) == 10
        terminal.tell(*(finished(number, Path(f"name{number:03}"), size=1) for number in range(50)))
    assert [line.split(":")[0] for line in terminal.end_of_output()] == [
        f"✓ [{number + 1:2}/50] name{number:03}" for number in range(50)
    ]


def test_a_low_terminal_shows_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown(monkeypatch, lines=6) as terminal:
        terminal.tell(Planned(20, None), *(begun(number, Path(f"name{number:03}"), 1) for number in range(20)))
        assert len(terminal.shows("and 17 more")) == 5
        terminal.resize(100, 3)
        terminal.clock.now += 1.0
        terminal.tell(finished(0, Path("name000"), size=1))
        assert terminal.shows("1/20 files")[-1].startswith(" 1/20 files")


def test_of_many_files_only_failures_and_a_running_line(monkeypatch: pytest.MonkeyPatch) -> None:
    error = HTTPStatusError("no such object", status=404)
    with shown(monkeypatch) as terminal:
        terminal.tell(Planned(51, None))
        for number in range(50):
            terminal.tell(begun(number, Path(f"name{number}"), 1), finished(number, Path(f"name{number}"), size=1))
        assert len(terminal.shows("50/51 files", "98 %")) == 1
        terminal.tell(Failed(50, "https://host/b", Path("b"), error))
        terminal.shows("1 failed")
        terminal.bars.finish(Summary(51, verified=50, failed=1))
    assert terminal.end_of_output() == [
        "✗ [51/51] b: no such object (https://host/b)",
        "50 files, 0 bytes, 0.0 s, 50 verified, 0 not verified, 1 of 51 failed",
    ]


def test_files_that_are_left_count_as_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown(monkeypatch) as terminal:
        terminal.tell(Planned(4, 80 * MIB), Skipped(0, NAME, "it has the checksum", finished(0).result))
        terminal.clock.now += 1.0
        (_, overall) = terminal.shows("1/4 files", "20.0/80.0 MiB", "25 %")
        # They did not come in this run.
        assert "/s" not in overall


def test_one_file_has_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown(monkeypatch) as terminal:
        terminal.tell(Planned(1, None))
        terminal.clock.now += 3.0
        assert terminal.shows("server") == ["waiting for the server, 3 s"]
        terminal.tell(begun(0, NAME), Progressed(0, MIB, 20 * MIB))
        assert len(terminal.shows("1.0/20.0 MiB")) == 1
        terminal.tell(finished(0, verdict=unverified("no checksum")))
        terminal.bars.finish(Summary(1, not_verified=1))
    # It says all that there is to sum up.
    assert terminal.end_of_output() == ["· data/a.bam: 20.0 MiB in 1.2 s (16.0 MiB/s), not verified: no checksum"]


@pytest.mark.parametrize("files", [1, 2, 51])
def test_what_it_waits_for_is_said(monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    retry = Retried(0, "connect", 3, 4.0, "the name h could not be resolved", "name not found", 5, "https://h/x", NAME)
    with shown(monkeypatch) as terminal:
        terminal.tell(Planned(files, None), retry)
        waiting = terminal.shows("waiting: name not found, retry 3 of 5 in 4 s")[-1]
        assert waiting.startswith("data/a.bam ")
        terminal.clock.now += 2.0
        terminal.shows("retry 3 of 5 in 2 s")
        terminal.tell(begun(0, NAME, 20 * MIB), Progressed(0, MIB, 20 * MIB))
        if files <= 50:
            terminal.shows("1.0/20.0 MiB")
        terminal.tell(finished(0))
    assert not any("waiting" in line for line in terminal.end_of_output())


def test_of_many_that_wait_one_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown(monkeypatch) as terminal:
        for number in range(60):
            terminal.tell(Retried(number, "status", 1, 30.0 - number / 4, "no", "503 Busy", 0, f"https://h/{number}"))
        terminal.shows("59       waiting: 503 Busy, retry 1 in 15 s (and 59 more)")


@pytest.mark.parametrize(("columns", "then"), [(120, 50), (50, 120), (100, 20)])
def test_the_window_changes_its_size(monkeypatch: pytest.MonkeyPatch, columns: int, then: int) -> None:
    with shown(monkeypatch, columns=columns) as terminal:
        terminal.tell(Planned(3, 60 * MIB), *(begun(number, Path(f"name{number}"), 20 * MIB) for number in range(3)))
        terminal.tell(finished(0, Path("name0")))
        before = terminal.shows("name2")
        terminal.resize(then)
        terminal.tell(Progressed(1, 10 * MIB, 20 * MIB), Progressed(2, 10 * MIB, 20 * MIB))
        after = terminal.shows("50 %")
        assert len(after) == len(before) == 4
        assert all(len(line) < then for line in after[1:])
        terminal.tell(finished(1, Path("name1")), finished(2, Path("name2")))
        terminal.bars.finish(Summary(3, verified=3))
    left = terminal.end_of_output()
    assert sum(line.startswith("✓") for line in left) == 3 and not any("━" in line for line in left)


def test_wide_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown(monkeypatch, columns=50) as terminal:
        names = ["数" * 30, "e\u0301" * 30, "ﾊﾝｶｸ.bam", "🧬" * 20, "plain.bam"]
        terminal.tell(Planned(5, 10 * MIB), *(begun(at, Path(name), MIB) for at, name in enumerate(names)))
        lines = terminal.shows("plain.bam")
        assert len(lines) == 6
        terminal.tell(*(Progressed(at, MIB // 2, MIB) for at in range(5)))
        assert all(width_of(line.partition("━")[0]) == 17 for line in terminal.shows("25 %"))
        terminal.tell(*(finished(at, Path(name), size=MIB) for at, name in enumerate(names)))
    assert not any("━" in line for line in terminal.end_of_output())


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_a_terminal_that_is_not_utf8(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    with shown(monkeypatch, encoding=encoding) as terminal:
        terminal.tell(Planned(2, 2 * MIB), begun(0, Path("数.bam"), MIB), Progressed(0, MIB // 2, MIB))
        assert any("#####" in line and "-----" in line for line in terminal.shows("\\u6570.bam", "50 %"))
        terminal.tell(finished(0, Path("数.bam")), finished(1, verdict=unverified("no")))
    assert [line.partition(":")[0] for line in terminal.end_of_output()] == [
        "+ [1/2] \\u6570.bam",
        "- [2/2] data/a.bam",
    ]
    assert terminal.raw.isascii()


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "1"):
        with shown(monkeypatch, NO_COLOR=value) as terminal:
            terminal.tell(Planned(1, None), begun(0, NAME, 20 * MIB), Progressed(0, MIB, 20 * MIB))
            terminal.shows("1.0/20.0 MiB")
            terminal.tell(finished(0))
        assert (b"m\xe2\x9c\x93" in terminal.raw) is (value == "")


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown(monkeypatch, TERM="dumb") as terminal:
        terminal.tell(Planned(2, 40 * MIB), begun(0, NAME, 20 * MIB), Progressed(0, 10 * MIB, 20 * MIB))
        terminal.clock.now += 11.0
        terminal.shows("0/2 files", "25 %")
        terminal.tell(finished(0), finished(1, Path("b")))
        terminal.bars.finish(Summary(2, verified=2))
    lines = terminal.end_of_output()
    assert [line.split()[0] for line in lines] == ["0/2", "✓", "✓", "2"]
    assert b"\x1b" not in terminal.raw


def test_many_small_files_draw_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing at each event would make 20,000 small files slow."""
    drawings = 0
    draw = Terminal.draw

    def counting(self: Terminal, above: Sequence[str], rows: Sequence[str]) -> None:
        nonlocal drawings
        drawings += 1
        draw(self, above, rows)

    monkeypatch.setattr(Terminal, "draw", counting)
    monkeypatch.setattr("getm.cli.output.drawing._DRAWN_EACH_S", 1000.0)
    with shown(monkeypatch) as terminal:
        terminal.tell(Planned(2000, None))
        for number in range(2000):
            terminal.tell(begun(number, NAME, 1), Progressed(number, 1, 1), finished(number, size=1))
        terminal.bars.finish(Summary(2000, verified=2000))
    assert drawings == 1
    assert terminal.end_of_output()[0].startswith("2000 files")


def test_others_may_write_between(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown(monkeypatch) as terminal:
        terminal.tell(Planned(2, 2 * MIB), begun(0, NAME, MIB))
        terminal.shows("data/a.bam")
        with terminal.bars.paused():
            os.write(terminal.end, b"something else\n")
        assert terminal.shows("data/a.bam", "something else")[0] == "something else"
    assert terminal.end_of_output() == ["something else"]


def test_a_terminal_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    threads = threading.active_count()
    controller, end = os.openpty()
    stream = os.fdopen(end, "w", encoding="utf-8")
    try:
        with open_display(stream) as display:
            display.on_event(begun(0, NAME, 1))
            os.close(controller)
            display.on_event(finished(0, size=1))
            display.finish(Summary(2, verified=2))
    finally:
        with suppress(OSError):
            stream.close()
    assert threading.active_count() == threads
