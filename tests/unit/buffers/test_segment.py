"""Segments: two processes see the same bytes, nothing has a name, every page is there, nothing is left open."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import getm
from getm.buffers import segment
from getm.buffers.segment import BACKING_VARIABLE, Segment, available_bytes
from getm.errors import MemoryUnavailable

SIZE = 3 * 1024 * 1024 + 4096
SHARED_MEMORY = Path("/dev/shm")
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memfd and control groups are Linux's")


@pytest.fixture(params=[pytest.param("memfd", marks=ON_LINUX), "posix"])
def backing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Segments are made in this way for the test."""
    kind: str = request.param
    monkeypatch.setenv(BACKING_VARIABLE, "posix" if kind == "posix" else "")
    return kind


def target_of(descriptor: int) -> str:
    return str(Path(f"/dev/fd/{descriptor}").readlink())


def refuse(error_number: int) -> Any:
    def refused(*arguments: object, **options: object) -> None:
        raise OSError(error_number, os.strerror(error_number))

    return refused


# What stands at the other end of the Unix socket, in a process of its own.
PEER = """
import hashlib, socket, sys
from getm.buffers import Segment
sock = socket.socket(fileno=int(sys.argv[1]))
size = int(sys.argv[2])
_, (descriptor,), _, _ = socket.recv_fds(sock, 1, 1)
segment = Segment.attach(size, descriptor=descriptor)
sock.sendall(hashlib.sha256(segment.memory).digest())
segment.memory[:] = bytes(byte ^ 255 for byte in segment.memory[:4096]) * (size // 4096)
sock.sendall(b"written")
sock.recv(1)
"""


def test_two_processes_see_the_same_bytes(backing: str) -> None:
    created = Segment.create(SIZE)
    pattern = hashlib.shake_128(backing.encode()).digest(4096)
    created.memory[:] = pattern * (SIZE // 4096)
    digest = hashlib.sha256(created.memory).digest()
    ours, theirs = socket.socketpair()
    package_parent = str(Path(getm.__file__).parent.parent)
    command = [sys.executable, "-c", PEER, str(theirs.fileno()), str(SIZE)]
    environment = {**os.environ, "PYTHONPATH": package_parent}
    with subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment) as peer, ours:
        theirs.close()
        socket.send_fds(ours, [b"m"], [created.descriptor])
        # The mapping alone keeps the memory, on either side.
        created.close_descriptor()
        assert ours.recv(32, socket.MSG_WAITALL) == digest
        assert ours.recv(7, socket.MSG_WAITALL) == b"written"
        assert created.memory[:] == bytes(byte ^ 255 for byte in pattern) * (SIZE // 4096)
        ours.sendall(b"x")
        assert peer.wait() == 0
    assert created.memory[:4096] == bytes(byte ^ 255 for byte in pattern), "still there when the other side is gone"


def test_a_segment_has_no_name_all_its_pages_and_a_descriptor_that_no_program_inherits(backing: str) -> None:
    created = Segment.create(SIZE)
    status = os.fstat(created.descriptor)
    assert (created.size, len(created.memory), status.st_size, status.st_nlink) == (SIZE, SIZE, SIZE, 0)
    if hasattr(os, "posix_fallocate"):
        assert status.st_blocks * 512 >= SIZE
    assert not os.get_inheritable(created.descriptor)
    assert ("memfd:getm" in target_of(created.descriptor)) is (backing == "memfd")
    assert created.memory[:] == bytes(SIZE)
    created.close_descriptor()
    created.close_descriptor()
    assert created.descriptor == -1


def test_attaching_takes_the_descriptor_over_even_when_it_fails(backing: str) -> None:
    created = Segment.create(SIZE)
    attached = Segment.attach(SIZE, descriptor=os.dup(created.descriptor))
    attached.memory[5] = 77
    assert (created.memory[5], attached.size, attached.descriptor) == (77, SIZE, -1)
    longer = os.dup(created.descriptor)
    with pytest.raises(ValueError, match="length"):
        Segment.attach(2 * SIZE, descriptor=longer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(longer)
    created.close_descriptor()


@pytest.fixture
def at_most_one_mebibyte() -> Iterator[None]:
    """No file, and so no segment, of this process may grow beyond 1 MiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("backing", "at_most_one_mebibyte")
def test_a_size_that_cannot_be_had_is_an_error_that_tells_what_to_do() -> None:
    with pytest.raises(MemoryUnavailable, match="max_memory") as caught:
        Segment.create(SIZE)
    assert caught.value.wanted == SIZE
    # What still fits can be had, and the refusal left nothing open: the fixture of all tests sees to that.
    Segment.create(4096).close_descriptor()


@pytest.mark.usefixtures("backing")
def test_pages_that_cannot_be_reserved_are_an_error_and_not_a_sparse_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.ENOSPC))
    with pytest.raises(MemoryUnavailable, match=os.strerror(errno.ENOSPC)):
        Segment.create(SIZE)


@pytest.mark.usefixtures("backing")
def test_a_system_that_cannot_reserve_pages_gives_a_segment_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.EOPNOTSUPP))
    created = Segment.create(SIZE)
    created.memory[-1] = 1
    created.close_descriptor()


@ON_LINUX
def test_more_than_the_machine_has_is_refused_before_any_page_is_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    reserved: list[int] = []

    def reserve_nothing(descriptor: int, offset: int, size: int) -> None:
        reserved.append(size)
        raise OSError(errno.ENOMEM, "stopped by the test")

    monkeypatch.setattr(os, "posix_fallocate", reserve_nothing)
    with pytest.raises(MemoryUnavailable):
        Segment.create(2 * machine_bytes)
    assert reserved == []


@ON_LINUX
def test_memory_without_memfd_is_posix_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BACKING_VARIABLE, raising=False)
    # As a seccomp profile does that does not know the call.
    monkeypatch.setattr(os, "memfd_create", refuse(errno.EPERM))
    created = Segment.create(SIZE)
    assert "memfd" not in target_of(created.descriptor)
    created.memory[:5] = b"bytes"
    attached = Segment.attach(SIZE, descriptor=os.dup(created.descriptor))
    assert attached.memory[:5] == b"bytes"
    created.close_descriptor()


@ON_LINUX
def test_no_kind_of_shared_memory_is_an_error_that_offers_the_mode_that_needs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "memfd_create", refuse(errno.EPERM))
    monkeypatch.setattr("_posixshmem.shm_open", refuse(errno.ENOENT))
    with pytest.raises(MemoryUnavailable, match="concurrency=None"):
        Segment.create(SIZE)


# Private memory ------------------------------------------------------------------------------------------------------


def test_private_memory_is_shared_within_the_process_by_a_token_that_serves_once() -> None:
    created = Segment.create(SIZE, private=True)
    assert (created.size, created.descriptor) == (SIZE, -1)
    attached = Segment.attach(SIZE, token=created.token)
    attached.memory[:] = b"\xa5" * SIZE
    assert created.memory[:] == b"\xa5" * SIZE
    with pytest.raises(KeyError):
        Segment.attach(SIZE, token=created.token)
    created.close_descriptor()


def test_private_memory_that_nobody_attached_is_forgotten() -> None:
    created = Segment.create(SIZE, private=True)
    created.close_descriptor()
    with pytest.raises(KeyError):
        Segment.attach(SIZE, token=created.token)


def test_private_memory_that_cannot_be_had_is_an_error() -> None:
    with pytest.raises(MemoryUnavailable) as caught:
        Segment.create(2**62, private=True)
    assert caught.value.wanted == 2**62


# What can be had -----------------------------------------------------------------------------------------------------


@ON_LINUX
def test_available_bytes_are_within_what_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BACKING_VARIABLE, raising=False)
    plain = available_bytes()
    assert plain is not None
    assert 0 < plain <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@ON_LINUX
def test_available_bytes_of_posix_shared_memory_are_within_its_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BACKING_VARIABLE, "posix")
    found = available_bytes()
    whole = os.statvfs(SHARED_MEMORY)
    assert found is not None and found <= whole.f_blocks * whole.f_frsize


def group(folder: Path, limit: int | str, used: int, reclaimable: int = 0, *, version: int = 2) -> None:
    """Write the files of one control group as the kernel shows them."""
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    stat = "inactive_file" if version == 2 else "total_inactive_file"
    (folder / "memory.stat").write_text(f"anon 5\nactive_file 70\n{stat} {reclaimable}\nunevictable 3\n")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Stands for /proc/self/cgroup."""
    return tmp_path / "cgroup"


def test_the_tightest_of_all_ancestors_decides_in_version_2(tmp_path: Path, own: Path) -> None:
    own.write_text("0::/slice/box/inner\n")
    root = tmp_path / "fs"
    group(root / "slice/box/inner", "max", 50)
    group(root / "slice/box", 1000, 600, 100)
    group(root / "slice", 5000, 4000)
    assert segment._cgroup_bytes(root, own) == 500
    group(root / "slice", 5000, 4700)
    assert segment._cgroup_bytes(root, own) == 300
    group(root / "slice/box/inner", 700, 600, 50)
    assert segment._cgroup_bytes(root, own) == 150


def test_the_tightest_of_all_ancestors_decides_in_version_1(tmp_path: Path, own: Path) -> None:
    own.write_text("12:cpuset:/\n9:name=systemd:/box\n4:cpu,memory:/box/inner\n0::/other\n")
    root = tmp_path / "fs"
    group(root / "memory/box/inner", 2**63 - 4096, 50, version=1)
    group(root / "memory/box", 1000, 600, 100, version=1)
    group(root / "memory", 2**63 - 4096, 900, version=1)
    group(root / "cpuset", 1, 0, version=1)
    assert segment._cgroup_bytes(root, own) == 500


def test_a_container_that_sees_its_own_group_as_the_root_finds_its_limit(tmp_path: Path, own: Path) -> None:
    root = tmp_path / "fs"
    for line, version, base in (("0::/", 2, root), ("4:memory:/docker/0123", 1, root / "memory")):
        own.write_text(f"{line}\n")
        group(base, 1000, 400, version=version)
        assert segment._cgroup_bytes(root, own) == 600


def test_a_group_over_its_limit_has_nothing_to_give(tmp_path: Path, own: Path) -> None:
    own.write_text("0::/box\n")
    group(tmp_path / "fs/box", 1000, 1200, 100)
    assert segment._cgroup_bytes(tmp_path / "fs", own) == 0


def test_where_no_group_tells_there_is_no_limit_from_it(tmp_path: Path, own: Path) -> None:
    root = tmp_path / "fs"
    assert segment._cgroup_bytes(root, own) is None
    for text in ("", "0::/box\n", "12:cpuset:/\n", "0::/../../elsewhere\n"):
        own.write_text(text)
        assert segment._cgroup_bytes(root, own) is None
    own.write_text("0::/box\n")
    group(root / "box", "max", 1)
    assert segment._cgroup_bytes(root, own) is None
    group(root / "box", "nonsense", 1)
    assert segment._cgroup_bytes(root, own) is None


def test_a_limit_counts_though_nothing_tells_what_could_be_reclaimed(tmp_path: Path, own: Path) -> None:
    own.write_text("0::/box\n")
    group(tmp_path / "fs/box", 1000, 400)
    (tmp_path / "fs/box/memory.stat").unlink()
    assert segment._cgroup_bytes(tmp_path / "fs", own) == 600
