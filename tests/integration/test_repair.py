"""`getm verify --receipt FILE --repair`: what is fetched, by the servers' logs; and that nothing gets worse by it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import getm
from getm import errors
from getm.testing import FaultServer, Reply, Request
from tests.support.command import failure, names, started
from tests.support.command import getm as run_getm
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

MIB = 1024 * 1024
SIZE = 8 * MIB + 12345
Make = Callable[..., ServedObject]
Run = subprocess.CompletedProcess[bytes]


def repair(folder: Path, *options: object) -> Run:
    return run_getm("verify", "--receipt", "receipt", "--repair", *options, cwd=folder)


def damage(path: Path, *, flips: Sequence[int] = (), zeros: tuple[int, int] = (0, 0), size: int | None = None) -> None:
    """`flips`: offsets of bytes; `zeros`: a span; `size`: cut to that, or lengthened."""
    with path.open("r+b") as file:
        for offset in flips:
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ 1]))
        file.seek(zeros[0])
        file.write(bytes(zeros[1] - zeros[0]))
        if size is not None:
            file.truncate(size)


def block(first: int, last: int | None = None) -> tuple[int, int]:
    """The bytes of some blocks, as a Range header has them."""
    return first * MIB, min(((first if last is None else last) + 1) * MIB, SIZE) - 1


DAMAGES: dict[str, tuple[dict[str, Any], list[tuple[int, int]]]] = {
    "one byte": ({"flips": [7 * MIB + 5]}, [block(7)]),
    "the first byte": ({"flips": [0]}, [block(0)]),
    "the last byte": ({"flips": [SIZE - 1]}, [block(8)]),
    "two blocks side by side": ({"flips": [4 * MIB - 1, 4 * MIB]}, [block(3, 4)]),
    "three places": ({"flips": [0, 6 * MIB, SIZE - 1]}, [block(0), block(6), block(8)]),
    "zeros": ({"zeros": (2 * MIB + 7, 5 * MIB + 1)}, [block(2, 5)]),
    "too short": ({"size": 5 * MIB + 1}, [block(5, 8)]),
    "too long": ({"size": SIZE + 5 * MIB}, []),
    "too long, and damaged": ({"size": SIZE + 1, "flips": [MIB]}, [block(1)]),
    "nothing": ({"size": 0}, [block(0, 8)]),
}


@pytest.fixture
def received(tmp_path: Path, nginx: NginxServer, make_object: Make) -> tuple[Path, ServedObject]:
    """A file, and its receipt."""
    served = make_object(SIZE, seed=17)
    run = run_getm(nginx.url(served), "x.bam", "--receipt", "receipt", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    return tmp_path / "x.bam", served


@pytest.mark.parametrize("what", DAMAGES)
def test_only_damaged_blocks_are_fetched(received: tuple[Path, ServedObject], nginx: NginxServer, what: str) -> None:
    path, served = received
    how, expected = DAMAGES[what]
    damage(path, **how)
    before = path.stat().st_ino
    mark = nginx.log.mark()
    run = repair(path.parent)
    requests = nginx.log.since(mark)
    assert (run.returncode, run.stderr) == (0, b"")
    fetched = sum(last - first + 1 for first, last in expected)
    assert run.stdout.decode() == f"x.bam: REPAIRED ({fetched:,} of {SIZE:,} bytes downloaded)\n"
    ranges = [tuple(map(int, each.range.removeprefix("bytes=").split("-"))) for each in requests if each.status == 206]
    assert sorted(ranges) == expected
    assert sum(each.body_bytes for each in requests if each.status == 206) == fetched
    # That nothing is missing is asked, too.
    assert len(requests) == max(1, len(expected)) and all(each.if_range for each in requests)
    assert path.read_bytes() == served.read() and path.stat().st_ino != before
    assert names(path.parent) == ["receipt", "x.bam"]
    mark = nginx.log.mark()
    run = repair(path.parent)
    assert (run.returncode, run.stdout, nginx.log.since(mark)) == (0, b"x.bam: OK\n", [])


def test_a_missing_file_and_one_without_blocks(tmp_path: Path, nginx: NginxServer, make_object: Make) -> None:
    """They are fetched as a whole: small files, and those of receipts that have no blocks."""
    objects = [make_object(size, seed=size) for size in (0, 5, MIB, 3 * MIB)]
    run_getm(*map(nginx.url, objects), "-d", "data", "--receipt", "receipt", cwd=tmp_path)
    text = (tmp_path / "receipt").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["size"] for line in lines if "blocks" in line] == [3 * MIB]
    old = [{name: value for name, value in line.items() if "block" not in name} for line in lines]
    (tmp_path / "receipt").write_text("".join(f"{json.dumps(line)}\n" for line in old))
    paths = [tmp_path / line["path"] for line in lines]
    for path in paths:
        path.write_bytes(path.read_bytes()[:-1] + b"?") if path.stat().st_size % 2 else path.unlink()
    mark = nginx.log.mark()
    run = repair(tmp_path)
    assert (run.returncode, run.stderr, run.stdout.count(b": REPAIRED (")) == (0, b"", 4)
    assert len(nginx.log.since(mark)) == 4
    assert repair(tmp_path).stdout.count(b": OK") == 4


def test_many_files_of_which_few_are_damaged(tmp_path: Path, nginx: NginxServer, make_object: Make) -> None:
    served = make_object(3 * MIB, seed=3)
    rows = [{"url": nginx.url(served), "filepath": f"{number}"} for number in range(30)]
    (tmp_path / "list").write_text(json.dumps(rows))
    run_getm("-m", "list", "-d", "data", "--receipt", "receipt", cwd=tmp_path)
    damage(tmp_path / "data" / "7", flips=[5])
    (tmp_path / "data" / "8").unlink()
    (tmp_path / "data" / "9").unlink()
    (tmp_path / "data" / "9").mkdir()
    os.mkfifo(tmp_path / "data" / "fifo")
    (tmp_path / "data" / "10").unlink()
    (tmp_path / "data" / "10").symlink_to("fifo")
    (tmp_path / "data" / "11").rename(tmp_path / "data" / "eleven")
    (tmp_path / "data" / "11").symlink_to("eleven")
    damage(tmp_path / "data" / "eleven", flips=[5])
    mark = nginx.log.mark()
    run = repair(tmp_path)
    assert run.returncode == 1
    outcomes = dict(line.split(": ", 1) for line in run.stdout.decode().splitlines())
    assert [outcomes[f"data/{number}"].split(" (")[0] for number in range(6, 13)] == [
        "OK", "REPAIRED", "REPAIRED", "FAILED, not repaired", "FAILED, not repaired", "REPAIRED", "OK",
    ]  # fmt: skip
    assert len(outcomes) == 30
    told = run.stderr.decode().replace("ERROR:getm.cli:", "").splitlines()
    assert {json.loads(line)["message"] for line in told} == {
        "data/9 cannot be read: it is not a regular file.",
        "data/10 cannot be read: it is not a regular file.",
        "2 of 30 files could not be repaired.",
    }
    # The link is replaced, as by a download, and what it leads to is left alone.
    assert not (tmp_path / "data" / "11").is_symlink()
    assert (tmp_path / "data" / "11").read_bytes() == served.read() != (tmp_path / "data" / "eleven").read_bytes()
    assert len(nginx.log.since(mark)) == 3


# The server ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def body() -> bytes:
    return random.Random(1).randbytes(SIZE)


@pytest.fixture
def download(tmp_path: Path, fault_server: FaultServer, body: bytes) -> Callable[[Reply], Path]:
    """Downloads /x by that reply, with a receipt, and damages a byte in the 8th block."""

    def run(reply: Reply) -> Path:
        url = fault_server.serve("/x", reply)
        assert run_getm(url, "x", "--receipt", "receipt", cwd=tmp_path).returncode == 0
        damage(tmp_path / "x", flips=[7 * MIB])
        return tmp_path / "x"

    return run


Download = Callable[[Reply], Path]


@pytest.mark.parametrize(
    "other", [{"etag": '"v2"'}, {"etag": '"v2"', "ranges": False}, {"etag": '"v1"', "body": b"short"}]
)
def test_a_replaced_object_is_said_and_never_mixed(
    fault_server: FaultServer, body: bytes, download: Download, other: dict[str, object]
) -> None:
    path = download(Reply(body=body))
    damaged = path.read_bytes()
    fault_server.serve("/x", Reply(**{"body": body[::-1], **other}))  # type: ignore[arg-type]
    run = repair(path.parent)
    assert (run.returncode, run.stdout) == (1, b"x: FAILED, not repaired\n")
    told = failure(run)
    assert "was replaced since" in str(told["message"]) or told["error"] == "size-mismatch"
    assert path.read_bytes() == damaged and names(path.parent) == ["receipt", "x"]


@pytest.mark.parametrize("options", [{"ranges": False}, {"etag": None}, {"etag": 'W/"v1"'}])
def test_servers_that_tell_little(
    fault_server: FaultServer, body: bytes, download: Download, options: dict[str, object]
) -> None:
    """Without ranges, or with a weak tag, all is fetched; by the time alone, the blocks."""
    path = download(Reply(body=body, **options))  # type: ignore[arg-type]
    fault_server.serve("/x", Reply(body=body, **options))  # type: ignore[arg-type]
    run = repair(path.parent)
    assert (run.returncode, run.stderr) == (0, b"")
    fetched = MIB if options == {"etag": None} else SIZE
    assert run.stdout.decode() == f"x: REPAIRED ({fetched:,} of {SIZE:,} bytes downloaded)\n"
    assert path.read_bytes() == body


def test_wrong_bytes_are_not_taken(fault_server: FaultServer, body: bytes, download: Download) -> None:
    """What comes is proven as a whole; where it is wrong, all of it is fetched once more, and then it has failed."""
    path = download(Reply(body=body))
    damaged = path.read_bytes()
    fault_server.serve("/x", Reply(body=body, flip_bit=8 * 7 * MIB))
    run = repair(path.parent)
    assert (run.returncode, run.stdout) == (1, b"x: FAILED, not repaired\n")
    assert failure(run)["error"] == "checksum-mismatch"
    assert path.read_bytes() == damaged and names(path.parent) == ["receipt", "x"]
    fault_server.serve("/x", Reply(body=body, flip_bit=8 * 7 * MIB), Reply(body=body))
    assert repair(path.parent).returncode == 0 and path.read_bytes() == body


def test_a_secret_url_is_not_in_a_receipt(fault_server: FaultServer, body: bytes, tmp_path: Path) -> None:
    """So a repair by the receipt alone fails, and says how it works: by the list."""

    def signed(request: Request) -> Reply:
        return Reply(body=body) if b"?sig=" in request.target else Reply(status=403, body=b"")

    url = fault_server.serve("/x", signed)
    (tmp_path / "list").write_text(f"{url}?sig=1\n")
    assert run_getm("-m", "list", "--receipt", "receipt", cwd=tmp_path).returncode == 0
    damage(tmp_path / "x", flips=[5])
    run = repair(tmp_path)
    assert (run.returncode, run.stdout) == (1, b"x: FAILED, not repaired\n")
    assert "getm -m LIST --receipt FILE --existing=repair" in str(failure(run)["message"])
    (tmp_path / "list").write_text(f"{url}?sig=2\n")
    run = run_getm("-m", "list", "--receipt", "receipt", "--existing=repair", "--json", cwd=tmp_path)
    event = json.loads(run.stdout.splitlines()[0])
    assert (run.returncode, event["received_bytes"]) == (0, MIB)
    assert event["replaced"].endswith("; 1 of 9 blocks is damaged")
    assert (tmp_path / "x").read_bytes() == body


def test_a_list_that_wants_another_file(tmp_path: Path, fault_server: FaultServer, body: bytes) -> None:
    """What the receipt has is not what the list wants any more: no block of it is kept, and no version demanded."""
    url, path, receipt = fault_server.serve("/x", Reply(body=body)), tmp_path / "x", tmp_path / "receipt"
    new = body[::-1]
    with getm.Session() as session:
        session.download(url, path, receipt=receipt, checksum=str(getm.checksum(body)))
        fault_server.serve("/x", Reply(body=new, etag='"v2"'))
        result = session.download(url, path, receipt=receipt, checksum=str(getm.checksum(new)), existing="repair")
    assert result.verified and path.read_bytes() == new


# Interruptions -------------------------------------------------------------------------------------------------------


def test_a_repair_that_breaks_off_is_resumed(fault_server: FaultServer, body: bytes, download: Download) -> None:
    path = download(Reply(body=body))
    damage(path, zeros=(2 * MIB, 7 * MIB))
    damaged = path.read_bytes()
    url = fault_server.serve("/x", Reply(body=body, cut_at=3 * MIB), Reply(status=404))
    assert run_getm("verify", "--receipt", "receipt", "--repair", cwd=path.parent).returncode == 1
    assert path.read_bytes() == damaged
    assert len([name for name in names(path.parent) if name.startswith(".x.")]) == 2
    fault_server.serve("/x", Reply(body=body))
    run = repair(path.parent)
    assert run.stdout.decode() == f"x: REPAIRED ({3 * MIB:,} of {SIZE:,} bytes downloaded)\n"
    assert path.read_bytes() == body and names(path.parent) == ["receipt", "x"] and url


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_repair_that_is_killed(
    fault_server: FaultServer, body: bytes, download: Download, number: signal.Signals
) -> None:
    path = download(Reply(body=body))
    damage(path, zeros=(2 * MIB, 7 * MIB))
    damaged, gate = path.read_bytes(), fault_server.gate()
    fault_server.serve("/x", Reply(body=body, stall_at=3 * MIB, gate=gate), Reply(body=body))
    with started("verify", "--receipt", "receipt", "--repair", cwd=path.parent, stderr=subprocess.PIPE) as process:
        gate.wait_reached()
        process.send_signal(number)
        process.communicate()
    gate.open()
    assert path.read_bytes() == damaged
    run = repair(path.parent)
    assert run.returncode == 0 and path.read_bytes() == body
    assert names(path.parent) == ["receipt", "x"]


def test_no_space(small_disk: Path, nginx: NginxServer, make_object: Make) -> None:
    """The file is as it was."""
    served = make_object(2 * MIB + 5, seed=5)
    run_getm(nginx.url(served), "x", "--receipt", "receipt", cwd=small_disk)
    damage(small_disk / "x", flips=[5])
    damaged = (small_disk / "x").read_bytes()
    run = repair(small_disk)
    assert (run.returncode, run.stdout) == (1, b"x: FAILED, not repaired\n")
    assert "No space left" in str(failure(run)["message"])
    assert (small_disk / "x").read_bytes() == damaged and names(small_disk) == ["receipt", "x"]


# Copying -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def without_copying_in_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refused)


@pytest.mark.usefixtures("without_copying_in_the_kernel")
def test_file_systems_that_cannot_copy(tmp_path: Path, fault_server: FaultServer, body: bytes) -> None:
    url, path, receipt = fault_server.serve("/x", Reply(body=body)), tmp_path / "x", tmp_path / "receipt"
    with getm.Session() as session:
        session.download(url, path, receipt=receipt)
        damage(path, flips=[5])
        result = session.download(url, path, receipt=receipt, existing="repair")
    assert (result.stats.received_bytes, path.read_bytes()) == (MIB, body)


def test_a_sector_that_cannot_be_read(
    tmp_path: Path, fault_server: FaultServer, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its block is damaged, and the others are kept."""
    url, path, receipt = fault_server.serve("/x", Reply(body=body)), tmp_path / "x", tmp_path / "receipt"
    real = os.preadv

    def preadv(fd: int, buffers: object, offset: int) -> int:
        if offset // MIB == 3:
            raise OSError(5, "Input/output error")
        return real(fd, buffers, offset)  # type: ignore[arg-type]

    with getm.Session() as session:
        session.download(url, path, receipt=receipt)
        damage(path, flips=[7 * MIB])
        monkeypatch.setattr(os, "preadv", preadv)
        result = session.download(url, path, receipt=receipt, existing="repair")
    assert (result.stats.received_bytes, path.read_bytes()) == (2 * MIB, body)
    assert result.replaced is not None and result.replaced.endswith("; 2 of 9 blocks are damaged")


# Options -------------------------------------------------------------------------------------------------------------


def test_what_it_needs(tmp_path: Path) -> None:
    for arguments in (["--repair"], ["--repair", "x", "md5:" + "0" * 32], ["--receipt", "-", "--repair"]):
        run = run_getm("verify", *arguments, cwd=tmp_path)
        assert run.returncode == 2 and "--repair is for the files of a receipt" in str(failure(run)["message"])


def test_a_file_of_which_the_receipt_has_no_address(tmp_path: Path) -> None:
    line = {"status": "done", "path": "x", "size": 1, "checksums": ["md5:" + "0" * 32]}
    (tmp_path / "receipt").write_text(json.dumps(line))
    run = repair(tmp_path)
    assert (run.returncode, run.stdout) == (1, b"x: FAILED, not repaired\n")
    assert "does not say where it came from" in str(failure(run)["message"])


def test_a_session_can_do_it(tmp_path: Path, fault_server: FaultServer, body: bytes) -> None:
    url, path, receipt = fault_server.serve("/x", Reply(body=body)), tmp_path / "x", tmp_path / "receipt"
    with getm.Session(retries=0) as session:
        session.download(url, path, receipt=receipt)
        damage(path, flips=[5, 6 * MIB])
        result = session.download(url, path, receipt=receipt, existing="repair")
        assert (result.stats.received_bytes, result.stats.requests) == (2 * MIB, 2)
        again = session.download(url, path, receipt=receipt, existing="repair")
        assert again.left == "verified in place by sha256 (from receipt)"
        # A file that is missing is of the version that was received, too.
        path.unlink()
        fault_server.serve("/x", Reply(body=b"new", etag='"v2"'))
        with contextlib.suppress(errors.IntegrityError), pytest.raises(errors.RemoteChanged):
            session.download(url, path, receipt=receipt, existing="repair")
    assert not path.exists()


def test_requests_of_a_repair_are_made_as_the_options_say(
    tmp_path: Path, nginx: NginxServer, make_object: Make
) -> None:
    """A name that only --resolve knows, and a command that finds the URL."""
    served = make_object(MIB + 1, seed=23)
    url = nginx.url(served).replace("127.0.0.1", "nowhere.test")
    given = ["--resolve", f"nowhere.test:{nginx.http_port}:127.0.0.1", "--retries=0", "--proxy="]
    run_getm(url, "x", "--receipt", "receipt", *given, cwd=tmp_path)
    (tmp_path / "x").unlink()
    assert repair(tmp_path, "--retries=0", "--proxy=").returncode == 1
    assert repair(tmp_path, *given).stdout.startswith(b"x: REPAIRED")
    (tmp_path / "x").unlink()
    command = tmp_path / "find"
    command.write_text(f"#!/bin/sh\necho {nginx.url(served)}\n")
    command.chmod(0o755)
    assert repair(tmp_path, "--url-command", command).stdout.startswith(b"x: REPAIRED")
    assert (tmp_path / "x").read_bytes() == served.read()
