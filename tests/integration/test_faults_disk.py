"""What becomes of files when servers, disks and other processes do the wrong thing: rows of the fault list, through
whole downloads."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import os
import random
import stat
import subprocess
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

import getm
from getm import errors
from getm.files import libc
from getm.files.journal import JOURNAL_BYTES
from getm.testing import FaultServer, Reply, Request, failure
from tests.support.command import getm as command
from tests.support.command import names, started
from tests.support.engines import engines

MIB = 1024 * 1024
BODY = random.Random(40).randbytes(20 * MIB + 5)
OTHER = random.Random(41).randbytes(20 * MIB + 5)
SMALL = BODY[:100_000]

each_mode = pytest.mark.parametrize("concurrency", (1, 3, None))


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=0)


def visible(folder: Path) -> list[str]:
    return [name for name in names(folder) if not name.startswith(".")]


def asked(requests: list[Request]) -> list[str | None]:
    return [request.header("Range") for request in requests]


def interrupted(session: getm.Session, server: FaultServer, target: Path, *, body: bytes = BODY) -> str:
    """A download that broke off after 3 MiB and left a partial file. Returns its URL."""
    url = server.serve("/x", Reply(body=body, cut_at=3 * MIB))
    with pytest.raises(errors.Truncated):
        session.download(url, target)
    assert visible(target.parent) == []
    assert len(names(target.parent)) == 2
    return url


# Rows 7, 9, 22: what a later run makes of a partial file -----------------------------------------------------------


def unsatisfiable(body: bytes) -> Reply:
    return Reply(body=body, status=416, headers={"Content-Range": f"bytes */{len(body)}"})


def test_row_7_a_416_with_a_smaller_size_restarts_once(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = interrupted(session, fault_server, tmp_path / "out")
    fault_server.serve("/x", unsatisfiable(OTHER[: 2 * MIB]), Reply(body=OTHER[: 2 * MIB], etag='"v2"'))
    assert session.download(url, tmp_path / "out").path.read_bytes() == OTHER[: 2 * MIB]
    assert asked(fault_server.requests) == [None, f"bytes={3 * MIB}-{len(BODY) - 1}", None]
    assert names(tmp_path) == ["out"]


def test_row_7_a_416_for_ever_is_an_error(session: getm.Session, fault_server: FaultServer, tmp_path: Path) -> None:
    url = interrupted(session, fault_server, tmp_path / "out")
    fault_server.serve("/x", unsatisfiable(OTHER[: 2 * MIB]))
    with pytest.raises(errors.NetworkError, match="416"):
        session.download(url, tmp_path / "out")
    assert len(fault_server.requests) == 3
    assert visible(tmp_path) == []


@pytest.mark.parametrize("concurrency", (1, None))
def test_row_10_a_412_midway(concurrency: int | None, fault_server: FaultServer, tmp_path: Path) -> None:
    gate = fault_server.gate()
    refused = dataclasses.replace(failure(412), hold=gate)
    replies = (Reply(body=BODY, cut_at=3 * MIB), refused, Reply(body=OTHER, etag='"v2"'))
    url = fault_server.serve("/x", *replies)
    with getm.Session(retries=1) as session:
        with session.urlopen(url, concurrency=concurrency) as fh, pytest.raises(errors.RemoteChanged):
            assert fh.read(1) == BODY[:1]
            gate.open()
            fh.read()
        fault_server.serve("/x", *replies)
        result = session.download(url, tmp_path / "out", concurrency=concurrency)
    assert result.path.read_bytes() == OTHER
    assert result.stats.retries["changed"] == 1
    assert [request.header("If-Range") for request in fault_server.requests] == [None, '"v1"', None, '"v1"', None]


@each_mode
@pytest.mark.parametrize(
    ("etag", "last_modified"), [('W/"v1"', None), (None, None)], ids=("weak validator", "no validator")
)
def test_row_9_without_a_strong_validator_a_later_run_restarts(
    etag: str | None,
    last_modified: str | None,
    concurrency: int | None,
    session: getm.Session,
    fault_server: FaultServer,
    tmp_path: Path,
) -> None:
    def reply(cut_at: int | None) -> Reply:
        return Reply(body=BODY, etag=etag, last_modified=last_modified, cut_at=cut_at)

    url = fault_server.serve("/x", reply(3 * MIB))
    with pytest.raises(errors.Truncated):
        session.download(url, tmp_path / "out", concurrency=concurrency)
    assert names(tmp_path) == []
    fault_server.serve("/x", reply(None))
    session.download(url, tmp_path / "out", concurrency=concurrency)
    assert (tmp_path / "out").read_bytes() == BODY
    assert not any(request.header("If-Range") for request in fault_server.requests)


@each_mode
def test_row_22_what_came_before_a_url_expired_is_kept_for_the_next_url(
    concurrency: int | None, fault_server: FaultServer, tmp_path: Path
) -> None:
    """Another URL, of the same version: its validator and size say so."""

    def expiring() -> Iterator[Reply]:
        # Every part meets it: those under way are cut, and nothing is given any more.
        yield from itertools.repeat(Reply(body=BODY, cut_at=3 * MIB), 3 if concurrency == 3 else 1)
        yield from itertools.repeat(failure(403))

    replies = expiring()
    first = fault_server.serve("/first", lambda request: next(replies)) + "?X-Amz-Signature=SECRET1"
    second = fault_server.serve("/second", Reply(body=BODY)) + "?X-Amz-Signature=SECRET2"
    with getm.Session(retries=2) as session:
        with pytest.raises(errors.URLExpired, match="expired"):
            session.download(first, tmp_path / "out", concurrency=concurrency)
        before = len(fault_server.requests)
        assert len(names(tmp_path)) == 2 and visible(tmp_path) == []
        for path in tmp_path.iterdir():
            assert "SECRET" not in path.name
            assert path.name.endswith("part") or b"SECRET" not in path.read_bytes()
        result = session.download(second, tmp_path / "out", concurrency=concurrency)
    assert result.path.read_bytes() == BODY
    assert names(tmp_path) == ["out"]
    again = fault_server.requests[before:]
    assert {request.header("If-Range") for request in again} == {'"v1"'}
    for request in again:
        request.wait_ended()
    assert sum(request.sent_bytes for request in again) <= len(BODY) - 2 * MIB


# Rows 40 and 41: names and links -------------------------------------------------------------------------------------

EVIL = {
    "parent": "../../evil",
    "encoded parent": "..%2f..%2fevil",
    "twice encoded": "%252e%252e%252fevil",
    "drive": "C:\\Windows\\evil.exe",
    "drive alone": "C:\\",
    "NUL": "evil%00.txt",
    "CR and LF": "evil%0d%0aSet-Cookie: a=b",
    "300 bytes": "e" * 300 + ".bam",
    "right to left": "evil%e2%80%aetxt.exe",
    "leading dot": ".bashrc",
    "leading dash": "-rf",
    "all dots": "..",
    "absolute": "/etc/evil",
    "home": "~root",
}


@pytest.mark.parametrize("name", ["chr1:1-9.bam", "HLA-A*02", "e\u0301.txt"])
@pytest.mark.parametrize("source", ("URL", "filename*"))
def test_a_name_that_is_harmless_here_stays(
    source: str, name: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    disposition = None if source == "URL" else f"attachment; filename*=UTF-8''{quote(name)}"
    path = f"/{quote(name)}" if source == "URL" else "/x"
    url = fault_server.serve(path, Reply(body=SMALL, headers={"Content-Disposition": disposition}))
    result = session.download(url, tmp_path)
    assert names(tmp_path) == [name] and result.path.name == name
    assert result.suggested_name is None


def test_a_name_that_was_changed_is_told_in_the_result_and_the_log(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Content-Disposition": 'attachment; filename="../.bashrc"'}
    url = fault_server.serve("/x", Reply(body=SMALL, headers=headers))
    with caplog.at_level("WARNING", "getm"):
        result = session.download(url, tmp_path)
    assert result.path == tmp_path / "_bashrc" and result.suggested_name == "../.bashrc"
    (record,) = (record for record in caplog.records if "_bashrc" in record.getMessage())
    assert "'../.bashrc'" in record.getMessage()


@pytest.mark.parametrize("source", ("URL", "filename", "filename*"))
@pytest.mark.parametrize("kind", EVIL)
def test_row_40_a_name_that_a_server_chose_is_harmless(
    kind: str, source: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """Whatever name comes: one file, in the folder that was given, with nothing in its name that harms."""
    evil, inner = EVIL[kind], tmp_path / "one" / "two"
    inner.mkdir(parents=True)
    path = f"/{quote(evil, safe='%')}" if source == "URL" else "/object"
    disposition = {
        "URL": None,
        "filename": f'attachment; filename="{evil}"',
        "filename*": f"attachment; filename*=UTF-8''{quote(evil, safe='%')}",
    }[source]
    url = fault_server.serve(path, Reply(body=SMALL, headers={"Content-Disposition": disposition}))
    result = session.download(url, inner)
    (written,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written == result.path and written.parent == inner
    assert written.read_bytes() == SMALL
    name = written.name
    assert name[0] not in ".-~" and len(name.encode()) <= 255
    assert not set(name) & set("/\\") and not {unicodedata.category(c) for c in name} & {"Cc", "Cf", "Zl", "Zp"}


@pytest.mark.parametrize(("name", "words"), [("a\0b", "NUL"), ("a\ud800b", "surrogates"), ("e" * 300, "shorter name")])
def test_row_40_a_name_of_the_callers_that_cannot_be_is_an_error(
    name: str, words: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", Reply(body=SMALL))
    with pytest.raises((errors.InvalidInput, errors.TargetError), match=words):
        session.download(url, f"{tmp_path}/{name}")
    assert names(tmp_path) == []


@each_mode
def test_row_41_a_link_that_the_user_names_is_followed_and_its_target_replaced(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """By a rename beside it: nobody ever sees half of it. Links to links, and one that leads nowhere yet."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "file").write_bytes(b"old")
    (outside / "middle").symlink_to("file")
    (inside / "out").symlink_to(outside / "middle")
    (inside / "new").symlink_to(outside / "absent")
    url = fault_server.serve("/x", Reply(body=BODY))
    result = session.download(url, inside / "out", concurrency=concurrency)
    assert result.path == outside / "file" and result.path.read_bytes() == BODY
    assert (inside / "out").is_symlink() and (outside / "middle").is_symlink()
    session.download(url, inside / "new", concurrency=concurrency)
    assert (inside / "new").is_symlink() and (outside / "absent").read_bytes() == BODY
    assert names(inside) == ["new", "out"] and names(outside) == ["absent", "file", "middle"]


def test_row_41_a_link_that_the_command_names_is_followed(fault_server: FaultServer, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"old")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "out").symlink_to(tmp_path / "outside")
    url = fault_server.serve("/x", Reply(body=SMALL))
    run = command(url, "out", cwd=tmp_path / "inside")
    assert (run.returncode, run.stderr) == (0, b"")
    assert (tmp_path / "inside" / "out").is_symlink() and (tmp_path / "outside").read_bytes() == SMALL


@pytest.mark.parametrize("source", ("list", "URL", "server"))
def test_row_41_a_link_that_a_list_or_a_server_names_is_replaced(
    source: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.write_bytes(b"precious")
    inside.mkdir()
    target = inside / "out"
    target.symlink_to(outside)
    named = {"Content-Disposition": "filename=out"} if source == "server" else {}
    url = fault_server.serve("/out" if source != "list" else "/x", Reply(body=SMALL, headers=named))
    if source == "list":
        list(session.download_all([getm.Entry(url, "out")], directory=inside))
    else:
        session.download(url, inside)
    assert not target.is_symlink() and target.read_bytes() == SMALL
    assert outside.read_bytes() == b"precious"


@pytest.mark.parametrize("way", ("download", "download_all"))
def test_a_file_that_is_replaced_keeps_its_mode(
    way: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", Reply(body=SMALL))
    large = fault_server.serve("/large", Reply(body=BODY))
    for mode in (0o600, 0o755, 0o444):
        for name, source in (("small", url), ("large", large)):
            (tmp_path / name).write_bytes(b"old")
            (tmp_path / name).chmod(mode)
            if way == "download":
                session.download(source, tmp_path / name)
            else:
                list(session.download_all([getm.Entry(source, name)], directory=tmp_path))
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode
            assert (tmp_path / name).stat().st_size == len(SMALL if name == "small" else BODY)


def test_row_41_a_link_at_a_hidden_name_is_not_followed(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """Planted at the journal's name before the download, and at the partial file's between two runs."""
    (tmp_path / "outside").write_bytes(b"precious" * 1000)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / ".out.getm-journal").symlink_to(tmp_path / "outside")
    url = fault_server.serve("/x", Reply(body=BODY))
    assert session.download(url, inside / "out").path.read_bytes() == BODY
    (inside / ".out.getm-journal").unlink()
    (inside / "out").unlink()
    interrupted(session, fault_server, inside / "out")
    (part,) = inside.glob(".*part")
    part.unlink()
    part.symlink_to(tmp_path / "outside")
    fault_server.serve("/x", Reply(body=BODY))
    assert session.download(url, inside / "out").path.read_bytes() == BODY
    assert (tmp_path / "outside").read_bytes() == b"precious" * 1000


def test_row_41_a_folder_swapped_for_a_link_meanwhile(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
    gate = fault_server.gate()

    def swap(done: int, total: int | None) -> None:
        if not inside.is_symlink():
            inside.rename(tmp_path / "moved")
            inside.symlink_to(outside)
            gate.open()

    url = fault_server.serve("/x", Reply(body=BODY, stall_at=5 * MIB, gate=gate))
    session.download(url, inside / "out", on_progress=swap)
    assert names(outside) == []
    assert (tmp_path / "moved" / "out").read_bytes() == BODY


def test_row_41_a_link_that_leads_out_of_the_folder_of_a_batch(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
    (inside / "link").symlink_to(outside)
    url = fault_server.serve("/x", Reply(body=SMALL))
    with pytest.raises(errors.GetmError, match="link"):
        list(session.download_all([getm.Entry(url, "link/out")], directory=inside))
    assert names(outside) == []


# Row 43: two on one target -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first_ends", ("last", "first"))
def test_row_43_two_processes_on_one_target_do_not_mix(
    first_ends: str, fault_server: FaultServer, tmp_path: Path
) -> None:
    """Of two versions, so that a mixture would show. Whoever ends last has its file there, whole."""
    gates = [fault_server.gate(), fault_server.gate()]
    urls = [
        fault_server.serve(f"/{number}", Reply(body=body, etag=f'"{number}"', stall_at=5 * MIB, gate=gate))
        for number, (body, gate) in enumerate(zip((BODY, OTHER), gates, strict=True))
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(urls[0], "out", cwd=tmp_path, **pipes) as first:
        gates[0].wait_reached()
        with started(urls[1], "out", cwd=tmp_path, **pipes) as second:
            gates[1].wait_reached()
            order = [(gates[0], first, BODY), (gates[1], second, OTHER)]
            for gate, process, body in order if first_ends == "first" else reversed(order):
                gate.open()
                _, stderr = process.communicate()
                assert (process.returncode, stderr) == (0, b"")
                assert (tmp_path / "out").read_bytes() == body
    assert names(tmp_path) == ["out"]


# Row 44: disks that are full, that fail, that cannot be written ----------------------------------------------------


@each_mode
def test_row_44_a_full_disk_is_told_before_the_body_and_after_room_was_made_it_goes(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer, small_disk: Path
) -> None:
    body = BODY[: 3 * MIB]
    url = fault_server.serve("/x", Reply(body=body))
    (small_disk / "greedy").write_bytes(bytes(2 * MIB))
    with pytest.raises(errors.TargetError, match="No space left") as caught:
        session.download(url, small_disk / "out", concurrency=concurrency)
    assert caught.value.url == url
    assert visible(small_disk) == ["greedy"]
    (small_disk / "greedy").unlink()
    assert session.download(url, small_disk / "out", concurrency=concurrency).path.read_bytes() == body
    assert names(small_disk) == ["out"]


def refuse(number: int) -> Callable[..., None]:
    def call(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "No space left.*free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "look at the disk"),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
def test_row_44_a_disk_that_fails_midway_is_an_error_and_the_rest_comes_later(
    number: int,
    words: str,
    session: getm.Session,
    fault_server: FaultServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where space could not be reserved. Each write is a short one on top of it. In a thread, whose disk a test can
    spoil."""
    concurrency = None
    url = fault_server.serve("/x", Reply(body=BODY))
    pwrite, written = os.pwrite, 0

    def failing(fd: int, data: memoryview, offset: int) -> int:
        nonlocal written
        if written > 5 * MIB and len(data) > JOURNAL_BYTES:
            refuse(number)()
        count = pwrite(fd, data[:100_001], offset)
        written += count
        return count

    with monkeypatch.context() as patch:
        patch.setattr(libc, "fallocate", refuse(errno.EOPNOTSUPP))
        patch.setattr(os, "pwrite", failing)
        with pytest.raises(errors.TargetError, match=words):
            session.download(url, tmp_path / "out", concurrency=concurrency)
    assert visible(tmp_path) == []
    # No race for slow parts: on a busy machine it fetches bytes twice.
    unhurried = getm.Timeout(tail_s=None)
    # By another URL, as signed ones change: a request of the first download may reach the server only now.
    result = session.download(f"{url}?later", tmp_path / "out", concurrency=concurrency, timeout=unhurried)
    assert result.path.read_bytes() == BODY
    again = [request for request in fault_server.requests if request.target.endswith(b"?later")]
    for request in again:
        request.wait_ended()
    assert 0 < sum(request.sent_bytes for request in again) <= len(BODY) - 2 * MIB
    assert names(tmp_path) == ["out"]


def test_row_44_a_read_only_file_system(session: getm.Session, fault_server: FaultServer, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(errors.TargetError, match="choose a file system that is not read-only"):
        session.download(fault_server.serve("/x", Reply(body=SMALL)), small_disk / "out")


@each_mode
def test_row_44_a_disk_that_fills_up_midway_is_an_error_and_after_room_was_made_the_rest_comes(
    concurrency: int | None,
    session: getm.Session,
    fault_server: FaultServer,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body, gate = BODY[: 3 * MIB], fault_server.gate()
    url = fault_server.serve("/x", Reply(body=body, stall_at=2 * MIB - 7, gate=gate))
    greedy = small_disk / "greedy"

    def fill_up(done: int, total: int | None) -> None:
        if done >= MIB and not greedy.exists():
            with contextlib.suppress(OSError), greedy.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            gate.open()

    with monkeypatch.context() as patch:
        patch.setattr(libc, "fallocate", refuse(errno.EOPNOTSUPP))
        with pytest.raises(
            errors.TargetError, match=r"out cannot be written: No space left.*free some space"
        ) as caught:
            session.download(url, small_disk / "out", concurrency=concurrency, on_progress=fill_up)
    assert caught.value.errno == errno.ENOSPC and caught.value.path == str(small_disk / "out")
    assert visible(small_disk) == ["greedy"]
    greedy.unlink()
    session.download(f"{url}?later", small_disk / "out", concurrency=concurrency)
    assert (small_disk / "out").read_bytes() == body
    (again,) = [request for request in fault_server.requests if request.target.endswith(b"?later")]
    again.wait_ended()
    assert 0 < again.sent_bytes <= len(body) - MIB
    assert names(small_disk) == ["out"]


# Row 47: downloads carry on ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("concurrency", "processes"), [(1, 1), (3, 1), (3, 2)])
def test_row_47_a_download_carries_on_when_an_engine_is_killed(
    concurrency: int, processes: int, fault_server: FaultServer, tmp_path: Path
) -> None:
    gate = fault_server.gate()
    dead: list[psutil.Process] = []

    def script(request: Request) -> Reply:
        return Reply(body=BODY) if dead else Reply(body=BODY, stall_at=5 * MIB, gate=gate)

    def kill(done: int, total: int | None) -> None:
        if not dead:
            gate.wait_reached()
            dead.extend(engines())
            dead[-1].kill()
            gate.open()

    url = fault_server.serve("/x", script)
    with getm.Session(retries=0, processes=processes) as session:
        result = session.download(url, tmp_path / "out", concurrency=concurrency, on_progress=kill)
    assert len(dead) == processes
    assert result.path.read_bytes() == BODY
    assert names(tmp_path) == ["out"]


# Row 46: partial files that are not what they seem -------------------------------------------------------------------


@pytest.mark.parametrize("tampering", ("bits", "length", "garbage", "another's"))
def test_row_46_a_journal_that_was_tampered_with_claims_nothing(
    tampering: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """The file is right in the end, whatever was made of the journal."""
    chance = random.Random(tampering)
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        url = interrupted(session, fault_server, folder / "out", body=BODY[: 6 * MIB])
        journal = folder / ".out.getm-journal"
        data = bytearray(journal.read_bytes())
        if tampering == "bits":
            for _ in range(200):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        elif tampering == "length":
            del data[chance.randrange(len(data)) :]
        elif tampering == "garbage":
            data[:] = chance.randbytes(len(data))
        else:
            (folder / "elsewhere").mkdir()
            interrupted(session, fault_server, folder / "elsewhere" / "out", body=OTHER[: 6 * MIB])
            data[:] = (folder / "elsewhere" / ".out.getm-journal").read_bytes()
        journal.write_bytes(data)
        fault_server.serve("/x", Reply(body=BODY[: 6 * MIB]))
        session.download(url, folder / "out")
        assert (folder / "out").read_bytes() == BODY[: 6 * MIB]
        assert visible(folder) in (["out"], ["elsewhere", "out"])


@each_mode
def test_row_46_a_partial_file_of_another_object_is_not_gone_on_with(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """Another URL, whose object has the same size and another validator."""
    interrupted(session, fault_server, tmp_path / "out")
    url = fault_server.serve("/other", Reply(body=OTHER, etag='"other"'))
    session.download(url, tmp_path / "out", concurrency=concurrency)
    assert (tmp_path / "out").read_bytes() == OTHER
    assert names(tmp_path) == ["out"]
