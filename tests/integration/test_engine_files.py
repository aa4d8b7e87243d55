"""Files that engines write by themselves: what is there in the end, whatever comes between."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import random
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import cast

import pytest

import getm
from getm import errors
from getm.testing import FaultServer, Pace, Reply, Request, failure
from tests.support.command import names
from tests.support.engines import engines, engines_end

KIB = 1024
MIB = 1024 * KIB
SMALL = random.Random(1).randbytes(16 * KIB)
LARGE = random.Random(2).randbytes(3 * MIB + 7)

each_mode = pytest.mark.parametrize("concurrency", (1, 3, None))
each_size = pytest.mark.parametrize("body", (b"", b"x", SMALL, LARGE), ids=("empty", "byte", "small", "large"))


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=0)


@each_mode
@each_size
def test_the_umask_of_the_moment_decides_the_mode(
    body: bytes, concurrency: int | None, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", Reply(body=body))
    session.download(url, tmp_path / "first", concurrency=concurrency)
    before = os.umask(0o027)
    try:
        session.download(url, tmp_path / "second", concurrency=concurrency)
    finally:
        os.umask(before)
    assert (tmp_path / "second").read_bytes() == body
    assert stat.S_IMODE((tmp_path / "second").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "first").stat().st_mode) == 0o666 & ~before


@each_mode
@pytest.mark.parametrize("body", (SMALL, LARGE), ids=("small", "large"))
def test_a_folder_that_is_moved_meanwhile_keeps_its_files(
    body: bytes, concurrency: int | None, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """A link in its place leads nowhere."""
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()

    def answer(request: Request) -> Reply:
        folder.rename(tmp_path / "moved")
        folder.symlink_to(outside)
        return Reply(body=body)

    url = fault_server.serve("/x", answer)
    session.download(url, folder / "x", concurrency=concurrency)
    assert (tmp_path / "moved" / "x").read_bytes() == body
    assert names(tmp_path / "moved") == ["x"] and names(outside) == []


@each_mode
def test_of_wrong_bytes_nothing_is_ever_there(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(b"old")
    url = fault_server.serve("/x", Reply(body=SMALL))
    with pytest.raises(errors.ChecksumMismatch):
        session.download(url, tmp_path / "x", concurrency=concurrency, checksum="md5:" + "0" * 32)
    assert (tmp_path / "x").read_bytes() == b"old" and names(tmp_path) == ["x"]


@each_mode
def test_a_small_file_that_comes_slowly_shows_its_progress(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    body, gate = SMALL[: 8 * KIB], fault_server.gate()
    url = fault_server.serve("/x", Reply(body=body, stall_at=5 * KIB, gate=gate))
    seen = []

    def progress(done: int, total: int | None) -> None:
        seen.append((done, total))
        # The rest comes only when the first bytes have been seen.
        gate.open()

    session.download(url, tmp_path / "x", concurrency=concurrency, on_progress=progress)
    assert (tmp_path / "x").read_bytes() == body
    assert seen[0] == (5 * KIB, len(body))


@each_mode
def test_a_small_file_that_is_cut_off_leaves_nothing(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", Reply(body=SMALL, cut_at=10 * KIB))
    with pytest.raises(errors.Truncated):
        session.download(url, tmp_path / "x", concurrency=concurrency)
    assert names(tmp_path) == []


@each_mode
def test_a_small_file_for_which_there_is_no_space(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer, small_disk: Path
) -> None:
    body = bytes(900 * KIB)
    (small_disk / "greedy").write_bytes(bytes(3 * MIB + 512 * KIB))
    url = fault_server.serve("/x", Reply(body=body))
    with pytest.raises(errors.TargetError, match=r"x cannot be written: No space left .*free some space") as caught:
        session.download(url, small_disk / "x", concurrency=concurrency)
    assert caught.value.path == str(small_disk / "x")
    assert names(small_disk) == ["greedy"]


@each_mode
@pytest.mark.parametrize("way", ["loop", "session"])
@pytest.mark.parametrize("taken", range(1, 20, 6))
def test_leaving_many_small_files_leaves_no_hidden_ones(
    taken: int, way: str, concurrency: int | None, fault_server: FaultServer, tmp_path: Path
) -> None:
    """Engines may have written files that the batch has not heard of."""
    urls = [fault_server.serve(f"/{number}", Reply(body=SMALL)) for number in range(60)]
    session = getm.Session(retries=0)
    results = session.download_all(urls, directory=tmp_path, jobs=16, concurrency=concurrency)
    for result in itertools.islice(results, taken):
        assert isinstance(result, getm.DownloadResult)
    if way == "session":
        session.close()
        with contextlib.suppress(errors.ReaderClosed):
            list(results)
    cast(Generator[object, None, None], results).close()
    session.close()
    there = names(tmp_path)
    assert taken <= len(there) and all((tmp_path / name).read_bytes() == SMALL for name in there)
    assert set(there) <= {str(number) for number in range(60)}


@pytest.mark.parametrize("processes", [1, 2])
def test_small_files_go_on_when_engines_are_killed(
    processes: int, shared_session: Callable[..., getm.Session], fault_server: FaultServer, tmp_path: Path
) -> None:
    session = shared_session(processes=processes, retries=2)
    count = itertools.count()

    def answer(request: Request) -> Reply:
        if next(count) in (20, 70):
            for engine in engines():
                engine.kill()
        return Reply(body=SMALL)

    urls = [fault_server.serve(f"/{number}", answer) for number in range(150)]
    results = list(session.download_all(urls, directory=tmp_path, jobs=16))
    assert len(results) == 150
    assert names(tmp_path) == sorted(str(number) for number in range(150))
    assert all((tmp_path / name).read_bytes() == SMALL for name in names(tmp_path))


def test_small_files_of_a_process_that_is_killed_are_there_or_are_not(
    fault_server: FaultServer, tmp_path: Path
) -> None:
    """None of those that were not put in place yet stays under a hidden name: its engine removes them."""
    count = itertools.count()
    command: list[subprocess.Popen[bytes]] = []
    ends = contextlib.ExitStack()

    def answer(request: Request) -> Reply:
        if next(count) == 250:
            ends.enter_context(engines_end([command[0].pid]))
            command[0].kill()
        return Reply(body=SMALL)

    urls = [fault_server.serve(f"/{number}", answer) for number in range(500)]
    (tmp_path / "list").write_text("\n".join(urls))
    data = tmp_path / "data"
    data.mkdir()
    arguments = [sys.executable, "-m", "getm", "-m", str(tmp_path / "list"), "-d", str(data), "-j", "16"]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        command.append(process)
        assert process.wait() == -signal.SIGKILL
    ends.close()
    assert all(not path.name.startswith(".") and path.read_bytes() == SMALL for path in data.iterdir())


@pytest.mark.parametrize(
    ("size", "etag", "stays"), [(100_000, '"1"', False), (3 * MIB, None, False), (3 * MIB, '"1"', True)]
)
def test_what_a_process_that_is_killed_was_writing_stays_where_a_later_run_can_continue_it(
    size: int, etag: str | None, stays: bool, fault_server: FaultServer, tmp_path: Path
) -> None:
    reply = Reply(body=bytes(size), etag=etag, last_modified=None, stall_at=size // 2, gate=fault_server.gate())
    url, target = fault_server.serve("/x", reply), tmp_path / "new" / "x"
    program = f"import getm; getm.download({url!r}, {str(target)!r}, on_progress=lambda *_: print(1, flush=True))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        with engines_end([process.pid]):
            process.kill()
    assert bool(names(target.parent)) is stays


def test_a_small_object_that_a_server_names_as_what_is_there(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """It was written before its name was known, and is removed again."""
    (tmp_path / "precious").write_bytes(b"old")
    reply = Reply(body=SMALL, headers={"Content-Disposition": "attachment; filename=precious"})
    url = fault_server.serve("/x", reply)
    with pytest.raises(errors.TargetError, match="names this download 'precious'"):
        session.download(url, f"{tmp_path}/")
    assert names(tmp_path) == ["precious"] and (tmp_path / "precious").read_bytes() == b"old"
    # Skipped.
    (result,) = session.download_all([url], directory=tmp_path, existing="keep")
    assert isinstance(result, getm.DownloadResult) and result.left == "it exists"
    assert names(tmp_path) == ["precious"]


def test_small_files_of_every_kind_of_verification(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    for number, size in enumerate((0, 1, 32 * KIB, 32 * KIB + 1, 700 * KIB, MIB - 1, MIB, MIB + 1)):
        body = random.Random(number).randbytes(size)
        url = fault_server.serve(f"/{number}", Reply(body=body))
        for algorithm in ("md5", "sha256", "crc32c"):
            path = tmp_path / f"{number}.{algorithm}"
            checksum = f"md5:{hashlib.md5(body).hexdigest()}" if algorithm == "md5" else None
            if algorithm == "sha256":
                checksum = f"sha256:{hashlib.sha256(body).hexdigest()}"
            result = session.download(url, path, checksum=checksum)
            assert path.read_bytes() == body
            assert result.verified == (checksum is not None)


def test_threads_that_download_small_files_into_one_folder(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    urls = [fault_server.serve(f"/{number}", Reply(body=SMALL)) for number in range(40)]

    def download(part: list[str]) -> None:
        for url in part:
            session.download(url, tmp_path / url.rsplit("/", 1)[-1])

    threads = [threading.Thread(target=download, args=(urls[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(tmp_path) == sorted(str(number) for number in range(40))
    assert all((tmp_path / name).read_bytes() == SMALL for name in names(tmp_path))


def test_one_failure_among_many_small_files(session: getm.Session, fault_server: FaultServer, tmp_path: Path) -> None:
    replies = [failure(404) if number == 30 else Reply(body=SMALL, pace=Pace(KIB, 0.0)) for number in range(60)]
    urls = [fault_server.serve(f"/{number}", reply) for number, reply in enumerate(replies)]
    with pytest.raises(errors.HTTPStatusError):
        list(session.download_all(urls, directory=tmp_path, jobs=8))
    assert all((tmp_path / name).read_bytes() == SMALL for name in names(tmp_path))
    assert set(names(tmp_path)) <= {str(number) for number in range(60)}


def test_a_small_object_whose_name_is_that_of_a_folder(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    (tmp_path / "x").mkdir()
    url = fault_server.serve("/x", Reply(body=SMALL))
    with pytest.raises(errors.TargetError, match="x cannot be written: Is a directory; choose the name of a file"):
        session.download(url, f"{tmp_path}/")
    assert names(tmp_path) == ["x"] and names(tmp_path / "x") == []
