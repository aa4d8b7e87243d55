"""The command, run as a process against real servers: what it writes, where, and the contract of existing callers."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from getm._version import __version__
from getm.testing import FaultServer, Reply
from getm.testing import failure as error_page
from tests.support.command import GETM, failure, getm, names, on_a_terminal, refused, started
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject
from tests.support.terminal import screen

MIB = 1024 * 1024
MakeObject = Callable[..., ServedObject]


def cromwell(run: subprocess.CompletedProcess[bytes]) -> str:
    """What Cromwell's BulkAccessUrlDownloader makes of a run: its lines of standard error joined without line breaks,
    trimmed, and matched whole."""
    stderr = "".join(run.stderr.decode().splitlines()).strip()
    if run.returncode == 0:
        return "success" if not stderr else "retry"
    match = re.fullmatch(r'ERROR:getm\.cli.*"status_code":\s*(\d+).*', stderr)
    if match is None:
        return "retry"
    status = int(match[1])
    return "fatal" if status // 100 == 4 and status not in (408, 429) else f"retry {status}"


@pytest.fixture
def small(make_object: MakeObject) -> ServedObject:
    return make_object(300_001, seed=11)


@pytest.fixture
def large(make_object: MakeObject) -> ServedObject:
    return make_object(20 * MIB + 3, seed=12)


# One file ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verbosity", [[], ["-v"], ["-vv"], ["-q"]])
def test_success_has_empty_stderr(
    tmp_path: Path, nginx: NginxServer, small: ServedObject, verbosity: list[str]
) -> None:
    url = nginx.declared_url(small, content_md5=base64.b64encode(small.md5).decode())
    run = getm(*verbosity, f"{url}&sig=SECRET", "out.bin", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert (tmp_path / "out.bin").read_bytes() == small.read()
    assert names(tmp_path) == ["out.bin"]
    if verbosity in (["-v"], ["-vv"]):
        assert b"out.bin: 300,001 bytes" in run.stdout and b"md5" in run.stdout
    else:
        assert run.stdout == b""


def test_the_module_is_the_command(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    command = [sys.executable, "-m", "getm", nginx.url(small)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
    assert (tmp_path / small.path.name).read_bytes() == small.read()


@pytest.mark.parametrize(
    "target",
    [["out"], ["-o", "out"], ["-O", "out"], ["--filepath", "out"], ["--filepath=new/folder/out"], ["new/"], ["."], []],
)
def test_targets(tmp_path: Path, nginx: NginxServer, small: ServedObject, target: list[str]) -> None:
    run = getm(nginx.url(small), *target, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    (found,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert found.name == (small.path.name if target in (["new/"], ["."], []) else "out")
    assert found.read_bytes() == small.read()


def test_options_may_stand_anywhere(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    run = getm("-q", nginx.url(small), "-x", 2, "out", "--retries", 1, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert (tmp_path / "out").read_bytes() == small.read()


def test_the_home_folder_in_an_option(
    tmp_path: Path, nginx: NginxServer, small: ServedObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert getm(nginx.url(small), "--filepath=~/out", cwd=tmp_path).returncode == 0
    assert (tmp_path / "home" / "out").read_bytes() == small.read()


def test_row_40_the_server_names_the_file_safely(tmp_path: Path, fault_server: FaultServer) -> None:
    url = fault_server.serve(
        "/object", Reply(body=b"data", headers={"Content-Disposition": 'attachment; filename="../../.evil"'})
    )
    (tmp_path / "inner" / "most").mkdir(parents=True)
    run = getm(url, cwd=tmp_path / "inner" / "most")
    assert (run.returncode, run.stderr) == (0, b"")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "inner" / "most" / "_evil"]


@pytest.mark.parametrize("target", [["new/"], ["-d", "new"], ["-o", "new/"]])
def test_the_server_names_the_file_in_a_new_folder(
    tmp_path: Path, fault_server: FaultServer, target: list[str]
) -> None:
    url = fault_server.serve("/x", Reply(body=b"data", headers={"Content-Disposition": "filename=theirs"}))
    assert getm(url, *target, cwd=tmp_path).returncode == 0
    assert names(tmp_path / "new") == ["theirs"]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_standard_output(tmp_path: Path, nginx: NginxServer, large: ServedObject, concurrency: int) -> None:
    run = getm(nginx.url(large), "-", "-x", concurrency, "-vv", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout == large.read()
    assert names(tmp_path) == []


@pytest.mark.parametrize("target", ["/dev/stdout", "/dev/fd/1"])
def test_standard_output_by_another_name(tmp_path: Path, nginx: NginxServer, large: ServedObject, target: str) -> None:
    run = getm(nginx.url(large), target, "-x", 4, "-vv", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout == large.read()


def test_standard_output_with_a_wrong_checksum(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    run = getm(nginx.url(small), "-", "--checksum", "md5:" + "0" * 32, cwd=tmp_path)
    assert run.returncode == 9
    assert "Checksum failed!" in str(failure(run)["message"])


@pytest.mark.parametrize("target", ["-", "/dev/stdout"])
def test_a_reader_that_leaves_is_no_error_worth_words(
    tmp_path: Path, nginx: NginxServer, large: ServedObject, target: str
) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(nginx.url(large), target, cwd=tmp_path, **pipes) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(10) == large.read(0, 10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_standard_output_that_is_closed(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    run = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *GETM, nginx.url(small), "-"], cwd=tmp_path, capture_output=True
    )
    assert run.returncode == 3
    assert failure(run)["path"] == "-"


def test_everything_closed(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    """As some daemons start their children: no socket may get a descriptor that others print to."""
    command = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *GETM, nginx.url(small), "out"]
    assert subprocess.run(command, cwd=tmp_path).returncode == 0
    assert (tmp_path / "out").read_bytes() == small.read()


# What went wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reading"),
    [
        *((status, "fatal") for status in (400, 401, 403, 404)),
        *((status, f"retry {status}") for status in (408, 429, 500, 503)),
    ],
)
def test_an_http_status(tmp_path: Path, fault_server: FaultServer, status: int, reading: str) -> None:
    url = fault_server.serve("/x", error_page(status))
    run = getm("--retries", 0, f"{url}?sig=SECRET", "out", cwd=tmp_path)
    assert run.returncode == 8
    facts = failure(run)
    assert facts["status_code"] == status
    assert facts["url"] == url
    assert cromwell(run) == reading
    assert names(tmp_path) == []


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize(
    "expected",
    [
        ["--checksum", "md5:" + "0" * 32],
        ["--checksum", "crc32c:00000000"],
        ["-cs", "0" * 32, "-ca", "md5"],
        ["--checksum-algorithm", "gs_crc32c", "--checksum", "AAAAAA=="],
        ["-ca", "s3_etag", "-cs", "0" * 32],
    ],
)
def test_a_wrong_checksum(
    tmp_path: Path, nginx: NginxServer, small: ServedObject, expected: list[str], old: bytes | None
) -> None:
    if old is not None:
        (tmp_path / "out").write_bytes(old)
    run = getm(*expected, nginx.url(small) + "?sig=SECRET", "out", cwd=tmp_path)
    assert run.returncode == 9
    facts = failure(run)
    assert str(facts["message"]).startswith("Checksum failed!")
    assert facts["expected"] != facts["actual"] and facts["url"] == nginx.url(small)
    assert cromwell(run) == "retry"
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([old] if old is not None else [])


@pytest.mark.parametrize("form", ["pair", "modern", "aria2"])
def test_a_right_checksum(tmp_path: Path, nginx: NginxServer, small: ServedObject, form: str) -> None:
    # What the server declares is wrong: the caller's word wins (faults row 37).
    url = nginx.declared_url(small, content_md5=base64.b64encode(bytes(16)).decode())
    crc32c = base64.b64encode(small.crc32c).decode()
    arguments = {
        "pair": ["--filepath", "out", "--checksum-algorithm", "gs_crc32c", "--checksum", crc32c, url],
        "modern": [url, "out", "--checksum", f"sha256:{small.sha256.hex()}"],
        "aria2": [url, "out", f"--checksum=sha-256={small.sha256.hex()}"],
    }[form]
    run = getm(*arguments, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert (tmp_path / "out").read_bytes() == small.read()


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("target", ["out", "-"])
@pytest.mark.parametrize("form", ["modern", "pairs"])
def test_case_19_all_checksums_count(
    tmp_path: Path, nginx: NginxServer, small: ServedObject, form: str, target: str, right: bool
) -> None:
    md5 = small.md5.hex() if right else "0" * 32
    options = {
        "modern": ["--checksum", f"md5:{md5}", "--checksum", f"sha256:{small.sha256.hex()}"],
        "pairs": ["-ca", "md5", "-cs", md5, "-ca", "sha256", "-cs", small.sha256.hex()],
    }[form]
    run = getm(nginx.url(small), target, *options, cwd=tmp_path)
    assert (run.returncode, names(tmp_path)) == (0 if right else 9, ["out"] if right and target == "out" else [])
    assert right or "Checksum failed!" in str(failure(run)["message"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--checksum", "md5:" + "0" * 32, "--checksum", "md5:" + "1" * 32], "contradict each other"),
        (["--checksum", "auto", "--checksum", "md5:" + "0" * 32], "stand alone"),
        (["--checksum", "md5:" + "0" * 32, "--checksum", "none"], "stand alone"),
        (["-ca", "md5", "-cs", "0" * 32, "-cs", "1" * 40], "as often as"),
        (["-ca", "md5", "-ca", "sha1", "-cs", "0" * 32], "as often as"),
        (["-o", "a", "--filepath=b"], "-o/-O/--filepath is given twice"),
        (["-d", "a", "--dir", "b"], "-d/--dir is given twice"),
        (["--receipt", "a", "--receipt", "b"], "--receipt is given twice"),
        (["--cacert", "/dev/null", "--cacert", "/"], "--cacert is given twice"),
        (["-m", "a", "-i", "b"], "-m/-i/--manifest is given twice"),
    ],
)
def test_case_19_what_is_given_twice(tmp_path: Path, fault_server: FaultServer, options: list[str], words: str) -> None:
    url = fault_server.serve("/x", Reply(body=b"data"))
    run = refused(url, *options, cwd=tmp_path)
    assert (run.returncode, names(tmp_path), fault_server.requests) == (2, [], [])
    assert words in str(failure(run)["message"])


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["URL", "r", "--receipt", "r"], "its target r is the receipt"),
        (["URL", "sub/../r", "--receipt", "./r"], "is the receipt"),
        (["URL", "--receipt", "x"], "its target x is the receipt"),
        (["URL", ".", "--receipt", "x"], "is the receipt"),
        (["URL", "-d", ".", "--receipt", "x"], "is the receipt"),
        (["URL", "r/below", "--receipt", "r"], "would lie below the receipt"),
        (["URL", "link", "--receipt", "r"], "is the receipt"),
        (["-m", "list", "--receipt", "r"], "line 2: its target r is the receipt"),
        (["-m", "list", "--receipt", "list"], "the receipt list is the list itself"),
        (["-m", "itself"], "its target itself is the list itself"),
        (["URL", "ca", "--cacert", "ca"], "its target ca is the file of certificates"),
        (["-m", "list", "--cacert", "ca", "--receipt", "ca"], "is the file of certificates"),
    ],
)
def test_case_19_no_download_replaces_what_the_command_needs(
    tmp_path: Path, fault_server: FaultServer, arguments: list[str], words: str, there: bool
) -> None:
    url = fault_server.serve("/x", Reply(body=b"data"))
    before = {"list": f"# two\n{url}\n  out=r\n".encode(), "itself": f"{url}\n out=itself\n".encode(), "ca": b"ca"}
    if there:
        before |= {"r": b"old", "x": b"old"}
    for name, data in before.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("r")
    run = refused(*(url if argument == "URL" else argument for argument in arguments), cwd=tmp_path)
    assert (run.returncode, fault_server.requests) == (2, [])
    assert words in str(failure(run)["message"])
    assert {
        path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file() and not path.is_symlink()
    } == before


def test_case_19_a_receipt_and_downloads_on_one_device(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    run = getm(nginx.url(small), "/dev/null", "--receipt", "/dev/null", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("list_text", "words"),
    [
        ('{"url": "URL", "md6": "x"}', "the key 'md6' is not understood"),
        ("url,cheksum_md5\nURL,0\n", "the columns 'cheksum_md5' are not understood"),
        ("URL\tsample.bam\n", "neither a URL nor a checksum"),
        ("URL\n  checksm=md5=0\n", "aria2 has no option 'checksm'"),
    ],
)
def test_case_12_what_a_list_says_is_understood_or_refused(
    tmp_path: Path, fault_server: FaultServer, list_text: str, words: str
) -> None:
    url = fault_server.serve("/x", Reply(body=b"data"))
    (tmp_path / "list").write_text(list_text.replace("URL", url))
    run = refused("-m", "list", cwd=tmp_path)
    assert (run.returncode, names(tmp_path), fault_server.requests) == (2, ["list"], [])
    assert words in str(failure(run)["message"])


@pytest.mark.parametrize("list_text", ['{"url": "URL", "md5": "0"}', "url,checksum_md5\nURL,0\n", "URL\tmd5:0\n"])
def test_case_12_a_checksum_of_a_list_is_checked(
    tmp_path: Path, nginx: NginxServer, small: ServedObject, list_text: str
) -> None:
    for digest, status in ((small.md5.hex(), 0), ("0" * 32, 9)):
        text = list_text.replace("URL", nginx.url(small))
        (tmp_path / "list").write_text(text[::-1].replace("0", digest[::-1], 1)[::-1])
        assert getm("-m", "list", cwd=tmp_path).returncode == status
        assert (tmp_path / small.path.name).exists() is (status == 0)
        (tmp_path / small.path.name).unlink(missing_ok=True)


def test_case_12_what_is_not_used_is_logged(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    (tmp_path / "list").write_text(f"{nginx.url(small)}\n  split=5\n")
    run = getm("-m", "list", "-v", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert b"list: understood and not used: split" in run.stdout


def test_case_41_getm_reads_its_own_sums(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    (tmp_path / small.path.name).write_bytes(small.read())
    sums = getm("hash", "-a", "md5", "-a", "sha256", small.path.name, cwd=tmp_path).stdout
    base = nginx.url(small).rpartition("/")[0]
    # Either of the two counts.
    for wrong in (b"", small.md5.hex().encode(), small.sha256.hex().encode()):
        (tmp_path / "S").write_bytes(sums.replace(wrong, b"0" * len(wrong)) if wrong else sums)
        (tmp_path / small.path.name).unlink(missing_ok=True)
        run = getm("-m", "S", "--base-url", base, cwd=tmp_path)
        assert run.returncode == (9 if wrong else 0)
        assert (tmp_path / small.path.name).exists() is not bool(wrong)


@pytest.mark.parametrize("options", [["-d", "d"], []])
@pytest.mark.parametrize("paths", [("/1/get", "/2/get"), ("/get", "/get?2")])
def test_case_42_two_urls_with_one_name(
    tmp_path: Path, fault_server: FaultServer, paths: tuple[str, str], options: list[str]
) -> None:
    urls = [fault_server.url(path) for path in paths]
    run = refused(*urls, *options, cwd=tmp_path)
    assert (run.returncode, names(tmp_path), fault_server.requests) == (2, [], [])
    assert "its target get is the target of" in str(failure(run)["message"])


def test_case_42_a_file_and_a_folder_of_one_name(tmp_path: Path, fault_server: FaultServer) -> None:
    rows = [{"url": fault_server.url(f"/{path}"), "filepath": path} for path in ("a/b", "c", "a")]
    (tmp_path / "list").write_text(json.dumps(rows))
    run = refused("-m", "list", cwd=tmp_path)
    assert (run.returncode, names(tmp_path), fault_server.requests) == (2, ["list"], [])
    assert "entry 0 (counted from 0): its target a/b would lie below the target of entry 2" in str(
        failure(run)["message"]
    )


def test_no_checksum_and_strict(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    wrong = nginx.declared_url(small, content_md5=base64.b64encode(bytes(16)).decode())
    assert getm(wrong, "out", cwd=tmp_path).returncode == 9
    assert names(tmp_path) == []
    assert getm(wrong, "out", "--checksum", "none", cwd=tmp_path).returncode == 0
    assert getm(wrong, "other", "--checksum", "none", "--strict", cwd=tmp_path).returncode == 9
    for target in ("other", "-"):
        run = getm(nginx.url(small), target, "--strict", cwd=tmp_path)
        assert run.returncode == 9
        assert failure(run)["error"] == "unverified"
    assert names(tmp_path) == ["out"]


def test_a_target_that_cannot_be_written(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    (tmp_path / "file").write_bytes(b"")
    run = getm(nginx.url(small), "file/below/out", cwd=tmp_path)
    assert run.returncode == 3
    assert failure(run)["path"] == "file/below/out"


def test_nobody_listens(tmp_path: Path) -> None:
    with FaultServer() as server:
        url = server.url("/x?sig=SECRET")
    run = getm(url, "out", "--retries", 0, cwd=tmp_path)
    assert run.returncode == 4
    assert failure(run)["url"] == url.partition("?")[0]
    assert cromwell(run) == "retry"


def test_truncation(tmp_path: Path, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=bytes(1000), cut_at=500, then="close"))
    run = getm(url, "out", "--retries", 0, cwd=tmp_path)
    assert run.returncode == 4
    assert names(tmp_path) == []


def test_certificates(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    run = getm(nginx.url(small, tls=True), "out", cwd=tmp_path)
    assert run.returncode == 4
    assert failure(run)["error"] == "tls"
    run = getm(nginx.url(small, tls=True), "out", "--cacert", nginx.ca_path, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert (tmp_path / "out").read_bytes() == small.read()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "URL and --manifest"),
        (["https://h/a", "https://h/b?SECRET", "-o", "c"], "several URLs cannot go into one FILE"),
        (["https://h/a", "https://h/b?SECRET", "--checksum", f"md5:{'0' * 32}"], "one checksum"),
        (["https://h/a", "b", "c"], "several URLs and nothing else"),
        (["https://h/a", "b", "-o", "c"], "given twice"),
        (["https://h/a", "-m", "m.json"], "--manifest takes no URL"),
        (["-m", "m.json", "--checksum", "md5:00"], "--manifest takes no URL"),
        (["-m", "absent.json"], "absent.json"),
        (["https://h/a", "--unknown=SECRET"], "unknown option: --unknown;"),
        (["https://h/a", "--concurr", "4"], "unknown option: --concurr;"),
        (["https://h/a", "-x", "0"], "--concurrency"),
        (["https://h/a", "-x", "many"], "invalid int"),
        (["https://h/a", "-j", "0"], "--jobs"),
        (["https://h/a", "-H", "SECRET"], "NAME: VALUE"),
        (["https://h/a", "-H", "X: a\nSECRET"], "X"),
        (["https://h/a", "--checksum", "md5:xyz"], "md5"),
        (["https://h/a", "-cs", "0" * 32], "checksum"),
        (["https://h/a", "-ca", "md5"], "checksum"),
        (["https://h/a", "-o"], "expected one argument"),
        (["https://h/a", "--timeout", "-1"], "timeout"),
        (["https://h/a", "--progress=dots"], "invalid choice: 'dots' (choose from "),
        (["ftp://user:SECRET@h/a?SECRET"], "ftp"),
        (["file:///etc/passwd"], "file"),
        (["h/a"], "http"),
        (["demo", "--size", "0"], "--size"),
        (["demo", "--what=SECRET"], "unknown option: --what;"),
        (["demo", "operand"], "too many operands"),
        (["completion", "bash", "operand"], "too many operands"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: list[str], words: str) -> None:
    run = refused(*arguments, cwd=tmp_path)
    assert run.returncode == 2
    assert words in str(failure(run)["message"])
    assert names(tmp_path) == []


@pytest.mark.parametrize("arguments", [["https://h/a", "-x", "0"], ["https://h/a?SECRET", "b", "c"], []])
def test_wrong_usage_ends_the_process(tmp_path: Path, arguments: list[str]) -> None:
    """With the engine that it has started by then."""
    run = getm(*arguments, cwd=tmp_path)
    assert (run.returncode, run.stdout, names(tmp_path)) == (2, b"", [])
    assert failure(run)["message"]


@pytest.mark.parametrize(
    ("options", "where"),
    [
        (["-nc"], []),
        (["-nc"], ["-d", "."]),
        (["-nc"], ["./"]),
        (["-nc", "--dry-run"], []),
        (["-nc", "--json"], ["-d", "."]),
    ],
)
def test_case_36_no_clobber_where_the_server_names_the_file(
    tmp_path: Path, fault_server: FaultServer, options: list[str], where: list[str]
) -> None:
    url = fault_server.serve("/x", Reply(body=b"new", headers={"Content-Disposition": "attachment; filename=theirs"}))
    (tmp_path / "theirs").write_bytes(b"old")
    run = getm(url, *where, *options, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert (b"skipped" in run.stdout) is (options != ["-nc"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"theirs": b"old"}
    # Without the option it stays an error: a server must not choose what is replaced.
    run = getm(url, *where, *options[1:], cwd=tmp_path)
    assert (run.returncode, names(tmp_path)) == (3, ["theirs"])


@pytest.mark.parametrize(
    ("option", "values", "words"),
    [
        ("--timeout", ["0", "-1", "nan", "inf", "1e10", "x"], "argument --timeout: must be a number of seconds"),
        ("--speed-time", ["0", "-1", "nan", "x"], "argument --speed-time: must be a number of seconds"),
        ("--speed-limit", ["0", "x", "-1"], "argument --speed-limit: must be an amount of bytes"),
        ("--limit-rate", ["0", "x", "1e400", "9" * 400, "9999T"], "argument --limit-rate: must be an amount of bytes"),
        (
            "--multipart-threshold",
            ["x", "-1", "99999999T"],
            "argument --multipart-threshold: must be an amount of bytes",
        ),
        ("-x", ["0", "1000", "-1"], "argument -x/--concurrency: must be a number from 1 to 256, or auto, not"),
        ("-j", ["0", "1000"], "argument -j/--jobs: must be a number from 1 to 256, or auto, not"),
        ("--per-host", ["0", "99999999"], "argument --per-host: must be a number from 1 to 65536, not"),
        ("--processes", ["0", "-3"], "argument --processes: must be 1 or more, or auto, not"),
        ("--retries", ["-1", "9999999"], "argument --retries: must be a number from 0 to 1000000, not"),
        ("--cacert", ["/nowhere"], "argument --cacert: there is no file or folder '/nowhere'"),
        ("--retries", ["1.5"], "argument --retries: invalid int value"),
        ("-5", [""], "unknown option: -5"),
    ],
)
def test_case_44_errors_of_options_name_the_option(tmp_path: Path, option: str, values: list[str], words: str) -> None:
    for value in values:
        run = refused("http://127.0.0.1:1/x", option, *([value] if value else []), cwd=tmp_path)
        assert run.returncode == 2
        assert words in str(failure(run)["message"])
        assert not re.search(r"_s\b|floor|None|concurrency must", str(failure(run)["message"]))


@pytest.mark.parametrize("arguments", [["--dry-run"], ["-v"], ["--json"], ["-nc", "--dry-run"], ["-", "-v"]])
def test_case_39_a_name_that_standard_output_cannot_encode(
    tmp_path: Path, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    url = fault_server.serve("/gr%C3%BC%C3%9Fe", Reply(body=b"data"))
    (tmp_path / "sub").mkdir()
    if "-nc" in arguments:
        (tmp_path / "sub" / "grüße").write_bytes(b"old")
    where = [] if "-" in arguments else ["-d", "sub"]
    run = getm(url, *arguments, *where, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    if "-" not in arguments:
        assert rb"gr\xfc\xdfe" in run.stdout or rb"gr\u00fc\u00dfe" in run.stdout


@pytest.mark.parametrize("word", ["hash", "verify"])
def test_case_39_a_result_line_has_the_bytes_of_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii:strict")
    (tmp_path / "grüße").write_bytes(b"data")
    sums = getm("hash", "grüße", cwd=tmp_path).stdout
    assert sums.endswith("  grüße\n".encode())
    assert getm("verify", "-", cwd=tmp_path, stdin=sums).stdout == "grüße: OK\n".encode()


def test_case_39_a_name_that_the_file_system_cannot_encode(
    tmp_path: Path, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    url = fault_server.serve("/gr%C3%BC%C3%9Fe", Reply(body=b"data"))
    run = getm(url, cwd=tmp_path)
    assert (run.returncode, names(tmp_path)) == (3, [])
    assert "LC_ALL=C.UTF-8" in str(failure(run)["message"])


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["URL"], 3),
        (["URL", "out"], 3),
        (["URL", "new/"], 3),
        (["URL", "-d", "new"], 3),
        (["URL", "URL2"], 3),
        (["URL", "ABSOLUTE", "--receipt", "r"], 3),
        (["URL", "--dry-run"], 3),
        (["-m", "LIST"], 3),
        (["-m", "list"], 3),
        (["verify", "SUMS"], 2),
        (["verify", "--receipt", "r"], 2),
        (["hash", "x"], 1),
        (["URL", "ABSOLUTE"], 0),
        (["URL", "-d", "FOLDER"], 0),
        (["URL", "-"], 0),
        (["-m", "LIST", "-d", "FOLDER"], 0),
        (["--version"], 0),
    ],
)
def test_case_40_the_current_folder_is_gone(
    tmp_path: Path, fault_server: FaultServer, arguments: list[str], status: int
) -> None:
    url = fault_server.serve("/x", Reply(body=b"data"))
    (tmp_path / "list").write_text(f"{url}\n")
    words = {
        "URL": url,
        "URL2": f"{url}2",
        "ABSOLUTE": f"{tmp_path}/out",
        "FOLDER": f"{tmp_path}/d",
        "LIST": f"{tmp_path}/list",
    }
    gone = tmp_path / "gone"
    gone.mkdir()
    command = ["/bin/sh", "-c", 'cd "$0" && rmdir "$0" && exec "$@"', str(gone), *GETM]
    run = subprocess.run([*command, *(words.get(each, each) for each in arguments)], capture_output=True)
    assert run.returncode == status
    if status:
        message = str(failure(run)["message"])
        assert ("The current folder is gone" in message) is (status == 3)
        assert "Unexpected" not in message and fault_server.requests == []


# Signals -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def stalled(
    server: FaultServer, folder: Path, arguments: Callable[[str], list[str]]
) -> Iterator[subprocess.Popen[bytes]]:
    """The command, in the middle of a download that does not go on."""
    gate = server.gate()
    url = server.serve("/x", Reply(body=bytes(3 * MIB), stall_at=2 * MIB, gate=gate))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(*arguments(f"{url}?sig=SECRET"), cwd=folder, **pipes) as process:
        gate.wait_reached()
        yield process
    gate.open()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("form", ["file", "stdout", "manifest"])
def test_row_53_a_signal_ends_it_clean(
    tmp_path: Path, fault_server: FaultServer, number: signal.Signals, form: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    def arguments(url: str) -> list[str]:
        (tmp_path / "manifest.json").write_text(json.dumps([{"url": url, "filepath": "out"}]))
        return {"file": [url, "out"], "stdout": [url, "-"], "manifest": ["-m", str(tmp_path / "manifest.json")]}[form]

    with stalled(fault_server, folder, arguments) as process:
        process.send_signal(number)
        _, stderr = process.communicate()
    assert process.returncode == 128 + number
    run = subprocess.CompletedProcess(process.args, process.returncode, b"", stderr)
    word = "Interrupted" if number == signal.SIGINT else "Terminated"
    advice = "" if form == "stdout" else " Partial data is kept; run the same command to resume."
    assert failure(run)["message"] == f"{word} by {number.name}.{advice}"
    # What had come is kept for the next run, hidden; nothing stands at the target.
    assert [name for name in names(folder) if not name.startswith(".out.")] == []


def test_case_51_an_interrupt_within_a_finaliser_is_not_lost(tmp_path: Path) -> None:
    """Python discards what a finaliser raises, and a garbage collection may run one at any moment."""
    program = """
import os, signal, threading
from getm.cli.output.logs import quiet_process
from getm.cli.startup import Stopped, raise_on_signals

class Finalised:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(60)

with raise_on_signals(restore=True), quiet_process():
    try:
        Finalised()
        threading.Event().wait(60)
    except Stopped as stop:
        print(stop.number)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"2\n", b"")


def test_case_51_an_interrupt_after_the_work_prints_no_traceback(tmp_path: Path) -> None:
    program = """
import atexit, os, signal, sys, threading
from getm.cli.main import main

def interrupted():
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(60)

atexit.register(interrupted)
sys.argv = ["getm", "--version"]
sys.exit(main())
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (-signal.SIGINT, f"getm {__version__}\n".encode(), b"")


# Manifests -----------------------------------------------------------------------------------------------------------


def write_manifest(folder: Path, *entries: dict[str, object]) -> Path:
    path = folder / "manifest.json"
    path.write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize("jobs", [[], ["-j", "1"], ["-j", "16"], ["-j", "auto", "-x", "auto"]])
def test_a_manifest_as_cromwell_gives_it(
    tmp_path: Path, nginx: NginxServer, make_object: MakeObject, jobs: list[str]
) -> None:
    objects = [make_object(100_000 * number, seed=number) for number in range(6)]
    checksums: list[dict[str, object]] = [
        {"checksum": objects[0].md5.hex(), "checksum-algorithm": "md5"},
        {"checksum": base64.b64encode(objects[1].crc32c).decode(), "checksum-algorithm": "gs_crc32c"},
        {"checksum": objects[2].md5.hex(), "checksum-algorithm": "s3_etag"},
        {"checksum": "null", "checksum-algorithm": "null"},
        {"checksum": None, "checksum-algorithm": None},
        {},
    ]
    entries: list[dict[str, object]] = [
        {"url": nginx.url(served) + "?sig=SECRET", "filepath": f"{tmp_path}/deep/down/{number}", **checksums[number]}
        for number, served in enumerate(objects)
    ]
    run = getm("--manifest", write_manifest(tmp_path, *entries), "-vv", *jobs, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert cromwell(run) == "success"
    for number, served in enumerate(objects):
        assert (tmp_path / "deep" / "down" / str(number)).read_bytes() == served.read()
    assert len(names(tmp_path / "deep" / "down")) == 6


def test_a_manifest_on_standard_input(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    run = getm("-i", "-", cwd=tmp_path, stdin=json.dumps([{"url": nginx.url(small)}]).encode())
    assert (run.returncode, run.stderr) == (0, b"")
    assert (tmp_path / small.path.name).read_bytes() == small.read()


def test_a_dash_in_a_manifest_is_a_file(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    run = getm("-m", write_manifest(tmp_path, {"url": nginx.url(small), "filepath": "-"}), cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
    assert (tmp_path / "-").read_bytes() == small.read()


def test_the_first_failure_stops_a_batch(tmp_path: Path, fault_server: FaultServer) -> None:
    missing = fault_server.serve("/missing", Reply(status=404))
    good = fault_server.serve("/good", Reply(body=b"good"))
    path = write_manifest(
        tmp_path,
        {"url": good, "filepath": "first"},
        {"url": missing, "filepath": "second"},
        {"url": good, "filepath": "third"},
    )
    run = getm("-m", path, "-j", 1, cwd=tmp_path)
    assert run.returncode == 8
    assert failure(run)["status_code"] == 404
    assert names(tmp_path) == ["first", "manifest.json"]
    assert [request.path for request in fault_server.requests] == ["/good", "/missing"]


def test_a_failure_stops_downloads_under_way(tmp_path: Path, fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    stalling = fault_server.serve("/stalling", Reply(body=bytes(3 * MIB), stall_at=2 * MIB, gate=gate))
    held = fault_server.gate()
    failing = fault_server.serve("/failing", Reply(status=403, hold=held))
    path = write_manifest(tmp_path, {"url": stalling, "filepath": "a"}, {"url": failing, "filepath": "b"})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started("-m", path, cwd=tmp_path, **pipes) as process:
        gate.wait_reached()
        held.open()
        _, stderr = process.communicate()
    gate.open()
    assert process.returncode == 8
    assert failure(subprocess.CompletedProcess([], 8, b"", stderr))["status_code"] == 403
    assert [name for name in names(tmp_path) if not name.startswith(".a.")] == ["manifest.json"]


def test_going_on_after_failures(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    path = write_manifest(
        tmp_path,
        {"url": nginx.url("/status/404"), "filepath": "a"},
        {"url": nginx.url(small), "filepath": "b", "checksum": "0" * 32, "checksum-algorithm": "md5"},
        {"url": nginx.url("/status/503") + "?sig=SECRET", "filepath": "c"},
        {"url": nginx.url(small), "filepath": "d"},
    )
    run = getm("-m", path, "-c", "--retries", 0, cwd=tmp_path)
    assert run.returncode == 1
    lines = [json.loads(line.removeprefix("ERROR:getm.cli:")) for line in run.stderr.decode().splitlines()]
    assert sorted(line.get("url", "") for line in lines) == sorted(
        ["", nginx.url(small), nginx.url("/status/404"), nginx.url("/status/503")]
    )
    assert lines[-1] == {"message": "3 of 4 downloads failed.", "failed": 3, "status_code": 404}
    # A 404 does not go away by retrying, whatever else failed, and in whatever order.
    assert cromwell(run) == "fatal"
    assert b"Checksum failed!" in run.stderr
    assert names(tmp_path) == ["d", "manifest.json"]
    assert (tmp_path / "d").read_bytes() == small.read()


@pytest.mark.parametrize("options", [[], ["-c"]])
@pytest.mark.parametrize(("status", "reading"), [(404, "fatal"), (503, "retry 503")])
def test_a_manifest_of_one_entry_tells_its_failure(
    tmp_path: Path, nginx: NginxServer, status: int, reading: str, options: list[str]
) -> None:
    path = write_manifest(tmp_path, {"url": nginx.url(f"/status/{status}"), "filepath": "a"})
    run = getm("--manifest", path, "-vv", "--retries", 0, *options, cwd=tmp_path)
    assert run.returncode == 8
    assert failure(run)["status_code"] == status
    assert cromwell(run) == reading


def test_a_wrong_checksum_in_a_manifest(tmp_path: Path, nginx: NginxServer, small: ServedObject) -> None:
    wrong: dict[str, object] = {"checksum": "0" * 32, "checksum-algorithm": "md5"}
    path = write_manifest(tmp_path, {"url": nginx.url(small), "filepath": "a", **wrong})
    run = getm("--manifest", path, cwd=tmp_path)
    assert run.returncode == 9
    assert "Checksum failed!" in str(failure(run)["message"])
    assert cromwell(run) == "retry"


def test_failures_of_one_kind_keep_their_exit_status(tmp_path: Path, nginx: NginxServer) -> None:
    entries: list[dict[str, object]] = [
        {"url": nginx.url(f"/status/{status}"), "filepath": str(status)} for status in (503, 429)
    ]
    run = getm("-m", write_manifest(tmp_path, *entries), "-c", "--retries", 0, cwd=tmp_path)
    assert run.returncode == 8
    assert cromwell(run).startswith("retry")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("[]", "empty list"),
        ("", "not JSON"),
        ("\ufeff[]", "byte order mark"),
        ('[{"url": "GOOD", "filepath": "a"}, {"url": "GOOD", "filepath": "./a"}]', "entry 1"),
        ('[{"url": "GOOD"}, {"url": "ftp://h/SECRET?SECRET"}]', "entry 1"),
        ('[{"url": "GOOD"}, {"filepath": "a"}]', "entry 1"),
        ('[{"url": "GOOD", "checksum": "00"}]', "entry 0"),
    ],
)
def test_row_42_a_bad_manifest_makes_no_request(
    tmp_path: Path, fault_server: FaultServer, data: str, words: str
) -> None:
    good = fault_server.serve("/good", Reply(body=b"good"))
    path = tmp_path / "manifest.json"
    path.write_text(data.replace("GOOD", good).replace("h/SECRET", "h/x"), encoding="utf-8")
    run = refused("-m", path, cwd=tmp_path)
    assert run.returncode == 2
    assert words in str(failure(run)["message"])
    assert fault_server.requests == []
    assert names(tmp_path) == ["manifest.json"]


# Requests ------------------------------------------------------------------------------------------------------------


def test_headers_are_sent(tmp_path: Path, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=b"data"))
    run = getm(url, "out", "-H", "Authorization: Bearer SECRET", "--header", "X-Two:  2 ", "-vv", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    (request,) = fault_server.requests
    assert request.method == "GET"
    assert request.header("authorization") == "Bearer SECRET"
    assert request.header("x-two") == "2"


@pytest.mark.parametrize(("threshold", "connections"), [("20M", 1), (MIB, 2)])
def test_the_multipart_threshold(
    tmp_path: Path, fault_server: FaultServer, threshold: object, connections: int
) -> None:
    data = bytes(range(256)) * (20 * MIB // 256 - 1)
    url = fault_server.serve("/x", Reply(body=data))
    run = getm(url, "out", "-x", 2, "--multipart-threshold", threshold, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert (tmp_path / "out").read_bytes() == data
    assert fault_server.connections == connections
    assert {request.method for request in fault_server.requests} == {"GET"}


# What people see -----------------------------------------------------------------------------------------------------


def test_a_terminal_gets_a_progress_bar(tmp_path: Path, fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=bytes(20 * MIB), stall_at=10 * MIB, gate=gate))

    def go_on_when_half_is_shown(shown: str) -> None:
        if re.search(r"\b\d+(\.\d)?/20\.0 MiB", shown):
            gate.open()

    status, shown = on_a_terminal(url, "[red]out", cwd=tmp_path, watch=go_on_when_half_is_shown)
    assert status == 0
    assert "\x1b[" in shown and "[red]out" in shown
    (left,) = screen(shown)
    assert left.startswith("· [red]out: 20.0 MiB in ") and "not verified" in left


def test_a_terminal_gets_the_bars_of_a_manifest(
    tmp_path: Path, nginx: NginxServer, small: ServedObject, large: ServedObject
) -> None:
    entries: list[dict[str, object]] = [
        {"url": nginx.url(served), "filepath": f"name{number}"} for number, served in enumerate((small, large, small))
    ]
    status, shown = on_a_terminal("-m", write_manifest(tmp_path, *entries), cwd=tmp_path)
    assert status == 0
    assert all(f"name{number}: " in shown for number in range(3)) and "[3/3]" in shown
    assert re.fullmatch(r"3 files, [\d.]+ MiB, [\d.]+ s, 0 verified, 3 not verified, 0 failed", screen(shown)[-1])


@pytest.mark.parametrize("option", ["-q", "--quiet", "--no-progress"])
def test_a_quiet_terminal(tmp_path: Path, nginx: NginxServer, small: ServedObject, option: str) -> None:
    assert on_a_terminal(option, nginx.url(small), "out", cwd=tmp_path) == (0, "")
    assert (tmp_path / "out").read_bytes() == small.read()


def test_version(tmp_path: Path) -> None:
    run = getm("--version", cwd=tmp_path)
    assert (run.returncode, run.stdout.decode(), run.stderr) == (0, f"getm {__version__}\n", b"")


def test_help_names_every_old_flag_and_exit_status(tmp_path: Path) -> None:
    run = getm("--help", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    text = run.stdout.decode()
    for flag in (
        "--filepath",
        "-cs",
        "-ca",
        "--manifest",
        "-i ",
        "--concurrency",
        "-v",
        "-c,",
        "--multipart-threshold",
    ):
        assert flag in text
    for status in ("0", "1", "2", "3", "4", "8", "9", "130", "141", "143"):
        assert re.search(rf"\b{status}\b", text.partition("exit status:")[2])
    assert max(map(len, text.splitlines())) <= 120
