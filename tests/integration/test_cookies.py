"""Cookies from a file: which URL gets which, and who gets none."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import getm
from getm.files.cookies import read_cookies
from getm.testing import FaultServer, Reply, failure, redirect
from tests.support import command

HEAD = "# Netscape HTTP Cookie File\n\n"
LATER = 4_000_000_000
LINES = (
    HEAD
    + f"127.0.0.1\tFALSE\t/\tFALSE\t{LATER}\tsession\tSECRET1\n"
    + "127.0.0.1\tFALSE\t/deep/\tFALSE\t0\tdeep\tSECRET2\n"
    + "#HttpOnly_127.0.0.1\tFALSE\t/\tFALSE\t0\thidden\tSECRET3\n"
    + f"127.0.0.1\tFALSE\t/\tTRUE\t{LATER}\tsecure\tSECRET4\n"
    + "127.0.0.1\tFALSE\t/\tFALSE\t1\texpired\tSECRET5\n"
    + f".example.test\tTRUE\t/\tFALSE\t{LATER}\twide\tSECRET6\n"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cookies.txt"
    path.write_text(LINES)
    path.chmod(0o600)
    return path


def sent(server: FaultServer) -> list[str | None]:
    return [request.header("Cookie") for request in server.requests]


@pytest.mark.parametrize("concurrency", (1, 3, None))
def test_each_url_gets_its_own(concurrency: int | None, file: Path, fault_server: FaultServer) -> None:
    body = bytes(range(256)) * 512
    to, deep = fault_server.serve("/to", Reply(body=body)), fault_server.serve("/deep/to", Reply(body=body))
    away = fault_server.serve("/away", redirect(fault_server.url("/to", "localhost")))
    with getm.Session(cookies=file, retries=0) as session:
        for url in (to, deep, away, fault_server.url("/to", "localhost")):
            assert session.read(url, concurrency=concurrency) == body
        own = {"Cookie": "mine=1"}
        assert session.read(to, headers=own, concurrency=concurrency) == body
    assert [cookie and sorted(cookie.split("; ")) for cookie in sent(fault_server)] == [
        ["hidden=SECRET3", "session=SECRET1"],
        ["deep=SECRET2", "hidden=SECRET3", "session=SECRET1"],
        ["hidden=SECRET3", "session=SECRET1"],
        None,
        None,
        ["mine=1"],
    ]


def test_mirrors_entries_and_workers(file: Path, fault_server: FaultServer, tmp_path: Path) -> None:
    gone, there = fault_server.serve("/gone", failure(404)), fault_server.serve("/x", Reply(body=b"whole"))
    mirror = there.replace("127.0.0.1", "localhost")
    with getm.Session(cookies=file, retries=0) as session:
        assert bytes(session.read(gone, mirrors=[mirror])) == b"whole"
        list(session.download_all([there], directory=tmp_path))
    assert [cookie is not None for cookie in sent(fault_server)] == [True, False, True]
    cookies = pickle.loads(pickle.dumps(read_cookies(file)))
    assert cookies.of("http://a.example.test/") == "wide=SECRET6" and cookies.of("http://example.org/") is None
    assert "secure=SECRET4" in (cookies.of("https://127.0.0.1/") or "")


def test_a_metalink_gets_no_headers_of_the_session(file: Path, fault_server: FaultServer, tmp_path: Path) -> None:
    """Its hosts are named by its author. Cookies and logins are for a host, so they are sent where that is one."""
    url = fault_server.serve("/x", Reply(body=b"whole"))
    (tmp_path / "list.meta4").write_text(
        '<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="a">'
        f"<url>{url}</url><url>{url.replace('127.0.0.1', 'localhost')}</url></file></metalink>"
    )
    run = command.getm(
        *("-m", "list.meta4", "-H", "Authorization: Bearer SECRET", "-H", "X-Token: SECRET"),
        *("--load-cookies", file, "-v"),
        cwd=tmp_path,
    )
    assert run.returncode == 0 and (tmp_path / "a").read_bytes() == b"whole", run.stderr
    (request,) = fault_server.requests
    assert request.header("Authorization") is None and request.header("X-Token") is None
    assert request.header("Cookie") is not None
    assert b"SECRET" not in run.stdout + run.stderr


def test_the_command(file: Path, fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", Reply(body=b"whole"))
    run = command.getm(url, "out", "--load-cookies", file, "-vv", cwd=tmp_path)
    assert run.returncode == 0 and b"SECRET" not in run.stdout + run.stderr
    assert (sent(fault_server)[0] or "").count("=") == 2
    assert command.getm(url, "-o", file, "--load-cookies", file, cwd=tmp_path).returncode == 2
    assert file.read_text() == LINES


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: No such file"),
        ("127.0.0.1\tFALSE\t/\tFALSE\t0\ta\tSECRET\n", "is no cookie file: expected"),
        (HEAD + "SECRET one two\n", "is no cookie file: expected"),
        ("", "is no cookie file"),
        (b"\xff\xfe\0", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used(text: str | bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "cookies"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(0o600)
    with pytest.raises(getm.InvalidInput, match=said) as caught:
        getm.Session(cookies=path)
    assert "SECRET" not in str(caught.value)


def test_what_a_provider_leads_to_gets_its_own(file: Path, fault_server: FaultServer) -> None:
    url = fault_server.serve("/to", Reply(body=b"x"))
    with getm.Session(cookies=file, retries=0) as session:
        assert bytes(session.read(lambda: url)) == b"x"
    (cookies,) = sent(fault_server)
    assert sorted(str(cookies).split("; ")) == ["hidden=SECRET3", "session=SECRET1"]
