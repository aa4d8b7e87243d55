"""Where an engine starts, and what of its caller's surroundings it sees."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from getm.client import process
from getm.engine.main import serve
from getm.testing import FaultServer, Reply
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

ROOT = Path(__file__).parents[2]
Make = Callable[..., ServedObject]

# Reads by an engine process, and tells how that was started.
TELL = """
import json, sys, getm
import psutil
data = bytes(getm.read(sys.argv[1], concurrency={concurrency}))
engines = psutil.Process().children()
told = dict(size=len(data), engines=len(engines), command=engines[0].cmdline() if engines else [])
getm.close()
print(json.dumps(told))
"""


def run(
    url: str,
    folder: Path,
    *options: str,
    before: str = "",
    concurrency: int | None = 1,
    environment: dict[str, str] | None = None,
) -> dict[str, object]:
    code = textwrap.dedent(before) + TELL.format(concurrency=concurrency)
    done = subprocess.run(
        [sys.executable, *options, "-c", code, url],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


@pytest.fixture
def url(fault_server: FaultServer) -> str:
    return fault_server.serve("/x", Reply(body=b"x" * 100_000))


# Modules of the standard library and of others in each of the ways.
@pytest.mark.parametrize(
    ("how", "name"),
    [
        *(("-c", name) for name in ("http", "ssl", "json", "idna")),
        *(("PYTHONPATH", name) for name in ("http", "types", "email", "multidict")),
        *(("script", name) for name in ("http", "random", "socket", "asyncio", "yarl")),
    ],
)
def test_case_58_files_of_the_user_are_never_executed_in_an_engine(
    how: str, name: str, tmp_path: Path, url: str
) -> None:
    """In the current folder, or where the program lies. The caller itself has imported the real ones before."""
    (tmp_path / f"{name}.py").write_text(
        "import os, sys, pathlib\n"
        f"pathlib.Path({str(tmp_path / 'executed')!r}).write_text(' '.join(sys.argv))\n"
        "raise SystemExit('not this one')\n"
    )
    here = str(tmp_path)
    # As if they were imported by a program that then moves there.
    before = f"""
    import sys
    sys.path[:] = [path for path in sys.path if path not in ('', {here!r})]
    import asyncio, email, http.client, idna, json, multidict, psutil, random, socket, ssl, types, yarl
    import getm.session
    sys.path.insert(0, {"''" if how == "-c" else repr(here)})
    """
    environment = {"PYTHONPATH": os.pathsep.join((str(ROOT), "."))} if how == "PYTHONPATH" else {}
    # -P: the caller is not to be misled itself.
    options = ("-P", "-I") if how == "-c" and not environment else ("-P",)
    if how == "script":
        options = ("-P",)
    told = run(url, tmp_path, *options[:1], before=before, environment=environment if how != "PYTHONPATH" else None)
    assert told["size"] == 100_000 and told["engines"] == 1
    assert not (tmp_path / "executed").exists()


def test_case_58_options_of_the_interpreter_are_passed_on(tmp_path: Path, url: str) -> None:
    told = run(url, tmp_path, "-W", "error::BytesWarning", "-X", "utf8", "-X", "faulthandler", "-E", "-B", before=PATH)
    command = told["command"]
    assert isinstance(command, list)
    for option in ("-Werror::BytesWarning", "-Xutf8", "-Xfaulthandler", "-E", "-B", "-P"):
        assert option in command or option.replace("-X", "-X ") in " ".join(command)
    isolated = run(url, tmp_path, "-I", before=PATH)["command"]
    assert isinstance(isolated, list)
    assert "-I" in isolated


PATH = f"import sys; sys.path.insert(0, {str(ROOT)!r})"


def test_case_58_warnings_that_are_errors_do_not_end_an_engine(tmp_path: Path, url: str) -> None:
    assert run(url, tmp_path, "-W", "error")["engines"] == 1


def test_case_58_a_current_folder_that_is_gone(tmp_path: Path, url: str) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    before = f"import os, sys; sys.path.insert(0, ''); os.rmdir({str(folder)!r})"
    assert run(url, folder, before=before)["engines"] == 1


def test_case_58_relative_paths_are_made_absolute(tmp_path: Path, url: str) -> None:
    """And the program moves elsewhere after it has imported getm."""
    link = tmp_path / "library"
    link.symlink_to(ROOT)
    before = """
    import sys
    sys.path.insert(0, "library")
    import getm
    assert getm.__file__.startswith(("library", "/")), getm.__file__
    import getm.session
    import os
    os.chdir("/")
    """
    assert run(url, tmp_path, "-P", before=before, environment={"PYTHONPATH": ""})["engines"] == 1


@pytest.mark.parametrize("concurrency", (1, 3, None))
def test_case_61_an_unwritable_key_log_is_no_matter_without_tls(
    concurrency: int | None, tmp_path: Path, url: str
) -> None:
    environment = {"SSLKEYLOGFILE": str(tmp_path / "no" / "such" / "folder")}
    assert run(url, tmp_path, concurrency=concurrency, environment=environment)["size"] == 100_000


def test_case_61_a_key_log_is_written(tmp_path: Path, nginx: NginxServer, make_object: Make) -> None:
    served = make_object(1000)
    log = tmp_path / "keys"
    told = run(
        nginx.url(served, tls=True),
        tmp_path,
        environment={"SSLKEYLOGFILE": str(log), "SSL_CERT_FILE": str(nginx.ca_path)},
    )
    assert told["size"] == 1000
    assert any(label in log.read_text() for label in ("TRAFFIC_SECRET", "CLIENT_RANDOM"))


# Programs that are no Python ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    (
        "import sys; sys.frozen = True",
        "import sys; sys.executable = ''",
        "import sys; sys.executable = None",
        "import sys; sys.executable = '/usr/sbin/apache2'",
        "import os; os.environ['GETM_ENGINE_PATH'] = '[]'",
    ),
    ids=("frozen", "empty", "none", "embedded", "started as an engine"),
)
@pytest.mark.parametrize("concurrency", (1, 3))
def test_case_48_the_engine_is_a_thread(concurrency: int, before: str, tmp_path: Path, url: str) -> None:
    told = run(url, tmp_path, before=before, concurrency=concurrency)
    assert (told["size"], told["engines"]) == (100_000, 0)


@pytest.mark.parametrize("kind", ("sys.frozen = True", "sys.executable = '/usr/sbin/apache2'"))
def test_case_48_a_python_that_the_program_names_is_used(kind: str, tmp_path: Path, url: str) -> None:
    before = f"import sys, multiprocessing.spawn as s; s.set_executable(sys.executable); real = sys.executable; {kind}"
    if "frozen" in kind:
        before += "; sys.executable = '/opt/program'"
    assert run(url, tmp_path, before=before)["engines"] == 1


def test_case_48_a_frozen_program_never_starts_itself(tmp_path: Path, url: str) -> None:
    """As PyInstaller's: whatever its arguments are, it runs the program. Even one that nothing shows to be frozen has
    copies that start none themselves."""
    program = tmp_path / "python-program"
    count = tmp_path / "count"
    program.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"open({str(count)!r}, 'a').write('x')\n"
        f"sys.executable = {str(program)!r}\n"
        "import getm\n"
        "try:\n"
        f"    assert len(getm.read({url!r})) == 100_000\n"
        "except getm.EngineDied:\n"
        "    pass\n"
    )
    program.chmod(0o700)
    done = subprocess.run([program], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(count.read_text()) <= 4


def test_python_is_this_one() -> None:
    assert process.python() == sys.executable


def test_an_engine_ends_where_its_control_socket_breaks() -> None:
    ours, control = socket.socketpair()
    # Closing a socket with unread bytes resets the other one.
    control.send(b"unread")
    ours.close()
    serve(control, None)
    assert control.fileno() < 0
