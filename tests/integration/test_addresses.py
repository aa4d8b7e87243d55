"""Addresses, redirects and proxies, as servers and proxies see them."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import getm
from getm import errors
from getm.testing import FaultServer, Reply, failure, redirect
from tests.support import command

BODY = bytes(range(256)) * 64


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


each_mode = pytest.mark.parametrize("concurrency", (1, 3, None))
ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=0)


def basic(login: bytes) -> str:
    return "Basic " + base64.b64encode(login).decode()


# Addresses ------------------------------------------------------------------------------------------------------------


@ipv6
@each_mode
@pytest.mark.parametrize("zone", ("%25lo", "%lo", ""))
def test_case_29_the_zone_of_an_address_is_not_sent(zone: str, concurrency: int | None, session: getm.Session) -> None:
    with FaultServer(address="::1") as server:
        server.serve("/f", Reply(body=BODY))
        assert session.read(f"http://[::1{zone}]:{server.port}/f", concurrency=concurrency) == BODY
        assert {request.header("Host") for request in server.requests} == {f"[::1]:{server.port}"}


@each_mode
def test_case_35_userinfo_goes_out_in_a_coding_that_has_it(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    for userinfo, sent in (("€:ß", "€:ß".encode()), ("é:p", b"\xe9:p"), ("%FF:p", b"\xff:p"), ("me", b"me:")):
        assert session.read(url.replace("://", f"://{userinfo}@"), concurrency=concurrency) == BODY
        assert fault_server.requests[-1].header("Authorization") == basic(sent)


@each_mode
@pytest.mark.parametrize("url", ("http://a..b/", f"http://{'a' * 64}.test/", "http://h\\x/"))
def test_case_30_what_is_no_name_is_refused(url: str, concurrency: int | None, session: getm.Session) -> None:
    with pytest.raises(errors.InvalidInput):
        session.read(url, concurrency=concurrency)


# Redirects ------------------------------------------------------------------------------------------------------------


def moved(*locations: bytes) -> Reply:
    fields = b"".join(b"Location: %b\r\n" % location for location in locations)
    return Reply(raw=b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n" + fields + b"\r\n")


@each_mode
@pytest.mark.parametrize(
    ("location", "target"),
    [
        (b"/f;?sig=1", b"/f;?sig=1"),
        (b"/f?name=\xe9", b"/f?name=%E9"),
        ("/f?name=é".encode(), b"/f?name=%C3%A9"),
        (b"/a/../f?x=%2F+%zz", b"/a/../f?x=%2F+%zz"),
        (b"../f", b"/f"),
    ],
)
def test_case_31_a_location_is_followed_byte_for_byte(
    location: bytes, target: bytes, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    fault_server.serve(target.partition(b"?")[0].decode(), Reply(body=BODY))
    url = fault_server.serve("/from/here", moved(location))
    assert session.read(url, concurrency=concurrency) == BODY
    assert fault_server.requests[1].target == target


@each_mode
def test_case_32_userinfo_goes_on_within_its_origin_and_no_further(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    with FaultServer() as other:
        fault_server.serve("/absolute", redirect(fault_server.url("/relative")))
        fault_server.serve("/relative", redirect("/away"))
        fault_server.serve("/away", redirect(other.url("/back")))
        other.serve("/back", redirect(fault_server.url("/end")))
        fault_server.serve("/end", Reply(body=BODY))
        url = fault_server.url("/absolute").replace("://", "://me:secret@")
        assert session.read(url, concurrency=concurrency) == BODY
        sent = [request.header("Authorization") for request in fault_server.requests]
        assert sent == [basic(b"me:secret")] * 3 + [None]
        assert other.requests[0].header("Authorization") is None


@each_mode
def test_case_33_the_same_location_twice_is_one(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    fault_server.serve("/f", Reply(body=BODY))
    assert session.read(fault_server.serve("/same", moved(b"/f", b" /f", b"")), concurrency=concurrency) == BODY
    with pytest.raises(errors.RedirectError, match="several Locations that differ"):
        session.read(fault_server.serve("/differ", moved(b"/f", b"/g")), concurrency=concurrency)
    with pytest.raises(errors.RedirectError, match="no Location"):
        session.read(fault_server.serve("/none", moved(b"")), concurrency=concurrency)


# Proxies --------------------------------------------------------------------------------------------------------------


@each_mode
def test_case_34_which_proxy_is_asked(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    with FaultServer() as proxy:
        proxy.serve(url, Reply(body=BODY[::-1]))
        unusable = "http://127.0.0.1:9"

        def read(**variables: str) -> bytes:
            with monkeypatch.context() as patch:
                for name, value in variables.items():
                    patch.setenv(name, value)
                return bytes(session.read(url, concurrency=concurrency))

        proxied, direct = BODY[::-1], BODY
        assert read(http_proxy=proxy.url(), HTTP_PROXY=unusable) == proxied
        assert read(HTTP_PROXY=proxy.url()) == proxied
        assert read(http_proxy="", HTTP_PROXY=unusable) == direct
        assert read(http_proxy="", all_proxy=unusable) == direct
        assert read(http_proxy=unusable, no_proxy="127.0.0.0/8", NO_PROXY="other") == direct
        assert read(http_proxy=proxy.url(), no_proxy="", NO_PROXY="127.0.0.1") == proxied
        # Case 55: in a CGI program it is what a client sent as "Proxy".
        assert read(HTTP_PROXY=unusable, REQUEST_METHOD="GET") == direct
        assert read(http_proxy=proxy.url(), HTTP_PROXY=unusable, REQUEST_METHOD="GET") == proxied


@each_mode
@pytest.mark.parametrize("value", ("socks4://p.test:1080", "nonsense://p.test", "http://p.test:port"))
def test_cases_34_55_a_proxy_that_cannot_be_used_is_told_by_name(
    value: str, concurrency: int | None, session: getm.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", value)
    with pytest.raises(errors.InvalidInput, match=r"all_proxy names .*p\.test"):
        session.read("http://data.example/", concurrency=concurrency)


@each_mode
@pytest.mark.parametrize("tls", (False, True))
@pytest.mark.parametrize(("status", "requests"), [(401, 1), (403, 1), (407, 1), (502, 3), (503, 3)])
def test_case_34_what_a_proxy_refuses_is_told_with_its_name(
    status: int,
    requests: int,
    tls: bool,
    concurrency: int | None,
    fault_server: FaultServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheme = "https" if tls else "http"
    monkeypatch.setenv(f"{scheme}_proxy", fault_server.url().replace("://", "://me:SECRET@"))
    fault_server.serve("data.example:443", failure(status))
    fault_server.serve("http://data.example/x", failure(status))
    with getm.Session(retries=getm.Retries(2, base_s=0)) as session, pytest.raises(errors.NetworkError) as caught:
        session.read(f"{scheme}://data.example/x", concurrency=concurrency)
    error = caught.value
    if concurrency == 3 and status == 403 and not tls:
        # It may be the range that is refused: the whole is asked for once.
        requests += 1
    assert isinstance(error, errors.ProxyRefused if tls or status == 407 else errors.HTTPStatusError)
    assert (error.status, error.attempts) == (status, requests)
    assert f"the proxy 127.0.0.1:{fault_server.port} (from {scheme}_proxy)" in error.message
    assert "SECRET" not in str(error)
    assert len(fault_server.requests) == requests


@each_mode
@pytest.mark.parametrize("scheme", ("http", "https"))
def test_cases_34_55_a_proxy_that_is_not_there_is_told_with_its_name(
    scheme: str, concurrency: int | None, session: getm.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", "http://127.0.0.1:9")
    with pytest.raises(errors.ConnectFailed, match=rf"the proxy 127\.0\.0\.1:9 \(from {scheme.upper()}_PROXY\)"):
        session.read(f"{scheme}://data.example/", concurrency=concurrency)
    monkeypatch.setenv(f"{scheme}_proxy", "http://nowhere.invalid:3128")
    with pytest.raises(errors.ConnectFailed, match=rf"nowhere\.invalid of the proxy .* \(from {scheme}_proxy\)"):
        session.read(f"{scheme}://data.example/", concurrency=concurrency)


@ipv6
def test_case_55_an_address_of_ipv6_is_exempt(session: getm.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with FaultServer(address="::1") as server:
        server.serve("/f", Reply(body=BODY))
        for no_proxy in ("::1", "[::1]", f"[::1]:{server.port}", "::/16"):
            monkeypatch.setenv("no_proxy", no_proxy)
            assert session.read(f"http://[::1]:{server.port}/f") == BODY


# Bytes that are not UTF-8 (case 2) ------------------------------------------------------------------------------------


@each_mode
@pytest.mark.parametrize("name", ("SSL_CERT_FILE", "SSL_CERT_DIR", "no_proxy", "NO_PROXY", "https_proxy"))
def test_case_2_variables_of_any_bytes_cross_the_pipe(
    name: str,
    concurrency: int | None,
    session: getm.Session,
    fault_server: FaultServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(name, os.fsdecode(b"/caf\xe9\xff"))
    assert session.read(fault_server.serve("/x", Reply(body=BODY)), concurrency=concurrency) == BODY


@each_mode
def test_case_2_a_proxy_of_any_bytes_is_used_or_refused(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_server.serve("http://data.example/x", Reply(body=BODY))
    monkeypatch.setenv("http_proxy", os.fsdecode(b"http://m\xe9:p@127.0.0.1:%d" % fault_server.port))
    assert session.read("http://data.example/x", concurrency=concurrency) == BODY
    assert fault_server.requests[0].header("Proxy-Authorization") == basic(b"m\xe9:p")
    monkeypatch.setenv("http_proxy", os.fsdecode(b"http://pr\xe9xy.invalid:80"))
    with pytest.raises(errors.GetmError, match="http_proxy"):
        session.read("http://data.example/x", concurrency=concurrency)


@each_mode
def test_case_2_certificates_in_a_path_of_any_bytes(
    concurrency: int | None,
    tls_fault_server: FaultServer,
    ca_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    trusted = folder / os.fsdecode(b"ca\xff.pem")
    shutil.copy(ca_path, trusted)
    url = tls_fault_server.serve("/x", Reply(body=BODY))
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with getm.Session() as session:
        assert session.read(url, concurrency=concurrency) == BODY
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / os.fsdecode(b"missing\xe9")))
    with getm.Session() as session, pytest.raises(errors.InvalidInput, match="cannot be loaded") as caught:
        session.read(url, concurrency=concurrency)
    caught.value.message.encode()
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.chdir(folder)
    with getm.Session(cacert=trusted.name) as session:
        assert session.read(url, concurrency=concurrency) == BODY


def test_case_2_the_command_in_a_folder_of_any_bytes(
    tls_fault_server: FaultServer, ca_path: Path, tmp_path: Path
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    shutil.copy(ca_path, folder / os.fsdecode(b"ca\xe9.pem"))
    url = tls_fault_server.serve("/x", Reply(body=BODY))
    arguments = [*command.GETM, url, "x", "--cacert", os.fsdecode(b"ca\xe9.pem")]
    run = subprocess.run(arguments, cwd=folder, capture_output=True)
    assert (run.returncode, run.stderr) == (0, b"")
    assert (folder / "x").read_bytes() == BODY
    run = subprocess.run([*arguments[:-1], os.fsdecode(b"missing\xe9")], cwd=folder, capture_output=True)
    assert run.returncode == 2 and b"Unexpected" not in run.stderr
    assert sys.getfilesystemencoding() == "utf-8"
