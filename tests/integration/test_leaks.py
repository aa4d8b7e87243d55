"""The leak count finds what it is there to find, and nothing else; a test that hangs is ended."""

from __future__ import annotations

import dataclasses
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from multiprocessing import shared_memory
from pathlib import Path

import pytest

from tests.support import leaks, mounts

SLEEPER = "import sys; print(flush=True); sys.stdin.read()"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    before = leaks.snapshot()
    command = [sys.executable, "-c", SLEEPER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        # While a program is being loaded, its process has no command line yet.
        process.stdout.readline()
        found = leaks.left_behind(before)
        assert any(line.startswith(f"process {process.pid} ") and SLEEPER in line for line in found)
        yield process


def test_nothing_left_behind() -> None:
    before = leaks.snapshot()
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    subprocess.run(["true"], check=True)
    assert leaks.left_behind(before) == []


def test_child_process_is_found_and_killed(sleeper: subprocess.Popen[bytes]) -> None:
    assert sleeper.wait() == -9


def test_child_that_nobody_waited_for() -> None:
    before = leaks.snapshot()
    pid = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert leaks.left_behind(before) == [f"process {pid} (ended, but nobody waited for it)"]
    os.waitpid(pid, 0)


def test_grandchild_whose_parent_is_gone() -> None:
    before = leaks.snapshot()
    read_end, write_end = os.pipe()
    os.set_inheritable(read_end, True)
    start = f"subprocess.Popen([sys.executable, '-c', {SLEEPER!r}], stdin=0, stdout=subprocess.PIPE)"
    orphan = f"import subprocess, sys; {start}.stdout.readline()"
    subprocess.run([sys.executable, "-W", "ignore", "-c", orphan], stdin=read_end, check=True)
    os.close(read_end)
    found = leaks.left_behind(before, orphan_grace_s=0.1)
    os.close(write_end)
    assert [SLEEPER in line for line in found] == [True, False]
    assert found[1].startswith(f"file descriptor {write_end} -> pipe:")


def test_thread() -> None:
    before = leaks.snapshot()
    ending = threading.Event()
    thread = threading.Thread(target=ending.wait, name="lost", daemon=True)
    thread.start()
    found = leaks.left_behind(before)
    ending.set()
    thread.join()
    assert found == ["thread 'lost'"]


@pytest.fixture
def own_shared_memory() -> Iterator[None]:
    """So that what is left in it for a moment is no leak of tests that run beside this one."""
    with mounts.shared_memory("1m"):
        yield


def test_shared_memory(own_shared_memory: None) -> None:
    before = leaks.snapshot()
    memory = shared_memory.SharedMemory(create=True, size=4096)
    memory.close()
    found = leaks.left_behind(before)
    memory.unlink()
    assert found == [f"shared memory /dev/shm/{memory.name}"]


def test_shared_memory_of_another_program_is_no_leak(own_shared_memory: None) -> None:
    before = leaks.snapshot()
    path = Path(f"/dev/shm/getm-test-{secrets.token_hex(8)}")
    program = f"import sys; file = open({str(path)!r}, 'x'); print(flush=True); sys.stdin.read()"
    unmarked = {name: value for name, value in os.environ.items() if name != leaks.MARK_NAME}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=unmarked
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        pids = frozenset({process.pid, *before.pids})
        fds = {**before.fds, **leaks.snapshot().fds}
        known = dataclasses.replace(before, pids=pids, fds=fds)
        assert leaks.left_behind(known) == []
        process.communicate()
    assert leaks.left_behind(before) == [f"shared memory {path}"]
    path.unlink()


def test_descriptors_and_files() -> None:
    before = leaks.snapshot()
    left, right = socket.socketpair()
    handle, name = tempfile.mkstemp()
    found = leaks.left_behind(before)
    left.close()
    right.close()
    os.close(handle)
    Path(name).unlink()
    assert f"temporary file {name}" in found
    assert f"file descriptor {handle} -> {name}" in found
    assert sum(line.startswith("file descriptor") and "socket:" in line for line in found) == 2
    assert leaks.left_behind(before) == []


def run_tests(tmp_path: Path, program: str) -> str:
    """What pytest prints of a module with our conftest."""
    (tmp_path / "conftest.py").write_text(
        "from tests.conftest import *\nfrom tests.conftest import _no_leaks, _process_wide_state\n"
    )
    (tmp_path / "test_bad.py").write_text(program)
    root = Path(__file__).parents[2]
    options = ["-p", "no:cacheprovider", "-c", str(root / "pyproject.toml"), "--basetemp", str(tmp_path / "base")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--rootdir", str(tmp_path), "test_bad.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.stdout


def test_conftest_fails_a_test_that_leaks_or_hangs(tmp_path: Path) -> None:
    shown = run_tests(
        tmp_path,
        "import os, threading\n"
        "import pytest\n"
        "def test_leak(): os.dup(0)\n"
        "@pytest.mark.deadline(0.5)\n"
        "def test_hang(): threading.Event().wait()\n"
        "def test_good(): pass\n",
    )
    assert "1 failed, 2 passed, 1 error" in shown
    assert "the test left behind:\n  file descriptor" in shown
    assert "Timeout (>0.5s)" in shown
    assert "threading.Event().wait()" in shown


def test_conftest_fails_tests_with_one_session_that_leak(tmp_path: Path) -> None:
    """What the session itself keeps is no leak, and hides none."""
    shown = run_tests(
        tmp_path,
        "import os, tempfile\n"
        "import pytest\n"
        "from getm.testing import Reply\n"
        "engines = set()\n"
        "@pytest.fixture\n"
        "def read(shared_session, fault_server):\n"
        "    session = shared_session(retries=0)\n"
        "    assert session.read(fault_server.serve('/x', Reply(body=b'data'))) == b'data'\n"
        "    engines.add(session._pool._engines[0].process.pid)\n"
        "def test_good(read): pass\n"
        "def test_file(read): open(tempfile.gettempdir() + '/left', 'w').close()\n"
        "def test_other_server(read, nginx): os.unlink(tempfile.gettempdir() + '/left')\n"
        "def test_descriptor(read): os.dup(0)\n"
        "def test_last(read): assert len(engines) == 2\n"
        "def test_without(): pass\n",
    )
    assert "6 passed, 2 errors" in shown
    assert "ERROR test_bad.py::test_file" in shown and "ERROR test_bad.py::test_last" in shown
    assert "left behind:\n  temporary file" in shown
    assert "the test, or one before it with the same session, left behind:\n  file descriptor" in shown
