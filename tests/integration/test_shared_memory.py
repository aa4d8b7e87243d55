"""Whole transfers on each kind of memory, and on machines that have little of it."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import getm
from getm.buffers import segment
from getm.buffers.segment import BACKING_VARIABLE
from getm.client import pool
from tests.support import mounts
from tests.support.engines import engines
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

MIB = 1024 * 1024
MODES = (1, 4, None)
Make = Callable[..., ServedObject]


def everything(session: getm.Session, url: str, expected: bytes) -> None:
    for concurrency in MODES:
        one_mode(session, url, expected, concurrency)


def one_mode(session: getm.Session, url: str, expected: bytes, concurrency: int | None) -> None:
    assert session.read(url, concurrency=concurrency) == expected
    assert b"".join(map(bytes, session.iter_content(url, concurrency=concurrency))) == expected
    placed = bytearray(len(expected))
    for offset, part in session.iter_content_unordered(url, concurrency=concurrency):
        placed[offset : offset + len(part)] = part
    del part  # a view keeps its whole ring, and where memory is scarce the next ring needs that room
    assert placed == expected

    async def collect() -> None:
        ordered = [bytes(part) async for part in session.aiter_content(url, concurrency=concurrency)]
        assert b"".join(ordered) == expected
        placed = bytearray(len(expected))
        async for offset, part in session.aiter_content_unordered(url, concurrency=concurrency):
            placed[offset : offset + len(part)] = part
        assert placed == expected

    asyncio.run(collect())


@pytest.fixture(params=("memfd", "posix"))
def backing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of memory that rings are made of for the test."""
    kind: str = request.param
    monkeypatch.setenv(BACKING_VARIABLE, "posix" if kind == "posix" else "")
    return kind


@pytest.mark.parametrize("size", ("64m", "8g"))
def test_row_50_every_mode_at_each_size_of_dev_shm(
    size: str, backing: str, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(20 * MIB)
    with mounts.shared_memory(size), getm.Session(processes=2) as session:
        everything(session, nginx.url(served), served.read())


@pytest.mark.parametrize("concurrency", MODES)
def test_row_50_dev_shm_with_little_room_left_makes_a_smaller_ring(
    concurrency: int | None, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(20 * MIB)
    with mounts.shared_memory("16m") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv(BACKING_VARIABLE, "posix")
        (folder / "others").write_bytes(bytes(11 * MIB))
        with getm.Session() as session:
            one_mode(session, nginx.url(served), served.read(), concurrency)
        # The room may be taken between the question and the reservation: then the kernel's word is what counts.
        patch.setattr(pool, "available_bytes", lambda: 64 * MIB)
        patch.setattr(segment, "available_bytes", lambda: 64 * MIB)
        with getm.Session() as session:
            one_mode(session, nginx.url(served), served.read(), concurrency)


def test_row_50_a_full_dev_shm_is_an_error_and_no_concern_of_memfd(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(5 * MIB)
    with mounts.shared_memory("1m") as folder, pytest.MonkeyPatch.context() as patch:
        (folder / "others").write_bytes(bytes(MIB))
        patch.delenv(BACKING_VARIABLE, raising=False)
        with getm.Session() as session:
            everything(session, nginx.url(served), served.read())
        patch.setenv(BACKING_VARIABLE, "posix")
        with getm.Session() as session, pytest.raises(getm.errors.MemoryUnavailable):
            session.read(nginx.url(served))
        patch.setattr(pool, "available_bytes", lambda: None)
        patch.setattr(segment, "available_bytes", lambda: None)
        with getm.Session() as session, pytest.raises(getm.errors.MemoryUnavailable, match="No space left"):
            session.read(nginx.url(served))
        with getm.Session() as session:
            assert session.read(nginx.url(served), concurrency=None) == served.read()


def test_row_50_without_dev_shm_it_is_memfd_or_an_error(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(5 * MIB)
    with mounts.no_shared_memory(), pytest.MonkeyPatch.context() as patch:
        assert not Path("/dev/shm").exists()
        patch.delenv(BACKING_VARIABLE, raising=False)
        with getm.Session() as session:
            everything(session, nginx.url(served), served.read())
        patch.setenv(BACKING_VARIABLE, "posix")
        with (
            getm.Session() as session,
            pytest.raises(getm.errors.MemoryUnavailable, match=r"No such file.*concurrency=None"),
        ):
            session.read(nginx.url(served))


def test_posix_shared_memory_leaves_no_name(
    nginx: NginxServer, make_object: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BACKING_VARIABLE, "posix")
    served = make_object(40 * MIB)
    with getm.Session(processes=2) as session, session.urlopen(nginx.url(served)) as fh:
        fh.read(1)
        mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if "/dev/shm/getm-" in line]
        assert mapped and all(line.endswith(" (deleted)") for line in mapped)
        everything(session, nginx.url(served), served.read())


def test_row_50_a_refused_memfd_falls_back(
    nginx: NginxServer, make_object: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a seccomp profile refuses it."""

    def refuse(name: str, flags: int = 0) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", refuse)
    served = make_object(5 * MIB)
    with getm.Session() as session:
        everything(session, nginx.url(served), served.read())


@pytest.mark.parametrize("available", (64 * MIB, 5 * MIB, MIB, 200_000))
def test_the_ring_fits_what_the_machine_has(
    available: int, nginx: NginxServer, make_object: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "available_bytes", lambda: available)
    served = make_object(5 * MIB)
    with getm.Session() as session:
        everything(session, nginx.url(served), served.read())
        assert sum(channel.layout.total_bytes for channel in session._pool._connections[:1]) <= available // 2


def test_too_little_memory_is_a_clear_error(
    nginx: NginxServer, make_object: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "available_bytes", lambda: 1000)
    with (
        getm.Session() as session,
        pytest.raises(getm.errors.MemoryUnavailable, match="no memory for another ring") as caught,
    ):
        session.read(nginx.url(make_object(1000)))
    assert isinstance(caught.value, MemoryError)


@pytest.mark.parametrize("max_memory", (64 * 1024, 300_000, 2 * MIB, 20 * MIB))
def test_a_small_budget_is_kept(max_memory: int, nginx: NginxServer, make_object: Make) -> None:
    served = make_object(5 * MIB)
    with getm.Session(max_memory=max_memory) as session:
        everything(session, nginx.url(served), served.read())
        assert sum(channel.layout.total_bytes for channel in session._pool._connections) <= max_memory


def test_many_streams_share_the_budget_and_one_too_many_is_told(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(40 * MIB)
    with getm.Session(max_memory=64 * MIB) as session:
        opened: list[getm.Reader] = []
        with pytest.raises(getm.errors.MemoryUnavailable, match="close some") as caught:
            while True:
                opened.append(session.urlopen(nginx.url(served)))
        assert len(opened) >= 4
        assert caught.value.available is not None
        first = opened.pop()
        first.close()
        with session.urlopen(nginx.url(served)) as fh:
            assert fh.read(10) == served.read(0, 10)
        for fh in opened:
            assert fh.read(5 * MIB) == served.read(0, 5 * MIB)
            fh.close()


def test_rings_that_make_way_for_others_give_their_memory_back_at_once(
    nginx: NginxServer, make_object: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when garbage happens to be collected, here or in an engine."""
    monkeypatch.delenv(BACKING_VARIABLE, raising=False)
    served, budget = make_object(5 * MIB), 40 * MIB
    gc.disable()
    try:
        with getm.Session(max_memory=budget) as session:
            for concurrency in range(1, 9):
                assert session.read(nginx.url(served), concurrency=concurrency) == served.read()
                (engine,) = engines()
                assert mapped_bytes(os.getpid()) <= budget
                assert mapped_bytes(engine.pid) <= budget
    finally:
        gc.enable()


def mapped_bytes(pid: int) -> int:
    """How much memory of rings a process maps."""
    lines = [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "/memfd:getm" in line]
    assert lines
    return sum(int(stop, 16) - int(start, 16) for start, stop in (line.split()[0].split("-") for line in lines))


# Sizes by hand -------------------------------------------------------------------------------------------------------

RESIZE = Path(__file__).parents[2] / "dev_scripts" / "resize_shm.sh"


def resize(*arguments: str, user: int | None = None) -> tuple[int, str, str]:
    done = subprocess.run([RESIZE, *arguments], capture_output=True, text=True, user=user)
    return done.returncode, done.stdout, done.stderr


def test_dev_shm_is_resized_and_keeps_what_lies_in_it() -> None:
    with mounts.shared_memory("16m") as folder:
        (folder / "kept").write_bytes(b"x" * MIB)
        assert resize("8M") == (0, "/dev/shm: 16384K before, 8192K now, 1024K of them used\n", "")
        assert resize("1G") == (0, "/dev/shm: 8192K before, 1048576K now, 1024K of them used\n", "")
        assert resize(str(2 * MIB)) == (0, "/dev/shm: 1048576K before, 2048K now, 1024K of them used\n", "")
        status, _, said = resize("4K")
        assert status == 1 and "/dev/shm stays as it was: 2048K" in said
        assert os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize == 2 * MIB
        assert (folder / "kept").read_bytes() == b"x" * MIB


@pytest.mark.parametrize("size", ("", "0", "0M", "-8G", "8T", "1e9", "8 G", "64M,mode=777", "9" * 20 + "G"))
def test_nonsense_is_no_size_for_dev_shm(size: str) -> None:
    with mounts.shared_memory("1m") as folder:
        status, printed, said = resize(size)
        assert (status, printed) == (2, "")
        assert said == f"resize_shm.sh: expected a size such as 64M or 8G, got '{size}'\n"
        assert resize()[0] == resize("64M", "8G")[0] == 2
        assert os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize == MIB


def test_only_root_resizes_dev_shm() -> None:
    with mounts.shared_memory("1m"):
        status, printed, said = resize("64M", user=65534)
        assert (status, printed) == (1, "")
        assert "only root may resize /dev/shm: run it with sudo" in said


# A limit on memory ---------------------------------------------------------------------------------------------------

# By RLIMIT_AS, which the engine inherits: making a control group takes rights over the machine's own groups. Their
# limits are read in test_segment.py, from files as the kernel writes them.
LIMITED = """
import resource, sys, getm
# What fails for lack of memory while it is imported, fails in CPython's words.
import getm.engine.main, getm.default_session
url, n, room = sys.argv[1], eval(sys.argv[2]), int(sys.argv[3])
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + room
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
total = 0
try:
    with getm.Session() as session:
        for part in session.iter_content(url, concurrency=n, checksum=sys.argv[4]):
            total += len(part)
except (getm.errors.GetmError, MemoryError) as error:
    print(type(error).__name__)
else:
    print(total)
"""


@pytest.mark.parametrize("concurrency", MODES)
@pytest.mark.parametrize("room", (0, 16 * MIB, 64 * MIB, 1024 * MIB))
def test_row_50_a_low_memory_limit_is_an_error_or_no_hindrance(
    room: int, concurrency: int | None, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(20 * MIB)
    arguments = (nginx.url(served), str(concurrency), str(room), f"md5:{served.md5_hex}")
    done = subprocess.run([sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    possible = {str(served.size_bytes)}
    if room < 1024 * MIB:
        possible |= {"MemoryUnavailable", "EngineDied", "MemoryError", "InvalidInput"}
    assert done.stdout.strip() in possible
