"""The start of the command: its first engine is there before the rest is imported, and never left where nobody asks it
for anything."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from getm.client import process
from getm.testing import FaultServer, Reply
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

Make = Callable[..., ServedObject]

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


# What is not needed is not imported ----------------------------------------------------------------------------------

# Modules of the package that a plain download has: a few more may come, a whole area of it may not.
MOST_OF_THE_COMMAND, MOST_OF_AN_ENGINE = 121, 100
# Modules in all, with those of Python and of other packages (287 and 401 before they were counted).
MOST_IN_THE_COMMAND, MOST_IN_AN_ENGINE = 268, 411

NOT_FOR_A_URL = {
    *("aiohttp", "asyncio", "uvloop", "ssl", "rich", "numpy"),
    # Compiling the methods of a dataclass takes as long as importing five modules.
    *("dataclasses", "json", "email", "hashlib", "shutil", "csv", "xml", "tempfile", "statistics"),
    *("getm.engine", "getm.aio", "getm.manifests.read", "getm.manifests.detect", "getm.files.receipt"),
    *("getm.integrity.hashing", "getm.integrity.files", "getm.cli.output.bars", "getm.cli.verify", "getm.cli.demo"),
}
NOT_FOR_AN_ENGINE = {
    *("aiohttp.client", "aiohttp.client_ws", "aiohttp.cookiejar", "aiohttp.tracing", "aiohttp.web", "aiosignal"),
    *("dataclasses", "statistics", "argparse", "rich", "numpy", "requests", "certifi", "xml", "csv"),
    *("getm.results", "getm.session", "getm.client", "getm.files", "getm.batch", "getm.manifests", "getm.cli"),
}


def own(modules: list[str]) -> list[str]:
    return [name for name in modules if name.partition(".")[0] == "getm"]


def test_a_plain_download_imports_no_more_than_it_needs(tmp_path: Path, nginx: NginxServer, make_object: Make) -> None:
    """Without a clock: `-X importtime` says what each module costs."""
    program = """
        import sys
        from getm.cli.main import main
        status = main(sys.argv[1:])
        print("\\n".join(sorted(sys.modules)))
        sys.exit(status)
    """
    url = nginx.url(make_object(1000))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), url, "out"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    modules = done.stdout.splitlines()
    assert NOT_FOR_A_URL & set(modules) == set()
    assert len(own(modules)) <= MOST_OF_THE_COMMAND
    assert len(modules) <= MOST_IN_THE_COMMAND


# What the program of an engine ends with.
SERVE = "main({control}, {parent})\n"


def modules_of_engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What an engine has imported when it begins to serve."""
    told = folder / "modules"
    tell = f"open({str(told)!r}, 'w').write(chr(10).join(sys.modules))\n"
    assert process._BOOTSTRAP.endswith(SERVE)
    monkeypatch.setattr(process, "_BOOTSTRAP", process._BOOTSTRAP.removesuffix(SERVE) + tell)
    engine = process.Launched()
    assert engine.wait() == 0, engine.said()
    engine.end()
    return told.read_text().splitlines()


def test_an_engine_imports_no_more_than_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = modules_of_engine(tmp_path, monkeypatch)
    assert NOT_FOR_AN_ENGINE & set(modules) == set()
    assert len(own(modules)) <= MOST_OF_AN_ENGINE
    assert len(modules) <= MOST_IN_AN_ENGINE


def test_an_aiohttp_that_is_there_already_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a hook of the installation, such as a tracer's, has imported it when Python started."""
    check = "assert sys.modules['aiohttp'].ClientSession\n"
    program = "import aiohttp\n" + process._BOOTSTRAP.removesuffix(SERVE) + check + SERVE
    monkeypatch.setattr(process, "_BOOTSTRAP", program)
    assert "aiohttp.client" in modules_of_engine(tmp_path, monkeypatch)


def test_an_aiohttp_that_cannot_be_imported_in_pieces_is_imported_as_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a release may be whose modules need a name of the package itself."""
    copied = tmp_path / "aiohttp"
    copied.mkdir()
    for path in Path(aiohttp.__file__).parent.iterdir():
        (copied / path.name).symlink_to(path)
    for name, line in (("__init__.py", "new_name = 1"), ("streams.py", "from . import new_name")):
        path = copied / name
        text = path.read_text()
        path.unlink()
        path.write_text(f"{line}\n{text}")
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = modules_of_engine(tmp_path, monkeypatch)
    assert {"aiohttp.client", "aiohttp.streams", "getm.engine.main"} <= set(modules)
