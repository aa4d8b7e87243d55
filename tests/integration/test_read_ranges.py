"""Parts of an object: the same bytes as slices, whatever the server makes of ranges, and never of two versions."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import getm
from getm.buffers.object_memory import ObjectMemory
from getm.testing import FaultServer, Reply, Request, Script, failure
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

MIB = 1024 * 1024
BODY = random.Random(7).randbytes(5 * MIB + 777)
SMALL = random.Random(8).randbytes(300)
OTHER = random.Random(9).randbytes(len(BODY))


def _without_suffixes(body: bytes) -> Callable[[Request], Reply]:
    """As Azure's, which ignores a suffix range."""
    return lambda request: Reply(body=body, ranges=not (request.header("Range") or "").startswith("bytes=-"))


SERVERS: dict[str, Callable[[bytes], Script]] = {
    "ranges": lambda body: Reply(body=body),
    "no ranges": lambda body: Reply(body=body, ranges=False),
    "no strong validator": lambda body: Reply(body=body, etag='W/"1"', last_modified=None),
    "no validator": lambda body: Reply(body=body, etag=None, last_modified=None),
    "no length": lambda body: Reply(body=body, ranges=False, framing="chunked"),
    "no suffixes": _without_suffixes,
}


def expected(spans: list[tuple[int, int | None]], body: bytes) -> list[bytes]:
    return [body[start:stop] for start, stop in spans]


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session()


positions = st.integers(0, len(SMALL) + 20)
a_span = st.one_of(
    st.tuples(positions, positions).map(lambda pair: (min(pair), max(pair))),
    st.tuples(positions, st.none()),
    st.tuples(st.integers(-len(SMALL) - 20, -1), st.none()),
)


@pytest.mark.parametrize("beyond", [1, 300_000])
@pytest.mark.parametrize("length", [1, 1000, 300_000, 2 * MIB])
def test_a_size_that_becomes_known_with_the_last_bytes_ends_the_spans(
    length: int, beyond: int, fault_server: FaultServer, session: getm.Session
) -> None:
    """Nothing is made up of what lies beyond it."""
    url = fault_server.serve("/x", Reply(body=BODY, ranges=False, framing="chunked"))
    spans: list[tuple[int, int | None]] = [(0, 1), (len(BODY) - length, len(BODY) + beyond), (len(BODY) - 1, None)]
    assert list(map(bytes, session.read_ranges(url, spans))) == expected(spans, BODY)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spans=st.lists(a_span, max_size=6),
    max_gap=st.sampled_from((0, 10, 1000)),
    concurrency=st.sampled_from((1, 4, "auto")),
    kind=st.sampled_from(sorted(SERVERS)),
)
def test_spans_are_slices(
    spans: list[tuple[int, int | None]],
    max_gap: int,
    concurrency: int,
    kind: str,
    fault_server: FaultServer,
    session: getm.Session,
) -> None:
    url = fault_server.serve("/x", SERVERS[kind](SMALL))
    if kind == "no length" and any(start < 0 for start, _ in spans):
        with pytest.raises(getm.RangesRefused, match="read the whole"):
            session.read_ranges(url, spans, concurrency=concurrency)
        return
    found = session.read_ranges(url, spans, max_gap=max_gap, concurrency=concurrency)
    assert [bytes(view) for view in found] == expected(spans, SMALL)
    assert all(view.readonly for view in found)
    assert not found.checksum.verified


LARGE: list[tuple[int, int | None]] = [
    (3 * MIB - 5, 5 * MIB),
    (0, 4),
    (-100, None),
    (10, 70_000),
    (10, 70_000),
    (2, 2),
    (len(BODY) + 5, None),
    (MIB, MIB + 1),
]


@pytest.mark.parametrize("kind", sorted(set(SERVERS) - {"no length"}))
@pytest.mark.parametrize("concurrency", (1, 3, "auto", None))
def test_large_spans_in_the_order_asked(
    kind: str, concurrency: int | None, fault_server: FaultServer, session: getm.Session
) -> None:
    url = fault_server.serve("/x", SERVERS[kind](BODY))
    found = session.read_ranges(url, LARGE, concurrency=concurrency)
    assert [bytes(view) for view in found] == expected(LARGE, BODY)
    assert found.size == len(BODY)
    assert not found.checksum.verified


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 5), (7, None), (-9, None), (len(BODY) - 3, 100), (len(BODY), 1), (2, 0), (MIB - 1, 2 * MIB)],
)
def test_a_part_read(offset: int, length: int | None, fault_server: FaultServer, session: getm.Session) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    want = BODY[offset:] if length is None else BODY[offset : offset + length]
    assert session.read(url, offset=offset, length=length) == want
    assert asyncio.run(session.aread(url, offset=offset, length=length)) == want
    sent = sum(request.sent_bytes for request in fault_server.requests if request.wait_ended())
    assert sent == 2 * len(want)


@pytest.mark.parametrize("total", ["of the page", "of the object", "none"])
@pytest.mark.parametrize("concurrency", (1, "auto", None))
def test_a_416_to_what_is_there_refuses_all_ranges(
    concurrency: int | None, total: str, fault_server: FaultServer, session: getm.Session
) -> None:
    """The size that it says is not believed: some say that of the page that comes with it."""
    page = failure(416)
    if total != "of the page":
        size = f"bytes */{len(BODY)}" if total == "of the object" else None
        page = replace(page, headers={"Content-Range": size})
    url = fault_server.serve("/x", lambda request: page if request.header("Range") else Reply(body=BODY))
    wanted: list[tuple[int, int | None]] = [(0, 1), *LARGE]
    found = session.read_ranges(url, wanted, concurrency=concurrency)
    assert [bytes(view) for view in found] == expected(wanted, BODY)


def test_the_asynchronous_functions_give_the_same(fault_server: FaultServer, session: getm.Session) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))

    async def read() -> tuple[memoryview, getm.SpanContents]:
        return await asyncio.gather(session.aread(url), session.aread_ranges(url, LARGE))

    whole, parts = asyncio.run(read())
    assert whole == BODY and [bytes(view) for view in parts] == expected(LARGE, BODY)


def test_only_what_is_asked_for_is_sent(nginx: NginxServer, make_object: Callable[..., ServedObject]) -> None:
    served = make_object(4 * MIB)
    spans = [(0, 10), (MIB, MIB + 10), (15, 20), (2 * MIB, 2 * MIB + 70_000)]
    for max_gap, requests, more in ((0, 4, 0), (5, 3, 5)):
        mark = nginx.log.mark()
        found = getm.read_ranges(nginx.url(served.url_path), spans, max_gap=max_gap)
        assert [bytes(view) for view in found] == [served.read(*span) for span in spans]
        logged = nginx.log.since(mark)
        assert len(logged) == requests
        assert sum(each.body_bytes for each in logged) == sum(stop - start for start, stop in spans) + more
        # The version that the first response has is that of all.
        assert [bool(each.if_range) for each in logged].count(False) == 1


def test_more_spans_than_one_request_names(fault_server: FaultServer, session: getm.Session) -> None:
    spans: list[tuple[int, int | None]] = [(start, start + 100) for start in range(0, 1300 * 1000, 1000)]
    random.Random(1).shuffle(spans)
    spans.append((-50, None))
    for kind in ("ranges", "no strong validator"):
        url = fault_server.serve(f"/{kind[-9:]}".replace(" ", "-"), SERVERS[kind](BODY))
        found = session.read_ranges(url, spans)
        assert [bytes(view) for view in found] == expected(spans, BODY)
        assert found.size == len(BODY)


def test_all_spans_together_are_verified(nginx: NginxServer, make_object: Callable[..., ServedObject]) -> None:
    served = make_object(4 * MIB)
    url = nginx.declared_url(served, content_md5=base64.b64encode(served.md5).decode())
    found = getm.read_ranges(url, [(2 * MIB, None), (0, 2 * MIB)])
    assert b"".join(found[::-1]) == served.read()
    assert found.checksum.verified


def test_a_part_is_refused_where_nothing_may_be_unverified(fault_server: FaultServer, session: getm.Session) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    with pytest.raises(getm.Unverified, match="a part of the object"):
        session.read(url, length=10, strict=True)
    with pytest.raises(getm.InvalidInput, match="checksum is of the whole"):
        session.read(url, length=10, checksum="md5:" + "0" * 32)
    with pytest.raises(getm.InvalidInput, match="take a slice"):
        session.read(url, offset=-10, length=5)


@pytest.mark.parametrize("concurrency", (1, 4))
def test_a_replaced_object_is_read_again_and_never_mixed(
    concurrency: int, fault_server: FaultServer, session: getm.Session
) -> None:
    old, new = Reply(body=BODY), Reply(body=OTHER, etag='"v2"')
    url = fault_server.serve("/x", old, old, new)
    found = session.read_ranges(url, LARGE, concurrency=concurrency)
    assert [bytes(view) for view in found] == expected(LARGE, OTHER)
    assert found.version.etag == '"v2"'


def test_an_object_that_changes_all_the_time_is_an_error(fault_server: FaultServer, session: getm.Session) -> None:
    def reply(request: Request) -> Reply:
        return Reply(body=BODY, etag=f'"{request.number}"')

    url = fault_server.serve("/x", reply)
    with pytest.raises(getm.RemoteChanged):
        session.read_ranges(url, LARGE)


def test_a_part_of_another_version_is_never_joined(fault_server: FaultServer, session: getm.Session) -> None:
    """A server that answers If-Range wrongly: a 206 of the other version."""

    def reply(request: Request) -> Reply:
        other = request.header("If-Range") is not None
        return Reply(body=OTHER if other else BODY, etag='"v2"' if other else '"v1"', span=_asked(request))

    url = fault_server.serve("/x", reply)
    with pytest.raises(getm.RemoteChanged):
        session.read_ranges(url, LARGE)


def _asked(request: Request) -> tuple[int, int]:
    first, _, last = (request.header("Range") or "").removeprefix("bytes=").partition("-")
    return int(first), int(last) + 1


def test_a_broken_connection_is_continued(fault_server: FaultServer, session: getm.Session) -> None:
    whole = Reply(body=BODY)
    url = fault_server.serve("/x", Reply(body=BODY, cut_at=1000), Reply(body=BODY, cut_at=70_000), whole)
    found = session.read_ranges(url, [(5, 3 * MIB), (4 * MIB, 5 * MIB)], concurrency=1)
    assert [bytes(view) for view in found] == [BODY[5 : 3 * MIB], BODY[4 * MIB : 5 * MIB]]
    assert found.stats.retries


SMALL_SPANS: list[tuple[int, int | None]] = [(start, start + 3000) for start in range(0, 40 * 4000, 4000)]


def _usual(request: Request) -> Reply:
    return Reply(body=BODY)


@pytest.mark.parametrize("spans", (SMALL_SPANS, SMALL_SPANS[:12]), ids=("placed", "in slots"))
@pytest.mark.parametrize(
    "unusual",
    [
        Reply(body=BODY, cut_at=1000),
        Reply(body=BODY, cut_at=0, then="reset"),
        Reply(body=BODY, framing="chunked"),
        Reply(body=BODY, then="close"),
        Reply(body=BODY, headers={"Connection": "close"}, then="close"),
        lambda request: Reply(body=BODY, last_modified=None, etag=None, span=_asked(request)),
        Reply(body=BODY, extra=b"?"),
        failure(503, retry_after="0"),
    ],
    ids=("cut", "reset", "chunked", "closed", "to be closed", "no validator", "too much", "unavailable"),
)
def test_small_spans_after_an_unusual_response(
    unusual: Script, spans: list[tuple[int, int | None]], fault_server: FaultServer, session: getm.Session
) -> None:
    """Most come by small exchanges, and some do not: all bytes are right, and none comes twice."""
    # The connections are there, and then several of them bring what is unusual.
    few: list[Script] = [unusual, _usual]
    url = fault_server.serve("/x", *[_usual] * 6, *few * 3)
    for _ in range(2):
        found = session.read_ranges(url, spans, concurrency=4)
        assert [bytes(view) for view in found] == expected(spans, BODY)
    assert found.stats.received_bytes == 3000 * len(spans)


def test_a_slow_small_span_is_waited_for_and_not_requested_again(
    fault_server: FaultServer, session: getm.Session
) -> None:
    gate = fault_server.gate()
    slow = Reply(body=BODY, stall_at=1000, gate=gate)
    url = fault_server.serve("/x", *[_usual] * 5, slow, _usual)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(session.read_ranges, url, SMALL_SPANS, concurrency=2)
        # All others come meanwhile.
        gate.wait_reached()
        requests = fault_server.wait_for_requests(len(SMALL_SPANS))
        gate.open()
        assert [bytes(view) for view in reading.result()] == expected(SMALL_SPANS, BODY)
    assert len(fault_server.requests) == len(requests) == len(SMALL_SPANS)


def test_a_small_span_of_another_version_is_never_joined(fault_server: FaultServer, session: getm.Session) -> None:
    """A server that answers If-Range wrongly, after some right answers: the same bytes asked for, of another object."""

    def wrong(request: Request) -> Reply:
        return Reply(body=OTHER, etag='"v2"', span=_asked(request))

    url = fault_server.serve("/x", *[_usual] * 20, wrong)
    found = session.read_ranges(url, SMALL_SPANS, concurrency=2)
    assert [bytes(view) for view in found] == expected(SMALL_SPANS, OTHER)


def test_many_spans_are_placed_without_a_copy(
    fault_server: FaultServer, session: getm.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    taken: list[int] = []
    monkeypatch.setattr(ObjectMemory, "seal", lambda memory: taken.append(memory.size))
    spans: list[tuple[int, int | None]] = [(MIB, 2 * MIB), (-10, None), (5, 300_005), (MIB + 7, MIB + 9), (7, 7)]
    for concurrency in (1, 4, "auto", None):
        found = session.read_ranges(url, spans, concurrency=concurrency)
        assert [bytes(view) for view in found] == expected(spans, BODY)
    # Each byte once, and no other.
    assert taken == [MIB + 10 + 300_000] * 4
    assert session.read(url, offset=3, length=2 * MIB) == BODY[3 : 2 * MIB + 3]
    assert taken[4:] == [2 * MIB]
    session.read_ranges(url, [(0, MIB), (MIB + 5, 2 * MIB)], max_gap=5)
    session.read_ranges(fault_server.serve("/y", Reply(body=BODY, ranges=False)), spans)
    assert len(taken) == 5


def test_nothing_is_requested_for_nothing(session: getm.Session) -> None:
    url = "http://127.0.0.1:9/nothing"
    assert list(map(bytes, session.read_ranges(url, []))) == []
    assert list(map(bytes, session.read_ranges(url, [(5, 5)]))) == [b""]
    assert bytes(session.read(url, length=0)) == b""


@pytest.mark.parametrize("spans", ([(0, 5)], [(0, None)], [(-5, None)], [(3, 9), (-2, None)]))
def test_an_empty_object(spans: list[tuple[int, int | None]], fault_server: FaultServer, session: getm.Session) -> None:
    url = fault_server.serve("/empty", Reply(body=b""))
    found = session.read_ranges(url, spans)
    assert not any(map(len, found)) and found.size == 0


def test_a_result_shows_itself_in_one_line(fault_server: FaultServer, session: getm.Session) -> None:
    found = session.read_ranges(fault_server.serve("/x", Reply(body=SMALL)), [(0, 4), (-5, None)])
    assert repr(found) == "SpanContents(2 views, 9 of 300 bytes, not verified)"


@pytest.mark.parametrize(("delay_s", "most"), ((0.0, 16), (0.02, 64)), ids=("near", "far"))
def test_as_many_are_fetched_at_once_as_the_answers_take_long(
    session: getm.Session, fault_server: FaultServer, delay_s: float, most: int
) -> None:
    """More than 16, where the fastest answer has taken 5 ms: on a busy machine those of a near server may, too."""
    spans = [(number * 2000, number * 2000 + 1000) for number in range(300)]
    body = random.Random(5).randbytes(600_000)
    found = session.read_ranges(fault_server.serve("/x", Reply(body=body, delay_s=delay_s)), spans)
    assert [bytes(view) for view in found] == [body[start:stop] for start, stop in spans]
    connections = {request.connection for request in fault_server.requests}
    assert len(connections) == most if delay_s else len(connections) in (16, 64)
    assert len(fault_server.requests) == len(spans)
