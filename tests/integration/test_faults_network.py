"""What servers and networks do wrong, and what must come of it: rows of the fault list, over real sockets.

Every test runs in each mode that its fault can meet; the bytes that were delivered before an error are compared, too.
"""

from __future__ import annotations

import dataclasses
import email.utils
import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import getm
from getm import errors
from getm.integrity.files import checksum
from getm.testing import FaultServer, Pace, Reply, Request, failure, no_reply, redirect
from tests.support import mounts
from tests.support.certificates import Authority

MIB = 1024 * 1024
PART = 8 * MIB
BODY = random.Random(1).randbytes(3 * PART + 12345)
SMALL = BODY[:100_000]
MODES = (1, 3, None)

each_mode = pytest.mark.parametrize("concurrency", MODES)


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    retries = getm.Retries(2, base_s=0.001, cap_s=0.01)
    return shared_session(retries=retries, timeout=getm.Timeout(connect_s=5, stall_s=5))


def at_start(request: Request) -> bool:
    """Whether the request asks for the object's first byte."""
    return (request.header("Range") or "bytes=0-").startswith("bytes=0-")


def faulty_later(reply: Reply, good: Reply) -> Callable[[Request], Reply]:
    """The object's first byte is served by `good`, every other request by `reply`."""
    return lambda request: good if at_start(request) else reply


# Row 1: 200 in reply to a ranged request ------------------------------------------------------------


def test_row_1_a_200_to_the_first_range_becomes_the_single_stream(
    session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY, ranges=False))
    assert session.read(url, concurrency=4) == BODY
    assert len(fault_server.requests) == 1


def test_row_1_a_200_to_a_later_range_is_never_written_at_its_offset(
    session: getm.Session, fault_server: FaultServer
) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", faulty_later(Reply(body=BODY, ranges=False, hold=gate), Reply(body=BODY)))
    with session.urlopen(url, concurrency=3) as fh:
        assert fh.read(1) == BODY[:1]
        gate.open()
        with pytest.raises(errors.RangesRefused, match="the whole object"):
            fh.read()
    # Where nothing was given out, nobody can tell: the whole is read from one response.
    assert session.read(url, concurrency=3) == BODY


# Rows 2, 3, 5: wrong 206 ------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(body=BODY, span=(PART + 1, 2 * PART)), id="row 2: another start"),
        pytest.param(Reply(body=BODY, span=(0, PART)), id="row 2: the start of the object"),
        pytest.param(Reply(body=BODY, span=(PART, 2 * PART + 1)), id="row 2: a later end"),
        pytest.param(Reply(body=BODY, headers={"Content-Range": None}), id="row 3: no Content-Range"),
        pytest.param(Reply(body=BODY, headers={"Content-Range": "bytes a-b/c"}), id="row 3: malformed"),
        pytest.param(
            Reply(body=BODY, headers={"Content-Range": f"bytes {PART}-{len(BODY)}/{len(BODY)}"}),
            id="row 3: last beyond total",
        ),
        pytest.param(
            Reply(body=BODY, headers={"Content-Type": "multipart/byteranges; boundary=x", "Content-Range": None}),
            id="row 5: multipart",
        ),
    ],
)
def test_rows_2_3_5_a_206_that_is_not_what_was_asked_for(
    reply: Reply, session: getm.Session, fault_server: FaultServer
) -> None:
    with getm.Session(retries=0) as once:
        url = fault_server.serve("/x?sig=secret", Reply(body=BODY))
        gate = fault_server.gate()
        fault_server.serve("/x", faulty_later(dataclasses.replace(reply, hold=gate), Reply(body=BODY)))
        with once.urlopen(url, concurrency=2) as fh, pytest.raises(errors.BadResponse) as caught:
            assert fh.read(1) == BODY[:1]
            gate.open()
            fh.read()
    assert caught.value.url == url.partition("?")[0]


def test_row_2_a_short_206_is_asked_for_again(session: getm.Session, fault_server: FaultServer) -> None:
    def short(request: Request) -> Reply:
        first, _, last = (request.header("Range") or "").removeprefix("bytes=").partition("-")
        start, stop = int(first), int(last) + 1
        return Reply(body=BODY, span=(start, min(stop, start + 3_000_001, len(BODY))))

    url = fault_server.serve("/x", short)
    assert session.read(url, concurrency=3) == BODY


# Rows 4, 9: versions ------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Reply(body=BODY, etag='"v2"'), id="etag"),
        pytest.param(
            Reply(body=BODY, last_modified="Wed, 02 Jul 2025 00:00:00 GMT", status=206, span=None), id="last modified"
        ),
        pytest.param(Reply(body=BODY + b"more"), id="total"),
    ],
)
def test_row_4_parts_of_two_versions_are_never_joined(
    other: Reply, session: getm.Session, fault_server: FaultServer
) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", faulty_later(dataclasses.replace(other, hold=gate), Reply(body=BODY)))
    with session.urlopen(url, concurrency=3) as fh, pytest.raises(errors.RemoteChanged, match="replaced"):
        assert fh.read(1) == BODY[:1]
        gate.open()
        fh.read()


@pytest.mark.parametrize("concurrency", (1, None))
def test_row_4_a_resume_meets_another_version(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=BODY, cut_at=PART), Reply(body=BODY, etag='"v2"', hold=gate))
    with session.urlopen(url, concurrency=concurrency) as fh, pytest.raises(errors.RemoteChanged):
        assert fh.read(1) == BODY[:1]
        gate.open()
        fh.read()
    assert fault_server.requests[1].header("If-Range") == '"v1"'


@each_mode
@pytest.mark.parametrize(
    ("etag", "last_modified"), [('W/"v1"', None), (None, None)], ids=("weak validator", "no validator")
)
def test_row_9_without_a_strong_validator_nothing_is_joined(
    etag: str | None,
    last_modified: str | None,
    concurrency: int | None,
    session: getm.Session,
    fault_server: FaultServer,
) -> None:
    good = Reply(body=BODY, etag=etag, last_modified=last_modified)
    url = fault_server.serve("/good", good)
    assert session.read(url, concurrency=concurrency) == BODY
    # One whole response, whatever came before it.
    assert fault_server.requests[-1].header("Range") is None
    cut = fault_server.serve(
        "/cut", Reply(body=BODY, etag=etag, last_modified=last_modified, cut_at=PART, ranges=False)
    )
    with pytest.raises(errors.Truncated):
        session.read(cut, concurrency=concurrency)


# Row 8: nothing ------------------------------------------------------------


@each_mode
@pytest.mark.parametrize("ranges", (True, False))
def test_row_8_an_empty_object(
    ranges: bool, concurrency: int | None, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", Reply(body=b"", ranges=ranges))
    assert session.read(url, concurrency=concurrency).nbytes == 0
    assert list(session.iter_content(url, concurrency=concurrency)) == []
    downloaded = session.download(url, tmp_path / "x", concurrency=concurrency)
    assert downloaded.path.read_bytes() == b""


# Rows 11 to 13: ends ------------------------------------------------------------


@each_mode
@pytest.mark.parametrize("then", ("close", "reset"))
def test_row_11_a_cut_connection_is_resumed_at_the_byte(
    then: str, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    cuts = iter([1, MIB - 1, MIB, 5 * MIB + 7])

    def script(request: Request) -> Reply:
        cut = next(cuts, None)
        return Reply(body=BODY, cut_at=cut, then=then if cut else "keep")  # type: ignore[arg-type]

    url = fault_server.serve("/x", script)
    # As a stream: `read` first waits for memory for all, and what has come until a connection ends is lost then.
    with session.urlopen(url, concurrency=concurrency) as fh:
        assert fh.read() == BODY
    if concurrency != 3:
        starts = [int((r.header("Range") or "bytes=0-")[6:].split("-")[0]) for r in fault_server.requests]
        # At the byte where a clean end cut it; a reset may take with it what had been sent.
        assert starts == [0, 1, MIB, 2 * MIB, 7 * MIB + 7] or then == "reset"


@each_mode
def test_row_11_a_connection_that_ends_between_the_head_and_the_body(
    concurrency: int | None, tls_fault_server: FaultServer, ca_path: Path
) -> None:
    """Often: what must be met is the turn of the event loop in which the end is known to the transport alone."""
    url = tls_fault_server.serve("/x", *([Reply(body=BODY, cut_at=0)] * 30), Reply(body=BODY))
    policy = getm.Retries(attempts=30, base_s=0, cap_s=0)
    with getm.Session(cacert=ca_path, retries=policy) as session:
        assert session.read(url, concurrency=concurrency) == BODY


@each_mode
def test_row_11_a_connection_that_always_breaks_is_an_error(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=SMALL, cut_at=1000), Reply(body=SMALL, cut_at=0))
    with pytest.raises(errors.Truncated) as caught:
        session.read(url, concurrency=concurrency)
    assert caught.value.attempts == len(fault_server.requests) > 1
    assert caught.value.url == url


@each_mode
def test_row_12_a_chunked_body_without_its_last_chunk(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY, framing="chunked", cut_at=PART + 1, ranges=False))
    with pytest.raises(errors.Truncated):
        session.read(url, concurrency=concurrency)


@each_mode
def test_row_13_a_close_delimited_body_is_delivered(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY, framing="close", ranges=False))
    with session.urlopen(url, concurrency=concurrency) as fh:
        assert fh.size is None
        assert fh.read() == BODY
        assert fh.size == len(BODY)
        assert not fh.checksum.verified


@each_mode
def test_row_13_a_reset_is_no_end_of_a_close_delimited_body(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    gate = fault_server.gate()
    reset = Reply(body=BODY, framing="close", ranges=False, stall_at=MIB, gate=gate, cut_at=2 * MIB, then="reset")
    url = fault_server.serve("/x", reset)
    with session.urlopen(url, concurrency=concurrency) as fh:
        assert fh.read(1000) == BODY[:1000]
        gate.open()
        with pytest.raises(errors.NetworkError):
            fh.read()


@each_mode
@pytest.mark.parametrize("length", ["-5", "1e3", "9" * 30, ["100000", "100001"]])
def test_row_14_an_impossible_content_length(
    length: str | list[str], concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=SMALL, headers={"Content-Length": length}, ranges=False))
    with pytest.raises(errors.BadResponse):
        session.read(url, concurrency=concurrency)


@each_mode
@pytest.mark.parametrize("framing", ("chunked", "close"))
def test_ranges_whose_length_only_content_range_tells(
    framing: str, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    """What stands on the wire is a transfer coding's bytes then, which may not reach the slots."""
    good = Reply(body=BODY, framing=framing)  # type: ignore[arg-type]
    assert session.read(fault_server.serve("/x", good), concurrency=concurrency) == BODY
    url = fault_server.serve("/resumed", Reply(body=BODY, cut_at=MIB + 1), good)
    assert session.read(url, concurrency=concurrency) == BODY


@each_mode
@pytest.mark.parametrize("surplus", (1, 70_000, -1))
def test_a_range_that_brings_another_length_than_its_content_range_tells(
    surplus: int, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    """Without a Content-Length the end of the connection is the end of the content: what is beyond the range is not
    taken, and what is missing is asked for again."""

    def wrong_end(request: Request) -> Reply:
        asked = request.header("Range")
        if asked is None:
            return Reply(body=BODY, cut_at=MIB)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last or len(BODY)) + 1, len(BODY))
        head = f'HTTP/1.1 206 Partial Content\r\nETag: "v1"\r\nContent-Range: bytes {start}-{stop - 1}/{len(BODY)}\r\n'
        sent = BODY[start:stop] + SMALL[:surplus] if surplus > 0 else BODY[start : max(start + 1, stop + surplus)]
        return Reply(raw=f"{head}\r\n".encode() + sent, then="close")

    url = fault_server.serve("/x", wrong_end)
    assert session.read(url, concurrency=concurrency) == BODY


# Row 17: a page in the place of the object ------------------------------------------------------------

PAGE = b"<html><body>Please log in to this network</body></html>"


@each_mode
def test_row_17_a_page_with_status_200_is_caught_by_a_checksum(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    page = Reply(body=PAGE, etag=None, last_modified=None, headers={"Content-Type": "text/html"}, ranges=False)
    url = fault_server.serve("/x", page)
    expected = checksum(SMALL, "sha256")
    with pytest.raises(getm.ChecksumMismatch):
        session.read(url, concurrency=concurrency, checksum=expected)
    with pytest.raises(getm.ChecksumMismatch):
        session.download(url, tmp_path / "x", concurrency=concurrency, checksum=expected)
    assert list(tmp_path.iterdir()) == []


@each_mode
def test_row_17_a_page_with_status_200_midway_is_caught_by_the_size(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    page = Reply(body=PAGE, etag=None, last_modified=None, headers={"Content-Type": "text/html"}, ranges=False)
    url = fault_server.serve("/x", Reply(body=SMALL, cut_at=1000), page)
    with pytest.raises(errors.RemoteChanged, match=f"its size was {len(SMALL)} and is now {len(PAGE)}"):
        session.read(url, concurrency=concurrency)


# Rows 18, 19, 20, 22: statuses ------------------------------------------------------------


@each_mode
@pytest.mark.parametrize(
    ("retry_after", "delay_s"),
    [("1", 1.0), ("Wed, 21 Oct 2015 07:28:03 GMT", 3.0), ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0), ("1000000000", 7.0)],
    ids=("seconds", "date", "past date", "10^9"),
)
def test_row_18_retry_after_is_honoured_and_capped(
    retry_after: str, delay_s: float, concurrency: int | None, fault_server: FaultServer
) -> None:
    """Seen by the deadline that it would pass: nothing is waited for, and a little later it is not passed."""
    busy = failure(503, retry_after=retry_after)
    busy = dataclasses.replace(busy, headers={**busy.headers, "Date": "Wed, 21 Oct 2015 07:28:00 GMT"})
    url = fault_server.serve("/x", busy)
    with getm.Session(retries=getm.Retries(1, base_s=0.0, cap_s=7.0)) as session:
        if delay_s:
            with pytest.raises(errors.HTTPStatusError, match="another attempt would come after the limit"):
                session.read(url, concurrency=concurrency, timeout=getm.Timeout(total_s=delay_s))
            assert len(fault_server.requests) == 1
        with pytest.raises(errors.HTTPStatusError, match="after 2 requests"):
            session.read(url, concurrency=concurrency, retries=getm.Retries(1, base_s=0.0, cap_s=0.01))


@each_mode
def test_case_28_a_retry_after_date_without_a_date_is_counted_from_our_clock(
    concurrency: int | None, fault_server: FaultServer
) -> None:
    """Seen by the deadline that it would pass."""
    in_an_hour = email.utils.formatdate(time.time() + 3600, usegmt=True)
    url = fault_server.serve("/x", failure(503, retry_after=in_an_hour))
    with (
        getm.Session(retries=getm.Retries(1, base_s=0.0, cap_s=10_000.0)) as session,
        pytest.raises(errors.HTTPStatusError, match="another attempt would come after the limit"),
    ):
        session.read(url, concurrency=concurrency, timeout=getm.Timeout(total_s=600))
    assert len(fault_server.requests) == 1


@each_mode
def test_case_27_more_statuses_may_pass_and_a_caller_may_say_which(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    for status in (509, 520, 524, 529):
        url = fault_server.serve(f"/{status}", failure(status), Reply(body=SMALL))
        assert session.read(url, concurrency=concurrency) == SMALL
    policy = getm.Retries(2, base_s=0, statuses=frozenset({202, 404}))
    url = fault_server.serve("/mine", failure(202), failure(404), Reply(body=SMALL))
    assert session.read(url, concurrency=concurrency, retries=policy) == SMALL
    with pytest.raises(errors.HTTPStatusError, match="503"):
        session.read(fault_server.serve("/final", failure(503)), concurrency=concurrency, retries=policy)


@each_mode
@pytest.mark.parametrize("status", (400, 401, 403, 404, 410))
def test_row_20_a_refusal_is_final(
    status: int, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", failure(status))
    with pytest.raises(errors.HTTPStatusError, match=str(status)) as caught:
        session.read(url + "?X-Amz-Signature=secret", concurrency=concurrency)
    assert (caught.value.status, caught.value.url) == (status, url)
    # A server may refuse just the range: the whole is asked for once.
    assert len(fault_server.requests) == (2 if concurrency == 3 and status != 401 else 1)


@each_mode
@pytest.mark.parametrize("status", (408, 429, 500, 502, 503, 504))
def test_row_19_a_transient_status_is_tried_again(
    status: int, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", failure(status, retry_after="0"), Reply(body=SMALL))
    assert session.read(url, concurrency=concurrency) == SMALL
    # Another one: of a host that has just granted requests, a few refusals more are expected.
    with FaultServer() as other:
        always = other.serve("/always", failure(status, retry_after="0"))
        with pytest.raises(errors.HTTPStatusError, match="after 3 requests") as caught:
            session.read(always, concurrency=concurrency)
    assert (caught.value.status, caught.value.attempts) == (status, 3)


@each_mode
def test_row_22_a_signed_url_that_expires_midway(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY, cut_at=PART // 2), failure(403))
    with pytest.raises(errors.URLExpired, match="expired"):
        session.read(url, concurrency=concurrency)


@each_mode
def test_row_21_a_redirect_target_that_expires_is_resolved_once_for_all_parts(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    """The origin hands out signed URLs; the first one dies after the object's start has come."""
    served = {"/signed/1": 0, "/signed/2": 0}

    def signed(request: Request) -> Reply:
        served[request.path] += 1
        if request.path == "/signed/1" and not at_start(request):
            return failure(403)
        return Reply(body=BODY, cut_at=PART if request.path == "/signed/1" else None)

    for path in served:
        fault_server.serve(path, signed)
    origin = fault_server.serve("/origin", redirect("/signed/1"), redirect("/signed/2"))
    assert session.read(origin, concurrency=concurrency) == BODY
    asked = [request.path for request in fault_server.requests]
    assert asked.count("/origin") == 2
    assert served["/signed/2"] >= 1


@each_mode
def test_redirects_are_followed_once_for_all_parts(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    fault_server.serve("/there", Reply(body=BODY))
    url = fault_server.serve("/here", redirect("/there"))
    assert session.read(url, concurrency=concurrency) == BODY
    assert [request.path for request in fault_server.requests].count("/here") == 1


# Rows 23 to 27: requests and redirects ------------------------------------------------------------


@each_mode
def test_row_23_only_get_is_sent(concurrency: int | None, session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", lambda r: Reply(body=BODY) if r.method == "GET" else failure(405))
    assert session.read(url, concurrency=concurrency) == BODY


@each_mode
def test_row_24_redirects_that_lead_nowhere(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    for location in ("/loop", "file:///etc/passwd", "http://[", "ftp://h/x", "http://"):
        url = fault_server.serve("/loop", redirect(location))
        with pytest.raises(errors.RedirectError) as caught:
            session.read(url, concurrency=concurrency)
        assert caught.value.url == url
    with pytest.raises(errors.RedirectError, match="no Location"):
        session.read(fault_server.serve("/none", failure(302)), concurrency=concurrency)


def test_row_25_a_redirect_from_https_to_http_is_refused(
    fault_server: FaultServer, tls_fault_server: FaultServer, ca_path: Path
) -> None:
    plain = fault_server.serve("/x", Reply(body=SMALL))
    url = tls_fault_server.serve("/x", redirect(plain))
    for given in (url, url.replace("https:", "HTTPS:")):
        with getm.Session(cacert=ca_path) as session, pytest.raises(errors.RedirectError, match="https"):
            session.read(given)
    assert fault_server.requests == []


@each_mode
def test_row_25_a_redirect_from_http_to_https_is_followed_with_the_trust_that_was_asked_for(
    concurrency: int | None, fault_server: FaultServer, tls_fault_server: FaultServer, ca_path: Path
) -> None:
    url = fault_server.serve("/x", redirect(tls_fault_server.serve("/x", Reply(body=BODY))))
    with getm.Session(cacert=ca_path) as session:
        assert session.read(url, concurrency=concurrency) == BODY
    with getm.Session() as session, pytest.raises(errors.TLSFailed):
        session.read(url, concurrency=concurrency)
    with getm.Session(insecure=True) as session:
        assert session.read(url, concurrency=concurrency) == BODY


@each_mode
def test_certificates_are_read_for_tls_only(
    concurrency: int | None, fault_server: FaultServer, tls_fault_server: FaultServer, tmp_path: Path
) -> None:
    unreadable = tmp_path / "cacert.pem"
    unreadable.write_text("none")
    with getm.Session(cacert=unreadable) as session:
        assert session.read(fault_server.serve("/x", Reply(body=BODY)), concurrency=concurrency) == BODY
        with pytest.raises(errors.InvalidInput, match="cannot be loaded"):
            session.read(tls_fault_server.serve("/x", Reply(body=BODY)), concurrency=concurrency)


@each_mode
def test_row_26_user_headers_stay_with_the_origin(concurrency: int | None, fault_server: FaultServer) -> None:
    secrets = {"Authorization": "Bearer s", "Cookie": "c=s", "X-Api-Key": "s"}
    with FaultServer() as other:
        elsewhere = other.serve("/x", Reply(body=SMALL))
        here = fault_server.serve("/here", redirect("/there"))
        fault_server.serve("/there", redirect(elsewhere))
        with getm.Session(headers=secrets) as session:
            assert session.read(here, concurrency=concurrency) == SMALL
        for request in fault_server.requests:
            assert all(request.header(name) == value for name, value in secrets.items())
        for request in other.requests:
            assert not any(request.header(name) for name in secrets)


def test_row_27_a_signed_url_is_byte_identical_through_a_redirect(
    session: getm.Session, fault_server: FaultServer
) -> None:
    target = "/a%2Fb%27c?sig=%2F%2B%27%20+%7e~&x="
    fault_server.serve("/a%2Fb%27c", Reply(body=SMALL))
    url = fault_server.serve("/from", redirect(target))
    assert session.read(url) == SMALL
    assert fault_server.requests[-1].target == target.encode()


# Rows 28, 29: silence and stale connections ------------------------------------------------------------


@each_mode
@pytest.mark.parametrize("where", ("head", "body"))
def test_row_28_silence_ends_the_connection_and_the_rest_comes_by_another(
    where: str, concurrency: int | None, fault_server: FaultServer
) -> None:
    gate = fault_server.gate()
    silent = Reply(body=BODY, hold=gate) if where == "head" else Reply(body=BODY, stall_at=MIB + 1, gate=gate)
    url = fault_server.serve("/x", silent, Reply(body=BODY))
    with getm.Session(timeout=0.3) as session:
        assert session.read(url, concurrency=concurrency) == BODY
    gate.open()


def test_row_28_always_silent_is_a_timeout(fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=SMALL, stall_at=10, gate=gate))
    with getm.Session(timeout=0.2, retries=1) as session, pytest.raises(errors.TimedOut, match="no byte") as caught:
        session.read(url)
    gate.open()
    assert (caught.value.phase, caught.value.timeout_s) == ("body", 0.2)
    assert isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize("framing", ("length", "chunked"))
@pytest.mark.parametrize("concurrency", (1, None))
def test_row_28_one_byte_a_second_is_below_the_floor(
    framing: str, concurrency: int | None, fault_server: FaultServer
) -> None:
    read_limits = getm.Timeout(floor_bytes_s=1000, floor_window_s=0.3)
    trickle = Reply(body=SMALL, framing=framing, pace=Pace(step_bytes=1, interval_s=0.05))  # type: ignore[arg-type]
    url = fault_server.serve("/x", trickle, Reply(body=SMALL))
    with getm.Session(timeout=read_limits) as session:
        assert session.read(url, concurrency=concurrency) == SMALL
        assert len(fault_server.requests) == 2


def test_row_28_a_first_part_below_the_floor_in_a_small_ring(tmp_path: Path, fault_server: FaultServer) -> None:
    """All other slots wait to be hashed after it: what it sends before its slot is full must not make it wait for the
    next one each time, since a part that waits for a slot is not slow."""
    body = BODY[: 6 * MIB]
    trickle = Reply(body=body, pace=Pace(step_bytes=1, interval_s=0.02))
    url = fault_server.serve("/x", trickle, Reply(body=body))
    read_limits = getm.Timeout(floor_bytes_s=2000, floor_window_s=0.5, tail_s=None)
    with getm.Session(max_memory=4 * MIB, timeout=read_limits) as session:
        session.download(url, tmp_path / "x", concurrency=3, checksum=checksum(body, "md5"))
    assert (tmp_path / "x").read_bytes() == body


def test_row_28_more_streams_below_the_floor_than_there_are_slots(tmp_path: Path, fault_server: FaultServer) -> None:
    """What each sends to a caller that waits makes it wait for a slot of the others, again and again."""
    trickle = Reply(body=BODY[:MIB], pace=Pace(step_bytes=1, interval_s=0.02))
    urls = [fault_server.serve(f"/{number}", trickle, Reply(body=BODY[:MIB])) for number in range(6)]
    read_limits = getm.Timeout(floor_bytes_s=2000, floor_window_s=0.3)
    with getm.Session(max_memory=2 * MIB, timeout=read_limits) as session:
        results = list(session.download_all(urls, jobs=6, directory=tmp_path))
    assert len(results) == 6
    for number in range(6):
        assert (tmp_path / str(number)).read_bytes() == BODY[:MIB]
    assert len(fault_server.requests) == 12


def test_a_slow_trickle_below_the_low_water_mark_is_no_silence(fault_server: FaultServer) -> None:
    """Bytes that wait in the kernel are progress, though the loop has not seen them yet."""
    body = BODY[:MIB]
    url = fault_server.serve("/x", Reply(body=body, pace=Pace(step_bytes=100_000, interval_s=0.1)))
    with getm.Session(timeout=0.35, retries=0) as session:
        assert session.read(url) == body


def test_total_time_is_limited_only_on_request(fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=SMALL, stall_at=10, gate=gate))
    with getm.Session(timeout=getm.Timeout(total_s=0.3)) as session, pytest.raises(errors.TimedOut) as caught:
        session.read(url)
    gate.open()
    assert caught.value.phase == "total"


@each_mode
@pytest.mark.parametrize("how", ("close", "reset"))
def test_row_29_a_kept_connection_that_the_server_gave_up(
    how: str, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve(
        "/x",
        Reply(body=SMALL),
        no_reply(how),  # type: ignore[arg-type]
        Reply(body=SMALL),
    )
    assert session.read(url, concurrency=concurrency) == SMALL
    with session.urlopen(url, concurrency=concurrency) as fh:
        assert fh.read() == SMALL
        # It is no failure of the server's, and nothing that a caller could be told of.
        assert (fh.stats.retries, fh.stats.connections) == ({}, 1)
    first, given_up, again = fault_server.requests
    assert first.connection == given_up.connection != again.connection


@each_mode
def test_row_30_the_first_address_of_a_host_is_dead(concurrency: int | None, tmp_path: Path) -> None:
    """The name leads to 127.0.0.1 first, where nobody listens."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n127.0.0.1 two.test\n127.0.0.2 two.test\n")
    with FaultServer(address="127.0.0.2") as server, mounts.replaced(Path("/etc/hosts"), hosts):
        found = socket.getaddrinfo("two.test", server.port, type=socket.SOCK_STREAM)
        assert [address[0] for *_, address in found] == ["127.0.0.1", "127.0.0.2"]
        server.serve("/x", Reply(body=SMALL))
        url = server.url("/x", host="two.test")
        with getm.Session(retries=0) as session, session.urlopen(url, concurrency=concurrency) as fh:
            assert fh.read() == SMALL
            assert fh.stats.connections == server.connections == 1


def test_nobody_listens(session: getm.Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with getm.Session(retries=0) as once, pytest.raises(errors.ConnectFailed, match=str(port)):
        once.read(f"http://127.0.0.1:{port}/x")


# Rows 31 to 34 ------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [{"X-Long": "a" * MIB}, {f"X-{number}": "a" for number in range(100_000)}],
    ids=("one of 1 MB", "100,000"),
)
def test_row_31_too_much_head_is_an_error(
    headers: dict[str, str | list[str] | None], session: getm.Session, fault_server: FaultServer
) -> None:
    with getm.Session(retries=0) as once, pytest.raises(errors.NetworkError):
        once.read(fault_server.serve("/x", Reply(body=SMALL, headers=headers)))


@each_mode
def test_row_32_a_body_longer_than_promised_stops_there(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    url = fault_server.serve("/x", Reply(raw=head + BODY + SMALL))
    assert session.read(url, concurrency=concurrency) == BODY
    # The connection with the surplus is not used again.
    assert session.read(url, concurrency=concurrency) == BODY


@pytest.mark.parametrize("concurrency", (1, None))
@pytest.mark.parametrize("kind", ("self-signed", "expired", "wrong host"))
def test_row_33_a_bad_certificate(kind: str, concurrency: int | None, authority: Authority) -> None:
    certificate = authority.issue(
        *(["other.example"] if kind == "wrong host" else ["127.0.0.1"]), expired=kind == "expired"
    )
    with (
        FaultServer(tls=certificate.server_context()) as server,
        getm.Session(cacert=None if kind == "self-signed" else authority.ca_path) as session,
        pytest.raises(errors.TLSFailed, match="certificate"),
    ):
        session.read(server.serve("/x", Reply(body=SMALL)), concurrency=concurrency)


@pytest.mark.parametrize("concurrency", (1, None))
def test_row_33_a_connection_that_ends_within_the_handshake_is_made_again(
    concurrency: int | None, authority: Authority
) -> None:
    """As one that is reset: no certificate was refused."""
    context = authority.issue("127.0.0.1").server_context()

    def serve(listener: socket.socket) -> None:
        for last in (False, True):
            connection, _address = listener.accept()
            with connection:
                if not last:
                    connection.recv(65536)
                    continue
                with context.wrap_socket(connection, server_side=True) as secured:
                    secured.recv(65536)
                    secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/x"
        with (
            getm.Session(cacert=authority.ca_path, retries=1) as session,
            session.urlopen(url, concurrency=concurrency) as fh,
        ):
            assert bytes(fh.read()) == b"whole"
            assert fh.stats.retries == {"connect": 1}
        thread.join()


@pytest.mark.parametrize("how", ("cacert", "folder", "environment"))
def test_row_33_a_custom_authority(
    how: str, tls_fault_server: FaultServer, ca_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tls_fault_server.serve("/x", Reply(body=SMALL))
    if how == "environment":
        # After the default session has been used without: the variable counts at the time of the call.
        with pytest.raises(errors.TLSFailed):
            getm.read(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(ca_path))
        assert getm.read(url) == SMALL
        return
    with getm.Session(cacert=ca_path) as session:
        assert session.read(url) == SMALL
        assert session.read(url.replace("https:", "HTTPS:")) == SMALL


def test_row_33_an_authority_of_the_environment_is_trusted_as_long_as_it_stands_there(
    tls_fault_server: FaultServer, ca_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tls_fault_server.serve("/x", Reply(body=SMALL))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    with getm.Session() as session:
        # There when the engine starts: the engine may not keep it for calls that come without.
        monkeypatch.setenv("SSL_CERT_FILE", str(ca_path))
        assert session.read(url) == SMALL
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(errors.TLSFailed):
            session.read(url)


@each_mode
@pytest.mark.parametrize("algorithm", ("md5", "sha256", "crc32c"))
def test_row_34_one_flipped_bit_is_found(
    algorithm: str, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    expected = checksum(BODY, algorithm)
    for bit in (0, 8 * PART + 3, 8 * len(BODY) - 1):
        url = fault_server.serve(f"/{bit}", Reply(body=BODY, flip_bit=bit))
        delivered = 0
        with pytest.raises(getm.ChecksumMismatch) as caught:
            for part in session.iter_content(url, concurrency=concurrency, checksum=expected):
                delivered += len(part)
        assert delivered < len(BODY)
        assert (caught.value.algorithm, caught.value.expected) == (algorithm, str(expected))
        assert caught.value.actual not in ("", caught.value.expected)


@each_mode
def test_the_proxy_of_the_environment_is_used(
    concurrency: int | None, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy gets the whole URL in the request line (RFC 9112, section 3.2.2)."""
    monkeypatch.setenv("http_proxy", fault_server.url("/"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fault_server.serve("http://data.example/x", Reply(body=SMALL))
    direct = fault_server.serve("/direct", Reply(body=SMALL))
    with getm.Session(retries=0) as session:
        assert session.read("http://data.example/x", concurrency=concurrency) == SMALL
        assert session.read(direct, concurrency=concurrency) == SMALL
    assert fault_server.requests[0].target == b"http://data.example/x"
    assert fault_server.requests[-1].target == b"/direct"


@each_mode
def test_a_proxy_over_tls_must_be_trusted(
    concurrency: int | None, tls_fault_server: FaultServer, ca_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where what is asked for goes by http."""
    monkeypatch.setenv("http_proxy", tls_fault_server.url("/"))
    tls_fault_server.serve("http://data.example/x", Reply(body=SMALL))
    with getm.Session(cacert=ca_path) as session:
        assert session.read("http://data.example/x", concurrency=concurrency) == SMALL
    with getm.Session() as session, pytest.raises(errors.TLSFailed):
        session.read("http://data.example/x", concurrency=concurrency)


# What a failure must not leave behind ----------------------------------------------------------------------------


@each_mode
def test_failed_streams_do_not_use_up_the_rings(concurrency: int | None, fault_server: FaultServer) -> None:
    """Though the errors, and with them the iterators in their tracebacks, are kept."""
    url = fault_server.serve("/x", Reply(body=BODY, etag=None, last_modified=None, cut_at=2 * MIB))
    kept: list[errors.GetmError] = []
    with getm.Session(max_memory=64 * MIB, retries=0) as session:
        for _ in range(8):
            try:
                for _part in session.iter_content(url, concurrency=concurrency):
                    pass
            except errors.Truncated as error:
                kept.append(error)
    assert len(kept) == 8


def test_a_failure_in_a_helper_engine_leaves_no_slot_behind(fault_server: FaultServer) -> None:
    good = fault_server.serve("/good", Reply(body=BODY))
    with getm.Session(processes=2) as session:
        for number in range(8):
            gate = fault_server.gate()
            refused = dataclasses.replace(failure(404), hold=gate)
            bad = fault_server.serve(f"/bad{number}", faulty_later(refused, Reply(body=BODY)))
            with session.urlopen(bad, concurrency=4) as fh, pytest.raises(errors.RangesRefused, match="404"):
                assert fh.read(1) == BODY[:1]
                gate.open()
                fh.read()
            assert session.read(good, concurrency=4) == BODY


# Slow, but not wrong -------------------------------------------------------------------------------------------


@each_mode
@pytest.mark.parametrize("first", (1, 1000, MIB + 5))
def test_what_has_come_is_delivered_before_a_slot_is_full(
    first: int, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", faulty_later(Reply(body=BODY), Reply(body=BODY, stall_at=first, gate=gate)))
    with session.urlopen(url, concurrency=concurrency) as fh:
        assert fh.read(first) == BODY[:first]
        gate.open()
        assert fh.read() == BODY[first:]
    # Nothing had to be taken for a stalled connection first: a request for each part.
    assert len(fault_server.requests) == (4 if concurrency == 3 else 1)


@each_mode
async def test_what_has_come_is_delivered_asynchronously_before_a_slot_is_full(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    """The second chunk lies in two slots, of which the second one has 5 bytes when the server stops."""
    chunk = (MIB + 5) // 3
    gate = fault_server.gate()
    stalled = Reply(body=BODY, stall_at=3 * chunk, gate=gate)
    url = fault_server.serve("/x", faulty_later(Reply(body=BODY), stalled))
    parts = session.aiter_content(url, chunk, concurrency=concurrency)
    for number in range(3):
        assert await anext(parts) == BODY[number * chunk : (number + 1) * chunk]
    gate.open()
    rest = b"".join([bytes(part) async for part in parts])
    assert rest == BODY[3 * chunk :]
    assert len(fault_server.requests) == (4 if concurrency == 3 else 1)


def test_a_slow_first_part_keeps_a_slot_for_what_is_left_of_it(fault_server: FaultServer) -> None:
    """In a ring of four slots: the caller holds two views, and the other two wait to be hashed after the first part.
    Had that sent its slot before it was full, there would be none for the rest."""
    body = BODY[: 6 * MIB]
    slow = Reply(body=body, pace=Pace(step_bytes=300_000, interval_s=0.15))
    url = fault_server.serve("/x", slow, Reply(body=body))
    held: list[memoryview] = []
    with getm.Session(max_memory=4 * MIB, timeout=getm.Timeout(tail_s=None)) as session:
        parts = session.iter_content_unordered(url, MIB, concurrency=3, checksum=checksum(body, "md5"))
        came = {}
        for offset, view in parts:
            came[offset] = bytes(view)
            if not held:
                held.append(view)
    assert b"".join(came[offset] for offset in sorted(came)) == body


def test_chunks_stay_whole_on_a_slow_connection(session: getm.Session, fault_server: FaultServer) -> None:
    body = BODY[: 4 * MIB]
    url = fault_server.serve("/x", Reply(body=body, pace=Pace(step_bytes=700_000, interval_s=0.15)))
    parts = [bytes(part) for part in session.iter_content(url, 256 * 1024, checksum=checksum(body, "md5"))]
    assert {len(part) for part in parts} == {256 * 1024}
    assert b"".join(parts) == body
