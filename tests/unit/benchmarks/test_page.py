"""A result becomes a file, tables and charts, and what is published is what its result says."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.__main__ import QUESTIONS, main
from benchmarks.harness.chart import chart
from benchmarks.harness.page import PAGE, pages
from benchmarks.harness.question import RATE, WALL, Answer, Question, Series, wall_against
from benchmarks.harness.results import Result

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs" / "explanation"
PUBLISHED = re.findall(r"Every run: `(.+?)`", (DOCS / PAGE).read_text())


def question() -> Question:
    columns = (RATE, WALL, wall_against("curl"))
    return Question("disk", "Fast & <good>?", "First.\n\nMeasured\nso.", 1, columns, lambda bench: Answer())


def answer() -> Answer:
    return Answer(
        [
            Series("HTTP", "getm", 1.0, {"wall_s": [1.0, 2.0, 4.0], "cpu_s": [1.0, 1.0, 1.0]}),
            Series("HTTP", "curl", 1.0, {"wall_s": [2.0, 2.0, 2.0], "cpu_s": [1.0, 1.0, 1.0]}),
        ],
        {"aria2c": "not installed: apt-get install aria2"},
    )


def result() -> Result:
    machine = dict.fromkeys(("commit", "processor", "cores", "memory", "system", "file system"), "?")
    return Result(
        {"date": "2026-01-02T03:04+00:00", **machine},
        {"curl": "8"},
        3,
        False,
        {"disk": answer()},
        {"disk": {"load": "0.1"}},
    )


def test_a_row_has_medians_quartiles_and_ratios_of_the_rounds() -> None:
    ours, theirs = answer().rows(question().columns)

    assert ours == ["HTTP", "getm", "500 [375-750]", "2.00 [1.50-3.00]", "1.00 [0.75-1.50]"]
    assert theirs == ["HTTP", "curl", "500 [500-500]", "2.00 [2.00-2.00]", "-"]


def test_a_result_is_read_as_it_was_saved(tmp_path: Path) -> None:
    result().save(tmp_path / "result.json")

    assert Result.load(tmp_path / "result.json") == result()


def test_a_chart_is_xml_with_a_bar_for_each_tool() -> None:
    root = ElementTree.fromstring(chart(question(), answer()))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]

    assert {"Fast & <good>?", "getm", "curl"} <= set(texts)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}rect"))) == 3


def test_a_page_keeps_what_stands_above_the_results() -> None:
    first = pages({"result.json": result()}, {"disk": question()}, "# By hand\n\n")
    again = pages({"result.json": result()}, {"disk": question()}, first[PAGE])

    assert first == again
    assert first[PAGE].startswith("# By hand\n")
    assert "Measured so." in first[PAGE]
    assert "aria2c: not installed" in first[PAGE]


def test_a_page_is_written_and_a_result_is_not_worse_than_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "result.json"
    result().save(saved)

    assert main(["page", str(saved), str(tmp_path / "docs")]) == 0
    assert (tmp_path / "docs" / "benchmarks" / "disk.svg").exists()
    assert main(["compare", str(saved), str(saved)]) == 0
    assert "0 of 2 numbers are worse" in capsys.readouterr().out


def test_of_results_that_answer_a_question_the_last_one_counts() -> None:
    old, new = result(), result()
    new.machine["commit"] = "0123456 the latest"
    old.answers["start"] = old.answers["disk"]
    asked = {"disk": question(), "start": question()}
    page = pages({"old.json": old, "new.json": new}, asked, "")[PAGE]
    assert page.count("0123456 the latest") == 2 and page.count("## Measured on") == 2
    assert page.index("`old.json`") < page.index("`new.json`")
    # One that answers nothing any more is not named.
    assert "`old.json`" not in pages({"old.json": old, "new.json": new}, {"disk": question()}, "")[PAGE]


@pytest.mark.skipif(not PUBLISHED, reason="no result is published")
def test_the_published_page_is_that_of_its_results() -> None:
    folder = ROOT / "benchmarks" / "results"
    results = {name: Result.load(folder / name) for name in PUBLISHED}
    for name, text in pages(results, QUESTIONS, (DOCS / PAGE).read_text()).items():
        assert (DOCS / name).read_text() == text, f"python -m benchmarks page {' '.join(PUBLISHED)} docs/explanation"


def test_names_of_questions_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "dsk"])

    assert "no question is called dsk" in capsys.readouterr().err
