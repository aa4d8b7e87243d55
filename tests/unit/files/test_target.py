"""Targets on real file systems: whole or absent, never through a link, nothing left behind (rows 41, 43, 44, 45)."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from getm.core.version import Version
from getm.errors import TargetError
from getm.files.commit import all_steps, commit_files
from getm.files.names import resolve_target
from getm.files.partial import PartialFile, open_partial
from getm.files.space import reserve
from getm.files.streams import StreamTarget, is_special, needs_order
from tests.support.partials import put

URL = "https://host/folder/object.bin?signature=SECRET"
MIB = 1024 * 1024


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def parts(data: bytes, size: int) -> list[tuple[int, memoryview]]:
    view = memoryview(data)
    return [(offset, view[offset : offset + size]) for offset in range(0, len(data), size)]


def begun(path: Path, size: int | None = None) -> PartialFile:
    """A plain temporary file: nothing says which version of the object it is, so it has no journal."""
    partial = open_partial(path, resume=False)
    try:
        partial.begin(Version(size))
    except BaseException:
        partial.discard()
        raise
    return partial


def commit(target: PartialFile | StreamTarget) -> None:
    if isinstance(target, StreamTarget):
        target.close()
        return
    (error,) = all_steps(commit_files([(target, None)]))
    if error is not None:
        raise error


def open_target(path: Path, *, headers: dict[str, str] | None = None, size: int | None = None) -> PartialFile:
    """What a download of `URL` writes to."""
    return begun(resolve_target(path, url=URL, headers=(headers or {}).items()), size)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 3 * MIB + 17])
@pytest.mark.parametrize("known", [True, False])
def test_parts_in_any_order_make_the_file(tmp_path: Path, size: int, known: bool) -> None:
    data = random.Random(size).randbytes(size)
    shuffled = parts(data, 256 * 1024)
    random.Random(1).shuffle(shuffled)
    with open_target(tmp_path / "out", size=size if known else None) as target:
        for offset, part in shuffled:
            put(target, offset, part)
        assert [path.name for path in tmp_path.iterdir() if "object" in path.name or "SECRET" in path.name] == []
        assert not (tmp_path / "out").exists()
        commit(target)
    assert (tmp_path / "out").read_bytes() == data
    assert names(tmp_path) == ["out"]


def test_the_name_comes_from_the_response(tmp_path: Path) -> None:
    headers = {"Content-Disposition": "attachment; filename=named.bin"}
    with open_target(tmp_path, headers=headers, size=3) as target:
        put(target, 0, memoryview(b"abc"))
        commit(target)
    assert target.path == tmp_path / "named.bin"
    assert target.path.read_bytes() == b"abc"


def test_the_umask_decides_the_mode(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with open_target(tmp_path / "out") as target:
            commit(target)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640


def test_discard_leaves_nothing_and_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    target = begun(tmp_path / "out", 5 * MIB)
    put(target, 0, memoryview(b"new"))
    assert (tmp_path / "out").read_bytes() == b"old"
    target.discard()
    target.discard()
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out").read_bytes() == b"old"


def test_leaving_by_an_exception_discards(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_target(tmp_path / "out", size=10) as target:
        put(target, 0, memoryview(b"abc"))
        raise KeyboardInterrupt
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("written", "size"),
    [([(0, b"abc")], 4), ([(0, b"abc"), (4, b"e")], None), ([(0, b"abc"), (4, b"e")], 5), ([(0, b"abcde")], 4)],
)
def test_an_incomplete_file_is_not_put_in_place(
    tmp_path: Path, written: list[tuple[int, bytes]], size: int | None
) -> None:
    target = begun(tmp_path / "out", size)
    for offset, data in written:
        put(target, offset, memoryview(data))
    with target, pytest.raises(TargetError, match="not complete"):
        commit(target)
    assert names(tmp_path) == []


def test_row_43_two_writers_of_one_target_do_not_mix(tmp_path: Path) -> None:
    first, second = (begun(tmp_path / "out", 8) for _ in range(2))
    put(first, 0, memoryview(b"11111111"))
    put(second, 0, memoryview(b"2222"))
    commit(first)
    assert (tmp_path / "out").read_bytes() == b"11111111"
    put(second, 4, memoryview(b"2222"))
    commit(second)
    assert (tmp_path / "out").read_bytes() == b"22222222"
    assert names(tmp_path) == ["out"]


def test_row_41_a_link_at_the_target_is_replaced_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out").symlink_to(outside)
    with open_target(folder / "out", size=3) as target:
        put(target, 0, memoryview(b"abc"))
        commit(target)
    assert not (folder / "out").is_symlink()
    assert (folder / "out").read_bytes() == b"abc"
    assert outside.read_bytes() == b"precious"


def test_row_41_a_link_at_the_temporary_name_is_neither_followed_nor_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getm.files.lock.private_name", lambda: ".getm-foreseen.part")
    (tmp_path / "outside").write_bytes(b"precious")
    (tmp_path / ".getm-foreseen.part").symlink_to("outside")
    with pytest.raises(TargetError, match="File exists"):
        begun(tmp_path / "out")
    assert names(tmp_path) == [".getm-foreseen.part", "outside"]
    assert (tmp_path / "outside").read_bytes() == b"precious"


def test_row_41_a_parent_swapped_for_a_link_meanwhile_is_not_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "out").write_bytes(b"precious")
    with open_target(folder / "out", size=3) as target:
        put(target, 0, memoryview(b"abc"))
        folder.rename(tmp_path / "moved")
        folder.symlink_to(outside)
        commit(target)
    assert names(outside) == ["out"]
    assert (outside / "out").read_bytes() == b"precious"
    assert (tmp_path / "moved" / "out").read_bytes() == b"abc"


def test_a_folder_in_the_way_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "object.bin").mkdir()
    with pytest.raises(TargetError, match="is a folder") as caught:
        open_target(tmp_path)
    assert caught.value.path == str(tmp_path / "object.bin")
    assert names(tmp_path) == ["object.bin"]


def test_a_folder_put_in_the_way_meanwhile(tmp_path: Path) -> None:
    target = begun(tmp_path / "out")
    (tmp_path / "out").mkdir()
    with target, pytest.raises(TargetError, match=r"give|choose"):
        commit(target)
    assert names(tmp_path) == ["out"]


def test_no_folder_to_write_to(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="folder is gone"):
        begun(tmp_path / "missing" / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; the next test covers it")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(TargetError, match="may write"):
        begun(tmp_path / "out")


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from getm.core.version import Version
from getm.files.partial import open_partial
from getm.errors import TargetError
os.chdir(sys.argv[1])
os.setuid(65534)
try:
    open_partial(Path("out"), resume=False).begin(Version(1))
except TargetError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_folder_without_permission_for_another_user(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", UNPRIVILEGED, tmp_path], capture_output=True, text=True, check=True)
    assert "Permission denied" in run.stdout and "may write" in run.stdout
    assert names(tmp_path) == []


def test_the_largest_name_and_one_too_long(tmp_path: Path) -> None:
    with begun(tmp_path / ("x" * 255)) as target:
        commit(target)
    with pytest.raises(TargetError, match="shorter name"):
        begun(tmp_path / ("x" * 256))
    assert names(tmp_path) == ["x" * 255]


def test_no_space_is_told_at_the_start_where_the_size_is_known(small_disk: Path) -> None:
    with pytest.raises(TargetError, match=r"No space left.*free some space"):
        begun(small_disk / "out", 8 * MIB)
    assert names(small_disk) == []


def test_no_space_while_writing_and_then_space_again(small_disk: Path) -> None:
    (small_disk / "out").write_bytes(b"old")
    with pytest.raises(TargetError, match="No space left"), begun(small_disk / "out") as target:
        for offset, part in parts(bytes(8 * MIB), 64 * 1024):
            put(target, offset, part)
    assert names(small_disk) == ["out"]
    assert (small_disk / "out").read_bytes() == b"old"
    with begun(small_disk / "out", MIB // 2) as target:
        put(target, 0, memoryview(bytes(MIB // 2)))
        commit(target)
    assert (small_disk / "out").stat().st_size == MIB // 2


def test_the_space_is_really_reserved(small_disk: Path) -> None:
    with begun(small_disk / "out", 2 * MIB) as target:
        with pytest.raises(OSError) as caught:
            (small_disk / "greedy").write_bytes(bytes(3 * MIB))
        assert caught.value.errno == errno.ENOSPC
        put(target, 0, memoryview(b"x" * (2 * MIB)))
        commit(target)
    assert (small_disk / "out").read_bytes() == b"x" * (2 * MIB)


def test_a_file_system_that_cannot_reserve_is_asked_for_free_space(tmp_path: Path) -> None:
    # ramfs answers EOPNOTSUPP, and tells a size of 0 blocks.
    folder = tmp_path / "ramfs"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "ramfs", "ramfs", folder], capture_output=True).returncode:
        pytest.skip("mounting ramfs needs more rights than this machine gives")
    try:
        with begun(folder / "out", 3) as target:
            put(target, 0, memoryview(b"abc"))
            commit(target)
        assert (folder / "out").read_bytes() == b"abc"
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_size_beyond_every_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"free some space|allows no file so large"):
        begun(tmp_path / "out", 2**62)
    assert names(tmp_path) == []


def test_reserving_nothing_is_nothing() -> None:
    reserve(-1, 0)


def test_row_44_the_file_size_limit(tmp_path: Path) -> None:
    """A short write, then EFBIG: both halves of pwrite's bad news."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(TargetError, match="ulimit"), begun(tmp_path / "out") as target:
            put(target, 0, memoryview(bytes(1500)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert names(tmp_path) == []


KILLED = """
import os, sys
from pathlib import Path
from getm.core.version import Version
from getm.files.commit import all_steps, commit_files
from getm.files.partial import open_partial
target = open_partial(Path(sys.argv[1]), resume=True)
target.begin(Version(4))
os.pwrite(target.fileno(), b"new!", 0)
target.wrote(0, 4)
if sys.argv[2] == "after":
    all_steps(commit_files([(target, None)]))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("moment", "content"), [("before", b"old"), ("after", b"new!")])
def test_row_45_killed_around_the_rename(tmp_path: Path, moment: str, content: bytes) -> None:
    (tmp_path / "out").write_bytes(b"old")
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "out"), moment], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    assert (tmp_path / "out").read_bytes() == content


def test_what_needs_order(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "null").symlink_to("/dev/null")
    for path in ("/dev/stdout", "/dev/null", "/dev/fd/1", "/proc/self/fd/1", "/dev/../dev/null", "/dev/absent"):
        assert needs_order(path)
    for name in ("fifo", "null"):
        assert needs_order(tmp_path / name)
    for name in ("file", "link", "absent", ""):
        assert not needs_order(tmp_path / name)
    assert not needs_order(None) and not needs_order("/dev/shm/x")


def test_what_needs_order_from_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, special, plain in (
        ("/", ("dev/null", "./dev/null", "x/../dev/null", "proc/self/fd/1"), ("tmp/x", "device", "dev")),
        ("/dev", ("null", "absent", "../dev/null", "shm/../null"), ("shm/x", "../tmp/x", "..")),
        ("/tmp", ("../dev/null",), ("dev/null", "./dev/null", "x")),
    ):
        monkeypatch.chdir(folder)
        assert all(map(is_special, special)) and not any(map(is_special, plain))


def test_a_fifo_gets_every_byte_in_order(tmp_path: Path) -> None:
    data = random.Random(7).randbytes(MIB + 5)
    os.mkfifo(tmp_path / "fifo")
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "fifo").read_bytes()))
    reader.start()
    with StreamTarget.open(tmp_path / "fifo") as target:
        for offset, part in parts(data, 100_000):
            target.write(offset, part)
        commit(target)
    reader.join()
    assert hashlib.sha256(received[0]).digest() == hashlib.sha256(data).digest()
    assert names(tmp_path) == ["fifo"]


def test_bytes_out_of_order_do_not_go_into_a_stream() -> None:
    with StreamTarget.open(Path("/dev/null")) as target:
        target.write(0, memoryview(b"abc"))
        with pytest.raises(TargetError, match="expected byte 3, got byte 4"):
            target.write(4, memoryview(b"e"))


def test_a_descriptor_shares_its_offset(tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab", buffering=0) as log:
        log.write(b"before ")
        with StreamTarget.open(Path(f"/dev/fd/{log.fileno()}")) as target:
            target.write(0, memoryview(b"data"))
            commit(target)
        log.write(b" after")
    assert (tmp_path / "log").read_bytes() == b"before data after"


def test_a_slow_reader_of_a_non_blocking_pipe() -> None:
    data = random.Random(8).randbytes(3 * MIB)
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    received: list[bytes] = []

    def read() -> None:
        with os.fdopen(read_end, "rb") as pipe:
            received.append(pipe.read())

    reader = threading.Thread(target=read)
    with StreamTarget(write_end, Path("pipe")) as target:
        os.close(write_end)
        reader.start()
        target.write(0, memoryview(data))
        commit(target)
    reader.join()
    assert received == [data]


def test_a_reader_that_has_gone() -> None:
    read_end, write_end = os.pipe()
    with StreamTarget(write_end, Path("pipe")) as target:
        os.close(write_end)
        os.close(read_end)
        with pytest.raises(TargetError, match="reader is gone") as caught:
            target.write(0, memoryview(b"abc"))
    assert isinstance(caught.value.__cause__, BrokenPipeError)


@pytest.mark.parametrize("path", ["/dev/no-such-device", "/dev/fd/987654"])
def test_a_stream_that_is_not_there(path: str) -> None:
    with pytest.raises(TargetError) as caught:
        StreamTarget.open(Path(path))
    assert caught.value.path == path
    assert not Path(path).exists()
