"""The download tool as people and programs use it: lists, options, what it prints where, and how it ends."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import getm
from getm.testing import FaultServer, Reply, redirect
from getm.testing import failure as error_page
from tests.support.command import failure, names, on_a_terminal, started
from tests.support.command import getm as run_getm
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject
from tests.support.terminal import screen

MIB = 1024 * 1024
Make = Callable[..., ServedObject]
Run = subprocess.CompletedProcess[bytes]


@pytest.fixture
def small(make_object: Make) -> ServedObject:
    return make_object(300_001, seed=11)


def succeeded(run: Run) -> Run:
    assert (run.returncode, run.stderr) == (0, b"")
    return run


def listed(folder: Path, *rows: dict[str, object]) -> Path:
    path = folder / "list.json"
    path.write_text(json.dumps(rows))
    return path


def told(run: Run) -> list[dict[str, object]]:
    """The JSON objects on standard output."""
    return [json.loads(line) for line in run.stdout.splitlines()]


def below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# URLs and lists ------------------------------------------------------------------------------------------------------


def test_several_urls_into_a_new_folder(tmp_path: Path, nginx: NginxServer, make_object: Make) -> None:
    objects = [make_object(size) for size in (0, 1, 300_001, 5 * MIB + 77)]
    succeeded(run_getm(*map(nginx.url, objects), "-d", "new/folder", "-j", 2, cwd=tmp_path))
    assert below(tmp_path / "new" / "folder") == {served.path.name: served.read() for served in objects}


LISTS: dict[str, str] = {
    "json": '[{"url": "URL", "filepath": "a/b", "checksum": "MD5", "checksum-algorithm": "md5", "size": SIZE}]',
    "jsonl": '{"url": "URL", "filepath": "a/b", "checksums": {"md5": "MD5", "sha256": "SHA256"}, "mirrors": ["URL?2"]}',
    "urls": "# a comment\nURL\n",
    "aria2": "URL\tURL?2\n  out=b\n  dir=a\n  checksum=md5=MD5\n  header=X-Of-The-List: 1\n",
    "sums": "SHA256  NAME\n",
    "sums of BSD": "SHA256 (NAME) = SHA256\n",
    "csv": "link,where,md5sum,bytes\nURL,a/b,MD5,SIZE\n",
    "tsv": "url\tpath\tmd5\tsize\nURL\ta/b\tMD5\tSIZE\n",
    "metalink": (
        '<?xml version="1.0"?><metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="a/b"><size>SIZE</size>'
        '<hash type="sha-256">SHA256</hash><url>URL</url></file></metalink>'
    ),
    "bagit": "URL SIZE data/b\n",
}
OPTIONS = {
    "sums": ["--base-url", "BASE"],
    "sums of BSD": ["--base-url", "BASE"],
    "csv": ["--columns", "url=link,path=where,md5=md5sum,size=bytes"],
}


@pytest.mark.parametrize(
    ("form", "where"),
    [
        *((form, "a file") for form in LISTS),
        *((form, "standard input") for form in ("json", "jsonl", "urls", "csv", "metalink")),
        *((form, "a folder") for form in ("aria2", "sums", "bagit")),
    ],
)
def test_lists_of_every_format(tmp_path: Path, nginx: NginxServer, small: ServedObject, form: str, where: str) -> None:
    url = nginx.url(small)
    words = {"SHA256": small.sha256_hex, "MD5": small.md5_hex, "SIZE": str(small.size_bytes), "NAME": small.path.name}
    # The name of the algorithm in the BSD form stays.
    text = LISTS[form].replace("SHA256 (", "ALGORITHM (").replace("URL", url)
    for word, value in words.items():
        text = text.replace(word, value)
    name = "fetch.txt" if form == "bagit" else "list"
    (tmp_path / name).write_text(text.replace("ALGORITHM (", "SHA256 ("))
    options = [option.replace("BASE", url.rpartition("/")[0]) for option in OPTIONS.get(form, [])]
    if form != "urls" and where != "a folder":
        # What it is shows; to say so does no harm.
        options += ["--format", form.partition(" ")[0]]
    if where == "standard input":
        succeeded(run_getm("-i", "-", *options, cwd=tmp_path, stdin=(tmp_path / name).read_bytes()))
    elif where == "a file":
        succeeded(run_getm("-m", name, *options, cwd=tmp_path))
    else:
        succeeded(run_getm("-m", name, "-d", "deep/er", *options, cwd=tmp_path))
    (tmp_path / name).unlink()
    path = {"urls": small.path.name, "sums": small.path.name, "sums of BSD": small.path.name, "bagit": "data/b"}
    target = path.get(form, "a/b")
    assert below(tmp_path) == {f"deep/er/{target}" if where == "a folder" else target: small.read()}


def test_what_an_entry_says_goes_first(tmp_path: Path, fault_server: FaultServer) -> None:
    body = b"data"
    url = fault_server.serve("/x", Reply(body=body))
    sums = {"md5": hashlib.md5(body).hexdigest(), "sha256": hashlib.sha256(body).hexdigest()}
    path = listed(tmp_path, {"url": url, "filepath": "x", "headers": {"X-One": "entry"}, "checksums": sums, "size": 4})
    run = succeeded(run_getm("-m", path, "-H", "X-One: all", "-H", "X-Two: all", "-v", cwd=tmp_path))
    # The strongest of several is verified, and the others are not looked at.
    assert f"sha256:{sums['sha256']}".encode() in run.stdout
    (request,) = fault_server.requests
    assert (request.header("X-One"), request.header("X-Two")) == ("entry", "all")


def test_mirrors_of_a_list(tmp_path: Path, fault_server: FaultServer) -> None:
    missing = fault_server.serve("/missing", error_page(404))
    other = fault_server.serve("/other", Reply(body=b"of another size"))
    good = fault_server.serve("/good", Reply(body=b"good"))
    path = listed(tmp_path, {"url": missing, "mirrors": [other, good], "filepath": "x", "size": 4})
    succeeded(run_getm("-m", path, cwd=tmp_path))
    assert (tmp_path / "x").read_bytes() == b"good"
    assert [request.path for request in fault_server.requests] == ["/missing", "/other", "/good"]


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [3 * MIB - 1, 3 * MIB + 1])
@pytest.mark.parametrize("connections", [1, 3])
def test_another_size_than_the_list_says(
    tmp_path: Path, fault_server: FaultServer, framing: str, size: int, connections: int
) -> None:
    url = fault_server.serve("/x", Reply(body=bytes(3 * MIB), framing=framing))  # type: ignore[arg-type]
    path = listed(tmp_path, {"url": f"{url}?SECRET", "filepath": "x", "size": size})
    run = run_getm("-m", path, "-x", connections, "-c", cwd=tmp_path)
    assert run.returncode == 9
    facts = failure(run)
    assert (facts["error"], facts["expected"], facts["url"]) == ("size-mismatch", size, url)
    assert names(tmp_path) == ["list.json"]


def test_zero_entries_and_no_list(tmp_path: Path) -> None:
    for data in ("", "\n# nothing\n", "[]"):
        run = run_getm("-i", "-", cwd=tmp_path, stdin=data.encode())
        assert run.returncode == 2
        assert "empty list" in str(failure(run)["message"])


@pytest.mark.parametrize("options", [[], ["-d", "in"]])
@pytest.mark.parametrize("path", ["../out", "/tmp/getm-out", "a/../../out", "link/out", "dangling/out"])
def test_foreign_lists_stay_inside(tmp_path: Path, fault_server: FaultServer, options: list[str], path: str) -> None:
    home = tmp_path / "home"
    base = home / "in" if options else home
    base.mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (base / "link").symlink_to(tmp_path / "outside")
    (base / "dangling").symlink_to(tmp_path / "elsewhere")
    url = fault_server.serve("/x", Reply(body=b"data"))
    (home / "list").write_text(f"{url}\n  out={path}\n")
    run = run_getm("-i", "list", *options, cwd=home)
    assert run.returncode == 2
    assert fault_server.requests == []
    assert names(tmp_path) == ["home", "outside"] and names(tmp_path / "outside") == []


def test_a_link_that_is_planted_after_the_check(tmp_path: Path, fault_server: FaultServer) -> None:
    home, outside = tmp_path / "home", tmp_path / "outside"
    home.mkdir()
    outside.mkdir()
    gate = fault_server.gate()
    first = fault_server.serve("/first", Reply(body=b"first", hold=gate))
    second = fault_server.serve("/second", Reply(body=b"second"))
    (home / "list").write_text(f"{first}\n  out=first\n{second}\n  out=folder/second\n")
    with started("-i", "list", "-j", 1, "-c", cwd=home, stderr=subprocess.PIPE) as process:
        gate.wait_reached()
        (home / "folder").symlink_to(outside)
        gate.open()
        _, stderr = process.communicate()
    assert process.returncode == 3
    assert "leads out" in str(failure(Run([], 3, b"", stderr))["message"])
    assert names(outside) == []
    assert (home / "first").read_bytes() == b"first"


def test_a_file_that_is_a_link_is_replaced(tmp_path: Path, fault_server: FaultServer) -> None:
    (tmp_path / "victim").write_bytes(b"untouched")
    (tmp_path / "x").symlink_to("victim")
    succeeded(run_getm(fault_server.serve("/x", Reply(body=b"data")), cwd=tmp_path))
    assert below(tmp_path) == {"victim": b"untouched", "x": b"data"}
    assert not (tmp_path / "x").is_symlink()


@pytest.mark.parametrize("target", ["/dev/null", "fifo"])
@pytest.mark.parametrize("connections", [1, 4])
def test_what_takes_bytes_in_order(
    tmp_path: Path, nginx: NginxServer, make_object: Make, target: str, connections: int
) -> None:
    served = make_object(20 * MIB + 3, seed=12)
    os.mkfifo(tmp_path / "fifo")
    arguments = [nginx.url(served), target, "-x", str(connections)]
    if target == "/dev/null":
        succeeded(run_getm(*arguments, cwd=tmp_path))
        return
    with started(*arguments, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        assert (tmp_path / "fifo").read_bytes() == served.read()
        assert process.communicate()[1] == b""
    assert process.returncode == 0


# Options -------------------------------------------------------------------------------------------------------------


def test_no_clobber(tmp_path: Path, fault_server: FaultServer) -> None:
    (tmp_path / "a").write_bytes(b"old")
    urls = [fault_server.serve(f"/{name}", Reply(body=b"new")) for name in "ab"]
    run = succeeded(run_getm(*urls, "-d", ".", "-nc", "--json", cwd=tmp_path))
    assert below(tmp_path) == {"a": b"old", "b": b"new"}
    assert sorted(str(event["event"]) for event in told(run)) == ["finished", "skipped"]
    # A name that is given is known before any request.
    count = len(fault_server.requests)
    succeeded(run_getm(urls[0], "a", "--no-clobber", cwd=tmp_path))
    assert len(fault_server.requests) == count


def test_the_servers_time(tmp_path: Path, fault_server: FaultServer) -> None:
    times = {"/good": "Tue, 01 Jul 2025 00:00:00 GMT", "/odd": "yesterday", "/ancient": "Mon, 01 Jan 0001 00:00:00 GMT"}
    urls = [fault_server.serve(path, Reply(body=b"x", last_modified=time)) for path, time in times.items()]
    succeeded(run_getm(*urls, "-R", "-d", ".", cwd=tmp_path))
    assert (tmp_path / "good").stat().st_mtime == 1751328000
    assert {path: data for path, data in below(tmp_path).items()} == {"good": b"x", "odd": b"x", "ancient": b"x"}


@pytest.mark.parametrize("option", [[], ["--no-resume"]])
def test_resume_by_the_next_run(tmp_path: Path, fault_server: FaultServer, option: list[str]) -> None:
    body = os.urandom(5 * MIB)
    url = fault_server.serve("/x", Reply(body=body, cut_at=3 * MIB), Reply(body=body))
    # A signed URL is another one each time: what counts is the object.
    assert run_getm(f"{url}?sig=SECRET1", "x", "--retries", 0, *option, cwd=tmp_path).returncode == 4
    assert (names(tmp_path) == []) is bool(option)
    succeeded(run_getm(f"{url}?sig=SECRET2", "x", *option, cwd=tmp_path))
    assert below(tmp_path) == {"x": body}
    assert (fault_server.requests[-1].header("Range") is None) is bool(option)


def test_the_speed_floor(tmp_path: Path, fault_server: FaultServer) -> None:
    body = os.urandom(3 * MIB)
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=body, stall_at=MIB, gate=gate), Reply(body=body))
    succeeded(run_getm(url, "x", "--speed-limit", "10K", "--speed-time", "0.2", cwd=tmp_path))
    gate.open()
    assert (tmp_path / "x").read_bytes() == body
    assert len(fault_server.requests) == 2


def test_the_rate_limit(tmp_path: Path, fault_server: FaultServer) -> None:
    """Its effect is tested in test_rate_limit.py; here, that the option gets there, for all files together."""
    urls = [fault_server.serve(f"/{number}", Reply(body=os.urandom(40_000))) for number in range(3)]
    run = succeeded(run_getm(*urls, "-d", "d", "--limit-rate", "400K", "--json", cwd=tmp_path))
    assert max(float(str(event["seconds"])) for event in told(run)) > 120_000 / (400 * 1024) / 2


def test_insecure(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    url = nginx.url(small, tls=True)
    assert run_getm(url, "x", cwd=tmp_path).returncode == 4
    for option in ("-k", "--insecure"):
        succeeded(run_getm(url, "x", option, cwd=tmp_path))
    assert below(tmp_path) == {"x": small.read()}


def test_an_s3_etag_of_parts_proves_a_resumed_file(tmp_path: Path, fault_server: FaultServer) -> None:
    body = os.urandom(20 * MIB)
    parts = b"".join(hashlib.md5(body[start : start + 8 * MIB]).digest() for start in range(0, len(body), 8 * MIB))
    etag = f"{hashlib.md5(parts).hexdigest()}-3"
    url = fault_server.serve("/x", Reply(body=body, cut_at=9 * MIB), Reply(body=body))
    options = ["-ca", "s3_etag", "-cs", etag, "--strict", "-v"]
    assert run_getm(url, "x", *options, "--retries", 0, cwd=tmp_path).returncode == 4
    run = succeeded(run_getm(url, "x", *options, cwd=tmp_path))
    assert fault_server.requests[-1].header("Range") is not None
    assert f"s3-etag:{etag}".encode() in run.stdout and (tmp_path / "x").read_bytes() == body


# What it prints ------------------------------------------------------------------------------------------------------


def test_a_dry_run(tmp_path: Path, fault_server: FaultServer) -> None:
    chunked = fault_server.serve("/chunked", Reply(body=b"x" * 10, framing="chunked"))
    named = fault_server.serve("/named", Reply(body=bytes(MIB), headers={"Content-Disposition": "filename=theirs"}))
    moved = fault_server.serve("/moved", redirect("/named"))
    (tmp_path / "old").write_bytes(b"")
    rows: list[dict[str, object]] = [
        {"url": f"{named}?SECRET"},
        {"url": chunked, "filepath": "sub/b"},
        {"url": moved, "filepath": "c"},
        {"url": named, "filepath": "old"},
    ]
    path = listed(tmp_path, *rows)
    before = names(tmp_path)
    run = succeeded(run_getm("-m", path, "--dry-run", "-nc", "-j", 1, "--receipt", "receipt", cwd=tmp_path))
    *lines, total, free = run.stdout.decode().splitlines()
    assert [line.split()[:-1] for line in lines[:3]] == [
        ["1,048,576", "theirs"],
        ["size", "unknown", "sub/b"],
        ["1,048,576", "c"],
    ]
    assert lines[3].split() == ["skipped", "old", "it", "exists"]
    assert total.strip() == "2,097,152  bytes in 3 files, and 1 of unknown size"
    assert re.fullmatch(rf" +[\d,]+  bytes free at {tmp_path}", free)
    run = succeeded(run_getm("-m", path, "--dry-run", "--json", cwd=tmp_path))
    *started_, plan = told(run)
    assert [event["event"] for event in started_] == ["started"] * 4
    assert (plan["files"], plan["unknown_sizes"], plan["total_bytes"]) == (4, 1, 3 * MIB)
    assert [place["total_bytes"] for place in plan["places"]] == [3 * MIB]  # type: ignore[attr-defined]
    assert names(tmp_path) == before


def test_json_for_programs(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    """One object for each file, and nothing else whatever -v says; a failure stands on both streams."""
    good = nginx.declared_url(small, content_md5=small.md5_base64)
    urls = [f"{good}&sig=SECRET", nginx.url("/status/404")]
    run = run_getm(*urls, "-c", "--json", "-vv", "-d", "d", cwd=tmp_path)
    assert run.returncode == 8
    assert failure(run)["status_code"] == 404
    by_event = {event["event"]: event for event in told(run)}
    assert len(told(run)) == 2
    done, failed = by_event["finished"], by_event["failed"]
    assert (done["path"], done["size"], done["verified"]) == (f"d/{small.path.name}", small.size_bytes, True)
    assert (done["checksum"], done["source"]) == (f"md5:{small.md5_hex}", "Content-MD5")
    assert done["url"] == good.partition("?")[0]
    assert (failed["index"], failed["error"], failed["status_code"]) == (1, "status", 404)


def test_what_a_person_may_not_expect_is_said_everywhere(tmp_path: Path, fault_server: FaultServer) -> None:
    """A name that was changed, a content that is coded, a column that is not used, a file that nothing verified: on a
    terminal, by --json, and in the receipt."""
    coded = gzip.compress(b"text")
    urls = [
        fault_server.serve("/renamed", Reply(body=b"a", headers={"Content-Disposition": 'filename="../../etc/x"'})),
        fault_server.serve("/coded", Reply(body=coded, headers={"Content-Encoding": "gzip"})),
    ]
    table = tmp_path / "list.tsv"
    table.write_text("link\tname\tcolour\n" + f"{urls[0]}\t\tred\n{urls[1]}\tc\tred\n")
    options = ["-m", table, "--columns", "url=link,path=name"]
    status, shown = on_a_terminal(*options, "-d", "a", "--receipt", "receipt", cwd=tmp_path)
    assert status == 0
    ignored, *lines, last = screen(shown)
    assert ignored == "  understood and not used: colour"
    assert any("the file is coded: gzip" in line for line in lines)
    assert any("name changed from" in line and "etc" in line for line in lines)
    assert last.endswith("2 not verified, 0 failed, 1 renamed, 1 content-coded")
    events = {str(event["event"]): event for event in told(run_getm(*options, "-d", "b", "--json", cwd=tmp_path))}
    assert events["planned"]["ignored"] == ["colour"]
    receipt = [json.loads(line) for line in (tmp_path / "receipt").read_bytes().splitlines()]
    assert receipt[0]["status"] == "list" and receipt[0]["ignored"] == ["colour"]
    assert {line.get("content_coding") for line in receipt[1:]} == {"gzip", None}
    assert {line.get("suggested_name") for line in receipt[1:]} == {"../../etc/x", None}
    assert all(line["reason"].startswith("the server declared no") for line in receipt[1:])
    assert run_getm("verify", "--receipt", "receipt", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("option", ["--json", "--dry-run", "-d."])
def test_standard_output_is_for_one_thing(tmp_path: Path, option: str) -> None:
    run = run_getm("http://127.0.0.1:9/x", "-", option, cwd=tmp_path)
    assert run.returncode == 2
    assert "standard output" in str(failure(run)["message"])


def test_a_receipt_proves_the_folder(tmp_path: Path, nginx: NginxServer, make_object: Make) -> None:
    objects = [make_object(size) for size in (0, 300_001, 5 * MIB + 77)]
    urls = [f"{nginx.url(served)}?sig=SECRET" for served in objects]
    succeeded(run_getm(*urls, "-d", "data", "--receipt", "receipt", cwd=tmp_path))
    assert b"SECRET" not in (tmp_path / "receipt").read_bytes()
    run = succeeded(run_getm("verify", "--receipt", "receipt", cwd=tmp_path))
    assert run.stdout.count(b": OK") == 3
    with (tmp_path / "data" / objects[2].path.name).open("r+b") as file:
        file.write(b"tampered")
    assert run_getm("verify", "--receipt", "receipt", cwd=tmp_path).returncode == 1


def test_a_receipt_of_standard_output(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    assert succeeded(run_getm(nginx.url(small), "-", "--receipt", "r", cwd=tmp_path)).stdout == small.read()
    assert run_getm(nginx.url("/status/404"), "-", "--receipt", "r", cwd=tmp_path).returncode == 8
    done, failed = (json.loads(line) for line in (tmp_path / "r").read_bytes().splitlines())
    assert (done["status"], done["size"], "path" in done) == ("done", small.size_bytes, False)
    assert (failed["status"], failed["status_code"]) == ("failed", 404)


def test_a_receipt_that_cannot_be_written_is_told_after_other_failures(tmp_path: Path, nginx: NginxServer) -> None:
    urls = [nginx.url(f"/status/{status}") for status in (404, 410)]
    run = run_getm(*urls, "-c", "-j", 1, "--receipt", "/dev/full", cwd=tmp_path)
    assert run.returncode == 3
    assert b"/dev/full" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "level"),
    [([], "WARNING"), (["--checksum", "none"], "INFO"), (["-ca", "null", "-cs", "null"], "INFO")],
)
def test_a_missing_checksum_is_told_by_v_alone(
    tmp_path: Path, nginx: NginxServer, small: ServedObject, arguments: list[str], level: str
) -> None:
    run = succeeded(run_getm(nginx.url(small), "x", "-v", *arguments, cwd=tmp_path))
    assert re.search(rf" {level} getm\.cli: x: 300,001 bytes in .*, not verified: ".encode(), run.stdout)
    assert succeeded(run_getm(nginx.url(small), "x", *arguments, cwd=tmp_path)).stdout == b""


def test_null_in_a_list_means_do_not_warn(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    url = nginx.url(small)
    nothing = {"checksum": "null", "checksum-algorithm": "null"}
    path = listed(tmp_path, {"url": url, "filepath": "warned"}, {"url": url, "filepath": "not", **nothing})
    lines = succeeded(run_getm("-m", path, "-v", cwd=tmp_path)).stdout.decode()
    assert re.search(r"WARNING getm\.cli: warned", lines) and re.search(r"INFO getm\.cli: not", lines)


@pytest.mark.parametrize("kind", ["bar", "plain", "json", "none"])
def test_progress_on_a_terminal(tmp_path: Path, nginx: NginxServer, make_object: Make, kind: str) -> None:
    objects = [make_object(300_001, seed=11), make_object(5 * MIB + 77)]
    status, shown = on_a_terminal(*map(nginx.url, objects), "-d", "d", f"--progress={kind}", cwd=tmp_path)
    assert status == 0
    lines = screen(shown)
    if kind == "bar":
        assert "\x1b[" in shown and len(lines) == 3 and "[2/2]" in lines[1] and lines[2].startswith("2 files, ")
    elif kind == "plain":
        assert lines[0].startswith("files: 2") and any("[2/2]" in line for line in lines) and "\x1b[" not in shown
        assert lines[-1].startswith("all: 2 files, ")
    elif kind == "json":
        told_events = [json.loads(line)["event"] for line in shown.splitlines()]
        assert told_events.count("finished") == 2 and told_events[-1] == "summary"
    else:
        assert shown == ""


# How it ends ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def failures(
    fault_server: FaultServer, nginx: NginxServer, small: ServedObject
) -> Iterator[dict[str, tuple[str, int]]]:
    wrong = nginx.declared_url(small, content_md5=base64.b64encode(bytes(16)).decode())
    with FaultServer() as gone:
        nobody = gone.url("/x")
    yield {
        "network": (nobody, 4),
        "status": (nginx.url("/status/404"), 8),
        "checksum": (wrong, 9),
        "truncation": (fault_server.serve("/x", Reply(body=bytes(1000), cut_at=500, then="close")), 4),
    }


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        *(("url", kind) for kind in ("network", "status", "checksum", "truncation")),
        *(("list with -c", kind) for kind in ("network", "status", "checksum", "truncation")),
        ("urls", "status"),
        ("urls", "checksum"),
        ("list of one", "network"),
        ("list of one", "truncation"),
    ],
)
def test_exit_statuses(tmp_path: Path, failures: dict[str, tuple[str, int]], kind: str, form: str) -> None:
    url, expected = failures[kind]
    arguments: dict[str, list[object]] = {
        "url": [url, "x"],
        # The second is not begun after the first has failed.
        "urls": [url, "http://127.0.0.1:1/second", "-d", "d", "-j", 1],
        "list of one": ["-m", listed(tmp_path, {"url": url, "filepath": "x"})],
        "list with -c": ["-m", listed(tmp_path, {"url": url, "filepath": "x"}), "-c"],
    }
    run = run_getm(*arguments[form], "--retries", 0, cwd=tmp_path)
    assert run.returncode == expected
    facts = failure(run)
    assert facts["url"] == url.partition("?")[0]
    assert ("Checksum failed!" in str(facts["message"])) is (kind == "checksum")
    assert below(tmp_path).keys() <= {"list.json"}


def test_strict_in_a_batch(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    good = nginx.declared_url(small, content_md5=small.md5_base64)
    path = listed(tmp_path, {"url": good, "filepath": "good"}, {"url": nginx.url(small), "filepath": "bare"})
    run = run_getm("-m", path, "--strict", "-c", cwd=tmp_path)
    assert run.returncode == 9
    assert (failure(run)["error"], failure(run)["path"]) == ("unverified", "bare")
    assert names(tmp_path) == ["good", "list.json"]


# In Python -----------------------------------------------------------------------------------------------------------


async def test_python_both_faces_with_events(tmp_path: Path, nginx: NginxServer, make_object: Make) -> None:
    objects = [make_object(size) for size in (0, 300_001, 5 * MIB + 77)]
    heard: dict[str, list[getm.Event]] = {"sync": [], "async": []}
    with getm.Session() as session:
        entries = [getm.Entry(nginx.url(served), size=served.size_bytes) for served in objects]
        sync = list(session.download_all(entries, directory=tmp_path / "sync", on_event=heard["sync"].append))
        both = [
            result
            async for result in session.adownload_all(
                iter(entries), directory=tmp_path / "async", on_event=heard["async"].append
            )
        ]
        with pytest.raises(getm.InvalidInput, match=r"a getm\.Entry"):
            list(session.download_all([{"url": "x"}]))  # type: ignore[list-item]
    for face, results in (("sync", sync), ("async", both)):
        assert below(tmp_path / face) == {served.path.name: served.read() for served in objects}
        finished = [event.result for event in heard[face] if isinstance(event, getm.Finished)]
        assert finished == results
        assert sum(isinstance(event, getm.Started) for event in heard[face]) == 3
