"""What goes out with a request, and over which connection: as the server sees it."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import getm
from getm import errors
from getm.testing import FaultServer, Reply, Request

BODY = bytes(range(256)) * 64


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=0)


def sent(request: Request, name: str) -> list[str]:
    return [value for key, value in request.headers if key.lower() == name.lower()]


def basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


def test_our_own_fields_go_out_once_and_a_users_take_their_place(
    session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    assert session.read(url) == BODY
    assert session.read(url, headers=[("accept", "a/b"), ("X-Two", "1"), ("x-two", "2")]) == BODY
    assert session.read(url) == BODY
    first, own, last = fault_server.requests
    assert first.method == "GET" and first.headers == last.headers
    assert sent(first, "Host") == [url.split("/")[2]]
    assert (sent(first, "Accept"), sent(first, "Accept-Encoding")) == (["*/*"], ["identity"])
    assert sent(first, "User-Agent")[0].startswith("getm/")
    assert (sent(own, "Accept"), sent(own, "X-Two")) == (["a/b"], ["1", "2"])
    assert sent(own, "Accept-Encoding") == ["identity"]


def test_headers_of_one_call_never_go_with_another(session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    for secret in ("one", "two", None, "one"):
        assert session.read(url, headers=None if secret is None else {"X-Secret": secret}) == BODY
    assert [sent(request, "X-Secret") for request in fault_server.requests] == [["one"], ["two"], [], ["one"]]
    assert {request.connection for request in fault_server.requests} == {0}


def test_a_name_and_password_in_the_url_become_a_field(session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    named = url.replace("://", "://me:pass%20word@")
    assert session.read(named) == BODY
    assert session.read(url) == BODY
    assert [sent(request, "Authorization") for request in fault_server.requests] == [[basic("me:pass word")], []]
    assert sent(fault_server.requests[0], "Host") == [url.split("/")[2]]
    with pytest.raises(errors.InvalidInput, match="Authorization"):
        session.read(named, headers={"authorization": "Bearer x"})
    assert len(fault_server.requests) == 2


@pytest.mark.parametrize("rest", ["", "/", "?a=/b", "/a?", "/a//b?c?d", "/%2e%2E/x;y=(1)"])
def test_what_is_asked_for_is_what_the_url_says(rest: str, session: getm.Session, fault_server: FaultServer) -> None:
    """Byte for byte; an empty path is "/" (RFC 9112, section 3.2.1)."""
    target = rest if rest.startswith("/") else f"/{rest}"
    fault_server.serve(target.partition("?")[0], Reply(body=BODY))
    assert session.read(fault_server.url("/").rstrip("/") + rest) == BODY
    assert [request.target for request in fault_server.requests] == [target.encode()]


def test_a_proxy_gets_its_own_password_each_time(
    session: getm.Session, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", fault_server.url("/").replace("://", "://me:secret@"))
    monkeypatch.delenv("no_proxy", raising=False)
    fault_server.serve("http://data.example/x", Reply(body=BODY))
    for _ in range(3):
        assert session.read("http://you:own@data.example/x") == BODY
    for request in fault_server.requests:
        assert request.target == b"http://data.example/x"
        assert sent(request, "Proxy-Authorization") == [basic("me:secret")]
        assert sent(request, "Authorization") == [basic("you:own")]
    assert {request.connection for request in fault_server.requests} == {0}


def test_interim_responses_are_passed_over(session: getm.Session) -> None:
    """RFC 9110, section 15.2: any number of them, whole or torn, before the answer."""
    with _server(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole",
    ) as url:
        assert bytes(session.read(url)) == b"whole"


@contextlib.contextmanager
def _server(*pieces: bytes) -> Iterator[str]:
    """Answers one request with these pieces."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            accepted, _ = listening.accept()
            with accepted:
                accepted.recv(65536)
                for piece in pieces:
                    accepted.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            thread.join()


def test_a_tunnel_through_a_proxy_is_kept_for_the_next_request(
    tls_fault_server: FaultServer, ca_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9110, section 9.3.6. The proxy's password goes to the proxy only, in the head of CONNECT."""
    url = tls_fault_server.serve("/x", Reply(body=BODY))
    with _tunnel() as (proxy, heads), getm.Session(cacert=ca_path, retries=0) as session:
        monkeypatch.setenv("https_proxy", proxy.replace("://", "://me:secret@"))
        monkeypatch.delenv("no_proxy", raising=False)
        for _ in range(3):
            assert session.read(url) == BODY
    host = url.split("/")[2]
    assert len(heads) == 1, "one tunnel for all three"
    assert heads[0].startswith(f"CONNECT {host} HTTP/1.1\r\n")
    assert f"Proxy-Authorization: {basic('me:secret')}\r\n" in heads[0]
    for request in tls_fault_server.requests:
        assert (request.target, request.connection) == (b"/x", 0)
        assert sent(request, "Proxy-Authorization") == []


@contextlib.contextmanager
def _tunnel() -> Iterator[tuple[str, list[str]]]:
    """A proxy that tunnels one connection, and the heads of what it was asked."""
    heads: list[str] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            accepted, _ = listening.accept()
            with accepted, accepted.makefile("rb") as lines:
                head = b"".join(iter(lines.readline, b"\r\n")).decode()
                heads.append(head)
                host, _, port = head.split()[1].rpartition(":")
                with socket.create_connection((host, int(port))) as onward:
                    accepted.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    back = threading.Thread(target=pump, args=(onward, accepted))
                    back.start()
                    pump(accepted, onward)
                    back.join()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", heads
        finally:
            thread.join()
