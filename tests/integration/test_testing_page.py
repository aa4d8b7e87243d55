"""docs/how-to/testing.md: its tests pass in a run of pytest of their own, by the fixture as users get it."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

from getm import testing
from tests.support.documentation import files_of


def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name, content in files_of("how-to/testing.md").items():
        (folder / name).write_text(content)
    without = [f"-p no:{plugin}" for plugin in ("asyncio", "cacheprovider", "xdist")]
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", *without, f"--basetemp={tmp_path / 'temporary'}"]
    run = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert (run.returncode, "3 passed" in run.stdout) == (0, True), run.stdout


def test_the_server_is_loaded_by_those_who_ask_for_it() -> None:
    program = "import sys, getm; getm.read, getm.Session; print([each for each in sys.modules if 'testing' in each])"
    assert subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE).stdout == b"[]\n"


def test_examples_in_docstrings_run() -> None:
    assert doctest.testmod(testing).attempted > 0
    assert doctest.testmod(testing.server).failed == doctest.testmod(testing).failed == 0
