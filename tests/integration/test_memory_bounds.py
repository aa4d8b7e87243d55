"""Servers that never come to an end of something: the engine's memory stays bounded, and the error is one of getm's."""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import getm
from getm import errors
from getm.testing import FaultServer, Pace, Reply, Request, failure, redirect

MIB = 1024 * 1024
# What an engine may hold beyond what it held before: its ring, and a few reads of what came.
_BOUND_BYTES = 48 * MIB
SMALL = b"small"
LINES = b"X-Name: value\r\n" * 4000
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak of another process is read from /proc")


# For what a server does not end. The good answers have the usual read_limits.
IMPATIENT = getm.Timeout(connect_s=1, stall_s=0.3, total_s=20)


@pytest.fixture
def session() -> Iterator[getm.Session]:
    with getm.Session(processes=1, retries=0, max_memory=8 * MIB) as opened:
        yield opened


@contextlib.contextmanager
def bounded(session: getm.Session, server: FaultServer, bound_bytes: int = _BOUND_BYTES) -> Iterator[None]:
    """What happens within may not need much memory in the engine. It has served one object before that."""
    assert session.read(server.serve("/first", Reply(body=SMALL))) == SMALL
    (engine,) = [child for child in psutil.Process().children() if "getm.engine" in " ".join(child.cmdline())]
    before = peak_bytes(engine.pid)
    yield
    assert peak_bytes(engine.pid) - before < bound_bytes
    # It still serves.
    assert session.read(server.serve("/last", Reply(body=SMALL))) == SMALL


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def endless(start: bytes, again: bytes) -> Reply:
    """`start`, and then `again` and again, until the client has had enough."""
    return Reply(raw=start, body=again, endless=True)


WITHOUT_END = {
    "row 31: header lines": endless(OK, LINES),
    "row 31: one header line": endless(OK + b"X-Long: ", b"a" * 65536),
    "row 31: a reason phrase": endless(b"HTTP/1.1 200 ", b"a" * 65536),
    "row 31: a status line that is none": endless(b"", b"a" * 65536),
    "a chunk extension": endless(CHUNKED + b"5;", b"a" * 65536),
    "a chunk size": endless(CHUNKED + b"0", b"0" * 65536),
    "trailer lines": endless(CHUNKED + b"5\r\nsmall\r\n0\r\n", LINES),
    "one trailer line": endless(CHUNKED + b"5\r\nsmall\r\n0\r\nX-Long: ", b"a" * 65536),
    "a head, byte by byte": Reply(raw=OK, body=LINES, pace=Pace(step_bytes=1, interval_s=0.05)),
    "an error page": endless(b"HTTP/1.1 404 Not Found\r\n\r\n", b"a" * 65536),
}


@pytest.mark.parametrize("concurrency", (1, 3))
def test_without_an_end_in_what_is_not_the_content(
    concurrency: int, session: getm.Session, fault_server: FaultServer
) -> None:
    for name, reply in WITHOUT_END.items():
        url = fault_server.serve("/x", reply)
        with bounded(session, fault_server), pytest.raises(errors.NetworkError) as caught:
            pytest.fail(f"{name}: {len(session.read(url, concurrency=concurrency, timeout=IMPATIENT))} bytes")
        assert caught.value.url == url
        assert len(str(caught.value)) < 1000


def test_interim_responses_without_an_end(session: getm.Session, fault_server: FaultServer) -> None:
    """aiohttp makes objects of all that one read of the socket brought, which is thousands, before it looks at one:
    more memory than elsewhere, and no more for more of them."""
    url = fault_server.serve("/x", endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2000))
    with bounded(session, fault_server, 256 * MIB), pytest.raises(errors.BadResponse, match="interim"):
        session.read(url, timeout=None)


@pytest.mark.parametrize("framing", ("chunked", "close"))
def test_row_32_an_endless_content_stops_at_the_callers_cap(
    framing: str, session: getm.Session, fault_server: FaultServer
) -> None:
    page = bytes(range(256)) * 256
    url = fault_server.serve("/x", Reply(body=page, framing=framing, endless=True))  # type: ignore[arg-type]
    cap_bytes, taken = 64 * MIB + 1, 0
    with bounded(session, fault_server):
        with session.urlopen(url) as fh:
            while taken < cap_bytes:
                view = fh.read(min(MIB, cap_bytes - taken))
                assert view == (page * 17)[taken % len(page) :][: len(view)]
                taken += len(view)
        assert fault_server.wait_for_requests(2)[1].wait_ended() == "client left"
    assert taken == cap_bytes


def test_row_24_a_hundred_thousand_redirects(session: getm.Session, fault_server: FaultServer) -> None:
    numbers = itertools.count(1)

    def onwards(request: Request) -> Reply:
        number = next(numbers)
        return redirect(f"/x?{number}") if number < 100_000 else failure(404)

    url = fault_server.serve("/x", onwards)
    with bounded(session, fault_server), pytest.raises(errors.RedirectError, match="20 redirects"):
        session.read(url)


def test_a_redirect_with_an_endless_content(session: getm.Session, fault_server: FaultServer) -> None:
    fault_server.serve("/there", Reply(body=SMALL))
    start = b"HTTP/1.1 302 Found\r\nLocation: /there\r\n\r\n"
    url = fault_server.serve("/x", endless(start, b"a" * 65536))
    with bounded(session, fault_server):
        assert session.read(url) == SMALL
