"""Partial files on real file systems: kept through kills, full disks and other processes (rows 41, 43 to 46)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import random
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from getm.core.coverage import Coverage
from getm.core.spans import Span
from getm.core.version import Version
from getm.errors import TargetError
from getm.files import libc, lock, partial, recorder
from getm.files.commit import all_steps, commit_files
from getm.files.folder import Folder
from getm.files.partial import PartialFile, open_partial
from tests.support.partials import put

MIB = 1024 * 1024
BLOCK = 1000
SIZE = 8 * BLOCK
DATA = random.Random(1).randbytes(SIZE)
TAG = '"one"'


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def journaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects of any size have a journal, which is told of every block."""
    monkeypatch.setattr(partial, "JOURNALED_FROM_BYTES", 1)
    monkeypatch.setattr(recorder, "RECORD_BYTES", BLOCK)


def version(size: int | None = SIZE, tag: str | None = TAG) -> Version:
    return Version(size, tag, None, tag)


def commit(file: PartialFile, mtime: float | None = None) -> None:
    (error,) = all_steps(commit_files([(file, mtime)]))
    if error is not None:
        raise error


def started(path: Path, size: int = SIZE, *, tag: str = TAG, resume: bool = True, fsync: bool = True) -> PartialFile:
    """Opened and begun, as after a head: goes on if what is saved is of that version."""
    file = open_partial(path, resume=resume, fsync=fsync)
    try:
        file.begin(version(size, tag), resumed=file.saved == version(size, tag))
    except BaseException:
        file.suspend()
        raise
    return file


def write(file: PartialFile, *blocks: int, data: bytes = DATA) -> None:
    for block in blocks:
        put(file, block * BLOCK, memoryview(data)[block * BLOCK : (block + 1) * BLOCK])


def finish(file: PartialFile, data: bytes = DATA) -> None:
    for span in file.missing():
        put(file, span.start, memoryview(data)[span.start : span.stop])
    commit(file)


def killed(file: PartialFile) -> None:
    """What the kernel does when a process is killed: descriptors are closed, and nothing else."""
    file.close()


@dataclass(frozen=True)
class Saved:
    """What another run finds: the version, the checksum that was declared, and the spans that are there."""

    version: Version
    declared: tuple[str, str] | None
    done: tuple[Span, ...]


def found_in(file: PartialFile) -> Saved | None:
    if file.saved is None or file.saved.size is None:
        return None
    missing = Coverage(file.missing())
    return Saved(file.saved, file.declared, missing.missing(file.saved.size))


def saved(path: Path) -> Saved | None:
    """What another run finds, without taking anything from it."""
    file = open_partial(path, resume=True)
    try:
        return found_in(file)
    finally:
        killed(file)


def done(path: Path) -> list[int]:
    """The blocks that another run finds; each is compared with what was to be written."""
    file = open_partial(path, resume=True)
    try:
        found = found_in(file)
        if found is None:
            return []
        there = file.path_now.read_bytes()
        for span in found.done:
            assert there[span.start : span.stop] == DATA[span.start : span.stop]
        return [start // BLOCK for span in found.done for start in range(span.start, span.stop, BLOCK)]
    finally:
        killed(file)


# Going on -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("journaled")
@pytest.mark.parametrize("stop", [PartialFile.suspend, killed])
def test_another_run_goes_on_where_one_stood(tmp_path: Path, stop: Callable[[PartialFile], None]) -> None:
    file = open_partial(tmp_path / "out", resume=True)
    assert file.saved is None and file.exclusive
    file.begin(Version(SIZE, TAG, "yesterday", TAG), declared=("md5:00", "etag"))
    write(file, 0, 5, 4, 6)
    assert file.missing() == (Span(1 * BLOCK, 4 * BLOCK), Span(7 * BLOCK, SIZE))
    assert os.pread(file.fileno(), BLOCK, 5 * BLOCK) == DATA[5 * BLOCK : 6 * BLOCK]
    stop(file)
    assert not (tmp_path / "out").exists()
    file = open_partial(tmp_path / "out", resume=True)
    spans = (Span(0, BLOCK), Span(4 * BLOCK, 7 * BLOCK))
    assert found_in(file) == Saved(Version(SIZE, TAG, "yesterday", TAG), ("md5:00", "etag"), spans)
    file.begin(version(), resumed=True)
    assert file.saved is None
    finish(file)
    assert (tmp_path / "out").read_bytes() == DATA
    assert file.path_now == tmp_path / "out"
    assert names(tmp_path) == ["out"]


@pytest.mark.usefixtures("journaled")
def test_what_is_declared_later_is_kept_as_well(tmp_path: Path) -> None:
    write(file := started(tmp_path / "out"), 0)
    file.suspend()
    file = open_partial(tmp_path / "out", resume=True)
    file.begin(version(), declared=("md5:11", "caller"), resumed=True)
    file.suspend()
    former = saved(tmp_path / "out")
    assert former is not None and former.declared == ("md5:11", "caller")


@pytest.mark.usefixtures("journaled")
def test_row_46_another_version_starts_anew(tmp_path: Path) -> None:
    write(file := started(tmp_path / "out"), 0, 1)
    file.suspend()
    other = random.Random(2).randbytes(SIZE)
    file = started(tmp_path / "out", tag='"two"')
    assert file.missing() == (Span(0, SIZE),)
    write(file, 3, data=other)
    killed(file)
    former = saved(tmp_path / "out")
    assert former is not None and (former.version.etag, former.done) == ('"two"', (Span(3 * BLOCK, 4 * BLOCK),))
    finish(started(tmp_path / "out", tag='"two"'), other)
    assert (tmp_path / "out").read_bytes() == other
    assert names(tmp_path) == ["out"]


@pytest.mark.usefixtures("journaled")
def test_not_to_be_resumed(tmp_path: Path) -> None:
    write(file := started(tmp_path / "out"), 0, 1)
    file.suspend()
    file = started(tmp_path / "out", resume=False)
    assert file.missing() == (Span(0, SIZE),)
    file.discard()
    assert names(tmp_path) == []


@pytest.mark.usefixtures("journaled")
def test_only_what_is_saved_can_be_resumed(tmp_path: Path) -> None:
    with open_partial(tmp_path / "out", resume=True) as file, pytest.raises(ValueError):
        file.begin(version(), resumed=True)
    write(file := started(tmp_path / "out"), 0)
    file.suspend()
    with open_partial(tmp_path / "out", resume=True) as file, pytest.raises(ValueError):
        file.begin(version(SIZE + 1), resumed=True)
    assert names(tmp_path) == []


@pytest.mark.usefixtures("journaled")
@pytest.mark.parametrize(("size", "if_range"), [(None, TAG), (SIZE, None), (SIZE, "x" * 5000), (SIZE, '"\udcff"')])
def test_what_no_later_run_could_tell_again_has_no_journal(
    tmp_path: Path, size: int | None, if_range: str | None
) -> None:
    file = open_partial(tmp_path / "out", resume=True)
    file.begin(Version(size, TAG, None, if_range))
    write(file, *range(8))
    (name,) = names(tmp_path)
    assert "out" not in name
    file.checkpoint()
    file.suspend()
    assert names(tmp_path) == []


def test_a_small_object_has_one_file_and_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with contextlib.closing(Folder(tmp_path)) as folder:
        file = open_partial(tmp_path / "out", resume=True, folder=folder)
        file.begin(version())
        assert len(names(tmp_path)) == 1
        put(file, 0, memoryview(DATA))
        assert file.fileno() == -1 and file.path_now.read_bytes() == DATA
        assert len(os.listdir("/proc/self/fd")) == before + 1  # noqa: PTH208
        commit(file, 1e9)
        assert folder.fd >= 0
    assert (tmp_path / "out").read_bytes() == DATA
    assert (tmp_path / "out").stat().st_mtime == 1e9


@pytest.mark.usefixtures("journaled")
def test_a_small_object_instead_of_what_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(file := started(tmp_path / "out"), 0)
    file.suspend()
    monkeypatch.setattr(partial, "JOURNALED_FROM_BYTES", MIB)
    file = started(tmp_path / "out", 3)
    assert len(names(tmp_path)) == 1
    put(file, 0, memoryview(b"abc"))
    commit(file)
    assert (tmp_path / "out").read_bytes() == b"abc"
    assert names(tmp_path) == ["out"]


@pytest.mark.usefixtures("journaled")
def test_the_mode_and_the_time(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        file = started(tmp_path / "out")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / ".out.getm-journal").stat().st_mode) == 0o600
    write(file, *range(8))
    commit(file, 1234567890.5)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640
    assert (tmp_path / "out").stat().st_mtime == 1234567890.5


@pytest.mark.usefixtures("journaled")
@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "-", ".hidden"])
def test_names_of_any_length(tmp_path: Path, name: str) -> None:
    write(file := started(tmp_path / name), 0)
    assert all(other.startswith(".") for other in names(tmp_path)) and len(names(tmp_path)) == 2
    file.suspend()
    assert done(tmp_path / name) == [0]
    finish(started(tmp_path / name))
    assert names(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == DATA


@pytest.mark.usefixtures("journaled")
def test_more_spans_than_a_journal_tells(tmp_path: Path) -> None:
    data = random.Random(3).randbytes(1000)
    file = started(tmp_path / "out", 1000)
    for offset in range(0, 1000, 2):
        put(file, offset, memoryview(data)[offset : offset + 1])
    file.suspend()
    former = saved(tmp_path / "out")
    assert former is not None and 100 < len(former.done) < 500
    file = started(tmp_path / "out", 1000)
    finish(file, data)
    assert (tmp_path / "out").read_bytes() == data


def test_the_journal_is_told_of_time_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow link: less than a record's worth of bytes, in more than a record's worth of time."""
    monkeypatch.setattr(partial, "JOURNALED_FROM_BYTES", 1)
    write(file := started(tmp_path / "out"), 0)
    killed(file)
    assert done(tmp_path / "out") == []
    monkeypatch.setattr(recorder, "RECORD_S", 0)
    write(file := started(tmp_path / "out"), 0)
    killed(file)
    assert done(tmp_path / "out") == [0]


# Kills, and power failures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moments", [0, 100])
def test_row_45_killed_at_every_step_and_at_random_moments(tmp_path: Path, moments: int) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.partial_kills", str(tmp_path), str(moments)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    kills = int(run.stdout.split()[0])
    assert kills == moments if moments else kills > 200


class Disk:
    """What would be on the disk if the power failed now: what fdatasync was called for, and any part of the rest."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._patch = patch
        self._synced: dict[int, bytes] = {}
        self._boots = 0
        self._start_anew()
        patch.setattr(libc, "fdatasync", self._fdatasync)

    def _fdatasync(self, fd: int) -> None:
        self._synced[os.fstat(fd).st_ino] = os.pread(fd, MIB, 0)

    def _start_anew(self) -> None:
        self._boots += 1
        self._patch.setattr(lock, "boot", lambda boots=self._boots: f"boot {boots}")

    def power_failure(self, chance: random.Random) -> None:
        for path in self._folder.iterdir():
            now = path.read_bytes()
            synced = self._synced.get(path.stat().st_ino, b"").ljust(len(now), b"\0")
            # Page by page the disk has the old bytes or the new ones, whatever the order of the writes was.
            page = 500
            path.write_bytes(
                b"".join(chance.choice((now, synced))[start : start + page] for start in range(0, len(now), page))
            )
            # A machine takes its time to start.
            aged(path)
        self._start_anew()


BLOCKS = st.lists(st.integers(0, 7), max_size=4)
ENDS = st.sampled_from(["kill", "suspend", "power failure"])
# Blocks, whether there is a checkpoint, more blocks, the end, and whether the run waits for the disk.
RUNS = st.lists(st.tuples(BLOCKS, st.booleans(), BLOCKS, ENDS, st.booleans()), max_size=4)


@given(RUNS, st.integers(0, 2**32))
@settings(max_examples=60)
def test_nothing_is_claimed_that_is_not_there(
    runs: list[tuple[list[int], bool, list[int], str, bool]], seed: int
) -> None:
    """And what a checkpoint has secured is there after a power failure, what was written after a kill."""
    chance = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        patch.setattr(partial, "JOURNALED_FROM_BYTES", 1)
        patch.setattr(recorder, "RECORD_BYTES", BLOCK)
        disk = Disk(Path(name), patch)
        path = Path(name) / "out"
        # What is in the file, and what of it is on the disk for certain.
        expected, secured = set[int](), set[int]()
        file = started(path)
        for first, checkpoint, second, end, fsync in runs:
            killed(file)
            file = started(path, fsync=fsync)
            write(file, *first)
            expected.update(first)
            if checkpoint:
                file.checkpoint()
                secured = set(expected) if fsync else secured
            write(file, *second)
            expected.update(second)
            if end == "suspend":
                file.suspend()
                secured = set(expected) if fsync else secured
            else:
                killed(file)
            # Suspended, it may be another day that the power fails.
            if end == "power failure" or (end == "suspend" and chance.random() < 0.5):
                disk.power_failure(chance)
                expected = set(secured)
            assert set(done(path)) == expected
            file = started(path)
        finish(file)
        assert path.read_bytes() == DATA
        assert names(Path(name)) == ["out"]


def journal_of(folder: Path) -> Path:
    return folder / ".out.getm-journal"


@pytest.mark.usefixtures("journaled")
@pytest.mark.parametrize("target", ["out", "x" * 240])
def test_what_an_unreadable_journal_may_have_named_is_removed(tmp_path: Path, target: str) -> None:
    """The power has failed before anything of the journal was on the disk. What is not ours stays."""
    file = started(tmp_path / target)
    write(file, 0)
    (journal,) = (path for path in tmp_path.iterdir() if path.name.endswith("journal"))
    (part,) = (path for path in tmp_path.iterdir() if path.name.endswith("part"))
    killed(file)
    journal.write_bytes(bytes(len(journal.read_bytes())))
    others = [tmp_path / part.name.replace(".getm-part", "0.getm-part"), tmp_path / part.name[1:]]
    linked = tmp_path / part.name.replace(part.name[-26:-10], "0123456789abcdef")
    for path in others:
        path.write_bytes(b"")
    linked.symlink_to(others[0].name)
    finish(started(tmp_path / target))
    assert names(tmp_path) == sorted([target, linked.name, *(path.name for path in others)])


@pytest.mark.skipif(sys.platform != "linux", reason="O_PATH")
def test_the_names_in_a_folder_that_may_not_be_listed(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with contextlib.closing(Folder(tmp_path)) as folder:
        assert folder.names() == ["a"]
        unlisted = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
        os.dup2(unlisted, folder.fd, inheritable=False)
        os.close(unlisted)
        assert folder.names() == []


@pytest.mark.usefixtures("journaled")
def test_row_46_tampered_journals_claim_nothing_wrong(tmp_path: Path) -> None:
    """Cut off anywhere, or with changed bits anywhere: an older record, or none, but never a wrong one."""
    file = started(tmp_path / "out")
    write(file, 1, 2)
    file.checkpoint()
    write(file, 4)
    killed(file)
    journal = journal_of(tmp_path).read_bytes()
    (part,) = (path for path in tmp_path.iterdir() if path.name.endswith("part"))
    content = part.read_bytes()
    chance = random.Random(4)
    text = [position for position, byte in enumerate(journal) if byte]
    found = set()
    for number in range(150):
        position = chance.choice(text)
        changed = bytearray(journal[:position] if number % 2 else journal)
        for _ in range(0 if number % 2 else 3):
            changed[chance.choice(text)] ^= chance.randrange(1, 256)
        for path in tmp_path.iterdir():
            path.unlink()
        part.write_bytes(content)
        journal_of(tmp_path).write_bytes(changed)
        journal_of(tmp_path).chmod(0o600)
        found.add(tuple(done(tmp_path / "out")))
    assert found <= {(), (1, 2), (1, 2, 4), (1,)} and {(), (1, 2)} <= found


@pytest.mark.usefixtures("journaled")
def test_row_46_data_that_does_not_fit_is_not_trusted(tmp_path: Path) -> None:
    def cut(part: Path) -> None:
        os.truncate(part, 3 * BLOCK)

    def grown(part: Path) -> None:
        os.truncate(part, SIZE + 1)

    def gone(part: Path) -> None:
        part.unlink()

    def linked(part: Path) -> None:
        part.rename(tmp_path / "elsewhere")
        part.symlink_to("elsewhere")

    def named_twice(part: Path) -> None:
        os.link(part, tmp_path / "elsewhere")

    def pipe(part: Path) -> None:
        part.unlink()
        os.mkfifo(part)

    for change in (cut, grown, gone, linked, named_twice, pipe):
        write(file := started(tmp_path / "out"), 0, 5)
        file.suspend()
        (part,) = (path for path in tmp_path.iterdir() if path.name.endswith("part"))
        change(part)
        assert saved(tmp_path / "out") is None
        assert names(tmp_path) == (["elsewhere"] if change in (linked, named_twice) else [])
        if change in (linked, named_twice):
            assert (tmp_path / "elsewhere").read_bytes()[:BLOCK] == DATA[:BLOCK]
            (tmp_path / "elsewhere").unlink()


# Others ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on some network file systems."""

    def refused(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)


@pytest.fixture(params=["locks", "no locks"])
def with_or_without_locks(request: pytest.FixtureRequest) -> None:
    if request.param == "no locks":
        request.getfixturevalue("no_locks")


@pytest.mark.usefixtures("journaled", "with_or_without_locks")
def test_row_43_two_on_one_target_do_not_mix(tmp_path: Path) -> None:
    first = started(tmp_path / "out")
    write(first, 0, 1)
    second = started(tmp_path / "out")
    assert first.exclusive and not second.exclusive
    other = bytes(SIZE)
    write(second, *range(8), data=other)
    commit(second)
    assert (tmp_path / "out").read_bytes() == other
    finish(first)
    assert (tmp_path / "out").read_bytes() == DATA
    assert names(tmp_path) == ["out"]


@pytest.mark.usefixtures("journaled", "with_or_without_locks")
def test_two_that_begin_at_once(tmp_path: Path) -> None:
    first, second = (open_partial(tmp_path / "out", resume=True) for _ in range(2))
    assert first.exclusive and second.exclusive
    for file in (first, second):
        file.begin(version())
    assert first.exclusive and not second.exclusive
    second.discard()
    write(first, 3)
    first.suspend()
    assert done(tmp_path / "out") == [3]


@pytest.mark.usefixtures("journaled", "with_or_without_locks")
def test_what_is_suspended_is_for_the_next(tmp_path: Path) -> None:
    """Also where the owner still runs, as this process does."""
    write(file := started(tmp_path / "out"), 2)
    file.suspend()
    second = started(tmp_path / "out")
    assert second.exclusive and second.missing() == (Span(0, 2 * BLOCK), Span(3 * BLOCK, SIZE))
    second.discard()
    assert names(tmp_path) == []


@pytest.mark.usefixtures("journaled")
def test_what_is_suspended_is_for_the_next_while_a_program_is_being_started(tmp_path: Path) -> None:
    """Between fork and exec it holds what this process had open: the same open file, and so the same lock."""
    write(file := started(tmp_path / "out"), 2)
    assert file._recorder is not None
    inherited = os.dup(file._recorder.journal.fd)
    try:
        file.suspend()
        second = started(tmp_path / "out")
        assert second.exclusive and second.missing() == (Span(0, 2 * BLOCK), Span(3 * BLOCK, SIZE))
        second.discard()
    finally:
        os.close(inherited)
    assert names(tmp_path) == []


OTHER_PROCESS = """
import sys
from pathlib import Path
from getm.files import partial, recorder
from getm.files.partial import open_partial
from tests.unit.files.test_partial import started, write
partial.JOURNALED_FROM_BYTES = recorder.RECORD_BYTES = 1
file = started(Path(sys.argv[1]))
write(file, 6)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("locks", [True, False])
@pytest.mark.usefixtures("journaled")
def test_row_43_another_process_at_work_and_then_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    if not locks:
        monkeypatch.setattr(fcntl, "flock", functools.partial(fail, errno.ENOLCK))
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, str(tmp_path / "out")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with open_partial(tmp_path / "out", resume=True) as file:
            assert not file.exclusive and file.saved is None
        process.kill()
        # Not waited for yet: a zombie holds no lock any more.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        if not locks:
            assert done(tmp_path / "out") == []
            aged(journal_of(tmp_path))
        assert done(tmp_path / "out") == [6]


def fail(number: int, *arguments: object, **keywords: object) -> None:
    raise OSError(number, os.strerror(number))


def aged(path: Path) -> None:
    """As if nothing had been written to it for long."""
    os.utime(path, (1e9, 1e9))


@pytest.mark.usefixtures("journaled")
@pytest.mark.parametrize("locks", [True, False])
def test_another_machine_is_believed_to_be_at_work_and_then_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    """And if it is alive after all, it cannot do any harm: both write the same bytes of the same version."""
    if not locks:
        monkeypatch.setattr(fcntl, "flock", functools.partial(fail, errno.ENOLCK))
    with pytest.MonkeyPatch.context() as patch:
        # A lock that its own machine knows of only.
        patch.setattr(fcntl, "flock", (lambda fd, operation: None) if locks else fcntl.flock)
        patch.setattr(lock, "boot", lambda: "other")
        zombie = started(tmp_path / "out")
        write(zombie, 0, 1)
        zombie.checkpoint()
        write(zombie, 2)
    apart = started(tmp_path / "out")
    assert not apart.exclusive
    apart.discard()
    aged(journal_of(tmp_path))
    mine = started(tmp_path / "out")
    # Block 2 was only written, and by a kernel that is not this one.
    assert mine.exclusive and mine.missing() == (Span(2 * BLOCK, SIZE),)
    write(zombie, *range(2, 8))
    write(mine, *range(2, 8))
    commit(zombie)
    assert (tmp_path / "out").read_bytes() == DATA
    with pytest.raises(TargetError, match="finished it"):
        commit(mine)
    mine.discard()
    assert (tmp_path / "out").read_bytes() == DATA
    assert names(tmp_path) == ["out"]


@pytest.mark.usefixtures("journaled", "no_locks")
def test_another_machine_that_comes_back_finds_another_version(tmp_path: Path) -> None:
    """A file holds bytes of one version only: what it goes on writing goes nowhere."""
    other = random.Random(2).randbytes(SIZE)
    zombie = started(tmp_path / "out")
    write(zombie, 0, 1)
    aged(journal_of(tmp_path))
    mine = started(tmp_path / "out", tag='"two"')
    write(mine, *range(4), data=other)
    write(zombie, *range(2, 8))
    zombie.checkpoint()
    with pytest.raises(TargetError, match="is gone"):
        commit(zombie)
    zombie.discard()
    finish(mine, other)
    assert (tmp_path / "out").read_bytes() == other
    assert names(tmp_path) == ["out"]


@pytest.mark.usefixtures("journaled")
def test_a_journal_that_cannot_be_read_is_busy_only_without_locks_and_while_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may be just about to write its first record."""
    journal_of(tmp_path).write_bytes(b"not a journal")
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", functools.partial(fail, errno.ENOSYS))
        with open_partial(tmp_path / "out", resume=True) as file:
            assert not file.exclusive
        os.utime(journal_of(tmp_path), (1e9, 1e9))
        with open_partial(tmp_path / "out", resume=True) as file:
            assert file.exclusive
    assert names(tmp_path) == []
    journal_of(tmp_path).write_bytes(b"not a journal")
    with open_partial(tmp_path / "out", resume=True) as file:
        assert file.exclusive
    assert names(tmp_path) == []


def plant_link(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def plant_hard_link(path: Path, outside: Path) -> None:
    path.hardlink_to(outside)


def plant_pipe(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def plant_folder(path: Path, outside: Path) -> None:
    path.mkdir()


def plant_another_users_file(path: Path, outside: Path) -> None:
    path.write_bytes(b"theirs")
    try:
        os.chown(path, 12345, -1)
    except PermissionError:
        pytest.skip("needs root to give a file away")


@pytest.mark.usefixtures("journaled")
@pytest.mark.parametrize("plant", [plant_link, plant_hard_link, plant_pipe, plant_folder, plant_another_users_file])
def test_row_41_what_is_planted_at_the_journals_name_is_left_alone(
    tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    (tmp_path / "outside").write_bytes(b"precious")
    (tmp_path / "folder").mkdir()
    plant(journal_of(tmp_path / "folder"), tmp_path / "outside")
    file = started(tmp_path / "folder" / "out")
    assert not file.exclusive
    finish(file)
    assert (tmp_path / "folder" / "out").read_bytes() == DATA
    assert names(tmp_path / "folder") == [".out.getm-journal", "out"]
    assert (tmp_path / "outside").read_bytes() == b"precious"


FORKED = """
import os, sys
from pathlib import Path
from getm.files import partial, recorder
from getm.files.partial import open_partial
from getm.errors import TargetError
from tests.unit.files.test_partial import commit, finish, killed, started, version, write
partial.JOURNALED_FROM_BYTES = recorder.RECORD_BYTES = 1
target = Path(sys.argv[1])
file = started(target)
write(file, 0)
waiting, end = os.pipe()
if not (lingering := os.fork()):
    os.close(end)
    os.read(waiting, 1)
    os._exit(0)
if not (acting := os.fork()):
    refused = 0
    for act in (lambda: write(file, 1), file.checkpoint, lambda: commit(file), lambda: file.begin(version())):
        try:
            act()
        except TargetError as error:
            refused += "forked" in str(error)
    file.suspend()
    file.discard()
    os._exit(refused)
print(os.waitstatus_to_exitcode(os.waitpid(acting, 0)[1]))
write(file, 2)
killed(file)
# One child still lives, and must not hold the lock.
file = started(target)
print(file.exclusive, [(span.start, span.stop) for span in file.missing()])
finish(file)
os.close(end)
os.waitpid(lingering, 0)
"""


def test_a_forked_child_writes_nothing_and_holds_nothing(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FORKED, str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines() == ["4", "True [(1000, 2000), (3000, 8000)]"]
    assert (tmp_path / "out").read_bytes() == DATA
    assert names(tmp_path) == ["out"]


# Disks that are full or fail ------------------------------------------------------------------------------------------


def test_row_44_a_full_disk_is_told_at_the_start(small_disk: Path) -> None:
    with pytest.raises(TargetError, match=r"No space left.*free some space"):
        started(small_disk / "out", 8 * MIB)
    assert names(small_disk) == []
    finish(started(small_disk / "out", 2 * MIB), bytes(2 * MIB))
    assert names(small_disk) == ["out"]


def test_row_44_a_disk_that_fills_up_meanwhile(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where space cannot be reserved. What was written is kept, and the rest comes when there is space again."""
    data = random.Random(5).randbytes(3 * MIB)
    monkeypatch.setattr(libc, "fallocate", functools.partial(fail, errno.EOPNOTSUPP))
    (small_disk / "out").write_bytes(b"old")
    (small_disk / "greedy").write_bytes(bytes(MIB // 2))
    file = started(small_disk / "out", len(data))
    put(file, 2 * MIB, memoryview(data)[2 * MIB :])
    with pytest.raises(TargetError, match="No space left"):
        (small_disk / "greedier").write_bytes(bytes(MIB))
        put(file, 0, memoryview(data)[: 2 * MIB])
    file.suspend()
    assert (small_disk / "out").read_bytes() == b"old"
    # The next run sees at once that it cannot be finished, and loses nothing.
    with pytest.raises(TargetError, match="No space left"):
        started(small_disk / "out", len(data))
    for name in ("greedy", "greedier"):
        (small_disk / name).unlink()
    file = started(small_disk / "out", len(data))
    assert file.missing() == (Span(0, 2 * MIB),)
    finish(file, data)
    assert (small_disk / "out").read_bytes() == data
    assert names(small_disk) == ["out"]


def test_row_44_a_short_write_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:7], offset))
    write(file := started(tmp_path / "out", BLOCK), 0)
    commit(file)
    assert (tmp_path / "out").read_bytes() == DATA[:BLOCK]


@pytest.mark.usefixtures("journaled")
@pytest.mark.parametrize("number", [errno.EIO, errno.EDQUOT, errno.EROFS, errno.ENOSPC])
def test_what_the_disk_could_not_take_is_missing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """After such an error the kernel may have dropped pages that it has not written (fsync(2))."""
    write(file := started(tmp_path / "out"), 0)
    file.checkpoint()
    write(file, 1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(libc, "fdatasync", functools.partial(fail, number))
        with pytest.raises(TargetError):
            file.checkpoint()
        assert file.missing() == (Span(BLOCK, SIZE),)
        killed(file)
    assert done(tmp_path / "out") == [0]
    finish(started(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == DATA


@pytest.mark.usefixtures("journaled")
def test_an_error_after_the_writer_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(file := started(tmp_path / "out"), 0)
    file.checkpoint()
    write(file, 1, 2)
    killed(file)
    real = libc.fdatasync
    calls: list[int] = []

    def first_fails(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 1:
            fail(errno.EIO)
        real(fd)

    monkeypatch.setattr(libc, "fdatasync", first_fails)
    file = started(tmp_path / "out")
    with pytest.raises(TargetError):
        file.checkpoint()
    assert file.missing() == (Span(BLOCK, SIZE),)
    file.discard()


@pytest.mark.usefixtures("journaled")
def test_a_commit_that_fails_keeps_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(file := started(tmp_path / "out"), *range(8))
    (tmp_path / "out").mkdir()
    with pytest.raises(TargetError, match="choose"):
        commit(file)
    file.suspend()
    (tmp_path / "out").rmdir()
    file = started(tmp_path / "out")
    assert file.missing() == ()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", functools.partial(fail, errno.EIO))
        with pytest.raises(TargetError, match="Input/output"):
            commit(file)
        assert names(tmp_path) != ["out"]
    # Taking it over had brought it onto the disk.
    assert file.missing() == ()
    commit(file)
    assert (tmp_path / "out").read_bytes() == DATA
    assert names(tmp_path) == ["out"]


@pytest.mark.usefixtures("journaled")
@pytest.mark.parametrize("if_range", [TAG, None])
def test_suspending_on_a_failing_disk_raises_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, if_range: str | None
) -> None:
    file = open_partial(tmp_path / "out", resume=True)
    file.begin(Version(SIZE, None, None, if_range))
    write(file, 0)
    with monkeypatch.context() as patch:
        for module, name in ((libc, "fdatasync"), (os, "pwrite"), (os, "unlink")):
            patch.setattr(module, name, functools.partial(fail, errno.EIO))
        file.suspend()
    file.discard()
    assert file.fileno() == -1


def test_nothing_to_commit(tmp_path: Path) -> None:
    with open_partial(tmp_path / "out", resume=True) as file, pytest.raises(ValueError):
        commit(file)
    write(file := started(tmp_path / "out", BLOCK), 0)
    commit(file)
    with pytest.raises(ValueError):
        commit(file)


@pytest.mark.parametrize("known", [True, False])
def test_the_disk_is_given_a_head_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    monkeypatch.setattr(partial, "JOURNALED_FROM_BYTES", 1)
    monkeypatch.setattr(partial, "_START_BYTES", 3 * BLOCK)
    calls: list[int] = []
    real = libc.start_writing_out

    def counted(fd: int) -> None:
        calls.append(fd)
        if known:
            real(fd)
        else:
            fail(errno.ENOSYS)

    monkeypatch.setattr(libc, "start_writing_out", counted)
    write(file := started(tmp_path / "out"), *range(8))
    assert calls == [file.fileno()] * 2
    commit(file)
    assert (tmp_path / "out").read_bytes() == DATA


# Without waiting for the disk -----------------------------------------------------------------------------------------


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the system calls that write something to the disk, as they are made."""
    calls: list[str] = []

    def counted(name: str, _fd: int) -> None:
        calls.append(name)

    for module, name in ((os, "fsync"), (libc, "fdatasync"), (libc, "syncfs"), (libc, "start_writing_out")):
        monkeypatch.setattr(module, name, functools.partial(counted, name))
    return calls


@pytest.mark.usefixtures("journaled")
@pytest.mark.parametrize("fsync", [True, False])
def test_only_with_fsync_anything_is_brought_onto_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syncs: list[str], fsync: bool
) -> None:
    monkeypatch.setattr(recorder, "CHECKPOINT_BYTES", BLOCK)
    monkeypatch.setattr(partial, "_START_BYTES", BLOCK)
    file = started(tmp_path / "out", fsync=fsync)
    write(file, 0, 1)
    assert file.checkpoint_due is fsync
    file.checkpoint()
    write(file, 2)
    file.suspend()
    assert done(tmp_path / "out") == [0, 1, 2]
    finish(file := started(tmp_path / "out", fsync=fsync))
    assert (tmp_path / "out").read_bytes() == DATA and names(tmp_path) == ["out"]
    # The syncfs is for many files.
    assert set(syncs) == ({"fsync", "fdatasync", "start_writing_out"} if fsync else set())


def test_without_fsync_many_are_only_renamed(tmp_path: Path, syncs: list[str]) -> None:
    """Also those beside others that are brought onto the disk."""
    for fsync in (False, True):
        for number in range(20):
            (tmp_path / str(number)).write_bytes(b"old")
        with contextlib.closing(Folder(tmp_path)) as folder:
            files = []
            for number in range(20):
                file = open_partial(tmp_path / str(number), resume=True, folder=folder, fsync=fsync and number == 7)
                file.begin(Version(BLOCK))
                write(file, 0)
                files.append((file, None))
            assert all_steps(commit_files(files)) == [None] * 20
        assert syncs == (["fsync", "fsync"] if fsync else [])
        assert all((tmp_path / str(number)).read_bytes() == DATA[:BLOCK] for number in range(20))
        assert len(names(tmp_path)) == 20


@pytest.mark.usefixtures("journaled")
@pytest.mark.parametrize("stop", [PartialFile.suspend, killed])
def test_without_fsync_only_what_was_paid_for_counts_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: Callable[[PartialFile], None]
) -> None:
    path = tmp_path / "out"
    write(file := started(path), 1)
    file.suspend()
    write(file := started(path, fsync=False), 5)
    stop(file)
    assert done(path) == [1, 5]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock, "boot", lambda: "another one")
        for each in tmp_path.iterdir():
            aged(each)
        assert done(path) == [1]


# Many at once ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syncfs", ["works", "is missing", "fails"])
def test_many_are_committed_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syncfs: str) -> None:
    calls: list[str] = []
    fsync = os.fsync

    def counted_fsync(fd: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        fsync(fd)

    def counted_syncfs(fd: int) -> None:
        calls.append("syncfs")
        if syncfs != "works":
            fail(errno.ENOSYS if syncfs == "is missing" else errno.EIO)

    monkeypatch.setattr(os, "fsync", counted_fsync)
    monkeypatch.setattr(libc, "syncfs", counted_syncfs)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with contextlib.closing(Folder(tmp_path / "a")) as first, contextlib.closing(Folder(tmp_path / "b")) as second:
        files = []
        for number in range(20):
            folder = second if number % 4 == 0 else first
            file = open_partial(folder.path / str(number), resume=True, folder=folder)
            file.begin(Version(BLOCK))
            write(file, 0)
            files.append((file, 1e9 + number))
        # One that fails keeps no other back.
        (tmp_path / "a" / "7").mkdir()
        files[8][0].discard()
        incomplete = open_partial(tmp_path / "a" / "incomplete", resume=True, folder=first)
        incomplete.begin(Version(BLOCK))
        files[8] = (incomplete, 1.0)
        errors = all_steps(commit_files(files))
        for file, _ in files:
            file.discard()
    assert [number for number, error in enumerate(errors) if error is not None] == [7, 8]
    assert "not complete" in str(errors[8])
    assert calls.count("folder") == 2 and calls.count("syncfs") == 1
    assert calls.count("file") == (0 if syncfs == "works" else 19)
    for number in set(range(20)) - {7, 8}:
        path = tmp_path / ("b" if number % 4 == 0 else "a") / str(number)
        assert path.read_bytes() == DATA[:BLOCK] and path.stat().st_mtime == 1e9 + number
    assert all(not name.startswith(".") for folder in "ab" for name in names(tmp_path / folder))


@pytest.mark.usefixtures("journaled")
def test_few_are_brought_onto_the_disk_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libc, "syncfs", functools.partial(fail, errno.EIO))
    files = [started(tmp_path / name) for name in "abc"]
    for file in files:
        write(file, *range(8))
    assert all_steps(commit_files([(file, None) for file in files])) == [None, None, None]
    assert names(tmp_path) == ["a", "b", "c"]


def test_a_folder_that_cannot_be_brought_onto_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(file := started(tmp_path / "out", BLOCK), 0)
    fsync = os.fsync

    def refused(number: int, fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            fail(number)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", functools.partial(refused, errno.EIO))
    with pytest.raises(TargetError):
        commit(file)
    # It is in place, but perhaps not for ever.
    assert names(tmp_path) == ["out"]
    write(file := started(tmp_path / "out", BLOCK), 0)
    monkeypatch.setattr(os, "fsync", functools.partial(refused, errno.EINVAL))
    commit(file)
    assert names(tmp_path) == ["out"]
