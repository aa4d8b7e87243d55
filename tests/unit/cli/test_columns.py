"""The layout of rows on terminals of all widths."""

from __future__ import annotations

import io
import re
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.cli.output.cells import last_part, padded, width_of
from getm.cli.output.columns import Columns, Row
from getm.cli.output.terminal import Terminal


@pytest.mark.parametrize(
    ("text", "width"),
    [("", 0), ("reads.bam", 9), ("数据.bam", 8), ("a\u0308.bam", 5), ("ﾊﾝ", 2), ("\uff21\uff22", 4), ("\u200b", 1)],
)
def test_widths(text: str, width: int) -> None:
    assert width_of(text) == width


@pytest.mark.parametrize(
    ("text", "width", "part"),
    [
        ("reads.bam", 9, "reads.bam"),
        ("reads.bam", 8, "…ads.bam"),
        ("reads.bam", 1, ""),
        ("数据数据", 6, "…数据"),
        ("数据数据", 5, "…数据"),
        ("数据数据", 4, "…据"),
        ("xa\u0308bc", 3, "…bc"),
    ],
)
def test_the_last_part(text: str, width: int, part: str) -> None:
    assert last_part(text, width, "…") == part


def test_padding() -> None:
    assert (padded("数", 4), padded("数", 4, right=True), padded("abc", 2)) == ("数  ", "  数", "abc")


def stream(encoding: str = "utf-8") -> TextIO:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


def lines(rows: list[Row], columns: int, **environment: str) -> list[str]:
    terminal = Terminal(stream(), {"TERM": "xterm", "NO_COLOR": "1", **environment})
    return Columns(terminal).lines(rows, columns)


ROW = Row("data/reads.bam", 0.5, "50 %", "10.0/20.0 MiB", "5.0 MiB/s", "0:02", "2 retries")


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (120, f"data/reads.bam  {'━' * 25}{'─' * 25}   50 %  10.0/20.0 MiB    5.0 MiB/s   0:02  2 retries"),
        (80, f"data/reads.bam  {'━' * 5}{'─' * 5}   50 %  10.0/20.0 MiB    5.0 MiB/s   0:02  2 retries"),
        (60, f"data/reads.bam {'━' * 5}{'─' * 5}  50 %   5.0 MiB/s  0:02 2 retries"),
        (50, f"data/reads.bam {'━' * 6}{'─' * 6}  50 %  0:02 2 retries"),
        (40, f"…ta/reads.bam {'━' * 9}╸{'─' * 9}  50 %"),
        (30, f"…a/reads.bam {'━' * 5}{'─' * 5}  50 %"),
        (20, "…ta/reads.bam  50 %"),
        (10, "…eads.bam"),
        (1, ""),
    ],
)
def test_columns_are_dropped_and_not_cut(columns: int, line: str) -> None:
    assert lines([ROW], columns) == [line]


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (80, "a.bam  waiting: name not found, retry 3 of 5 in 4 s"),
        (40, "a.bam waiting: retry 3 of 5 in 4 s"),
        (20, "a.bam waiting"),
        (10, "a.bam"),
    ],
)
def test_waiting_is_said_in_what_room_there_is(columns: int, line: str) -> None:
    texts = ("waiting: name not found, retry 3 of 5 in 4 s", "waiting: retry 3 of 5 in 4 s", "waiting")
    assert lines([Row("a.bam", waiting=texts)], columns) == [line]


def test_a_row_without_numbers_has_all_the_room() -> None:
    assert lines([Row("waiting for the server, 12 s")], 50) == ["waiting for the server, 12 s"]


def test_a_row_without_a_name_begins_with_its_bar() -> None:
    assert lines([Row("", 0.5, "50 %")], 20) == [f"{'━' * 6}╸{'─' * 6}  50 %"]


def test_columns_do_not_shrink() -> None:
    columns = Columns(Terminal(stream(), {"TERM": "xterm", "NO_COLOR": "1"}))
    (wide,) = columns.lines([Row("x", 0.0, "0 %", "9.9/20.0 MiB", "1023.9 MiB/s")], 100)
    (narrow,) = columns.lines([Row("x", 0.0, "0 %", "9 bytes", "1 bytes/s")], 100)
    assert narrow.index("0 %") == wide.index("0 %")


text = st.text(st.characters(exclude_categories=("C", "Z")), max_size=60)
numbers = st.one_of(st.just(""), st.from_regex(r"[0-9]{1,6} (%|MiB)", fullmatch=True))
rows = st.builds(
    Row,
    text,
    st.one_of(st.none(), st.floats(-1, 2)),
    numbers,
    numbers,
    numbers,
    numbers,
    numbers,
    st.lists(text, max_size=3).map(tuple),
)


@given(st.lists(rows, max_size=12), st.integers(1, 300), st.sampled_from(["", "1"]))
def test_no_row_is_as_wide_as_the_terminal(rows: list[Row], columns: int, no_color: str) -> None:
    drawn = lines(rows, columns, NO_COLOR=no_color)
    assert len(drawn) == len(rows)
    for line in drawn:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
        assert width_of(plain) < columns and "\x1b" not in plain


def test_colours() -> None:
    (line,) = lines([ROW], 80, NO_COLOR="")
    assert "\x1b[36m━" in line and "\x1b[2m─" in line
    for environment in ({"NO_COLOR": "1"}, {"NO_COLOR": "", "TERM": "dumb"}):
        assert "\x1b" not in lines([ROW], 80, **environment)[0]


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "koi8-r"])
def test_signs_of_an_encoding(encoding: str) -> None:
    terminal = Terminal(stream(encoding), {"TERM": "xterm"})
    (line,) = Columns(terminal).lines([Row("x" * 200, 0.5, "50 %")], 80)
    assert line.isascii() and line.startswith("...xxx")
    name = terminal.encodable("é数")
    assert name.encode(encoding).decode(encoding) == name and name.endswith("\\u6570")
