"""The server of `getm run` and `getm serve`, as programs see it: what it answers, what it costs at the origin, and what
becomes of failures."""

from __future__ import annotations

import hashlib
import http.client
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

import getm
from getm.core.units import KIB, MIB
from getm.testing import FaultServer, Reply, Request, failure
from tests.support.adapter import adapter, ask
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject
from tests.support.signing import SignedObject

Make = Callable[..., ServedObject]

SIZE = 17 * MIB + 321
BODY = hashlib.shake_256(b"adapter").digest(400_000)


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=1)


@pytest.fixture
def served(make_object: Make) -> ServedObject:
    return make_object(SIZE)


# As any server ---------------------------------------------------------------------------------------------------


def test_it_answers_as_the_origin_does(session: getm.Session, nginx: NginxServer, served: ServedObject) -> None:
    name, data = nginx.url(served), served.read()
    with adapter(session, name) as local:
        (url,) = local.urls
        for method, headers in (
            ("HEAD", {}),
            ("GET", {}),
            ("GET", {"Range": "bytes=5-14"}),
            ("GET", {"Range": f"bytes={SIZE - 10}-"}),
            ("GET", {"Range": "bytes=-1000"}),
            ("GET", {"Range": f"bytes={SIZE}-"}),
            ("HEAD", {"Range": "bytes=5-14"}),
        ):
            ours, theirs = ask(url, method, **headers), ask(name, method, **headers)
            assert ours.status == theirs.status, (method, headers)
            for field in ("Content-Length", "Content-Range", "Content-Type", "ETag", "Last-Modified"):
                if ours.status < 400 or field == "Content-Range":
                    assert ours.headers.get(field) == theirs.headers.get(field), (method, headers, field)
            if ours.status < 400:
                assert ours.body == theirs.body
        etag = ask(url, "HEAD").headers["ETag"]
        assert ask(url, If_None_Match=etag).status == 304
        assert ask(url, Range="bytes=1-3", If_Range='"other"').body == data
        assert ask(url, Range="bytes=1-3", If_Range=etag).body == data[1:4]
        assert local.reports == []


def test_one_connection_for_many_requests(session: getm.Session, nginx: NginxServer, served: ServedObject) -> None:
    data = served.read()
    with adapter(session, nginx.url(served)) as local:
        parts = urlsplit(local.urls[0])
        connection = http.client.HTTPConnection("127.0.0.1", parts.port)
        for start in (0, 100, 5 * MIB, 3, SIZE - 7):
            connection.request("GET", parts.path, headers={"Range": f"bytes={start}-{start + 9_999}"})
            kept = connection.sock
            assert connection.getresponse().read() == data[start : start + 10_000]
            assert connection.sock is kept
        connection.close()


def test_a_client_of_http_1_0(session: getm.Session, nginx: NginxServer, served: ServedObject) -> None:
    with adapter(session, nginx.url(served)) as local:
        answer = raw(local.port, f"GET {urlsplit(local.urls[0]).path} HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200") and body == served.read()


def test_readers_at_once(session: getm.Session, nginx: NginxServer, served: ServedObject) -> None:
    data, step = served.read(), SIZE // 12
    with adapter(session, nginx.url(served)) as local, ThreadPoolExecutor(12) as pool:
        spans = [(start, min(SIZE, start + step + 100_000)) for start in range(0, SIZE, step)]
        answers = pool.map(lambda span: ask(local.urls[0], Range=f"bytes={span[0]}-{span[1] - 1}"), spans)
        assert all(answer.body == data[slice(*span)] for span, answer in zip(spans, answers, strict=True))


@pytest.mark.parametrize("place", ["no-ranges", "chunked", "close-delimited"])
def test_what_can_only_be_read_whole(session: getm.Session, nginx: NginxServer, make_object: Make, place: str) -> None:
    name = nginx.url(make_object(300_000), via=place)
    with adapter(session, name) as local:
        head = ask(local.urls[0], "HEAD")
        assert (head.status, head.headers["Accept-Ranges"]) == (200, "none")
        for headers in ({}, {"Range": "bytes=5-9"}):
            answer = ask(local.urls[0], **headers)
            assert (answer.status, answer.body) == (200, make_object(300_000).read())


def test_an_empty_object(session: getm.Session, nginx: NginxServer, make_object: Make) -> None:
    with adapter(session, nginx.url(make_object(0))) as local:
        assert (ask(local.urls[0]).status, ask(local.urls[0]).body) == (200, b"")
        assert ask(local.urls[0], Range="bytes=0-").status == 416


def test_what_is_beside_it(session: getm.Session, nginx: NginxServer, make_object: Make) -> None:
    first, second = make_object(1000), make_object(2000)
    elsewhere = nginx.url(make_object(3000))
    with adapter(session, nginx.url(first), beside=(elsewhere,)) as local:
        folder = local.urls[0].rpartition("/")[0]
        assert ask(f"{folder}/{second.path.name}").body == second.read()
        assert ask(f"{folder}/deeper/{elsewhere.rpartition('/')[2]}").body == make_object(3000).read()
        assert ask(f"{local.urls[0]}.bai").status == 404
        # Programs look for what may not be there.
        assert local.reports == []


# Who may ask -----------------------------------------------------------------------------------------------------


def raw(port: int, request: str) -> bytes:
    """All that comes for a request, until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request.encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_requests_that_are_refused(
    session: getm.Session, nginx: NginxServer, make_object: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = nginx.log.mark()
    with adapter(session, nginx.url(make_object(1000))) as local:
        (url,) = local.urls
        assert ask(url.replace("token", "tokem")).status == 404
        assert ask(f"http://127.0.0.1:{local.port}/").status == 404
        # A page of that host, whose name leads here.
        assert ask(url, Host="attacker.example").status == 404
        assert ask(url, Host=f"attacker.example:{local.port}").status == 404
        answer = ask(url, "DELETE")
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
        with monkeypatch.context() as patch:
            patch.setattr("getm.adapter.server.is_of_this_user", lambda peer, own: False)
            with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
                ask(url)
        assert nginx.log.since(mark) == []
        assert ask(url.replace("127.0.0.1", "localhost")).status == 200


# What it costs ---------------------------------------------------------------------------------------------------


def test_hanging_up_costs_little(session: getm.Session, nginx: NginxServer, served: ServedObject) -> None:
    mark = nginx.log.mark()
    with adapter(session, nginx.url(served)) as local:
        with socket.create_connection(("127.0.0.1", local.port)) as connection:
            connection.sendall(
                f"GET {urlsplit(local.urls[0]).path} HTTP/1.1\r\nHost: localhost:{local.port}\r\n\r\n".encode()
            )
            received = 0
            while received < 64 * KIB:
                received += len(connection.recv(4 * KIB))
        # Over another connection, so that the first one has ended.
        assert ask(local.urls[0], Range="bytes=0-0").body == served.read()[:1]
    # And what the kernel keeps for a program that does not read, some 200 KiB here; a whole answer would be 17 MiB.
    assert sum(each.body_bytes for each in nginx.log.since(mark)) <= 4 * MIB


def test_a_closed_range_costs_its_bytes(session: getm.Session, nginx: NginxServer, served: ServedObject) -> None:
    mark = nginx.log.mark()
    with adapter(session, nginx.url(served)) as local:
        ask(local.urls[0], "HEAD")
        ask(local.urls[0], Range=f"bytes={5 * MIB}-{6 * MIB - 1}")
        ask(local.urls[0], Range=f"bytes={SIZE - 8}-{SIZE - 1}")
    assert sum(each.body_bytes for each in nginx.log.since(mark)) == 1 + MIB + 8


# Failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "status"),
    [(404, 404), (410, 410), (401, 403), (403, 403), (429, 503), (503, 503), (500, 502), (400, 502)],
)
def test_statuses_of_the_origin(session: getm.Session, fault_server: FaultServer, origin: int, status: int) -> None:
    name = fault_server.serve("/x", failure(origin, retry_after="0"))
    with adapter(session, f"{name}?key=SECRET") as local:
        answer = ask(local.urls[0])
        assert answer.status == status
        assert ("Retry-After" in answer.headers) == (status == 503)
        ((told, error),) = local.reports
        assert told == name and "SECRET" not in str(error)


def test_no_origin(session: getm.Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with adapter(session, f"http://127.0.0.1:{port}/x") as local:
        assert ask(local.urls[0]).status == 502
        assert len(local.reports) == 1


def test_a_broken_connection_is_mended(shared_session: Callable[..., getm.Session], fault_server: FaultServer) -> None:
    name = fault_server.serve("/x", lambda request: Reply(body=BODY, cut_at=70_000, then="close"))
    with adapter(shared_session(retries=5), name) as local:
        assert ask(local.urls[0]).body == BODY
        assert ask(local.urls[0], Range="bytes=100000-").body == BODY[100_000:]
        assert local.reports == []


def test_a_connection_that_stays_broken(session: getm.Session, fault_server: FaultServer) -> None:
    def reply(request: Request) -> Reply:
        return Reply(body=BODY, cut_at=None if request.header("Range") == "bytes=0-65535" else 0, then="close")

    name = fault_server.serve("/x", reply)
    with adapter(session, name) as local:
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            ask(local.urls[0])
        assert ask(local.urls[0], Range="bytes=70000-").status == 502
        assert len(local.reports) == 2 and all(isinstance(error, getm.NetworkError) for _, error in local.reports)


def test_a_replaced_object_is_never_mixed(session: getm.Session, fault_server: FaultServer) -> None:
    versions = [Reply(body=BODY, etag='"one"')]
    name = fault_server.serve("/x", lambda request: versions[-1])
    with adapter(session, name) as local:
        assert ask(local.urls[0], Range="bytes=10-19").body == BODY[10:20]
        versions.append(Reply(body=BODY[::-1], etag='"two"'))
        # For the life of the run, also where it could be read from the start again.
        for headers in ({"Range": "bytes=200000-"}, {"Range": "bytes=0-"}, {}):
            assert ask(local.urls[0], **headers).status == 410
        assert ask(local.urls[0], "HEAD").headers["ETag"] == '"one"'
        assert {type(error) for _, error in local.reports} == {getm.RemoteChanged}


def test_versions_of_all_are_kept(
    session: getm.Session, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getm.adapter.server._MAX_ORIGINS", 2)
    for name in "abcd":
        fault_server.serve(f"/{name}", Reply(body=BODY), Reply(body=BODY, etag='"2"'))
    with adapter(session, fault_server.url("/a")) as local:
        folder = local.urls[0].removesuffix("a")
        assert [ask(f"{folder}{name}", Range="bytes=0-9").status for name in "abcd"] == [206] * 4
        assert ask(local.urls[0], Range="bytes=0-9").status == 410


def test_one_that_is_replaced_within_an_answer(session: getm.Session, fault_server: FaultServer) -> None:
    def reply(request: Request) -> Reply:
        first = request.header("Range") in ("bytes=0-65535", "bytes=0-0")
        return Reply(body=BODY, etag='"one"') if first else Reply(body=BODY[::-1], etag='"two"')

    name = fault_server.serve("/x", reply)
    with adapter(session, name) as local:
        ask(local.urls[0], "HEAD")
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            ask(local.urls[0])
        assert [type(error) for _, error in local.reports] == [getm.RemoteChanged]


def test_a_wrong_checksum_ends_the_answer(session: getm.Session, fault_server: FaultServer) -> None:
    name = fault_server.serve("/x", Reply(body=BODY, headers={"x-goog-hash": "crc32c=AAAAAA=="}))
    with adapter(session, name) as local:
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            ask(local.urls[0])
        assert [type(error) for _, error in local.reports] == [getm.ChecksumMismatch]


def test_signatures_are_renewed(session: getm.Session, fault_server: FaultServer) -> None:
    signed = SignedObject(fault_server, lambda request: Reply(body=BODY), uses=2)
    with adapter(session, signed.url, provider_of=lambda name: signed.sign) as local:
        for start in range(0, 400_000, 90_000):
            assert ask(local.urls[0], Range=f"bytes={start}-").body == BODY[start:]
        assert local.reports == []
    assert len(signed.used) > 2 and signed.one_for_each_expiry


def test_one_that_cannot_be_renewed(session: getm.Session, fault_server: FaultServer) -> None:
    name = fault_server.serve("/signed", Reply(body=BODY), failure(403))
    with adapter(session, f"{name}?Signature=SECRET&Expires=9999999999&KeyName=0") as local:
        assert {ask(f"{local.urls[0]}.{index}").status for index in ("csi", "bai")} == {404}
        ((beside, error),) = local.reports
        assert beside == f"{name}.csi" and "give its URL, too (--with)" in str(error)
        assert ask(local.urls[0], Range="bytes=0-9").body == BODY[:10]
        answer = ask(local.urls[0], Range="bytes=300000-")
        assert answer.status == 403
        assert "SECRET" not in f"{answer.headers} {answer.body!r} {local.reports}"
        # Nothing was asked for beside it: a signature is for one object.
        assert {request.path for request in fault_server.requests} == {"/signed"}
