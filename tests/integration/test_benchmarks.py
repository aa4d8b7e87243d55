"""The questions can be asked: in small, once, of getm and of what is installed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.__main__ import QUESTIONS
from benchmarks.harness.bench import bench
from benchmarks.harness.environment import ROOT
from benchmarks.harness.measure import cost_of_command
from benchmarks.harness.question import find

SCALE = 1 / 1000


@pytest.mark.slow
@pytest.mark.deadline(180)
@pytest.mark.parametrize(
    "name", ["disk", "small-files", "opening", "access", "filesystems", "whole", "shared", "writes", "cluster"]
)
def test_a_question_is_answered(tmp_path: Path, name: str) -> None:
    question = QUESTIONS[name]
    with bench(tmp_path, 1, scale=SCALE, peers=frozenset({"curl", "aiohttp"})) as where:
        answer = question.measure(where)
        # Nothing was removed while others were timed, and nothing keeps its space.
        kept = [file for file in where.folder.glob("done/**/*") if file.is_file()]
        assert all(file.stat().st_size == 0 for file in kept)
    rows = list(answer.rows(question.columns))

    assert not {tool: why for tool, why in answer.missing.items() if not why.startswith(("not installed", "this ver"))}
    assert rows
    for row in rows:
        assert row[2] != "-"
    if name != "writes":
        assert any(question.ours(series.tool) for series in answer.series)
    assert not list(tmp_path.iterdir())


def test_a_tool_that_is_missing_or_fails_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("curl", "aria2c"):
        (tmp_path / name).write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/sbin")
    with bench(tmp_path, 1, scale=SCALE, peers=frozenset({"curl", "nothing"})) as where:
        answer = QUESTIONS["disk"].measure(where)

    assert answer.missing["curl"] == "failed: exit status 3: out of luck"
    assert find(answer.series, "HTTP", "curl") is None
    assert find(answer.series, "HTTP", "getm") is not None


def test_a_command_that_hangs_is_ended_with_its_children() -> None:
    with pytest.raises(RuntimeError, match=r"longer than 0\.2 s"):
        cost_of_command(["/bin/sh", "-c", "sleep 1000 & wait"], deadline_s=0.2)


def test_what_a_run_leaves_is_emptied_but_stays(tmp_path: Path) -> None:
    with bench(tmp_path, 1, scale=SCALE, peers=None) as where:
        for content in (b"first", b"second"):
            with where.emptied_output():
                (where.output / "target").write_bytes(content)
        assert not where.output.exists()
        assert [file.stat().st_size for file in (where.folder / "done").glob("*/target")] == [0, 0]


def test_an_interrupted_run_leaves_nothing_and_nobody(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "disk", "--folder", str(tmp_path)]
    output = tmp_path / "result.json"
    with subprocess.Popen(
        [*command, "--output", str(output)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert any("How fast" in line for line in process.stdout)
        (folder,) = tmp_path.iterdir()
        nginx = int((folder / "nginx" / "nginx.pid").read_text())
        process.terminate()

    assert process.returncode == 143
    assert not list(tmp_path.iterdir())
    assert not psutil.pid_exists(nginx)
