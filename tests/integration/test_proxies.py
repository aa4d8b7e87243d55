"""Through real proxies (tinyproxy, squid, microsocks), with and without a login, over HTTP and TLS; a Unix socket."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import getm
from getm import errors
from getm.testing import FaultServer, Reply
from tests.support import command
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject
from tests.support.proxies import LOGIN, MakeProxy, free_port, microsocks, squid, tinyproxy

Make = Callable[..., ServedObject]
SIZE = 3 * 1024 * 1024 + 1

each_mode = pytest.mark.parametrize("concurrency", (1, 3, None))


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(
    scope="module",
    params=[
        *[(make, "http", login) for make in (tinyproxy, squid) for login in (False, True)],
        *[(squid, "https", login) for login in (False, True)],
        *[(microsocks, scheme, login) for scheme in ("socks5", "socks5h") for login in (False, True)],
    ],
    ids=lambda param: f"{param[0].__name__} {param[1]}{' login' if param[2] else ''}",
)
def proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, nginx: NginxServer
) -> Iterator[tuple[str, bool]]:
    """The proxy's URL, and whether it has a login."""
    make: MakeProxy
    make, scheme, login = request.param
    over_tls = {"certificate": nginx.authority.issue()} if scheme == "https" else {}
    with make(tmp_path_factory.mktemp("proxy"), login=login, **over_tls) as port:
        yield f"{scheme}://{':'.join(LOGIN) + '@' if login else ''}127.0.0.1:{port}", login


@each_mode
@pytest.mark.parametrize("tls", (False, True), ids=("http", "https"))
def test_every_byte_comes_through_it(
    tls: bool, concurrency: int | None, proxy: tuple[str, bool], nginx: NginxServer, make_object: Make
) -> None:
    object_ = make_object(SIZE)
    url = nginx.url(object_, tls=tls)
    with getm.Session(proxy=proxy[0], cacert=nginx.ca_path, retries=0) as session:
        assert session.read(url, concurrency=concurrency) == object_.read()
        assert session.read(url, offset=77, length=1000) == object_.read()[77:1077]


def test_tls_to_the_proxy(tmp_path: Path, nginx: NginxServer, make_object: Make) -> None:
    """Its certificate must be right, and its login; with TLS to the server within it or not."""
    object_, small = make_object(SIZE), make_object(1000)
    certificate = nginx.authority.issue()
    with squid(tmp_path, login=True, certificate=certificate) as port:
        proxy = f"127.0.0.1:{port}"
        for tls in (False, True):
            url, there = nginx.url(object_, tls=tls), nginx.url(small, tls=tls)
            settings: dict[str, Any] = {"cacert": nginx.ca_path, "retries": 0}
            with getm.Session(proxy=f"https://{':'.join(LOGIN)}@{proxy}", **settings) as session:
                # Small ones after another, over connections that are kept.
                list(session.download_all([getm.Entry(there, f"{n}") for n in range(5)], directory=tmp_path))
                assert (tmp_path / "4").read_bytes() == small.read()
                with session.open(url) as fh:
                    fh.seek(SIZE - 1)
                    assert fh.read() == object_.read()[-1:]
            said = rf"the proxy 127\.0\.0\.1:{port} \(from proxy\) .* user name and password"
            with (
                getm.Session(proxy=f"https://someone:WRONG@{proxy}", **settings) as session,
                pytest.raises(errors.ProxyRefused, match=said) as caught,
            ):
                session.read(url)
            assert "WRONG" not in str(caught.value)
            with (
                getm.Session(proxy=f"https://{proxy}", retries=0) as session,
                pytest.raises(
                    errors.TLSFailed, match=rf"certificate of the proxy 127\.0\.0\.1:{port} .* is not trusted"
                ),
            ):
                session.read(url)
            # One that speaks no TLS.
            with (
                _answering(b"HTTP/1.1 400 Bad\r\n\r\n") as plain,
                getm.Session(proxy=f"https://127.0.0.1:{plain}", **settings) as session,
                pytest.raises(errors.TLSFailed, match=rf"^the proxy 127\.0\.0\.1:{plain} .* does not speak TLS"),
            ):
                session.read(url)


@pytest.mark.parametrize("make", (tinyproxy, squid, microsocks))
@pytest.mark.parametrize("given", ("", "someone:WRONG@"), ids=("no login", "another login"))
def test_a_login_that_is_missing_or_wrong(
    make: MakeProxy, given: str, tmp_path: Path, nginx: NginxServer, make_object: Make
) -> None:
    url = nginx.url(make_object(100), tls=True)
    scheme = "socks5" if make is microsocks else "http"
    with make(tmp_path, login=True) as port, getm.Session(proxy=f"{scheme}://{given}127.0.0.1:{port}") as session:
        said = rf"the proxy 127\.0\.0\.1:{port} \(from proxy\) .* user name and (the )?password"
        with pytest.raises(errors.ProxyRefused, match=said) as caught:
            session.read(url)
        assert "WRONG" not in f"{caught.value}{caught.value.url}"


def test_it_is_the_proxy_that_connects(tmp_path: Path) -> None:
    """A name that only the proxy looks up; what it says of servers that are not there is told, and asked again."""
    # microsocks connects to the first address alone, which is ::1 where the hosts file has it.
    first = str(socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)[0][4][0])
    unused = free_port()
    with microsocks(tmp_path) as port, FaultServer(address=first) as server:
        server.serve("/x", Reply(body=b"whole"))
        with getm.Session(proxy=f"socks5h://127.0.0.1:{port}", retries=0) as session:
            assert bytes(session.read(server.url("/x", "localhost"))) == b"whole"
            refused = (
                rf"the proxy 127\.0\.0\.1:{port} \(from proxy\) makes no connection to 127\.0\.0\.1:{unused}: .*refused"
            )
            with pytest.raises(errors.ConnectFailed, match=refused):
                session.read(f"http://127.0.0.1:{unused}/x")
            with pytest.raises(errors.ConnectFailed, match=r"makes no connection to nowhere\.invalid:80"):
                session.read("http://nowhere.invalid/x")
        with (
            getm.Session(proxy=f"socks5://127.0.0.1:{port}", retries=0) as session,
            pytest.raises(errors.HostNotFound, match=r"no host nowhere\.invalid.*check the name in the URL"),
        ):
            session.read("http://nowhere.invalid/x")


@pytest.mark.parametrize("scheme", ("http", "socks5", "socks5h"))
def test_a_proxy_that_is_not_there(scheme: str) -> None:
    port = free_port()
    with getm.Session(proxy=f"{scheme}://127.0.0.1:{port}", retries=0) as session:
        said = rf"no connection to the proxy 127\.0\.0\.1:{port} \(from proxy\): Connection refused; correct proxy"
        with pytest.raises(errors.ConnectFailed, match=said):
            session.read("http://127.0.0.1:9/x")


@pytest.mark.parametrize("answer", (b"", b"\x05", b"HTTP/1.1 400 Bad\r\n\r\n", b"\x05\x00\x05\x02\x00\x01\0\0\0\0\0\0"))
def test_a_proxy_that_speaks_no_socks_or_refuses(answer: bytes) -> None:
    with (
        _answering(answer) as port,
        getm.Session(proxy=f"socks5://127.0.0.1:{port}", retries=0) as session,
        pytest.raises(errors.ProxyRefused, match=r"makes no connection to 127\.0\.0\.1:9: "),
    ):
        session.read("http://127.0.0.1:9/x")


def test_a_proxy_that_says_nothing_is_given_up() -> None:
    limits = getm.Timeout(connect_s=0.3)
    with (
        _answering(None) as port,
        getm.Session(proxy=f"socks5://127.0.0.1:{port}", retries=0, timeout=limits) as session,
        pytest.raises(errors.TimedOut, match=r"no connection to 127\.0\.0\.1 through the proxy .* within 0\.3 s"),
    ):
        session.read("http://127.0.0.1:9/x")


@contextlib.contextmanager
def _answering(answer: bytes | None) -> Iterator[int]:
    """A server that answers whatever comes so, or, where that is None, not at all, until the other side closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(1000)
                        if answer is not None:
                            connection.sendall(answer)
                            connection.shutdown(socket.SHUT_WR)
                        while connection.recv(1000):
                            pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


# Which proxy ----------------------------------------------------------------------------------------------------------


def test_the_argument_comes_before_the_variables(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fault_server.serve("/x", Reply(body=b"direct"))
    url = fault_server.url("/x")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    settings: list[dict[str, Any]] = [{"proxy": None}, {"no_proxy": "127.0.0.0/8"}, {"no_proxy": ["a.test", "*"]}]
    for each in settings:
        with getm.Session(retries=0, **each) as session:
            assert bytes(session.read(url)) == b"direct"
    with getm.Session(retries=0) as session, pytest.raises(errors.ConnectFailed, match="from http_proxy"):
        session.read(url)
    monkeypatch.setenv("no_proxy", "*")
    with getm.Session(retries=0, no_proxy="") as session, pytest.raises(errors.ConnectFailed, match="from http_proxy"):
        session.read(url)


def test_socks_by_the_variable(tmp_path: Path, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    url = fault_server.serve("/x", Reply(body=b"whole"))
    with microsocks(tmp_path) as port, getm.Session(retries=0) as session:
        monkeypatch.setenv("all_proxy", f"socks5://127.0.0.1:{port}")
        assert bytes(session.read(url)) == b"whole"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"proxy": "socks4://h.test:1"},
            "proxy names the proxy socks4://h.test:1: of SOCKS only version 5 is supported",
        ),
        ({"proxy": "ftp://me:SECRET@h.test"}, "proxy names the proxy ftp://h.test: its scheme is another one"),
        ({"proxy": "http://h.test:port"}, "proxy names no proxy that could be connected to"),
        ({"proxy": 3}, "proxy"),
        ({"no_proxy": 3}, "no_proxy"),
        ({"unix_socket": "x" * 200}, "unix_socket: its path has"),
        ({"unix_socket": "s", "proxy": "http://h.test"}, "give no proxy"),
        ({"unix_socket": "s", "interface": "lo"}, "give no proxy, resolve or interface"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(getm.InvalidInput, match=said) as caught:
        getm.Session(**settings)
    assert "SECRET" not in str(caught.value)


def test_a_session_with_socks_and_an_interface(fault_server: FaultServer) -> None:
    with (
        getm.Session(proxy="socks5://127.0.0.1:9", interface="127.0.0.1") as session,
        pytest.raises(getm.InvalidInput, match="over a given interface"),
    ):
        session.read(fault_server.url("/x"))


# A Unix socket --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def relay(path: Path, port: int) -> Iterator[None]:
    """A Unix socket in front of a port of this machine."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, far = server.accept()[0], socket.create_connection(("127.0.0.1", port))
                sockets.extend((near, far))
                for ends in ((near, far), (far, near)):
                    threads.append(threading.Thread(target=pump, args=ends))
                    threads[-1].start()

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(path))
        server.listen()
        accepting = threading.Thread(target=serve)
        accepting.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for each in sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for each in sockets:
                each.close()


@each_mode
@pytest.mark.parametrize("tls", (False, True), ids=("http", "https"))
def test_a_unix_socket_takes_the_place_of_all_hosts(
    tls: bool,
    concurrency: int | None,
    tmp_path: Path,
    nginx: NginxServer,
    make_object: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    object_ = make_object(SIZE)
    url = nginx.url(object_, tls=tls) if tls else f"http://anything.test{object_.url_path}"
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:9")
    with (
        relay(tmp_path / "s", nginx.https_port if tls else nginx.http_port),
        getm.Session(unix_socket=tmp_path / "s", cacert=nginx.ca_path, retries=0) as session,
    ):
        assert session.read(url, concurrency=concurrency) == object_.read()


def test_a_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    with (
        getm.Session(unix_socket=tmp_path / "none", retries=0) as session,
        pytest.raises(errors.ConnectFailed, match=r"no connection to the socket .*/none: No such file"),
    ):
        session.read("http://h.test/x")


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, nginx: NginxServer, make_object: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    object_ = make_object(SIZE)
    url = nginx.url(object_)
    with microsocks(tmp_path, login=True) as port:
        proxy = f"socks5h://{':'.join(LOGIN)}@127.0.0.1:{port}"
        run = command.getm(url, "a", "--proxy", proxy, "--json", "-vv", cwd=tmp_path)
        assert run.returncode == 0 and (tmp_path / "a").read_bytes() == object_.read(), run.stderr
        assert LOGIN[1].encode() not in run.stdout + run.stderr
        monkeypatch.setenv("GETM_PROXY", proxy)
        assert command.getm(url, "b", cwd=tmp_path).returncode == 0
    refused = command.getm(url, "c", "--retries", "0", cwd=tmp_path)
    assert refused.returncode == 4 and LOGIN[1].encode() not in refused.stderr
    assert f"the proxy 127.0.0.1:{port} (from proxy)" in refused.stderr.decode()
    for arguments in (["--proxy", ""], ["--noproxy", "*"]):
        assert command.getm(url, "d", *arguments, cwd=tmp_path).returncode == 0
    with relay(tmp_path / "s", nginx.http_port):
        run = command.getm(f"http://h.test{object_.url_path}", "e", "--unix-socket", "s", "--proxy", "", cwd=tmp_path)
    assert run.returncode == 0 and (tmp_path / "e").read_bytes() == object_.read(), run.stderr
