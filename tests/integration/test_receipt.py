"""The receipt: what its lines say, that they survive, and that `getm verify --receipt` proves a folder by them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

import getm as getm_package
from getm import DownloadResult, Failed, Finished, Progressed, Retried, Skipped, Started, Stats, Verdict
from getm.core.version import Version
from getm.errors import ConnectFailed, HTTPStatusError, TargetError, Truncated
from getm.files.receipt import Receipt
from getm.files.receipt_lines import read_receipt
from getm.integrity.values import parse_checksum
from getm.integrity.verdict import unverified
from getm.testing import FaultServer, Reply
from getm.testing import failure as error_page
from tests.support.command import failure, getm
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

MIB = 1024 * 1024
DATA = b"data\n"
MD5 = parse_checksum(f"md5:{hashlib.md5(DATA).hexdigest()}")
SHA256 = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
VERIFIED = Verdict(True, MD5, "x-goog-hash", None)
URL = "https://host/a"
STATS = Stats(requests=3, retries={"reset": 1, "connect": 1})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def finished(path: Path, verdict: Verdict = VERIFIED, index: int = 0, **more: Any) -> Finished:
    return Finished(index, DownloadResult(path, len(DATA), verdict, verdict.verified, 1.5, STATS, **more))


def record(receipt: Path, *paths: Path, verdict: Verdict = VERIFIED) -> None:
    """Write the receipt of files that hold `DATA`."""
    with Receipt(receipt) as writer:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(DATA)
            writer.on_event(finished(path, verdict))


# Writing -------------------------------------------------------------------------------------------------------------


def test_a_line_of_each_kind(tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.jsonl"
    began = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    with Receipt(receipt) as writer:
        writer.on_event(Started(0, URL, tmp_path / "a", 5))
        writer.on_event(Progressed(0, 5, 5))
        writer.on_event(Retried(0, "reset", 1, 0.5, "reset"))
        writer.on_event(
            finished(
                tmp_path / "a",
                url=URL,
                url_host="cdn.host:8080",
                version=Version(None, '"tag"', "Thu, 01 Jan 2026 00:00:00 GMT"),
                started_at=began,
            )
        )
        error = HTTPStatusError("no such object", status=404)
        error.stats = STATS
        writer.on_event(Failed(1, URL, Path("/elsewhere/b"), error))
        writer.on_event(Failed(2, URL, None, ConnectFailed("refused")))
        writer.on_event(Skipped(3, tmp_path / "c", "it exists"))
    done, not_found, refused, skipped = lines(receipt)
    assert done == {
        "status": "done",
        "url": URL,
        "path": "a",
        "size": 5,
        "host": "cdn.host:8080",
        "checksums": [str(MD5)],
        "verified_by": str(MD5),
        "declared_by": "x-goog-hash",
        "etag": '"tag"',
        "last_modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        "started": "2026-01-02T03:04:05.678Z",
        "ended": "2026-01-02T03:04:07.178Z",
        "requests": 3,
        "retries": 2,
    }
    for line in (not_found, refused, skipped):
        assert datetime.fromisoformat(line.pop("ended")).tzinfo is UTC
    failed = {"status": "failed", "url": URL}
    assert not_found == failed | {
        "path": "/elsewhere/b",
        "error": "status",
        "message": "no such object",
        "status_code": 404,
        "requests": 3,
        "retries": 2,
    }
    assert refused == failed | {"error": "connect", "message": "refused"}
    assert skipped == {"status": "skipped", "path": "c", "reason": "it exists"}


def test_names_are_relative_to_the_receipt_where_they_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, odd = tmp_path / "home", os.fsdecode(b"latin-\xe9\n")
    (home / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(home)
    monkeypatch.chdir(home)
    with Receipt("receipt") as writer:
        for path in ("a", "deep/../b", "../outside", tmp_path / "link" / "deep" / "c", odd, "-", "/dev/null"):
            writer.on_event(finished(Path(path)))
    (home / "receipt").rename(tmp_path / "copy")
    assert [line.get("path") for line in lines(tmp_path / "copy")] == [
        "a",
        "b",
        str(tmp_path / "outside"),
        "deep/c",
        odd,
        None,
        None,
    ]


def test_a_file_that_nothing_hashed_is_read_once_more(tmp_path: Path) -> None:
    receipt = tmp_path / "receipt"
    record(receipt, *(tmp_path / f"name{number}" for number in range(20)), verdict=unverified("nothing declared"))
    for number, line in enumerate(lines(receipt)):
        assert (line["path"], line["checksums"]) == (f"name{number}", [SHA256])
        assert line["reason"] == "nothing declared" and "verified_by" not in line


def test_a_file_that_is_gone_has_a_line_too(tmp_path: Path) -> None:
    with Receipt(tmp_path / "receipt") as writer:
        writer.on_event(finished(tmp_path / "gone", unverified("nothing declared")))
    (line,) = lines(tmp_path / "receipt")
    assert (line["status"], line["size"]) == ("done", 5) and "checksums" not in line


def test_an_interrupted_receipt_does_not_read_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C must not wait for gigabytes to be hashed."""

    def endless(*arguments: Any, on_bytes: Callable[[int], None], **options: Any) -> Verdict:
        while True:
            on_bytes(1)

    monkeypatch.setattr("getm.files.receipt.check_file", endless)
    with pytest.raises(KeyboardInterrupt), Receipt(tmp_path / "receipt") as writer:
        for name in ("a", "b"):
            writer.on_event(finished(tmp_path / name, unverified("nothing declared")))
        raise KeyboardInterrupt
    assert [(line["path"], line.get("checksums")) for line in lines(tmp_path / "receipt")] == [("a", None), ("b", None)]


def test_lines_are_added(tmp_path: Path) -> None:
    receipt = tmp_path / "receipt"
    record(receipt, tmp_path / "a")
    record(receipt, tmp_path / "b")
    assert [line["path"] for line in lines(receipt)] == ["a", "b"]


def test_a_torn_line_does_not_take_the_next_with_it(tmp_path: Path) -> None:
    receipt = tmp_path / "receipt"
    record(receipt, tmp_path / "a")
    with receipt.open("ab") as file:
        file.write(b'{"status":"do')
    record(receipt, tmp_path / "b")
    files = read_receipt(receipt.read_bytes().splitlines(keepends=True), tmp_path)
    assert [entry.path.name for entry in files.entries] == ["a", "b"]
    (problem,) = files.problems
    assert problem.startswith("line 2 is no line of a receipt: ")


@pytest.mark.parametrize("target", ["missing/receipt", "."])
def test_a_receipt_that_cannot_be_opened(tmp_path: Path, target: str) -> None:
    with pytest.raises(TargetError, match="cannot be written"), Receipt(tmp_path / target):
        pytest.fail("it is open")


@pytest.mark.parametrize("verdict", [VERIFIED, unverified("nothing declared")])
def test_a_receipt_that_cannot_be_written(tmp_path: Path, verdict: Verdict) -> None:
    (tmp_path / "a").write_bytes(DATA)
    with pytest.raises(TargetError, match="No space left"), Receipt("/dev/full") as writer:
        writer.on_event(finished(tmp_path / "a", verdict))


_WRITER = """
import sys
from pathlib import Path
import getm as getm_package
from getm import DownloadResult, Finished, Stats, Verdict
from getm.files.receipt import Receipt
from getm.integrity.values import parse_checksum
verdict = Verdict(True, parse_checksum("md5:" + "0" * 32), "caller", None)
with Receipt(sys.argv[1]) as writer:
    print(flush=True)
    for number in range(10**9):
        path = Path(sys.argv[1]).parent / (f"{sys.argv[2]}{number}" + "x" * 200)
        writer.on_event(Finished(number, DownloadResult(path, 1, verdict, True, 1.0, Stats())))
"""


def test_a_kill_leaves_whole_lines_of_several_writers(tmp_path: Path) -> None:
    receipt = tmp_path / "receipt"
    command = [sys.executable, "-c", _WRITER, str(receipt)]
    writers = [subprocess.Popen([*command, name], stdout=subprocess.PIPE) for name in "ab"]
    for writer in writers:
        with writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
    assert receipt.read_bytes()[-1:] in (b"", b"\n")
    assert all(line["path"].endswith("x" * 200) for line in lines(receipt))


@pytest.mark.parametrize(
    ("concurrency", "processes", "declared"),
    [(1, 1, False), (1, 1, True), (4, 1, False), (4, 2, True), ("auto", 1, False), (None, 1, True)],
)
def test_the_crc32c_of_blocks_as_they_were_received(
    tmp_path: Path,
    nginx: NginxServer,
    make_object: Callable[..., ServedObject],
    concurrency: Any,
    processes: int,
    declared: bool,
) -> None:
    served, small = make_object(21 * MIB + 12345, seed=3), make_object(MIB, seed=3)
    body = served.read()
    checksum = f"sha256:{served.sha256_hex}" if declared else "auto"
    with getm_package.Session(processes=processes) as session:
        url, receipt = nginx.url(served), tmp_path / "receipt"
        session.download(url, tmp_path / "x", receipt=receipt, checksum=checksum, concurrency=concurrency)
        session.download(nginx.url(small), tmp_path / "small", receipt=receipt)
        # Those of a file that is left were read.
        session.download(url, tmp_path / "x", receipt=receipt, existing="verify")
    with receipt.open("rb") as file:
        files = read_receipt(file, tmp_path)
    sums = [entry.blocks for entry in files.entries]
    assert sums[0] is None and sums[1] is not None and not files.problems
    assert [crc for _, crc in sums[1]] == [crc32c.crc32c(body[at : at + MIB]) for at in range(0, len(body), MIB)]
    first, _, left = lines(receipt)
    assert (first["status"], left["status"], first["blocks"]) == ("done", "left", left["blocks"])


@pytest.mark.parametrize("checksum", ["auto", None])
def test_the_blocks_of_what_was_resumed(tmp_path: Path, fault_server: FaultServer, checksum: str | None) -> None:
    """They were read back, since no engine has seen all bytes. Of an object without a length there are none."""
    body = os.urandom(5 * MIB + 1)
    url = fault_server.serve("/x", Reply(body=body, cut_at=3 * MIB), Reply(body=body))
    chunked = fault_server.serve("/chunked", Reply(body=body, framing="chunked"))
    with getm_package.Session(retries=0) as session:
        with pytest.raises(Truncated):
            session.download(url, tmp_path / "x", receipt=tmp_path / "receipt", checksum=checksum)
        session.download(url, tmp_path / "x", receipt=tmp_path / "receipt", checksum=checksum)
        session.download(chunked, tmp_path / "y", receipt=tmp_path / "receipt", checksum=checksum)
    with (tmp_path / "receipt").open("rb") as file:
        resumed, unknown = read_receipt(file, tmp_path).entries
    assert resumed.blocks is not None and unknown.blocks is None
    assert [crc for _, crc in resumed.blocks] == [crc32c.crc32c(body[at : at + MIB]) for at in range(0, len(body), MIB)]
    failed, done, _ = lines(tmp_path / "receipt")
    assert (failed["status"], done["reason"].split(":")[0]) == (
        "failed",
        "checksum=None" if checksum is None else "the server declared no checksum",
    )


def test_a_disk_that_damages_a_file_is_not_its_witness(tmp_path: Path, nginx: NginxServer, make_object: Any) -> None:
    """Nothing is declared: what counts is what was received, not what is read from the disk."""
    served = make_object(3 * MIB, seed=3)

    def spoil(event: getm_package.Event) -> None:
        if isinstance(event, Finished):
            (tmp_path / "x").write_bytes(served.read()[:-1] + b"?")

    with getm_package.Session() as session:
        entries = [getm_package.Entry(nginx.url(served), tmp_path / "x")]
        receipt = tmp_path / "receipt"
        with Receipt(receipt) as writer:
            (result,) = session.download_all(entries, receipt=tmp_path / "other")
            assert isinstance(result, DownloadResult)
            spoil(Finished(0, result))
            writer.on_event(Finished(0, result))
    (line,), (good,) = lines(receipt), lines(tmp_path / "other")
    crc = f"crc32c:{served.crc32c.hex()}"
    assert (line["checksums"], sorted(good["checksums"])) == ([crc], [crc, f"sha256:{served.sha256_hex}"])
    run = getm("verify", "--receipt", "receipt", "--repair", cwd=tmp_path)
    assert run.stdout == b"x: REPAIRED (1,048,576 of 3,145,728 bytes downloaded)\n"
    assert (tmp_path / "x").read_bytes() == served.read()


# Reading -------------------------------------------------------------------------------------------------------------


def test_the_last_line_of_a_path_that_says_done_counts(tmp_path: Path) -> None:
    text = [
        {"status": "done", "path": "a", "size": 1, "checksums": [str(MD5)]},
        {"status": "done", "path": "b", "size": 1},
        {"status": "done", "path": str(tmp_path / "a"), "size": 2, "checksums": [str(MD5), SHA256], "later": {}},
        {"status": "failed", "path": "a", "error": "status"},
        {"status": "skipped", "path": "c"},
        {"status": "done", "size": 1},
    ]
    files = read_receipt([json.dumps(line).encode() + b"\n" for line in text] + [b"\n"], tmp_path)
    assert files.problems == ()
    assert [(entry.path, entry.size, len(entry.checksums), entry.line) for entry in files.entries] == [
        (tmp_path / "b", 1, 0, 2),
        (tmp_path / "a", 2, 2, 3),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "Expecting"),
        (b"[]", "Expected `object`, got `array`"),
        (b"\xff", "utf-8"),
        (b'{"url": "https://host/a"}', "missing required field `status`"),
        (b'{"status": "lost"}', "Invalid enum value 'lost'"),
        (b'{"status": "done", "path": "a"}', "expected `size`"),
        (b'{"status": "done", "path": "a", "size": -1}', "expected `size`"),
        (b'{"status": "done", "path": "a\\u0000b", "size": 1}', "NUL"),
        (b'{"status": "done", "path": "a", "size": 1, "checksums": ["md6:00"]}', "unknown checksum algorithm"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_wrong_lines_are_told_with_their_number(line: bytes, words: str) -> None:
    files = read_receipt([b"\n", line], "")
    (problem,) = files.problems
    assert problem.startswith("line 2 ") and words in problem and files.entries == ()


@given(st.lists(st.one_of(st.binary(), st.text().map(str.encode))))
def test_any_bytes_are_read_or_told(data: list[bytes]) -> None:
    read_receipt(data, "")


# verify --receipt ----------------------------------------------------------------------------------------------------


def test_verify_proves_a_folder(tmp_path: Path) -> None:
    receipt = tmp_path / "data" / "receipt"
    receipt.parent.mkdir()
    record(receipt, receipt.parent / "a", receipt.parent / "deep" / "b", tmp_path / "outside")
    for arguments, cwd in (
        (["data/receipt"], tmp_path),
        ([receipt], Path("/")),
    ):
        run = getm("verify", "--receipt", *arguments, cwd=cwd)
        assert (run.returncode, run.stderr) == (0, b"")
        folder = Path(str(arguments[0])).parent
        assert run.stdout.decode().splitlines() == [
            f"{folder}/a: OK",
            f"{folder}/deep/b: OK",
            f"{tmp_path}/outside: OK",
        ]
    run = getm("verify", "-q", "--receipt", "-", cwd=receipt.parent, stdin=receipt.read_bytes())
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")


@pytest.mark.parametrize("verdict", [VERIFIED, unverified("nothing declared")])
def test_verify_finds_what_changed(tmp_path: Path, verdict: Verdict) -> None:
    receipt = tmp_path / "receipt"
    record(receipt, *(tmp_path / name for name in ("right", "flipped", "longer", "missing")), verdict=verdict)
    (tmp_path / "flipped").write_bytes(b"dbta\n")
    (tmp_path / "longer").write_bytes(DATA + b"\0")
    (tmp_path / "missing").unlink()
    run = getm("verify", "--receipt", "receipt", cwd=tmp_path)
    assert run.returncode == 1
    assert run.stdout.decode().splitlines() == [
        "right: OK",
        "flipped: FAILED",
        "longer: FAILED",
        "missing: FAILED open or read",
    ]
    facts = failure(run)
    assert (facts["failed"], facts["unreadable"]) == (2, 1)
    assert str(facts["message"]).startswith("Checksum failed! 2 of 4 files are not what was declared")
    run = getm("verify", "-q", "--ignore-missing", "--receipt", "receipt", cwd=tmp_path)
    assert run.stdout.decode().splitlines() == ["flipped: FAILED", "longer: FAILED"]


def test_verify_cannot_prove_without_a_checksum(tmp_path: Path) -> None:
    (tmp_path / "receipt").write_text(
        '{"status": "done", "path": "a", "size": 5}\n{\n{"status": "done", "path": "b", "size": 4}\n'
    )
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(DATA)
    run = getm("verify", "--receipt", "receipt", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (1, b"a: NOT VERIFIED\nb: FAILED\n")
    assert "line 2 is no line of a receipt" in str(failure(run)["message"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no line of it"),
        ('{"status": "skipped", "path": "a"}', "no line of it"),
        ("{", "line 1"),
        (None, "cannot be read"),
    ],
)
def test_verify_refuses_what_is_no_receipt(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "receipt").write_text(text)
    run = getm("verify", "--receipt", "receipt", cwd=tmp_path)
    assert run.returncode == 2 and words in str(failure(run)["message"])


@pytest.mark.parametrize("more", [["SUMS"], ["-a", "md5"], ["a", "md5:00"]])
def test_verify_takes_a_receipt_alone(tmp_path: Path, more: list[str]) -> None:
    run = getm("verify", "--receipt", "receipt", *more, cwd=tmp_path)
    assert run.returncode == 2 and "--receipt takes no" in str(failure(run)["message"])


# The command ---------------------------------------------------------------------------------------------------------


def test_download_and_verify(tmp_path: Path, nginx: NginxServer, make_object: Any, fault_server: FaultServer) -> None:
    small: ServedObject = make_object(300_001, seed=11)
    missing = fault_server.serve("/missing", error_page(404))
    moved = fault_server.serve("/moved", Reply(status=302, headers={"Location": f"{nginx.url(small)}?SECRET"}))
    manifest = [
        {"url": f"{nginx.declared_url(small, content_md5=small.md5.hex())}&SECRET", "filepath": "data/declared"},
        {"url": moved, "filepath": "data/moved"},
        {"url": f"{missing}?SECRET", "filepath": "data/missing"},
    ]
    (tmp_path / "manifest").write_text(json.dumps(manifest))
    run = getm("-m", "manifest", "-c", "--receipt", "receipt", cwd=tmp_path)
    assert run.returncode == 8
    text = (tmp_path / "receipt").read_text()
    assert "SECRET" not in text
    by_path = {line["path"]: line for line in lines(tmp_path / "receipt")}
    declared, moved_line, failed = (by_path[f"data/{name}"] for name in ("declared", "moved", "missing"))
    assert declared["verified_by"] == f"md5:{small.md5.hex()}" and declared["size"] == 300_001
    assert moved_line["checksums"] == [f"sha256:{hashlib.sha256(small.read()).hexdigest()}"]
    assert moved_line["host"] == nginx.url(small).split("/")[2] != moved_line["url"].split("/")[2]
    assert moved_line["etag"] and moved_line["last_modified"]
    assert (failed["status"], failed["status_code"], failed["url"]) == ("failed", 404, missing)
    assert getm("verify", "--receipt", "receipt", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(("kind", "words"), [("plain", b"done [1/1]: out: 4 bytes"), ("json", b'"event": "finished"')])
def test_progress_on_request(tmp_path: Path, fault_server: FaultServer, kind: str, words: bytes) -> None:
    url = fault_server.serve("/x", Reply(body=b"data"))
    run = getm(f"{url}?SECRET", "out", f"--progress={kind}", cwd=tmp_path)
    assert run.returncode == 0 and words in run.stderr
    quiet = getm(url, "out", f"--progress={kind}", "-q", cwd=tmp_path)
    assert (quiet.returncode, quiet.stderr) == (0, b"")
