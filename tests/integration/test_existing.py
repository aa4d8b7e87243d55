"""Files that are there already: what `existing` makes of them, proven by the requests that were made, and not made."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import getm
from getm import errors
from getm.batch import existing_file
from getm.testing import FaultServer, Reply, Request
from getm.testing import failure as error_page
from tests.support.command import failure, names, on_a_terminal
from tests.support.command import getm as run_getm
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

Make = Callable[..., ServedObject]
MIB = 1024 * 1024
BODY = b"as it should be"
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=0)


def outcomes(session: getm.Session, entries: list[getm.Entry], folder: Path, **options: Any) -> list[Any]:
    found = session.download_all(entries, directory=folder, continue_after_error=True, **options)
    return sorted(found, key=lambda result: result.index)


def downloads(server: FaultServer) -> int:
    """How many requests were for the bytes of an object."""
    return sum(request.method == "GET" for request in server.requests)


# Verify: by the list -------------------------------------------------------------------------------------------------


def test_a_second_run_makes_no_request_and_one_for_a_damaged_file(tmp_path: Path, nginx: NginxServer) -> None:
    """2,000 files, of which the list has the checksums."""
    objects = [nginx.objects.write(f"existing-{number}", b"%d" % number * 400) for number in range(2000)]
    rows = [
        {"url": nginx.url(served), "filepath": f"{number % 10}/{number}", "checksum": served.md5_hex,
         "checksum-algorithm": "md5"}
        for number, served in enumerate(objects)
    ]  # fmt: skip
    (tmp_path / "list.json").write_text(json.dumps(rows))
    arguments = ["-m", "list.json", "-d", "data", "--existing=verify", "--json"]

    def run() -> tuple[list[dict[str, Any]], int]:
        mark = nginx.log.mark()
        ended = run_getm(*arguments, cwd=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, b"")
        return [json.loads(line) for line in ended.stdout.splitlines()], len(nginx.log.since(mark))

    events, requests = run()
    assert ({event["event"] for event in events}, len(events), requests) == ({"finished"}, 2000, 2000)
    events, requests = run()
    assert ({event["event"] for event in events}, len(events), requests) == ({"skipped"}, 2000, 0)
    assert {event["reason"] for event in events} == {"verified in place by md5 (from caller)"}
    assert all(event["verified"] and event["checksum"].startswith("md5:") for event in events)
    damaged = tmp_path / "data" / "7" / "1117"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    events, requests = run()
    assert requests == 1
    (fetched,) = [event for event in events if event["event"] == "finished"]
    assert fetched["path"] == "data/7/1117" and fetched["replaced"].startswith("wrong: expected md5:")
    assert damaged.read_bytes() == objects[1117].read()


@pytest.mark.parametrize("how", ["download", "adownload", "download_all", "adownload_all"])
def test_each_function_takes_it(tmp_path: Path, session: getm.Session, fault_server: FaultServer, how: str) -> None:
    url, path = fault_server.serve("/x", Reply(body=BODY)), tmp_path / "x"

    def fetch() -> getm.DownloadResult:
        if how == "download":
            return session.download(url, path, checksum=MD5, existing="verify")
        if how == "adownload":
            return asyncio.run(session.adownload(url, path, checksum=MD5, existing="verify"))
        entries = [getm.Entry(url, path, MD5)]
        if how == "download_all":
            (result,) = session.download_all(entries, existing="verify")
        else:

            async def run() -> list[getm.DownloadResult | getm.DownloadFailure]:
                return [each async for each in session.adownload_all(entries, existing="verify")]

            (result,) = asyncio.run(run())
        assert isinstance(result, getm.DownloadResult)
        return result

    first, second = fetch(), fetch()
    assert (first.left, first.replaced, first.verified, len(fault_server.requests)) == (None, None, True, 1)
    assert second.left == "verified in place by md5 (from caller)"
    assert (second.verified, second.size, second.stats.requests, str(second.checksum.checksum)) == (
        True, len(BODY), 0, MD5,
    )  # fmt: skip
    path.write_bytes(BODY[::-1])
    third = fetch()
    assert third.left is None and third.replaced is not None and third.replaced.startswith("wrong: expected md5:")
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("size", [len(BODY) - 1, len(BODY) + 1, 0])
def test_another_size_is_wrong_without_reading(
    tmp_path: Path, session: getm.Session, fault_server: FaultServer, size: int
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    (tmp_path / "x").write_bytes((BODY * 2)[:size])
    (result,) = outcomes(session, [getm.Entry(url, "x", MD5, size=len(BODY))], tmp_path, existing="verify")
    assert result.replaced == f"it has {size} bytes, expected {len(BODY)}"
    assert (tmp_path / "x").read_bytes() == BODY


def test_all_checksums_of_the_list_must_match(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    (tmp_path / "x").write_bytes(BODY)
    wrong = f"sha256:{hashlib.sha256(b'other').hexdigest()}"
    (result,) = outcomes(session, [getm.Entry(url, "x", [MD5, wrong])], tmp_path, existing="verify")
    assert isinstance(result.error, errors.ChecksumMismatch) and downloads(fault_server) == 1
    assert (tmp_path / "x").read_bytes() == BODY


def test_names_from_urls_are_found_without_a_request(
    tmp_path: Path, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x.bam", Reply(body=BODY))
    (tmp_path / "x.bam").write_bytes(BODY)
    result = session.download(f"{url}?sig=1", tmp_path, checksum=MD5, existing="verify")
    assert (result.path, result.left, fault_server.requests) == (
        tmp_path / "x.bam", "verified in place by md5 (from caller)", [],
    )  # fmt: skip


# Verify: by the server -----------------------------------------------------------------------------------------------


def test_the_server_is_asked_where_nothing_else_says_what_it_is(
    tmp_path: Path, session: getm.Session, fault_server: FaultServer
) -> None:
    declared = {"Content-MD5": base64.b64encode(hashlib.md5(BODY).digest()).decode()}
    url = fault_server.serve("/x", Reply(body=BODY, headers=declared))
    (tmp_path / "x").write_bytes(BODY)
    result = session.download(url, tmp_path / "x", existing="verify")
    assert result.left == "verified in place by md5 (from Content-MD5)"
    assert (result.stats.requests, [request.method for request in fault_server.requests]) == (1, ["HEAD"])
    (tmp_path / "x").write_bytes(BODY[::-1])
    result = session.download(url, tmp_path / "x", existing="verify")
    assert (result.left, result.stats.requests, downloads(fault_server)) == (None, 2, 1)
    (tmp_path / "x").write_bytes(b"")
    result = session.download(url, tmp_path / "x", existing="verify")
    assert result.replaced == f"it has 0 bytes, expected {len(BODY)}"
    assert (tmp_path / "x").read_bytes() == BODY


def test_what_nobody_declares_is_downloaded_again(
    tmp_path: Path, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    (tmp_path / "x").write_bytes(BODY)
    result = session.download(url, tmp_path / "x", existing="verify")
    assert (result.left, result.replaced, downloads(fault_server)) == (None, "nothing says what it should be", 1)
    # Nothing is to be verified: nothing is asked.
    count = len(fault_server.requests)
    session.download(url, tmp_path / "x", existing="verify", checksum=None)
    assert [request.method for request in fault_server.requests[count:]] == ["GET"]


def test_a_server_that_cannot_be_asked(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", error_page(404))
    (tmp_path / "x").write_bytes(BODY)
    with pytest.raises(errors.HTTPStatusError):
        session.download(url, tmp_path / "x", existing="verify")
    assert (tmp_path / "x").read_bytes() == BODY and names(tmp_path) == ["x"]


@pytest.mark.parametrize("size", [1000, 3 * MIB])
@pytest.mark.parametrize("same", [True, False])
def test_a_name_that_only_the_server_knows(
    tmp_path: Path, session: getm.Session, fault_server: FaultServer, size: int, same: bool
) -> None:
    """It is examined when it is known; where it is another file, a server still must not choose what is replaced."""
    body = os.urandom(size)
    checksum = f"sha256:{hashlib.sha256(body).hexdigest()}"
    url = fault_server.serve("/x", Reply(body=body, headers={"Content-Disposition": "filename=theirs"}))
    (tmp_path / "theirs").write_bytes(body if same else body[::-1])
    if same:
        result = session.download(url, tmp_path, checksum=checksum, existing="verify")
        assert (result.path, result.left) == (tmp_path / "theirs", "verified in place by sha256 (from caller)")
        assert (result.size, result.stats.requests) == (size, 1)
    else:
        with pytest.raises(errors.TargetError, match=r"names this download 'theirs'.*wrong: expected sha256"):
            session.download(url, tmp_path, checksum=checksum, existing="verify")
    assert names(tmp_path) == ["theirs"]
    assert (tmp_path / "theirs").read_bytes() == (body if same else body[::-1])


# What is there -------------------------------------------------------------------------------------------------------


def test_what_else_may_be_there(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    """Each has a clear answer, and none blocks."""
    url = fault_server.serve("/x", Reply(body=BODY))
    (tmp_path / "folder").mkdir()
    (tmp_path / "elsewhere").write_bytes(BODY)
    (tmp_path / "bad").write_bytes(BODY[::-1])
    for name, target in {"good-link": "elsewhere", "bad-link": "bad", "dangling": "nowhere", "self": "self"}.items():
        (tmp_path / name).symlink_to(target)
    named = ["good-link", "bad-link", "dangling", "self", "folder"]
    found = dict(
        zip(
            named,
            outcomes(session, [getm.Entry(url, name, MD5) for name in named], tmp_path, existing="verify"),
            strict=True,
        )
    )
    assert found["good-link"].left == "verified in place by md5 (from caller)"
    assert (tmp_path / "good-link").is_symlink()
    for name, why in {
        "bad-link": "wrong: ",
        "dangling": "it cannot be read (No such file",
        "self": "it cannot be read (Too many",
    }.items():
        assert found[name].replaced.startswith(why)
        # The link is replaced, not what it leads to: its name is a list's.
        assert not (tmp_path / name).is_symlink() and (tmp_path / name).read_bytes() == BODY
    assert (tmp_path / "bad").read_bytes() == BODY[::-1] and not (tmp_path / "nowhere").exists()
    # As everywhere, a folder is what the file goes into.
    assert (found["folder"].path, found["folder"].replaced) == (tmp_path / "folder" / "x", None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    (tmp_path / "x").write_bytes(BODY)
    (tmp_path / "x").chmod(0)
    result = session.download(url, tmp_path / "x", checksum=MD5, existing="verify")
    assert result.replaced == "it cannot be read (Permission denied)"


def test_two_downloads_cannot_have_one_file(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    (tmp_path / "x").write_bytes(BODY)
    left, refused = sorted(
        outcomes(session, [getm.Entry(url, "x", MD5), getm.Entry(url, "x", MD5)], tmp_path, existing="verify"),
        key=lambda outcome: isinstance(outcome, getm.DownloadFailure),
    )
    assert left.left is not None and isinstance(refused.error, errors.TargetError)


# Around it -----------------------------------------------------------------------------------------------------------


def test_what_an_earlier_run_began_is_resumed(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    body = os.urandom(5 * MIB)
    checksum = f"sha256:{hashlib.sha256(body).hexdigest()}"
    (tmp_path / "x").write_bytes(b"old")
    url = fault_server.serve("/x", Reply(body=body, cut_at=3 * MIB), Reply(body=body))
    with pytest.raises(errors.Truncated):
        session.download(url, tmp_path / "x", checksum=checksum, existing="verify")
    assert (tmp_path / "x").read_bytes() == b"old"
    result = session.download(url, tmp_path / "x", checksum=checksum, existing="verify")
    assert result.verified and result.stats.received_bytes < 3 * MIB
    assert (tmp_path / "x").read_bytes() == body and names(tmp_path) == ["x"]


def test_a_dry_run_examines_and_asks(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    (tmp_path / "good").write_bytes(BODY)
    (tmp_path / "bad").write_bytes(BODY[::-1])
    heard: list[getm.Event] = []
    entries = [getm.Entry(url, name, MD5) for name in ("good", "bad", "missing")]
    assert outcomes(session, entries, tmp_path, existing="verify", dry_run=True, on_event=heard.append) == []
    assert {
        type(event).__name__: event.path and event.path.name for event in heard if isinstance(event, getm.Skipped)
    } == {"Skipped": "good"}
    assert sorted(event.path.name for event in heard if isinstance(event, getm.Started) and event.path) == [
        "bad", "missing",
    ]  # fmt: skip
    assert (tmp_path / "bad").read_bytes() == BODY[::-1]


def test_leaving_the_loop_ends_the_reading(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    """Of a sparse file of 100 GB, which would take minutes."""
    url = fault_server.serve("/x", Reply(body=BODY))
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(100 * 10**9)
    entries = [getm.Entry(url, "x"), getm.Entry(url, "huge", MD5)]
    for result in session.download_all(entries, directory=tmp_path, existing="verify"):
        assert result.index == 0
        break
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("getm-examine")]


def test_other_downloads_go_on_while_a_file_is_read(
    tmp_path: Path, session: getm.Session, fault_server: FaultServer
) -> None:
    """All of them end long before a large file has been hashed."""
    url = fault_server.serve("/x", Reply(body=BODY))
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2 * 10**9)
    entries = [getm.Entry(url, "large", f"sha512:{'0' * 128}"), *(getm.Entry(url, f"{i}") for i in range(100))]
    order = [
        result.index
        for result in session.download_all(entries, directory=tmp_path, existing="verify", continue_after_error=True)
    ]
    assert order[-1] == 0


def test_the_reading_of_a_large_file_is_reported(
    tmp_path: Path, session: getm.Session, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(existing_file, "_TELL_S", 0.0)
    url = fault_server.serve("/x", Reply(body=BODY))
    (tmp_path / "x").write_bytes(bytes(5 * MIB))
    heard: list[getm.Event] = []
    checksum = str(getm.checksum(bytes(5 * MIB)))
    list(session.download_all([getm.Entry(url, tmp_path / "x", checksum)], existing="verify", on_event=heard.append))
    told = [event for event in heard if isinstance(event, getm.Examining)]
    assert [event.done_bytes for event in told] == [number * MIB for number in range(1, 6)]
    assert {(event.index, event.path, event.total_bytes) for event in told} == {(0, tmp_path / "x", 5 * MIB)}
    assert [type(event) for event in heard] == [getm.Examining] * 5 + [getm.Skipped]


def test_what_a_terminal_shows_while_a_file_is_read(tmp_path: Path, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    with (tmp_path / "x").open("wb") as file:
        file.truncate(2 * 10**9)
    _, shown = on_a_terminal(url, "x", "--checksum", f"sha512:{'0' * 128}", "--existing=verify", cwd=tmp_path)
    assert "checking x" in shown


# Verify and update: by a receipt --------------------------------------------------------------------------------------


def test_a_receipt_says_what_was_received(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    urls = [fault_server.serve(f"/{number}", Reply(body=BODY + b"%d" % number)) for number in range(20)]
    options = {"directory": tmp_path, "existing": "verify", "receipt": tmp_path / "receipt.jsonl"}

    def run() -> tuple[list[Any], int]:
        count = len(fault_server.requests)
        found = list(session.download_all(urls, **options))  # type: ignore[arg-type]
        return found, len(fault_server.requests) - count

    assert run()[1] == 20
    found, requests = run()
    assert ({result.left for result in found}, requests) == ({"verified in place by sha256 (from receipt)"}, 0)
    (tmp_path / "7").write_bytes(b"damaged")
    (tmp_path / "8").unlink()
    found, requests = run()
    assert (sorted(result.index for result in found if result.left is None), requests) == ([7, 8], 2)
    assert run()[1] == 0
    lines = [json.loads(line) for line in (tmp_path / "receipt.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines].count("left") == 20 + 18 + 20
    assert lines[-1] | {"path": "", "url": "", "size": 0, "checksums": [], "verified_by": "", "changed_ns": 0} == {
        "status": "left",
        "path": "",
        "url": "",
        "size": 0,
        "checksums": [],
        "verified_by": "",
        "declared_by": "receipt",
        "reason": "verified in place by sha256 (from receipt)",
        "etag": '"v1"',
        "last_modified": "Tue, 01 Jul 2025 00:00:00 GMT",
        "changed_ns": 0,
        "started": lines[-1]["started"],
        "ended": lines[-1]["ended"],
    }
    run_verify = run_getm("verify", "--receipt", "receipt.jsonl", cwd=tmp_path)
    assert (run_verify.returncode, run_verify.stdout.count(b": OK\n")) == (0, 20)


class Versions:
    """A server of one object, which answers conditions as RFC 9110 has it, and counts the bodies that it sends."""

    def __init__(self, server: FaultServer, *, ignores: str = "") -> None:
        self.body, self.etag = b"version 1", '"v1"'
        self.modified = "Tue, 01 Jul 2025 00:00:00 GMT"
        self.sent: list[int] = []
        self.conditions: list[str] = []
        self._ignores = ignores
        self.url = server.serve("/object", self._reply)

    def _reply(self, request: Request) -> Reply:
        tag, since = request.header("If-None-Match"), request.header("If-Modified-Since")
        self.conditions.append(" ".join(filter(None, (tag, since))))
        same = bool(tag and self.etag and tag.removeprefix("W/") == self.etag.removeprefix("W/"))
        if (same or (tag is None and since == self.modified)) and self._ignores != "conditions":
            self.sent.append(304)
            return Reply(status=304, etag=self.etag, last_modified=self.modified, headers={"Content-Length": None})
        self.sent.append(200)
        return Reply(body=self.body, etag=self.etag or None, last_modified=self.modified)

    def replace(self) -> None:
        self.body, self.etag, self.modified = b"version two", '"v2"', "Wed, 02 Jul 2025 00:00:00 GMT"


def update(session: getm.Session, versions: Versions, path: Path, *, receipt: bool = True) -> getm.DownloadResult:
    record = path.with_name("receipt.jsonl") if receipt else None
    return session.download(versions.url, path, existing="update", receipt=record)


@pytest.mark.parametrize("ignores", ["", "conditions"])
@pytest.mark.parametrize("receipt", [True, False])
@pytest.mark.parametrize("etag", ['"v1"', 'W/"v1"', ""])
def test_an_update_asks_once_and_brings_no_byte(
    tmp_path: Path, session: getm.Session, fault_server: FaultServer, ignores: str, receipt: bool, etag: str
) -> None:
    """By a 304; or, where the server ignores conditions, by the validators of its answer, which is given up."""
    versions, path = Versions(fault_server, ignores=ignores), tmp_path / "x"
    versions.etag = etag
    first = update(session, versions, path, receipt=receipt)
    assert (first.left, versions.conditions) == (None, [""])
    assert path.stat().st_mtime == 1751328000
    left = update(session, versions, path, receipt=receipt)
    assert left.left is not None and left.left.startswith("not modified")
    assert (left.size, left.verified, left.stats.requests) == (9, False, 1)
    assert versions.sent == [200, 200 if ignores else 304]
    assert versions.conditions[1] == (etag if receipt and etag else versions.modified)
    versions.replace()
    newer = update(session, versions, path, receipt=receipt)
    assert (newer.left, newer.replaced, path.read_bytes()) == (None, "the server has another version", b"version two")
    assert versions.sent[2:] == [200]
    assert update(session, versions, path, receipt=receipt).left is not None
    assert versions.sent[3:] == [200 if ignores else 304]


def test_games_with_times(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    """With a receipt, a file whose bytes were changed is noticed whatever its time says; without one, its time is all
    that there is, and one in the future says nothing."""
    versions, path = Versions(fault_server), tmp_path / "x"
    update(session, versions, path)
    status = path.stat()
    path.write_bytes(b"VERSION 1")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    result = update(session, versions, path)
    assert result.replaced is not None and result.replaced.startswith("wrong: expected sha256")
    assert path.read_bytes() == b"version 1" and versions.conditions[1] == ""
    # Touched, and as it was: it is read, and its version is asked for.
    os.utime(path, (2**33, 2**33))
    result = update(session, versions, path)
    assert (result.left, result.verified, versions.conditions[2]) == ("not modified", True, '"v1"')
    # Without a receipt.
    for time in (2**33, -10):
        os.utime(path, (time, time))
        result = update(session, versions, path, receipt=False)
        assert (result.replaced, versions.conditions[-1]) == ("its time lies in the future, or before 1970", "")
    os.utime(path, (1751327999, 1751327999))
    assert update(session, versions, path, receipt=False).replaced == "the server has another version"
    assert versions.conditions[-1] == "Mon, 30 Jun 2025 23:59:59 GMT"
    # Newer than the object, which this server answers with all of it.
    os.utime(path, (1751328001, 1751328001))
    result = update(session, versions, path, receipt=False)
    assert (result.left, versions.sent[-1]) == ("not modified: it has the validator that it had", 200)
    path.write_bytes(b"short")
    os.utime(path, (1751328001, 1751328001))
    assert update(session, versions, path, receipt=False).replaced == "the server has another version"


def test_a_304_for_another_version_is_no_answer(
    tmp_path: Path, session: getm.Session, fault_server: FaultServer
) -> None:
    path, receipt = tmp_path / "x", tmp_path / "receipt"
    url = fault_server.serve(
        "/x", Reply(body=BODY), Reply(status=304, etag='"v9"', headers={"Content-Length": None}), Reply(body=BODY * 2)
    )
    session.download(url, path, receipt=receipt)
    result = session.download(url, path, receipt=receipt, existing="update")
    assert (result.replaced, result.stats.requests) == ("the server has another version", 2)
    assert path.read_bytes() == BODY * 2 and fault_server.requests[2].header("If-None-Match") is None


def test_validators_of_another_url_are_not_used(
    tmp_path: Path, session: getm.Session, fault_server: FaultServer
) -> None:
    """Servers make tags of sizes and times: two objects may have the same."""
    path, receipt = tmp_path / "x", tmp_path / "receipt"
    one, other = (fault_server.serve(name, Reply(body=body)) for name, body in (("/1", b"1"), ("/2", b"2")))
    session.download(one, path, receipt=receipt)
    result = session.download(other, path, receipt=receipt, existing="update")
    assert fault_server.requests[1].header("If-None-Match") is None
    assert fault_server.requests[1].header("If-Modified-Since") is not None
    assert result.left is not None or path.read_bytes() == b"2"
    # Another query is another signature.
    session.download(f"{one}?sig=2", path, receipt=receipt)
    session.download(f"{one}?sig=3", path, receipt=receipt, existing="update")
    assert fault_server.requests[-1].header("If-None-Match") == '"v1"'


def test_a_condition_of_the_callers_own(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    session.download(url, tmp_path / "x")
    result = session.download(url, tmp_path / "x", existing="update", headers={"If-None-Match": '"mine"'})
    assert result.replaced == "the request has a condition of its own"
    assert [value for name, value in fault_server.requests[1].headers if name == "If-None-Match"] == ['"mine"']


def test_mirrors_get_no_condition(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    good, path = fault_server.serve("/good", Reply(body=BODY)), tmp_path / "x"
    bad = fault_server.serve("/bad", Reply(body=BODY), error_page(404))
    receipt = tmp_path / "receipt"
    session.download(bad, path, receipt=receipt)
    result = session.download(bad, path, mirrors=[good], receipt=receipt, existing="update")
    assert [request.header("If-None-Match") for request in fault_server.requests] == [None, '"v1"', None]
    # It has the same tag: as far as it can be told, nothing is new.
    assert result.left is not None


def test_a_name_that_only_the_server_knows_and_an_update(
    tmp_path: Path, session: getm.Session, fault_server: FaultServer
) -> None:
    named = {"Content-Disposition": "filename=theirs"}
    url = fault_server.serve("/x", Reply(body=BODY, headers=named))
    first = session.download(url, tmp_path, existing="update", receipt=tmp_path / "r")
    assert first.path == tmp_path / "theirs"
    left = session.download(url, tmp_path, existing="update", receipt=tmp_path / "r")
    assert (left.left, left.path) == ("not modified", tmp_path / "theirs")
    fault_server.serve("/x", Reply(body=BODY[::-1], headers=named, etag='"v2"'))
    with pytest.raises(errors.TargetError, match="another version"):
        session.download(url, tmp_path, existing="update", receipt=tmp_path / "r")
    assert (tmp_path / "theirs").read_bytes() == BODY


def test_an_update_of_a_large_object_resumes(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    old, new = os.urandom(3 * MIB), os.urandom(5 * MIB)
    path, receipt = tmp_path / "x", tmp_path / "receipt"
    url = fault_server.serve("/x", Reply(body=old))
    session.download(url, path, receipt=receipt)
    fault_server.serve("/x", Reply(body=new, etag='"v2"', cut_at=3 * MIB), Reply(body=new, etag='"v2"'))
    with pytest.raises(errors.Truncated):
        session.download(url, path, receipt=receipt, existing="update")
    assert path.read_bytes() == old
    result = session.download(url, path, receipt=receipt, existing="update", concurrency=1)
    assert path.read_bytes() == new and result.replaced == "the server has another version"
    assert fault_server.requests[-1].header("Range") is not None
    assert [name for name in names(tmp_path) if name.startswith(".")] == []


def test_nginx_answers_conditions(tmp_path: Path, nginx: NginxServer, make_object: Make) -> None:
    """2,000,000 bytes over several range requests, then one 304; by the tag, and by the time."""
    served = make_object(2_000_000, seed=5)
    for options in (["--receipt", "r"], []):
        arguments = [nginx.url(served), "x", "-N", "-x", 4, "--json", *options]
        run_getm(*arguments, cwd=tmp_path)
        mark = nginx.log.mark()
        run = run_getm(*arguments, cwd=tmp_path)
        (event,) = map(json.loads, run.stdout.splitlines())
        assert (run.returncode, run.stderr) == (0, b"")
        assert (event["event"], event["reason"], event["requests"]) == ("skipped", "not modified", 1)
        (request,) = nginx.log.since(mark)
        assert (request.status, request.body_bytes) == (304, 0)
        (tmp_path / "x").unlink()


# The command ---------------------------------------------------------------------------------------------------------


def test_the_short_forms_of_the_command(tmp_path: Path, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    (tmp_path / "x").write_bytes(b"old")
    for option in ("-nc", "--no-clobber", "--existing=keep"):
        run = run_getm(url, "x", option, "-v", cwd=tmp_path)
        assert (run.returncode, run.stderr) == (0, b"") and b"x: skipped: it exists" in run.stdout
    assert fault_server.requests == [] and (tmp_path / "x").read_bytes() == b"old"
    for options in (["-nc", "--existing=verify"], ["--existing=keep", "-N"], ["-N", "-nc"], ["--existing=x"]):
        run = run_getm(url, "x", *options, cwd=tmp_path)
        assert run.returncode == 2 and "existing" in str(failure(run)["message"])
