"""How connections are made: client certificates, given addresses, the version of IP, the interface, netrc logins."""

from __future__ import annotations

import base64
import logging
import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import getm
from getm.testing import FaultServer, Reply, failure, redirect
from tests.integration.test_addresses import ipv6
from tests.support import command
from tests.support.certificates import Authority, CertificateFiles
from tests.support.nginx import NginxServer
from tests.support.nginx_config import PRIVATE_NAME
from tests.support.objects import ServedObject

BODY = bytes(range(256)) * 64
LARGE = 24 * 1024 * 1024
Make = Callable[..., ServedObject]

each_mode = pytest.mark.parametrize("concurrency", (1, 3, None))


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


# Client certificates -------------------------------------------------------------------------------------------------


def encrypted(key: Path, password: str) -> Path:
    to = key.with_suffix(".encrypted")
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", key, "-out", to, "-passout", f"pass:{password}"],
        check=True,
        capture_output=True,
    )
    return to


@pytest.fixture
def client(nginx: NginxServer) -> CertificateFiles:
    return nginx.authority.issue("someone@example.org")


@pytest.fixture
def private(nginx: NginxServer, make_object: Make) -> Callable[..., str]:
    def url(size_bytes: int = 100_000) -> str:
        return f"https://{PRIVATE_NAME}:{nginx.https_port}{make_object(size_bytes).url_path}"

    return url


def session_for(nginx: NginxServer, **settings: object) -> getm.Session:
    at = {f"{PRIVATE_NAME}:{nginx.https_port}": "127.0.0.1"}
    return getm.Session(cacert=nginx.ca_path, resolve=at, retries=0, processes=2, **settings)  # type: ignore[arg-type]  # of any


@each_mode
@pytest.mark.parametrize("form", ("two files", "one file", "encrypted"))
def test_a_client_certificate_is_shown(
    form: str,
    concurrency: int | None,
    nginx: NginxServer,
    private: Callable[..., str],
    client: CertificateFiles,
    make_object: Make,
    tmp_path: Path,
) -> None:
    cert, key, password = client.chain, client.key, None
    if form == "one file":
        cert, key = tmp_path / "both.pem", None  # type: ignore[assignment]  # as a caller may give it
        cert.write_bytes(client.chain.read_bytes() + client.key.read_bytes())
    elif form == "encrypted":
        key, password = encrypted(client.key, "open sesame"), "open sesame"
    with session_for(nginx, cert=cert, key=key, key_password=password) as session:
        # Over several connections, and then a small file over one that was kept alive.
        assert session.read(private(LARGE), concurrency=concurrency) == make_object(LARGE).read()
        for _ in range(2):
            result = session.download(private(), tmp_path / "out", concurrency=concurrency)
            assert result.path.read_bytes() == make_object(100_000).read()


def test_without_a_certificate_the_server_refuses(nginx: NginxServer, private: Callable[..., str]) -> None:
    with session_for(nginx) as session, pytest.raises(getm.HTTPStatusError, match="400"):
        session.read(private())


def test_a_certificate_of_another_authority_is_refused(
    nginx: NginxServer, private: Callable[..., str], tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other").issue("someone@example.org")
    with session_for(nginx, cert=other.chain, key=other.key) as session, pytest.raises(getm.HTTPStatusError):
        session.read(private())


def test_a_server_that_ends_the_connection_for_want_of_a_certificate(authority: Authority, ca_path: Path) -> None:
    context = authority.issue().server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca_path)
    with FaultServer(tls=context) as server, getm.Session(cacert=ca_path, retries=5) as session:
        url = server.serve("/x", Reply(body=BODY))
        with pytest.raises(getm.TLSFailed, match=r"client certificate.*cert"):
            session.read(url)
        own = authority.issue("someone@example.org")
        with getm.Session(cacert=ca_path, cert=own.chain, key=own.key) as knows:
            assert knows.read(url) == BODY


@pytest.mark.parametrize("form", ("missing password", "wrong password", "key of another", "no certificate"))
def test_certificates_that_cannot_be_used_are_refused_before_any_request(
    form: str, nginx: NginxServer, private: Callable[..., str], client: CertificateFiles, tmp_path: Path
) -> None:
    cert, key, password = client.chain, client.key, None
    if "password" in form:
        key = encrypted(client.key, "open sesame")
        password = "SECRET" if form == "wrong password" else None
    elif form == "key of another":
        key = nginx.authority.issue("other@example.org").key
    else:
        cert = tmp_path / "no-certificate.pem"
        cert.write_text("nothing")
    words = {
        "missing password": "is encrypted, and its password is needed; give the right one (key_password",
        "wrong password": "is encrypted, and its password does not open it",
        "key of another": "is not that of the certificate in",
        "no certificate": "cannot be loaded with its key",
    }
    with session_for(nginx, cert=cert, key=key, key_password=password) as session:
        with pytest.raises(getm.InvalidInput, match=re.escape(words[form])) as raised:
            session.read(private())
        assert "SECRET" not in str(raised.value)


# Addresses, versions of IP, interfaces -------------------------------------------------------------------------------


@pytest.fixture
def both() -> Iterator[tuple[FaultServer, FaultServer]]:
    """A server on 127.0.0.1 and one on ::1, on one port."""
    with FaultServer() as four, FaultServer(address="::1", port=four.port) as six:
        for server, body in ((four, b"4"), (six, b"6")):
            server.serve("/x", Reply(body=body * len(BODY)))
        yield four, six


@each_mode
def test_addresses_are_those_that_are_given(concurrency: int | None, tmp_path: Path) -> None:
    with FaultServer(address="127.0.0.2") as server:
        server.serve("/x", Reply(body=BODY, headers={"ETag": '"1"'}))
        where = f"Nowhere.Test:{server.port}"
        with getm.Session(resolve={where: "127.0.0.2"}, retries=0) as session:
            assert session.read(f"http://{where}/x", concurrency=concurrency) == BODY
            for _ in range(2):
                session.download(f"http://nowhere.test.:{server.port}/x", tmp_path / "x", concurrency=concurrency)
            # Another port is another server.
            with pytest.raises(getm.ConnectFailed):
                session.read("http://nowhere.test:9/x")
        assert server.requests[0].header("Host") == where.lower() or server.requests[0].header("Host") == where


@ipv6
@pytest.mark.parametrize("version", (4, 6))
def test_only_addresses_of_the_wanted_version(version: int, both: tuple[FaultServer, FaultServer]) -> None:
    where = f"both.test:{both[0].port}"
    given = {where: ["127.0.0.1", "::1"]}
    with getm.Session(resolve=given, ip_version=version, retries=0) as session:  # type: ignore[arg-type]  # 4 or 6
        assert bytes(session.read(f"http://{where}/x"))[:1] == str(version).encode()
        other = "[::1]" if version == 4 else "127.0.0.1"
        with pytest.raises(getm.InvalidInput, match=f"only IPv{version} was asked for"):
            session.read(f"http://{other}:{both[0].port}/x")
    assert bool(both[0].requests) is (version == 4)
    assert bool(both[1].requests) is (version == 6)


@each_mode
def test_connections_come_from_the_given_address(
    concurrency: int | None, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY, headers={"ETag": '"1"'}))
    large = fault_server.serve("/large", Reply(body=bytes(LARGE), headers={"ETag": '"2"'}))
    with getm.Session(interface="127.0.0.5", processes=2) as session:
        assert len(session.read(large, concurrency=concurrency)) == LARGE
        session.download(url, tmp_path / "x", concurrency=concurrency)
        session.download(url, tmp_path / "x", concurrency=concurrency)
        list(session.download_all([url, getm.Entry(url, "y")], directory=tmp_path / "all", concurrency=concurrency))
        session.info(url)
    assert {request.client for request in fault_server.requests} == {"127.0.0.5"}


@ipv6
def test_an_address_as_interface_decides_the_version(both: tuple[FaultServer, FaultServer]) -> None:
    where = f"both.test:{both[0].port}"
    with getm.Session(resolve={where: ["127.0.0.1", "::1"]}, interface="::1", retries=0) as session:
        assert bytes(session.read(f"http://{where}/x"))[:1] == b"6"
    with pytest.raises(getm.InvalidInput, match="interface is the IPv6 address ::1, and only IPv4"):
        getm.Session(interface="::1", ip_version=4)


@pytest.mark.skipif(not hasattr(socket, "SO_BINDTODEVICE"), reason="names of interfaces are for Linux")
def test_an_interface_by_its_name(fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    with getm.Session(interface="lo", retries=0) as session:
        assert session.read(url) == BODY


@pytest.mark.parametrize("interface", ("none0", "192.0.2.77", "x" * 16, ""))
def test_an_interface_that_is_not_there(interface: str) -> None:
    with pytest.raises(getm.InvalidInput, match="interface"):
        getm.Session(interface=interface)


def test_a_proxy_is_connected_to_in_the_same_way(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fault_server.serve("http://data.example.org/x", Reply(body=BODY))
    monkeypatch.setenv("http_proxy", f"http://proxy.test:{fault_server.port}")
    at = {f"proxy.test:{fault_server.port}": "127.0.0.1"}
    with getm.Session(interface="127.0.0.5", resolve=at, retries=0) as session:
        assert session.read("http://data.example.org/x") == BODY
    assert {request.client for request in fault_server.requests} == {"127.0.0.5"}


# Logins --------------------------------------------------------------------------------------------------------------


def basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode("latin-1")).decode()


def netrc(folder: Path, text: str) -> Path:
    path = folder / ".netrc"
    path.write_text(text)
    path.chmod(0o600)
    return path


LINES = "machine 127.0.0.1 login me password 'pa\\\"ss\nmachine localhost\nlogin other\npassword secret\n"


def authorization(server: FaultServer) -> list[str | None]:
    return [request.header("Authorization") for request in server.requests]


@each_mode
def test_a_login_is_for_its_host_alone(concurrency: int | None, fault_server: FaultServer, tmp_path: Path) -> None:
    netrc(tmp_path, LINES + "default login anyone password SECRET\n")
    to, url = fault_server.serve("/to", Reply(body=BODY)), fault_server.serve("/same", redirect("/to"))
    away = fault_server.serve("/away", redirect(fault_server.url("/to", "localhost")))
    elsewhere = fault_server.url("/to", "127.0.0.2.nip.test")
    here = {f"127.0.0.2.nip.test:{fault_server.port}": "127.0.0.1"}
    with getm.Session(netrc=True, retries=0, resolve=here) as session:
        for each in (to, url, away, elsewhere, fault_server.url("/to", "localhost")):
            assert session.read(each, concurrency=concurrency) == BODY
    mine, other = basic("me:'pa\"ss"), basic("other:secret")
    assert authorization(fault_server) == [mine, mine, mine, mine, None, None, other]


def test_a_login_for_reads_at_any_position(fault_server: FaultServer, tmp_path: Path) -> None:
    netrc(tmp_path, LINES)
    to = Reply(body=BODY * 20, headers={"ETag": '"1"'})
    fault_server.serve("/to", to)
    url = fault_server.serve("/same", redirect("/to"))
    away = fault_server.serve("/away", redirect(fault_server.url("/to", "localhost")))
    for each, expected in ((url, [basic("me:'pa\"ss")]), (away, [basic("me:'pa\"ss"), None])):
        fault_server.requests.clear()
        with getm.Session(netrc=True, retries=0) as session, session.open(each) as fh:
            for position in (200_000, 5, 300_000):
                fh.seek(position)
                assert fh.read(1) == BODY[position % len(BODY) :][:1]
        assert len(fault_server.requests) >= 4
        assert {*authorization(fault_server)} == {*expected}


def test_a_login_that_is_given_otherwise_comes_first(fault_server: FaultServer, tmp_path: Path) -> None:
    path = netrc(tmp_path, LINES)
    url = fault_server.serve("/x", Reply(body=BODY))
    with getm.Session(netrc=path, retries=0) as session:
        session.read(url, headers={"authorization": "Bearer 1"})
        session.read(url.replace("http://", "http://u:p@"))
    assert authorization(fault_server) == ["Bearer 1", basic("u:p")]


def test_logins_of_mirrors_and_of_entries(fault_server: FaultServer, tmp_path: Path) -> None:
    path = netrc(tmp_path, LINES)
    gone, there = fault_server.serve("/gone", failure(404)), fault_server.serve("/x", Reply(body=BODY))
    mirror = fault_server.url("/x", "localhost")
    with getm.Session(netrc=path, retries=0) as session:
        session.read(gone, mirrors=[mirror])
        list(session.download_all([there, getm.Entry([gone, mirror], "y")], directory=tmp_path, jobs=1))
    mine, other = basic("me:'pa\"ss"), basic("other:secret")
    assert authorization(fault_server) == [mine, other, mine, mine, other]


def test_who_may_read_the_logins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = netrc(tmp_path, LINES)
    with caplog.at_level(logging.WARNING, "getm"):
        getm.Session(netrc=True).close()
        assert not caplog.records
        path.chmod(0o640)
        getm.Session(netrc=True).close()
    (record,) = caplog.records
    assert f"chmod 600 {path}" in record.getMessage()


def test_logins_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(getm.InvalidInput, match=r"the netrc file .*/\.netrc cannot be read: No such file"):
        getm.Session(netrc=True)
    path = netrc(tmp_path, "machine a login b\npassword c d SECRET\n")
    monkeypatch.setenv("NETRC", str(path))
    with pytest.raises(getm.InvalidInput, match=r"\.netrc:2: this line") as raised:
        getm.Session(netrc=True)
    assert "SECRET" not in str(raised.value)
    netrc(tmp_path, "machine 127.0.0.1 login a:b password c\n")
    with getm.Session(netrc=path) as session, pytest.raises(getm.InvalidInput, match="colon"):
        session.read("http://127.0.0.1:9/")


# The command ---------------------------------------------------------------------------------------------------------


def test_the_command_takes_them(
    nginx: NginxServer,
    private: Callable[..., str],
    client: CertificateFiles,
    make_object: Make,
    tmp_path: Path,
) -> None:
    (tmp_path / "password").write_text("open sesame\n")
    key = encrypted(client.key, "open sesame")
    certificate = ("--cert", client.chain, "--key", key, "--key-password-file", "password", "--cacert", nginx.ca_path)
    where = ("--resolve", f"{PRIVATE_NAME}:{nginx.https_port}:::1,127.0.0.1", "-4", "--interface", "127.0.0.5")
    run = command.getm(private(), "out", *certificate, *where, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert (tmp_path / "out").read_bytes() == make_object(100_000).read()


def test_headers_and_logins_from_files(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    (tmp_path / "headers").write_text("# mine\n\nX-One: 1\r\nX-Two:  two words \n")
    path = netrc(tmp_path, LINES)
    run = command.getm(url, "-H", "@headers", "-H", "X-Three: 3", "--netrc-file", path, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    run = command.getm(url, "-H", "@-", "-n", "--config", "c", cwd=tmp_path, stdin=b"X-One: 1\nAuthorization: x")
    assert run.returncode == 2
    (tmp_path / "c").write_text("header = ['X-Two: two words', 'authorization: y']\n")
    run = command.getm(url, "-H", "@-", "-n", "--config", "c", cwd=tmp_path, stdin=b"X-One: 1\nAuthorization: x")
    assert (run.returncode, run.stderr) == (0, b"")
    first, second = fault_server.requests
    assert [first.header(name) for name in ("X-One", "X-Two", "X-Three")] == ["1", "two words", "3"]
    assert first.header("Authorization") == basic("me:'pa\"ss")
    assert [second.header(name) for name in ("X-One", "X-Two", "Authorization")] == ["1", "two words", "x"]


def test_a_terminal_is_told_of_logins_that_others_may_read(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    netrc(tmp_path, LINES).chmod(0o644)
    status, shown = command.on_a_terminal(url, "-n", cwd=tmp_path)
    assert status == 0 and "warning: others than you may read the secrets in" in shown
    # Callers take anything there for a failure.
    run = command.getm(url, "-n", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-H", "@nothere"], "The file of headers nothere cannot be read: No such file or directory."),
        (["-H", "@lines"], "lines:2: expected a header as 'NAME: VALUE'"),
        (["--netrc"], "/.netrc cannot be read: No such file"),
        (["--netrc-file", "lines"], "lines:1: this line of the netrc file cannot be understood"),
        (["--key", "lines"], "a key is that of a certificate: give that as well"),
        (["--cert", "nothere"], "cert: there is no file"),
        (["--cert", "lines", "--key-password-file", "nothere"], "The file with the password nothere cannot be read"),
        (["--resolve", "a"], "--resolve: expected HOST:PORT:ADDR, got 'a'"),
        (["--resolve", "::1"], "--resolve: expected HOST:PORT:ADDR, got '::1'"),
        (["--resolve", "a:x:127.0.0.1"], "resolve: expected HOST:PORT, got 'a:x'"),
        (["--resolve", "a:80:b"], "resolve: expected an IP address for a:80, got 'b'"),
        (["--resolve", "a:80:"], "resolve: expected an IP address for a:80, got ''"),
        (["--resolve", "127.0.0.1:80:127.0.0.1"], "is an address already"),
        (["--resolve", "a:80:127.0.0.1", "-6"], "resolve: there is no IPv6 address for a:80"),
        (["--interface", "none0"], "no connection can be made over the interface 'none0'"),
        (["--interface", "::1", "-4"], "interface is the IPv6 address ::1, and only IPv4"),
        (["-o", "c", "--cert", "c"], "its target c is the client certificate"),
        (["-o", "lines", "-H", "@header"], "-"),
        (["-o", "header", "-H", "@header"], "its target header is a file of headers"),
        (["-o", ".netrc", "-H", "@header", "-n"], "its target .netrc is the netrc file"),
        (["-o", "t", "--config", "t"], "its target t is the configuration"),
    ],
)
def test_what_the_command_refuses(arguments: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("A: b\nSECRET\n")
    (tmp_path / "header").write_text("A: b\n")
    (tmp_path / "t").write_text("")
    run = command.refused("http://127.0.0.1:9/x", "--retries=0", *arguments, cwd=tmp_path)
    if words == "-":
        assert run.returncode == 4
    else:
        assert run.returncode == 2 and words in str(command.failure(run)["message"])
