"""The start of the command: its first engine is there before the rest is imported, and never left where nobody asks it
for anything."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.fault_script import Reply
from tests.support.fault_server import FaultServer

# Runs the command in this interpreter. `launched` has an engine for each that was started; `at_import` is called when
# a module is about to be imported.
_PRELUDE = """
import importlib.abc, os, signal, subprocess, sys
import psutil
from getm.client import process as launch
from getm.cli.main import main

launched, imported = [], []
at_import = lambda name: None

class Counted(launch.Launched):
    def __init__(self):
        super().__init__()
        launched.append(self.process.pid)

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        imported.append(name)
        at_import(name)

launch.Launched = Counted
sys.meta_path.insert(0, Finder())
"""


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    whole = _PRELUDE + textwrap.dedent(program)
    return subprocess.run([sys.executable, "-c", whole], cwd=folder, capture_output=True, text=True)


def test_one_engine_is_started_before_the_rest_is_imported(tmp_path: Path, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=b"data"))
    done = run(
        f"""
        def at_import(name):
            if name.startswith("getm."):
                assert launched, name
        status = main([{url!r}, "out"])
        assert "getm.session" in imported and "asyncio" not in sys.modules
        assert len(launched) == 1 and psutil.Process().children() == []
        sys.exit(status)
        """,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out").read_bytes() == b"data"


@pytest.mark.parametrize(
    "arguments", ([], ["--version"], ["URL", "--help"], ["verify", "no-such-file"], ["hash", "no-such-file"])
)
def test_no_engine_is_started_for_what_needs_none(tmp_path: Path, arguments: list[str]) -> None:
    given = [argument.replace("URL", "http://localhost/") for argument in arguments]
    done = run(f"main({given!r}); sys.exit(len(launched))", tmp_path)
    assert done.returncode == 0


@pytest.mark.parametrize("arguments", (["http://localhost/x", "--nothing"], ["-m", "no-such-file"]))
def test_an_engine_that_nobody_asked_for_is_ended(tmp_path: Path, arguments: list[str]) -> None:
    done = run(
        f"status = main({arguments!r}); assert len(launched) == 1 and psutil.Process().children() == []\n"
        "sys.exit(status)",
        tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("ERROR:getm.cli:{") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
@pytest.mark.parametrize("module", ("getm.cli.exit_status", "getm.session"))
def test_row_53_a_signal_that_comes_while_it_imports(tmp_path: Path, module: str, number: signal.Signals) -> None:
    done = run(
        f"""
        def at_import(name):
            if name == {module!r} and imported.count(name) == 1:
                signal.raise_signal({int(number)})
        status = main(["http://localhost/x", "out"])
        assert len(launched) == 1 and psutil.Process().children() == []
        sys.exit(status)
        """,
        tmp_path,
    )
    assert done.returncode == 128 + number
    assert json.loads(done.stderr.removeprefix("ERROR:getm.cli:"))["message"].startswith(
        ("Interrupted" if number == signal.SIGINT else "Terminated") + f" by {number.name}"
    )


@pytest.mark.parametrize("executable", ("''", "None", "'/usr/bin/my-frozen-program'"))
def test_case_48_where_no_python_can_be_started_the_engine_is_a_thread(
    executable: str, tmp_path: Path, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=b"data"))
    done = run(
        f"""
        sys.executable = {executable}
        status = main([{url!r}, 'out'])
        assert not launched or launched == [None] * len(launched), launched
        sys.exit(status)
        """,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out").read_bytes() == b"data"


def test_row_55_an_engine_that_waits_to_be_taken_is_not_a_forked_childs(
    tmp_path: Path, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=b"data"), Reply(body=b"data"))
    done = run(
        f"""
        import getm
        launch.launch_ahead()
        for who in range(2):
            child = os.fork() if who == 0 else 0
            if child:
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
                continue
            assert getm.read({url!r}) == b"data"
            getm.close()
            # The child has started one of its own; its parent takes the one that was ahead.
            assert len(launched) == (2 if who == 0 else 1)
            if who == 0:
                os._exit(0)
        assert psutil.Process().children() == []
        """,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_an_engine_dies_of_is_told_where_there_are_no_memory_files(tmp_path: Path) -> None:
    done = run(
        """
        import getm
        def refuse(name, flags=0):
            raise PermissionError("seccomp")
        os.memfd_create = refuse
        launch._BOOTSTRAP = "raise SystemExit('the last word')"
        try:
            getm.read("http://localhost/")
        except getm.EngineDied as error:
            assert "ended with status 1: the last word" in str(error), error
        else:
            raise AssertionError
        """,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
