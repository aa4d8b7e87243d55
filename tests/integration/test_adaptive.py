"""concurrency="auto": one connection at first, and more while they bring more."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

import getm
from getm.core.spans import Span
from getm.engine.adaptive import Pieces
from getm.integrity.files import checksum
from getm.testing import FaultServer, Pace, Reply, Request, failure, no_reply
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

MIB = 1024 * 1024
BODY = random.Random(5).randbytes(20 * MIB + 4321)
# Some 6 MB a second for each connection: enough is left for more of them to be worth it.
PACE = Pace(step_bytes=64 * 1024, interval_s=0.01)
SLOW = Reply(body=BODY, pace=PACE)

Way = Callable[[getm.Session, str, Path], getm.Stats]


def read(session: getm.Session, url: str, _: Path) -> getm.Stats:
    with session.urlopen(url, concurrency="auto") as fh:
        assert fh.read() == BODY
        return fh.stats


def in_chunks(session: getm.Session, url: str, _: Path) -> getm.Stats:
    position = 0
    with session.iter_content(url, 300_000, concurrency="auto") as parts:
        for view in parts:
            assert view == BODY[position : position + len(view)]
            position += len(view)
        assert position == len(BODY)
        return parts.stats


def unordered(session: getm.Session, url: str, _: Path) -> getm.Stats:
    received = bytearray(len(BODY))
    with session.iter_content_unordered(url, concurrency="auto") as parts:
        for offset, view in parts:
            received[offset : offset + len(view)] = view
        assert received == BODY
        return parts.stats


def to_file(session: getm.Session, url: str, folder: Path) -> getm.Stats:
    result = session.download(url, folder / "x", concurrency="auto")
    assert (folder / "x").read_bytes() == BODY
    return result.stats


each_way = pytest.mark.parametrize("way", [read, in_chunks, unordered, to_file])


def ranged(server: FaultServer) -> list[Request]:
    return [request for request in server.requests if request.header("Range")]


# More connections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2])
@each_way
def test_connections_that_are_each_slow_become_more(
    way: Way, processes: int, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", SLOW)
    with getm.Session(processes=processes) as session:
        stats = way(session, url, tmp_path)
    assert stats.received_bytes == len(BODY)
    assert stats.connections >= 3
    assert stats.retries == {} or set(stats.retries) == {"slow tail"}
    first, *others = fault_server.requests
    assert first.header("Range") is None and first.wait_ended() == "client left"
    assert all(request.header("Range") and request.header("If-Range") == '"v1"' for request in others)
    # Little of what others bring comes by the first as well.
    assert first.sent_bytes < len(BODY) // 2


@pytest.mark.parametrize("expected", ["md5", "crc32c"])
@each_way
def test_the_whole_is_verified(way: Way, expected: str, fault_server: FaultServer, tmp_path: Path) -> None:
    digest = checksum(BODY, expected)
    headers = {"Repr-Digest": None, "x-goog-hash": f"{expected}={digest.base64}"}
    url = fault_server.serve("/x", Reply(body=BODY, pace=PACE, headers=headers))
    with getm.Session() as session:
        way(session, url, tmp_path)
        result = session.download(url, tmp_path / "y", concurrency="auto", strict=True)
    assert result.verified and str(result.checksum.checksum) == str(digest)


def test_the_decisions_are_events_and_in_the_log(
    fault_server: FaultServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = fault_server.serve("/x", SLOW)
    events: list[getm.Event] = []
    with caplog.at_level("INFO", "getm"), getm.Session() as session:
        list(session.download_all([url], directory=tmp_path, concurrency="auto", on_event=events.append))
    adapted = [event for event in events if isinstance(event, getm.Adapted)]
    assert adapted[0].index == 0 and adapted[0].connections > 1
    assert "MB/s" in adapted[0].reason
    assert adapted[0].to_json() == {
        "event": "adapted",
        "index": 0,
        "connections": adapted[0].connections,
        "reason": adapted[0].reason,
    }
    assert any(f"{adapted[0].connections} connections: " in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("concurrency", [1, None])
def test_a_number_is_that_number(concurrency: int | None, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", SLOW)
    with getm.Session() as session:
        assert session.read(url, concurrency=concurrency) == BODY
    assert len(fault_server.requests) == 1


def test_what_one_connection_brings_soon_comes_by_one(fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    small = fault_server.serve("/small", Reply(body=BODY[: 3 * MIB], pace=Pace(MIB // 4, 0.02)))
    with getm.Session() as session:
        assert session.read(url, concurrency="auto") == BODY
        assert session.read(small, concurrency="auto") == BODY[: 3 * MIB]
        ring = session._pool._connections[0]
        assert ring.ready_slots == 16 < ring.layout.slots
    assert len(fault_server.requests) == 2


def test_no_more_connections_than_the_host_may_have(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", SLOW)
    events: list[getm.Event] = []
    with getm.Session() as session:
        list(session.download_all([url], directory=tmp_path, concurrency="auto", per_host=2, on_event=events.append))
    assert {event.connections for event in events if isinstance(event, getm.Adapted)} == {2}


@pytest.mark.parametrize("ranges", [True, False])
def test_connections_to_a_far_server_are_opened_ahead_and_not_too_many(
    ranges: bool, fault_server: FaultServer, tmp_path: Path
) -> None:
    """Where it then refuses ranges they are of no use, and do no harm."""
    url = fault_server.serve("/x", Reply(body=BODY, pace=PACE, delay_s=0.05, ranges=ranges))
    with getm.Session() as session:
        list(session.download_all([url], directory=tmp_path, per_host=3, concurrency="auto"))
    assert (tmp_path / "x").read_bytes() == BODY
    # Those of the first response and of the proof; one more was opened ahead, and one may follow the first.
    assert 3 <= fault_server.connections <= 4


def test_several_downloads_share_what_the_host_may_have(fault_server: FaultServer, tmp_path: Path) -> None:
    urls = [fault_server.serve(f"/{name}", SLOW) for name in "abc"]
    events: list[getm.Event] = []
    with getm.Session() as session:
        options = {"jobs": 3, "per_host": 7, "concurrency": "auto", "on_event": events.append}
        list(session.download_all(urls, directory=tmp_path, **options))  # type: ignore[arg-type]  # of several types
    assert all((tmp_path / name).read_bytes() == BODY for name in "abc")
    counts = dict.fromkeys(range(3), 1)
    for event in events:
        if isinstance(event, getm.Adapted):
            counts[event.index] = event.connections
            assert sum(counts.values()) <= 7


def test_a_small_budget_is_kept(fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", SLOW)
    with getm.Session(max_memory=8 * MIB) as session:
        assert session.read(url, concurrency="auto") == BODY
        assert sum(each.reserved_bytes for each in session._pool._connections) <= 8 * MIB


def test_an_ordered_reader_that_is_slow_is_never_without_bytes(fault_server: FaultServer) -> None:
    """Parts that come early never take the slots of those that it waits for."""
    url = fault_server.serve("/x", SLOW)
    position = 0
    kept: list[memoryview] = []
    with getm.Session(max_memory=12 * MIB) as session, session.iter_content(url, concurrency="auto") as parts:
        for view in parts:
            assert view == BODY[position : position + len(view)]
            position += len(view)
            kept = [*kept[-1:], view]
    assert position == len(BODY)


# Servers that do not grant ranges, after the whole was asked for ------------------------------------------------------


@pytest.mark.parametrize("delay_s", [0.0, 1.5], ids=["soon", "late"])
@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(body=BODY, ranges=False, pace=PACE), id="ignored"),
        pytest.param(failure(403), id="403"),
        pytest.param(failure(416), id="416"),
        pytest.param(failure(429), id="429"),
        pytest.param(failure(503, retry_after="60"), id="503"),
        pytest.param(no_reply("close"), id="closed"),
        pytest.param(Reply(body=BODY, etag='"v2"'), id="another version"),
        pytest.param(Reply(body=BODY, span=(0, 1000)), id="another range"),
    ],
)
@each_way
def test_the_first_response_brings_what_nobody_else_can(
    way: Way, reply: Reply, delay_s: float, fault_server: FaultServer, tmp_path: Path
) -> None:
    """With an answer that is late, it has come to where another one was to begin, and waits."""
    other = Reply(**{**vars(reply), "delay_s": delay_s})
    url = fault_server.serve("/x", lambda request: other if request.header("Range") else SLOW)
    with getm.Session() as session:
        stats = way(session, url, tmp_path)
    first, *others = fault_server.requests
    first.wait_ended()
    assert others and first.sent_bytes == len(BODY)
    assert stats.received_bytes == len(BODY)
    assert stats.retries == {}
    # One is enough to know; and another one where it may be If-Range, or a connection that was kept alive.
    assert len(others) <= (1 if reply.ranges and reply.raw is None else 2)


@each_way
def test_the_first_response_waits_for_the_other_one_to_begin(
    way: Way, fault_server: FaultServer, tmp_path: Path
) -> None:
    late = Reply(body=BODY, pace=PACE, delay_s=1.5)
    url = fault_server.serve("/x", SLOW, late, SLOW)
    with getm.Session() as session:
        assert way(session, url, tmp_path).received_bytes == len(BODY)
    first = fault_server.requests[0]
    assert first.wait_ended() == "client left"


@pytest.mark.parametrize(
    "headers", [{"ETag": None, "Last-Modified": None}, {"Accept-Ranges": "none"}], ids=["no validator", "no ranges"]
)
def test_where_others_cannot_join_none_is_tried(headers: dict[str, str | None], fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY, pace=PACE, headers=headers))
    with getm.Session() as session:
        assert session.read(url, concurrency="auto") == BODY
    assert len(fault_server.requests) == 1


@each_way
def test_a_server_that_answers_one_request_after_the_other(way: Way, fault_server: FaultServer, tmp_path: Path) -> None:
    never = fault_server.gate()
    other = Reply(body=BODY, hold=never)
    url = fault_server.serve("/x", lambda request: other if request.header("Range") else SLOW)
    with getm.Session() as session:
        way(session, url, tmp_path)
    assert len(fault_server.requests) == 2
    assert fault_server.requests[0].sent_bytes == len(BODY)
    never.open()


def test_with_a_rate_limit_there_is_one(fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", SLOW)
    with getm.Session(limit_rate=16 * MIB) as session:
        assert session.read(url, concurrency="auto") == BODY
    assert len(fault_server.requests) == 1


# Hosts that allow few connections -------------------------------------------------------------------------------------


@pytest.mark.parametrize("excess", ["429", "503 later", "silent", "close", "reset", "refuse"])
@each_way
def test_a_host_that_allows_few_gets_few(way: Way, excess: str, fault_server: FaultServer, tmp_path: Path) -> None:
    never = fault_server.gate()

    def few(request: Request) -> Reply:
        if sum(other.outcome == "open" for other in fault_server.requests) > 3:
            if excess == "silent":
                return Reply(body=BODY, hold=never)
            return failure(int(excess[:3]), retry_after="30" if "later" in excess else None)
        return SLOW

    if excess in ("close", "reset", "refuse"):
        fault_server.limit(3, excess)  # type: ignore[arg-type]  # one of them
        url = fault_server.serve("/x", SLOW)
    else:
        url = fault_server.serve("/x", few)
    with getm.Session() as session:
        stats = way(session, url, tmp_path)
    assert stats.received_bytes == len(BODY)


def test_nginx_that_limits_connections(nginx: NginxServer, make_object: Callable[..., ServedObject]) -> None:
    served = make_object(24 * MIB)
    url = nginx.url(served, via="few") + "?rate=4m"
    with getm.Session() as session, session.urlopen(url, concurrency="auto") as fh:
        assert fh.read() == served.read()
        assert fh.stats.connections > 1


def test_nginx_that_limits_the_rate(nginx: NginxServer, make_object: Callable[..., ServedObject]) -> None:
    served = make_object(40 * MIB)
    url = nginx.url(served, via="slow") + "?rate=8m"
    with getm.Session() as session, session.urlopen(url, concurrency="auto") as fh:
        assert fh.read() == served.read()
        assert fh.stats.connections > 1


# What breaks meanwhile ------------------------------------------------------------------------------------------------


@each_way
def test_responses_that_break_off_go_on_at_the_byte(way: Way, fault_server: FaultServer, tmp_path: Path) -> None:
    broken = Reply(body=BODY, pace=PACE, cut_at=3 * MIB + 17, then="reset")
    url = fault_server.serve("/x", broken, broken, SLOW, broken, SLOW)
    with getm.Session() as session:
        stats = way(session, url, tmp_path)
    assert stats.received_bytes == len(BODY)
    assert sum(stats.retries.values()) >= 1


def test_an_object_that_is_replaced_meanwhile(fault_server: FaultServer, tmp_path: Path) -> None:
    """Found when a part of another version comes after one of the first was used: a file starts over."""
    other = BODY[::-1]

    def script(request: Request) -> Reply:
        number = len(fault_server.requests)
        return SLOW if number <= 2 else Reply(body=other, etag='"v2"', pace=PACE)

    url = fault_server.serve("/x", script)
    with getm.Session() as session:
        session.download(url, tmp_path / "x", concurrency="auto")
    assert (tmp_path / "x").read_bytes() == other


def test_a_closed_reader_ends_all_connections(fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", SLOW)
    with getm.Session() as session:
        fh = session.urlopen(url, concurrency="auto")
        # Nobody reads: there are as many as the first slots are enough for.
        fault_server.wait_for_requests(3)
        fh.close()
        for request in fault_server.requests:
            assert request.wait_ended() in ("client left", "sent")


def test_a_resumed_file_gets_more_connections_too(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", Reply(body=BODY, pace=PACE, cut_at=2 * MIB), failure(404))
    with getm.Session(retries=0) as session:
        with pytest.raises(getm.NetworkError):
            session.download(url, tmp_path / "x", concurrency="auto")
        fault_server.serve("/x", SLOW)
        seen = len(fault_server.requests)
        result = session.download(url, tmp_path / "x", concurrency="auto")
    assert (tmp_path / "x").read_bytes() == BODY
    assert result.stats.received_bytes < len(BODY)
    assert result.stats.connections > 1
    assert all(request.header("Range") for request in fault_server.requests[seen:])


# The pieces -----------------------------------------------------------------------------------------------------------


def test_pieces_are_taken_in_order_and_put_back() -> None:
    pieces = Pieces([Span(0, 10), Span(20, 25)], 4)
    assert pieces.left == 15
    assert pieces.take(whole=False) == Span(0, 4)
    part = pieces.take(whole=False)
    assert part == Span(4, 8)
    pieces.put_back(Span(4, 8))
    assert pieces.left == 11
    assert pieces.take(whole=True) == Span(4, 10)
    assert [pieces.take(whole=False) for _ in range(3)] == [Span(20, 24), Span(24, 25), None]
