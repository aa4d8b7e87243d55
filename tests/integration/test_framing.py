"""Framings that are rare and right, and those that are wrong, as servers send them: RFC 9112, sections 6 and 7."""

from __future__ import annotations

import gzip
import hashlib
import random
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import getm
from getm import errors
from getm.testing import FaultServer, Pace, Reply, Request

BODY = random.Random(4).randbytes(150_000) + bytes(2_000_000)
SMALL = BODY[:1000]
MODES = (1, 3, None)
each_mode = pytest.mark.parametrize("concurrency", MODES)


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=0, timeout=10)


def chunks(data: bytes, step: int = 70_000) -> bytes:
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def answer(coded: bytes, *fields: str, version: str = "HTTP/1.1", status: int = 200, then: str = "close") -> Reply:
    head = "\r\n".join([f"{version} {status} OK", *fields, "", ""]).encode()
    return Reply(raw=head, body=coded, then=then)  # type: ignore[arg-type]


CODED = {
    "chunked,": chunks(BODY),
    ", chunked": chunks(BODY),
    "Chunked": chunks(BODY),
    "identity, chunked": chunks(BODY),
    "gzip, chunked": chunks(gzip.compress(BODY)),
    "x-gzip,, chunked,": chunks(gzip.compress(BODY)),
    "deflate, chunked": chunks(zlib.compress(BODY)),
    "deflate, gzip, chunked": chunks(gzip.compress(zlib.compress(BODY))),
    "gzip": gzip.compress(BODY),
    "deflate": zlib.compress(BODY),
    "identity": BODY,
}


@each_mode
@pytest.mark.parametrize("coding", CODED)
def test_case_4_transfer_codings_are_taken_off(
    coding: str, concurrency: int | None, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", answer(CODED[coding], f"Transfer-Encoding: {coding}"))
    assert session.read(url, concurrency=concurrency) == BODY
    assert session.download(url, tmp_path / "x", concurrency=concurrency).path.read_bytes() == BODY
    small = {"gzip": gzip.compress(SMALL), "gzip, chunked": chunks(gzip.compress(SMALL)), "chunked,": chunks(SMALL)}
    if coding in small:
        url = fault_server.serve("/small", answer(small[coding], f"Transfer-Encoding: {coding}"))
        assert session.read(url, concurrency=concurrency) == SMALL


@each_mode
@pytest.mark.parametrize("value", ("chunked;a=b", "x-new", "x-new, chunked", "chunked, chunked", "chunked, gzip", "br"))
def test_case_4_what_is_not_understood_is_an_error(
    value: str, concurrency: int | None, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", answer(chunks(SMALL), f"Transfer-Encoding: {value}"))
    with pytest.raises(errors.BadResponse, match="Transfer-Encoding is"):
        session.download(url, tmp_path / "x", concurrency=concurrency)
    assert list(tmp_path.iterdir()) == []


@each_mode
@pytest.mark.parametrize("coding", ("gzip", "gzip, chunked"))
def test_case_4_a_coded_content_that_is_cut_or_spoilt(
    coding: str, concurrency: int | None, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    coded = gzip.compress(BODY)
    spoilt = coded[:-8] + bytes(8)
    for content, kind in ((coded[:-9], errors.Truncated), (spoilt, errors.BadResponse), (BODY, errors.BadResponse)):
        content = content if coding == "gzip" else chunks(content)
        url = fault_server.serve("/x", answer(content, f"Transfer-Encoding: {coding}"))
        with pytest.raises(kind):
            session.download(url, tmp_path / "x", concurrency=concurrency)
        assert not (tmp_path / "x").exists()


@each_mode
def test_case_4_coded_ranges_are_joined_by_what_they_hold(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    """Content-Range counts the bytes below the transfer coding."""
    size = len(BODY)

    def script(request: Request) -> Reply:
        if len(fault_server.requests) == 1:
            return Reply(body=BODY, cut_at=1_000_001)
        first, _, last = (request.header("Range") or "").removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last or size) + 1, size)
        coded = chunks(gzip.compress(BODY[start:stop]))
        return answer(
            coded,
            *("Transfer-Encoding: gzip, chunked", 'ETag: "v1"', f"Content-Range: bytes {start}-{stop - 1}/{size}"),
            status=206,
            then="keep",
        )

    url = fault_server.serve("/x", script)
    assert session.read(url, concurrency=concurrency, retries=getm.Retries(1, base_s=0)) == BODY


@each_mode
@pytest.mark.parametrize("length", (5, len(SMALL), 10**9))
def test_with_chunks_and_a_length_the_chunks_count_and_the_connection_does_not_go_on(
    length: int, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    fields = (f"Content-Length: {length}", "Transfer-Encoding: chunked")
    url = fault_server.serve("/x", answer(chunks(SMALL), *fields, then="keep"))
    for _ in range(2):
        assert session.read(url, concurrency=concurrency) == SMALL
    assert len({request.connection for request in fault_server.requests}) == len(fault_server.requests)


@each_mode
@pytest.mark.parametrize(
    "fields",
    [("Content-Length: {0}", "content-length: {0}"), ("Content-Length: {0}, {0}",), ("Content-Length: 0{0}, {0}",)],
)
def test_case_33_the_same_length_twice_is_that_length(
    fields: tuple[str, ...], concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    for body in (SMALL, BODY):
        lines = [field.format(len(body)) for field in fields]
        url = fault_server.serve("/x", answer(body, *lines, then="keep"))
        assert session.read(url, concurrency=concurrency) == body
    url = fault_server.serve("/identity", answer(SMALL, f"Content-Length: {len(SMALL)}", "Transfer-Encoding: identity"))
    with session.urlopen(url, concurrency=concurrency) as fh:
        assert fh.size == len(SMALL)
        assert fh.read() == SMALL


@each_mode
@pytest.mark.parametrize("extra", (b" ", b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", bytes(70_000)))
@pytest.mark.parametrize("body", (b"", SMALL, BODY), ids=("empty", "small", "large"))
@pytest.mark.parametrize("framing", ("length", "chunked"))
def test_case_26_bytes_beyond_the_end_are_nobodys_and_end_the_connection(
    framing: str, body: bytes, extra: bytes, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    framed = chunks(body) if framing == "chunked" else body
    field = "Transfer-Encoding: chunked" if framing == "chunked" else f"Content-Length: {len(body)}"
    # Together with the body, so that a client cannot be done before there is more.
    url = fault_server.serve("/x", replace(answer(framed, field, then="keep"), extra=extra))
    for _ in range(2):
        assert session.read(url, concurrency=concurrency) == body
    if extra.strip():
        assert len({request.connection for request in fault_server.requests}) == 2


@each_mode
@pytest.mark.parametrize("late", (b" ", b"\0" * 100, b"0\r\n\r\n"))
def test_case_26_bytes_beyond_the_end_that_come_late_cost_the_connection_and_no_more(
    late: bytes, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    """They come after the next request was sent over the connection, in front of its answer."""
    good = answer(SMALL, f"Content-Length: {len(SMALL)}", then="keep")
    assert good.raw is not None
    url = fault_server.serve("/x", good, replace(good, raw=late + good.raw), good)
    for _ in range(2):
        assert session.read(url, concurrency=concurrency) == SMALL
    assert [request.connection for request in fault_server.requests] == [0, 0, 1]


@each_mode
@pytest.mark.parametrize("status", (204, 304))
def test_case_26_a_status_without_content_that_has_one(
    status: int, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", answer(SMALL, f"Content-Length: {len(SMALL)}", status=status, then="keep"))
    with pytest.raises(errors.HTTPStatusError, match=str(status)):
        session.read(url, concurrency=concurrency)


@each_mode
def test_a_head_of_many_large_fields_is_refused(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    """Each is allowed, all together are more than anybody sends, and more than may cross the pipe (case 9)."""
    fields = [f"X-{number}: {'x' * 60_000}" for number in range(250)]
    url = fault_server.serve("/x", answer(SMALL, f"Content-Length: {len(SMALL)}", *fields))
    with pytest.raises(errors.BadResponse, match="longer than"):
        session.read(url, concurrency=concurrency)


@pytest.mark.parametrize("step", (1, 7))
def test_a_head_that_comes_in_small_pieces(step: int, session: getm.Session, fault_server: FaultServer) -> None:
    whole = b"\r\nHTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\nContent-Length: 3\n\nabc"
    url = fault_server.serve("/x", Reply(raw=b"", body=whole, pace=Pace(step, 0.001), then="close"))
    assert bytes(session.read(url)) == b"abc"


@pytest.mark.parametrize("cut_at", [0, 1000, 700_000])
def test_a_file_whose_content_ends_with_its_connection_is_asked_for_again_where_its_checksum_is_wrong(
    cut_at: int, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """Nothing else tells that it was cut off."""
    body = random.Random(cut_at).randbytes(1_000_000)
    digest = hashlib.sha256(body).hexdigest()
    whole = Reply(body=body, framing="close", headers={"x-checksum-sha256": digest})
    url = fault_server.serve("/x", replace(whole, cut_at=cut_at), whole)
    result = session.download(url, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == body and result.verified
    assert len(fault_server.requests) == 2

    never = fault_server.serve("/never", replace(whole, cut_at=cut_at))
    with pytest.raises(errors.ChecksumMismatch):
        session.download(never, tmp_path / "never")
    assert len(fault_server.requests) == 5 and not (tmp_path / "never").exists()
