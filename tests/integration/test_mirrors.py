"""Several URLs of one object: who is asked, who goes on where one fails, and that bytes of two objects are never joined
unnoticed."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import getm
from getm import errors
from getm.engine.sources import Sources
from getm.engine.speeds import Speeds
from getm.integrity.files import checksum
from getm.testing import FaultServer, Pace, Reply, Request, failure, redirect
from tests.support.consumer import open_request
from tests.support.nginx import NginxServer

MIB = 1024 * 1024
PART = 8 * MIB
BODY = random.Random(7).randbytes(3 * PART + 54321)
SMALL = BODY[:200_000]
SHA256 = str(checksum(BODY, "sha256"))
FAST = getm.Retries(2, base_s=0.001, cap_s=0.002)
DEAD = "http://127.0.0.1:1/x"

each_mode = pytest.mark.parametrize("concurrency", (1, 3, None))


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=FAST)


@pytest.fixture
def other_server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


# Before anything was delivered ------------------------------------------------------------


@each_mode
@pytest.mark.parametrize("kind", ("dead", "404", "503", "redirects in a circle", "no answer"))
def test_the_next_one_is_asked_where_the_first_fails(
    kind: str, concurrency: int | None, session: getm.Session, fault_server: FaultServer, other_server: FaultServer
) -> None:
    first = {
        "404": fault_server.serve("/404", failure(404)),
        "503": fault_server.serve("/503", failure(503, retry_after="1000")),
        "redirects in a circle": fault_server.serve("/302", Reply(status=302, headers={"Location": "/302"})),
        "no answer": fault_server.serve("/none", Reply(raw=b"", then="close")),
    }.get(kind, DEAD)
    url = other_server.serve("/x", Reply(body=BODY))
    with session.urlopen(first, mirrors=[url], concurrency=concurrency) as fh:
        assert fh.read() == BODY
        assert fh.url == url
        assert fh.stats.retries["mirror"] == 1
    # Nothing is waited for, nor asked again, where another one can be asked.
    assert kind not in ("404", "503") or len(fault_server.requests) == 1


@each_mode
def test_where_all_fail_the_first_ones_error_comes(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    urls = [fault_server.serve("/gone?sig=secret", failure(410)), DEAD, fault_server.serve("/404", failure(404))]
    fault_server.serve("/gone", failure(410))
    with pytest.raises(errors.HTTPStatusError, match=r"410.*3 mirrors were tried") as caught:
        session.read(urls[0], mirrors=urls[1:], concurrency=concurrency)
    assert caught.value.status == 410
    assert "secret" not in str(caught.value)


def test_the_last_one_is_asked_again_as_ever(session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", failure(503), Reply(body=SMALL))
    assert session.read(DEAD, mirrors=[url]) == SMALL


def test_headers_go_to_every_mirror_of_the_list(session: getm.Session, fault_server: FaultServer) -> None:
    first, second = fault_server.serve("/1", failure(404)), fault_server.serve("/2", Reply(body=SMALL))
    assert session.read(first, mirrors=[second], headers={"X-Mine": "1"}) == SMALL
    assert [request.header("X-Mine") for request in fault_server.requests] == ["1", "1"]


def test_real_servers(nginx: NginxServer, make_object: Any, session: getm.Session) -> None:
    served = make_object(9 * MIB)
    http = f"http://127.0.0.1:{nginx.http_port}"
    for concurrency in (1, 4, None):
        data = session.read(f"{http}/objects/nothing", mirrors=[DEAD, http + served.url_path], concurrency=concurrency)
        assert data == served.read()


# Midway ------------------------------------------------------------


@each_mode
def test_another_goes_on_at_the_byte_where_a_checksum_is_given(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer, other_server: FaultServer
) -> None:
    dies = fault_server.serve("/x", Reply(body=BODY, cut_at=PART // 2), Reply(raw=b"", then="close"))
    # Another server, another validator: each has an identity of its own.
    url = other_server.serve("/x", Reply(body=BODY, etag='"other"', last_modified=None))
    with session.urlopen(dies, mirrors=[url], checksum=SHA256, concurrency=concurrency) as fh:
        assert fh.read() == BODY
        assert fh.checksum.verified
    asked = [request.header("Range") for request in other_server.requests]
    assert asked and None not in asked
    if concurrency != 3:
        assert asked == [f"bytes={PART // 2}-{len(BODY) - 1}"]
        assert other_server.requests[0].header("If-Range") is None


def test_helper_engines_go_on_with_another(fault_server: FaultServer, other_server: FaultServer) -> None:
    dies = fault_server.serve("/x", Reply(body=BODY, cut_at=PART // 2), Reply(raw=b"", then="close"))
    url = other_server.serve("/x", Reply(body=BODY, etag='"other"', last_modified=None))
    with getm.Session(retries=FAST, processes=2) as session:
        assert session.read(dies, mirrors=[url], checksum=SHA256, concurrency=3) == BODY


@each_mode
def test_without_a_checksum_nothing_is_joined(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer, other_server: FaultServer
) -> None:
    dies = fault_server.serve("/x", Reply(body=BODY, cut_at=PART // 2), Reply(raw=b"", then="close"))
    url = other_server.serve("/x", Reply(body=BODY))
    with pytest.raises(errors.Truncated):
        session.read(dies, mirrors=[url], concurrency=concurrency)
    assert other_server.requests == []


def test_without_a_checksum_parts_of_two_are_never_joined(
    session: getm.Session, fault_server: FaultServer, other_server: FaultServer
) -> None:
    gate = fault_server.gate()

    def script(request: Request) -> Reply:
        first = (request.header("Range") or "").startswith("bytes=0-")
        return Reply(body=BODY, stall_at=0, gate=gate) if first else failure(404)

    url = other_server.serve("/x", Reply(body=BODY))
    with pytest.raises(errors.HTTPStatusError, match="404"):
        session.read(fault_server.serve("/x", script), mirrors=[url], concurrency=3)
    assert other_server.requests == [], "nothing was delivered yet, but the other parts would have been"


@pytest.mark.parametrize("concurrency", (1, None))
def test_without_a_checksum_another_goes_on_where_nothing_was_delivered(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer, other_server: FaultServer
) -> None:
    dies = fault_server.serve("/x", Reply(body=BODY, cut_at=0), Reply(raw=b"", then="close"))
    url = other_server.serve("/x", Reply(body=BODY, etag='"other"'))
    assert session.read(dies, mirrors=[url], concurrency=concurrency) == BODY


@pytest.mark.parametrize("way", ("download", "read"))
def test_the_only_one_that_has_it_is_asked_again_though_nothing_can_be_joined(
    way: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """The other one has refused for good, which is no reason not to start over here."""
    good = Reply(body=SMALL, etag='W/"1"', last_modified=None)
    url = fault_server.serve("/x", replace(good, cut_at=1000), good)
    bad, checks = fault_server.serve("/403", failure(403)), str(checksum(SMALL, "sha256"))
    if way == "read":
        assert session.read(bad, mirrors=[url], checksum=checks) == SMALL
    else:
        result = session.download(bad, tmp_path / "x", mirrors=[url], checksum=checks)
        assert result.path.read_bytes() == SMALL


@each_mode
def test_one_of_another_size_does_not_go_on(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer, other_server: FaultServer
) -> None:
    dies = fault_server.serve("/x", Reply(body=BODY, cut_at=PART // 2), Reply(raw=b"", then="close"))
    longer = other_server.serve("/longer", Reply(body=BODY + b"1"))
    with pytest.raises(errors.Truncated, match="2 mirrors were tried"):
        session.read(dies, mirrors=[longer], checksum=SHA256, concurrency=concurrency)


@pytest.mark.parametrize("concurrency", (1, None))
def test_after_one_of_another_size_the_next_goes_on(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer, other_server: FaultServer
) -> None:
    dies = fault_server.serve("/x", Reply(body=BODY, cut_at=PART // 2), Reply(raw=b"", then="close"))
    others = [other_server.serve("/longer", Reply(body=BODY + b"1")), other_server.serve("/right", Reply(body=BODY))]
    assert session.read(dies, mirrors=others, checksum=SHA256, concurrency=concurrency) == BODY


@each_mode
def test_one_with_other_bytes_is_noticed(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer, other_server: FaultServer
) -> None:
    dies = fault_server.serve("/x", Reply(body=BODY, cut_at=PART // 2), Reply(raw=b"", then="close"))
    spoilt = other_server.serve("/x", Reply(body=BODY, flip_bit=8 * (len(BODY) - 1)))
    with pytest.raises(errors.ChecksumMismatch):
        session.read(dies, mirrors=[spoilt], checksum=SHA256, concurrency=concurrency)


@pytest.mark.parametrize("processes", (1, 2))
def test_parts_come_from_all_of_them(
    processes: int, fault_server: FaultServer, other_server: FaultServer, tmp_path: Path
) -> None:
    urls = [server.serve("/x", Reply(body=BODY)) for server in (fault_server, other_server)]
    with getm.Session(processes=processes, retries=FAST) as session:
        result = session.download(urls[0], tmp_path / "x", mirrors=urls[1:], checksum=SHA256, concurrency=4)
    assert result.path.read_bytes() == BODY and result.verified
    assert fault_server.requests and other_server.requests


def test_without_a_checksum_parts_come_from_one(
    session: getm.Session, fault_server: FaultServer, other_server: FaultServer
) -> None:
    urls = [server.serve("/x", Reply(body=BODY)) for server in (fault_server, other_server)]
    assert session.read(urls[0], mirrors=urls[1:], concurrency=4) == BODY
    assert other_server.requests == []


# In order of speed ------------------------------------------------------------


def test_the_faster_one_is_asked_first(
    session: getm.Session, fault_server: FaultServer, other_server: FaultServer
) -> None:
    slow = fault_server.serve("/x", Reply(body=SMALL, pace=Pace(20_000, 0.1)))
    fast = other_server.serve("/x", Reply(body=SMALL))
    for url in (slow, fast, slow):
        assert session.read(url) == SMALL
    asked = len(fault_server.requests)
    with session.urlopen(slow, mirrors=[fast]) as fh:
        assert fh.read() == SMALL
        assert fh.url == fast
    assert len(fault_server.requests) == asked


def test_speeds_are_means_that_follow() -> None:
    speeds = Speeds()
    assert speeds.of("a") is None
    sources = Sources(open_request("http://a/object"), speeds)
    sources.received(sources.given, 1000, 0.001)
    assert speeds.of("a") is None, "too little to tell"
    sources.received(sources.given, 1_000_000, 1.0)
    assert speeds.of("a") == 1_000_000
    speeds.measured("a", 2_000_000, 1.0)
    assert speeds.of("a") == pytest.approx(1_300_000)
    speeds.failed("a")
    assert speeds.of("a") == 0
    speeds.measured("a", 500_000, 1.0)
    assert speeds.of("a") == 500_000


@pytest.mark.parametrize(
    ("known", "order"),
    [
        ({}, "abcd"),
        ({"b": 5}, "bacd"),
        ({"b": 5, "d": 9}, "dbac"),
        ({"a": 0, "c": 0}, "bdac"),
        ({"a": 0, "d": 1}, "dbca"),
    ],
)
async def test_the_order_of_sources(known: dict[str, int], order: str) -> None:
    speeds = Speeds()
    for host, speed in known.items():
        if speed:
            speeds.measured(host, speed * MIB, 1.0)
        else:
            speeds.failed(host)
    sources = Sources(open_request("http://a/x", mirrors=tuple(f"http://{host}/x" for host in "bcd")), speeds)
    assert "".join(source.host for source in sources.living) == order


async def test_parts_are_spread_by_speed() -> None:
    speeds = Speeds()
    speeds.measured("a", 3 * MIB, 1.0)
    speeds.measured("b", MIB, 1.0)
    sources = Sources(open_request("http://a/x", mirrors=("http://b/x", "http://c/x")), speeds)
    chosen = []
    for _ in range(7):
        source = sources.spread()
        source.active += 1
        chosen.append(source.host)
    assert sorted(chosen) == ["a", "a", "a", "b", "c", "c", "c"]


@pytest.mark.parametrize("mirrors", ("http://a/x", [1], ["ftp://a/x"], 5, None))
def test_mirrors_that_are_none(mirrors: Any, session: getm.Session) -> None:
    with pytest.raises(errors.InvalidInput):
        session.read("http://a/x", mirrors=mirrors)


def test_parts_do_not_ask_for_ever_whom_the_first_request_has_found_refusing(
    shared_session: Callable[..., getm.Session], fault_server: FaultServer
) -> None:
    """A mirror that answered the first request by 404 might still give the whole, which no part can use."""
    body = random.Random(3).randbytes(20 * 1024 * 1024)
    count = itertools.count()
    good, bad = Reply(body=body), redirect("file:///nowhere")
    object_url = fault_server.serve("/object", lambda request: good if next(count) == 0 else bad)
    mirror_url = fault_server.serve("/mirror", failure(404))
    session = shared_session(retries=2, timeout=getm.Timeout(total_s=20))
    with pytest.raises((errors.HTTPStatusError, errors.RedirectError)):
        session.read(mirror_url, mirrors=[object_url], concurrency=3, checksum="md5:" + hashlib.md5(body).hexdigest())
    assert len(fault_server.requests) < 30


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_file_starts_over_though_a_mirror_refuses_for_good(
    concurrency: int, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """Of what broke off nothing can be joined to the rest, and what the mirror answered says nothing of that."""
    body = random.Random(4).randbytes(3_000_000)
    whole = Reply(body=body, etag='W/"weak"', last_modified=None)
    object_url = fault_server.serve("/object", replace(whole, cut_at=1_000_000), whole)
    mirror_url = fault_server.serve("/mirror", failure(403))
    checksum = "md5:" + hashlib.md5(body).hexdigest()
    session.download(mirror_url, tmp_path / "x", mirrors=[object_url], concurrency=concurrency, checksum=checksum)
    assert (tmp_path / "x").read_bytes() == body
