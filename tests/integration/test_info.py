"""`getm.info`: what a server says of an object, and what it costs to ask."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

import getm
from getm.testing import FaultServer, Reply, Request, failure
from tests.support.nginx import NginxServer

BODY = bytes(range(256)) * 40
MODIFIED = datetime(2025, 7, 1, tzinfo=UTC)


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=getm.Retries(attempts=2, base_s=0.001, cap_s=0.002))


def refuses_head(status: int, reply: Reply) -> Callable[[Request], Reply]:
    return lambda request: failure(status) if request.method == "HEAD" else reply


def test_a_head_request_tells_all_and_brings_nothing(nginx: NginxServer, session: getm.Session) -> None:
    served = nginx.objects.make(3_000_000)
    url = nginx.declared_url(served, sha256=served.sha256_hex, content_md5=served.md5_base64, etag="v1")
    mark = nginx.log.mark()
    found = session.info(url)
    again = asyncio.run(session.ainfo(url))
    asked = nginx.log.since(mark)
    assert [(each.method, each.body_bytes) for each in asked] == [("HEAD", 0)] * 2
    assert len({each.connection for each in asked}) == 1
    assert (found.size, found.etag, found.url, found.media_type) == (
        served.size_bytes,
        '"v1"',
        url,
        "application/octet-stream",
    )
    assert found.accepts_ranges and found.content_coding is None and found.headers["ETag"] == '"v1"'
    assert [str(each) for each in found.checksums] == [f"sha256:{served.sha256_hex}", f"md5:{served.md5_hex}"]
    assert found.last_modified == datetime.fromtimestamp(int(served.path.stat().st_mtime), UTC)
    assert again.checksums == found.checksums
    assert url.partition("?")[2] not in repr(found)


def test_redirects_are_followed(nginx: NginxServer, session: getm.Session) -> None:
    served = nginx.objects.make(1000)
    found = session.info(nginx.url(served, via="redirect/relative"))
    assert (found.url, found.size) == (nginx.url(served), 1000)


@pytest.mark.parametrize("status", (400, 401, 403, 405, 500, 501))
def test_where_head_is_refused_the_first_byte_tells(
    status: int, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", refuses_head(status, Reply(body=BODY)))
    found = session.info(url)
    assert (found.size, found.etag, found.last_modified, found.accepts_ranges) == (len(BODY), '"v1"', MODIFIED, True)
    assert [(each.method, each.header("Range")) for each in fault_server.requests] == [
        ("HEAD", None),
        ("GET", "bytes=0-0"),
    ]
    assert {each.connection for each in fault_server.requests} == {0}


def test_a_server_that_breaks_off_at_head(session: getm.Session, fault_server: FaultServer) -> None:
    broken = Reply(raw=b"", then="close")
    url = fault_server.serve("/x", lambda request: broken if request.method == "HEAD" else Reply(body=BODY))
    assert session.info(url).size == len(BODY)


def test_a_server_that_answers_head_with_content(session: getm.Session, fault_server: FaultServer) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    url = fault_server.serve(
        "/x", lambda request: Reply(raw=head, body=b"HTTP/" if request.method == "HEAD" else b"bytes", then="keep")
    )
    assert session.info(url).size == 5
    assert bytes(session.read(url)) == b"bytes"


@pytest.mark.parametrize(
    ("reply", "size"),
    [
        (Reply(body=BODY, ranges=False), len(BODY)),
        (Reply(body=b""), 0),
        (Reply(body=BODY, framing="chunked", ranges=False), None),
        (Reply(body=BODY, etag=None, last_modified=None), len(BODY)),
    ],
    ids=("no ranges", "empty", "chunked", "no validator"),
)
def test_sizes_without_head(reply: Reply, size: int | None, session: getm.Session, fault_server: FaultServer) -> None:
    assert session.info(fault_server.serve("/x", refuses_head(405, reply))).size == size


def test_the_first_byte_is_asked_for_where_head_has_no_length(session: getm.Session, fault_server: FaultServer) -> None:
    nothing = Reply(body=BODY, headers={"Content-Length": None, "X-From": "head"})
    url = fault_server.serve("/x", lambda request: nothing if request.method == "HEAD" else Reply(body=BODY))
    assert session.info(url).size == len(BODY)
    other = fault_server.serve("/y", lambda request: nothing if request.method == "HEAD" else failure(403))
    found = session.info(other)
    assert found.size is None and found.headers["X-From"] == "head"


@pytest.mark.parametrize("status", (404, 410))
def test_what_is_not_there_is_asked_for_once(status: int, session: getm.Session, fault_server: FaultServer) -> None:
    with pytest.raises(getm.HTTPStatusError, match=str(status)):
        session.info(fault_server.serve("/x", failure(status)))
    assert [each.method for each in fault_server.requests] == ["HEAD"]


def test_failures_that_may_pass_are_retried(session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", failure(503), failure(503), Reply(body=BODY))
    assert session.info(url).size == len(BODY)
    assert [each.method for each in fault_server.requests] == ["HEAD", "GET", "GET"]
    with pytest.raises(getm.HTTPStatusError, match="503"):
        session.info(fault_server.serve("/y", failure(503)))


def test_a_digest_of_no_content_is_none_of_the_object(session: getm.Session, fault_server: FaultServer) -> None:
    """RFC 9530, appendix B.2: in the answer to a HEAD, Content-Digest is that of no content."""
    url = fault_server.serve("/x", Reply(body=BODY, headers={"Content-Digest": _digest(b"")}))
    assert session.info(url).checksums == ()
    whole = fault_server.serve("/y", Reply(body=BODY, headers={"Repr-Digest": _digest(BODY)}))
    assert [each.algorithm for each in session.info(whole).checksums] == ["sha256"]


def _digest(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def test_arguments_are_checked_before_any_request(session: getm.Session, fault_server: FaultServer) -> None:
    with pytest.raises(getm.InvalidInput):
        session.info("ftp://data.example.org/x")
    with pytest.raises(getm.InvalidInput):
        session.info(fault_server.url("/x"), retries=-1)
    assert fault_server.requests == []


def test_a_time_that_no_calendar_has_is_none(session: getm.Session, fault_server: FaultServer) -> None:
    """Its time zone takes it beyond the last year."""
    reply = Reply(body=b"1234", last_modified="Fri, 31 Dec 9999 23:59:59 -1200")
    about = session.info(fault_server.serve("/late", reply))
    assert about.last_modified is None and about.size == 4


def test_what_is_open_shows_itself_on_one_line(fault_server: FaultServer) -> None:
    url = fault_server.serve(f"/{'x' * 300}", Reply(body=b"data"))
    checksum = f"sha512:{hashlib.sha512(b'data').hexdigest()}"
    with getm.urlopen(url, checksum=checksum) as fh, getm.shared(url, checksum=checksum) as shared:
        fh.read()
        for each in (fh, fh.checksum, fh.stats, shared, getm.info(url), getm.read_ranges(url, [(0, 2)])):
            assert len(repr(each)) < 100
