"""Downloads bring their files onto the disk, unless `fsync=False` or `--no-fsync` says otherwise: then nothing does."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

import getm
from getm import errors
from getm.files import libc, lock, partial, recorder
from getm.testing import FaultServer, Reply
from tests.support.command import getm as run_getm
from tests.support.command import names, started

MIB = 1024 * 1024
LARGE = random.Random(1).randbytes(3 * MIB)
SMALL = 40
CALLS = ((os, "fsync"), (libc, "fdatasync"), (libc, "syncfs"), (libc, "start_writing_out"))

# The command in a process that such a call ends.
ENDED = 99
COMMAND = f"""
import os, sys
from getm.cli.main import main
from getm.files import libc, partial, recorder
recorder.CHECKPOINT_S, partial._START_BYTES = 0.0, 1
for module, name in ((os, "fsync"), (libc, "fdatasync"), (libc, "syncfs"), (libc, "start_writing_out")):
    setattr(module, name, lambda fd: os._exit({ENDED}))
sys.exit(main(sys.argv[1:]))
"""

both_ways = pytest.mark.parametrize("way", ["sync", "async"])
every_mode = pytest.mark.parametrize("concurrency", [1, 4, "auto", None])


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=0)


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the system calls that have written something to the disk. Checkpoints are due at once."""
    monkeypatch.setattr(recorder, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(partial, "_START_BYTES", 1)
    called: set[str] = set()

    def noted(name: str, call: Callable[[int], None]) -> Callable[[int], None]:
        def wrapped(fd: int) -> None:
            called.add(name)
            call(fd)

        return wrapped

    for module, name in CALLS:
        monkeypatch.setattr(module, name, noted(name, getattr(module, name)))
    return called


def download(session: getm.Session, way: str, url: str, path: Path, **options: Any) -> getm.DownloadResult:
    if way == "sync":
        return session.download(url, path, **options)
    return asyncio.run(session.adownload(url, path, **options))


def download_all(session: getm.Session, way: str, urls: list[str], **options: Any) -> int:
    """How many there were."""
    if way == "sync":
        return len(list(session.download_all(urls, **options)))

    async def collect() -> int:
        return len([result async for result in session.adownload_all(urls, **options)])

    return asyncio.run(collect())


def small_files(server: FaultServer) -> dict[str, bytes]:
    """The content of each by its URL."""
    return {server.serve(f"/{number}", Reply(body=b"%d" % number)): b"%d" % number for number in range(SMALL)}


@both_ways
@every_mode
@pytest.mark.parametrize("fsync", [True, False])
def test_a_large_file(
    way: str,
    concurrency: int | Literal["auto"] | None,
    fsync: bool,
    session: getm.Session,
    fault_server: FaultServer,
    tmp_path: Path,
    syncs: set[str],
) -> None:
    url = fault_server.serve("/x", Reply(body=LARGE))
    download(session, way, url, tmp_path / "x", concurrency=concurrency, fsync=fsync)
    assert (tmp_path / "x").read_bytes() == LARGE
    assert names(tmp_path) == ["x"]
    assert syncs == ({"fsync", "fdatasync", "start_writing_out"} if fsync else set())


@both_ways
@every_mode
@pytest.mark.parametrize("fsync", [True, False])
def test_small_files(
    way: str,
    concurrency: int | Literal["auto"] | None,
    fsync: bool,
    session: getm.Session,
    fault_server: FaultServer,
    tmp_path: Path,
    syncs: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a wait for the disk no other thread is needed for them."""
    threads: set[str] = set()
    replace = os.replace

    def noted(*arguments: Any, **keywords: Any) -> None:
        threads.update(thread.name.partition("_")[0] for thread in threading.enumerate())
        replace(*arguments, **keywords)

    monkeypatch.setattr(os, "replace", noted)
    files = small_files(fault_server)
    count = download_all(session, way, [*files], jobs=8, directory=tmp_path, concurrency=concurrency, fsync=fsync)
    assert count == SMALL
    assert {(tmp_path / str(number)).read_bytes() for number in range(SMALL)} == set(files.values())
    assert len(names(tmp_path)) == SMALL
    assert bool(syncs) is fsync
    assert "getm-batch" in threads and (fsync or "getm-finish" not in threads)


def test_it_is_the_default_everywhere() -> None:
    for function in (getm.download, getm.adownload, getm.download_all, getm.adownload_all):
        assert inspect.signature(function).parameters["fsync"].default is True


@pytest.mark.parametrize("arguments", [["-x", "1"], ["-x", "4"], ["-x", "auto"], ["--no-resume"], ["-j", "16"]])
@pytest.mark.parametrize("no_fsync", [True, False])
def test_the_command(arguments: list[str], no_fsync: bool, fault_server: FaultServer, tmp_path: Path) -> None:
    files = {fault_server.serve("/large", Reply(body=LARGE)): LARGE, **small_files(fault_server)}
    option = ["--no-fsync"] if no_fsync else []
    run = subprocess.run(
        [sys.executable, "-c", COMMAND, *files, "-d", "data", *option, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0 if no_fsync else ENDED, "")
    if no_fsync:
        found = {name: (tmp_path / "data" / name).read_bytes() for name in names(tmp_path / "data")}
        assert found == {url.rpartition("/")[2]: body for url, body in files.items()}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("connections", [1, 3])
def test_what_a_kill_leaves_is_continued(
    number: signal.Signals, connections: int, fault_server: FaultServer, tmp_path: Path
) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=LARGE, stall_at=2 * MIB, gate=gate), Reply(body=LARGE))
    (tmp_path / "x").write_bytes(b"old")
    arguments = [url, "x", "--no-fsync", "-x", connections]
    with started(*arguments, "--progress=json", cwd=tmp_path, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if json.loads(line).get("done_bytes", 0) >= MIB:
                break
        process.send_signal(number)
        process.stderr.read()
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    gate.open()
    assert (tmp_path / "x").read_bytes() == b"old"
    before = len(fault_server.requests)
    assert run_getm(*arguments, cwd=tmp_path).returncode == 0
    assert (tmp_path / "x").read_bytes() == LARGE and names(tmp_path) == ["x"]
    for request in fault_server.requests[before:]:
        request.wait_ended()
    assert sum(request.sent_bytes for request in fault_server.requests[before:]) <= len(LARGE) - MIB // 2


@pytest.mark.parametrize("fsync", [True, False])
def test_after_a_restart_of_the_machine_only_what_is_on_the_disk_counts(
    fsync: bool, session: getm.Session, fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fault_server.serve("/x", Reply(body=LARGE, cut_at=2 * MIB), Reply(body=LARGE))
    with pytest.raises(errors.Truncated):
        session.download(url, tmp_path / "x", fsync=fsync)
    monkeypatch.setattr(lock, "boot", lambda: "another one")
    session.download(url, tmp_path / "x", fsync=fsync)
    assert (tmp_path / "x").read_bytes() == LARGE and names(tmp_path) == ["x"]
    sent = fault_server.requests[-1].sent_bytes
    assert sent <= MIB if fsync else sent == len(LARGE)
