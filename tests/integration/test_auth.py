"""Tokens and passwords for hosts: who gets them, and who does not."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import getm
from getm.testing import FaultServer, Reply, failure, redirect
from tests.support.command import getm as run_getm
from tests.support.command import refused

BODY = bytes(range(256)) * 400
TOKEN, OTHER = "SECRET-token", "SECRET-other"
Open = Callable[..., getm.Session]

each_mode = pytest.mark.parametrize("concurrency", (1, 3, None))


def fields(server: FaultServer) -> list[str | None]:
    return [request.header("Authorization") for request in server.requests]


@pytest.fixture
def url(fault_server: FaultServer) -> str:
    return fault_server.serve("/x", Reply(body=BODY))


@pytest.fixture
def other() -> Iterator[FaultServer]:
    """Another port: another server."""
    with FaultServer() as server:
        server.serve("/x", Reply(body=BODY))
        yield server


@each_mode
def test_a_token_goes_to_the_host_of_the_url(
    concurrency: int | None, url: str, fault_server: FaultServer, other: FaultServer, shared_session: Open
) -> None:
    """Not past a redirect to another one, and not to mirrors elsewhere."""
    session = shared_session(auth=TOKEN, retries=0)
    away = fault_server.serve("/away", redirect(other.url("/x")))
    gone = fault_server.serve("/gone", failure(404))
    same = fault_server.serve("/same", redirect("/x"))
    for each in (url, same, away):
        assert session.read(each, concurrency=concurrency) == BODY
    assert session.read(gone, mirrors=[other.url("/x")], concurrency=concurrency) == BODY
    assert session.read(gone, mirrors=[url], concurrency=concurrency) == BODY
    assert {*fields(fault_server)} == {f"Bearer {TOKEN}"} and {*fields(other)} == {None}


@each_mode
def test_tokens_by_hosts(
    concurrency: int | None, url: str, fault_server: FaultServer, other: FaultServer, shared_session: Open
) -> None:
    """Wherever the host is met, but after a redirect to it."""
    there = f"127.0.0.1:{other.port}"
    session = shared_session(auth={f"127.0.0.1:{fault_server.port}": ("me", "p:w"), there: OTHER}, retries=0)
    gone = fault_server.serve("/gone", failure(404))
    away = fault_server.serve("/away", redirect(other.url("/x")))
    assert session.read(gone, mirrors=[other.url("/x")], concurrency=concurrency) == BODY
    assert {*fields(other)} == {f"Bearer {OTHER}"}
    other.requests.clear()
    assert session.read(away, concurrency=concurrency) == BODY
    assert session.read(fault_server.url("/x", "localhost"), concurrency=concurrency) == BODY
    assert {*fields(other)} == {None}
    basic = f"Basic {base64.b64encode(b'me:p:w').decode()}"
    assert {*fields(fault_server)} == {basic, None}
    assert fields(fault_server)[-1] is None


def test_which_comes_first(url: str, fault_server: FaultServer, tmp_path: Path, shared_session: Open) -> None:
    """Headers and the URL's own login, then these, then a netrc file."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login net password rc\nmachine localhost login net password rc\n")
    netrc.chmod(0o600)
    host = f"127.0.0.1:{fault_server.port}"
    session = shared_session(auth={host: TOKEN}, netrc=netrc, retries=0)
    session.read(url)
    session.read(fault_server.url("/x", "localhost"))
    session.read(url, headers={"authorization": "mine"})
    session.read(url.replace("//", "//u:p@"))
    net, own = (f"Basic {base64.b64encode(text).decode()}" for text in (b"net:rc", b"u:p"))
    assert fields(fault_server) == [f"Bearer {TOKEN}", net, "mine", own]


def test_lists_and_what_their_authors_name(
    url: str, fault_server: FaultServer, other: FaultServer, tmp_path: Path, shared_session: Open
) -> None:
    """The hosts of a Metalink get no token, unless it is for them by name."""
    there = other.url("/x")
    entries = [getm.Entry(url, "a"), getm.Entry(there, "b", session_headers=False)]
    session = shared_session(auth=TOKEN, retries=0)
    list(session.download_all(entries, directory=tmp_path))
    assert fields(fault_server) == [f"Bearer {TOKEN}"] and fields(other) == [None]
    session = shared_session(auth={"": TOKEN, f"127.0.0.1:{other.port}": OTHER}, retries=0)
    list(session.download_all(entries, directory=tmp_path / "again"))
    assert fields(fault_server)[1:] == [f"Bearer {TOKEN}"] and fields(other)[1:] == [f"Bearer {OTHER}"]


def test_providers(url: str, fault_server: FaultServer, shared_session: Open) -> None:
    session = shared_session(auth=TOKEN, retries=0)
    assert session.read(lambda: url) == BODY
    assert session.read(lambda: getm.Resource(url, session_headers=False)) == BODY
    assert session.read(lambda: getm.Resource(url, headers={"Authorization": "own"})) == BODY
    assert fields(fault_server) == [f"Bearer {TOKEN}", None, "own"]


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command(url: str, fault_server: FaultServer, other: FaultServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}==\n")
    (tmp_path / "token").chmod(0o600)
    here = f"127.0.0.1:{fault_server.port}"
    for arguments, variables in (
        (["--bearer", "@token"], {}),
        (["--bearer", f"{here}=@token"], {}),
        (["--bearer", f"{TOKEN}=="], {}),
        (["--bearer", f"{here}={TOKEN}=="], {"GETM_BEARER": "another"}),
        ([], {"GETM_BEARER": f"{TOKEN}=="}),
        ([], {"GETM_BEARER": "@~/token", "HOME": str(tmp_path)}),
    ):
        fault_server.requests.clear()
        run = run_getm(url, "out", "-vv", "--json", *arguments, cwd=tmp_path, variables=variables)
        assert (run.returncode, fields(fault_server)) == (0, [f"Bearer {TOKEN}=="])
    run = run_getm(other.url("/x"), "out", "--bearer", f"{here}=@token", cwd=tmp_path)
    assert run.returncode == 0 and fields(other) == [None]


def test_what_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "words").write_text("SECRET words\n")
    for given, said in (
        ("@empty", b"a token has printable ASCII characters"),
        ("@words", b"a token has printable ASCII characters"),
        ("@missing", b"missing"),
        ("http://h=SECRET", b"expected HOST or HOST:PORT"),
        ("", b"a token has printable"),
    ):
        run = refused("http://127.0.0.1:9/x", "--bearer", given, cwd=tmp_path)
        assert run.returncode == 2 and said in run.stderr and b"--bearer" in run.stderr
    run = refused("http://127.0.0.1:9/x", "token", "--bearer", "@token", cwd=tmp_path)
    assert run.returncode == 2


def test_a_token_by_the_users_own_configuration(url: str, fault_server: FaultServer, tmp_path: Path) -> None:
    """Downloads, listings and repairs have it; the log says which file it is."""
    config, token = tmp_path / "getm" / "config.toml", tmp_path / "token"
    config.parent.mkdir()
    token.write_text(f"{TOKEN}\n")
    token.chmod(0o600)
    config.write_text(f"bearer = ['127.0.0.1:{fault_server.port}=@{token}']\nretries = 0\n")
    fault_server.serve("/folder/", Reply(body=b"<html></html>", headers={"Content-Type": "text/html"}))
    variables = {"XDG_CONFIG_HOME": str(tmp_path)}
    run = run_getm(url, "out", "-v", "--receipt", "receipt", cwd=tmp_path, variables=variables)
    assert run.returncode == 0 and f"defaults of options are those of {config}" in run.stdout.decode()
    run_getm("ls", fault_server.url("/folder/"), cwd=tmp_path, variables=variables)
    (tmp_path / "out").unlink()
    run = run_getm("verify", "--receipt", "receipt", "--repair", cwd=tmp_path, variables=variables)
    assert run.stdout.startswith(b"out: REPAIRED")
    assert fields(fault_server) == [f"Bearer {TOKEN}"] * 3
    run_getm(url, "out", "--no-config", cwd=tmp_path, variables=variables)
    assert fields(fault_server)[3:] == [None]
