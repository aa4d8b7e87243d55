"""Reading at any position: what comes is what a file would give, what is requested, and what happens where the server
cannot, or the object is replaced."""

from __future__ import annotations

import gc
import io
import os
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import getm
from getm.client.engines import ProcessEngine
from getm.client.read_ahead import MIN_BYTES, TAIL_BYTES
from getm.core.units import KIB, MIB
from getm.testing import FaultServer, Pace, Reply, Request, failure, redirect
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject
from tests.support.request_log import LoggedRequest

Make = Callable[[int], ServedObject]
SIZE = 3 * MIB + 12345


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session()


@pytest.fixture
def served(make_object: Make) -> ServedObject:
    return make_object(SIZE)


def fetched(requests: list[LoggedRequest]) -> int:
    return sum(each.body_bytes for each in requests)


# As a file -----------------------------------------------------------------------------------------------------------

_sizes = st.one_of(st.integers(0, 300), st.integers(0, SIZE + 5), st.just(-1), st.integers(60_000, 70_000))
_positions = st.one_of(st.integers(0, SIZE + 1000), st.integers(0, 200_000), st.integers(SIZE - 200_000, SIZE))
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("seek"), _positions),
        st.tuples(st.just("move"), st.integers(-100_000, 400_000)),
        st.tuples(st.just("from end"), st.integers(0, SIZE)),
        st.tuples(st.just("read"), _sizes),
        st.tuples(st.just("readinto"), st.integers(0, 200_000)),
        st.tuples(st.just("readline"), st.integers(-1, 200_000)),
    ),
    max_size=25,
)


def run(file: Any, steps: list[tuple[str, int]], *, lines: bool) -> list[tuple[object, int]]:
    """What each step gives, and the position after it. A `readinto` that may be short is repeated until it is full."""
    found: list[tuple[object, int]] = []
    for what, number in steps:
        result: object = None
        if what == "seek":
            result = file.seek(number)
        elif what == "move":
            result = file.seek(max(-file.tell(), number), io.SEEK_CUR)
        elif what == "from end":
            result = file.seek(-number, io.SEEK_END)
        elif what == "read":
            result = file.read(number)
        elif what == "readinto":
            buffer, filled = bytearray(number), 0
            while filled < number and (count := file.readinto(memoryview(buffer)[filled:])):
                filled += count
            result = bytes(buffer[:filled])
        elif lines:
            result = file.readline(number)
        found.append((result, file.tell()))
    return found


@pytest.mark.parametrize("concurrency", [1, 3, None])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_steps)
def test_any_steps_on_a_reader_are_those_on_a_file(
    session: getm.Session, nginx: NginxServer, served: ServedObject, concurrency: int | None, steps: Any
) -> None:
    expected = run(io.BytesIO(served.read()), steps, lines=False)
    with session.urlopen(nginx.url(served), concurrency=concurrency) as fh:
        found = run(fh, steps, lines=False)
    # Views that were given out first are looked at last: nothing has overwritten them.
    assert found == expected


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_steps)
def test_any_steps_on_an_opened_file_are_those_on_a_file(
    session: getm.Session, nginx: NginxServer, served: ServedObject, steps: Any
) -> None:
    expected = run(io.BytesIO(served.read()), steps, lines=True)
    with session.open(nginx.url(served)) as fh:
        assert run(fh, steps, lines=True) == expected


def test_positions_that_a_file_refuses_are_refused(
    session: getm.Session, nginx: NginxServer, served: ServedObject
) -> None:
    with session.urlopen(nginx.url(served)) as fh:
        wrong: list[tuple[Any, ...]] = [(-1,), (-1, io.SEEK_CUR), (-SIZE - 1, io.SEEK_END), (0, 3)]
        for arguments in wrong:
            with pytest.raises(getm.InvalidInput):
                fh.seek(*arguments)
        for other in ("0", 1.5, None):
            with pytest.raises(TypeError):
                fh.seek(other)  # type: ignore[arg-type]  # what is to be refused
        assert fh.tell() == 0 and fh.seekable() and fh.mode == "rb"
    calls: list[Callable[[], object]] = [lambda: fh.seek(0), fh.seekable, fh.tell]
    for call in calls:
        with pytest.raises(getm.ReaderClosed):
            call()


def test_sizes_are_plain_integers_whatever_was_given(
    session: getm.Session, nginx: NginxServer, served: ServedObject
) -> None:
    """A NumPy integer would become the position, and the engine takes no such span; a float takes no byte."""
    content = served.read()
    # They are ints to NumPy's users, and not to checkers of types.
    sizes: list[tuple[int, Any]] = [(2 * MIB, np.int64(500_000)), (MIB, np.int32(700_000)), (5, np.uint8(200))]
    few: Any = np.int16(10)
    chunk_size: Any = np.int64(100_000)
    wrong: list[Any] = [2.5, "5", np.float64(4), np.bool_(True)]
    for opens in (session.open, session.urlopen):
        with opens(nginx.url(served)) as fh:
            for other in wrong:
                with pytest.raises(TypeError):
                    fh.read(other)
            assert fh.tell() == 0
            for position, size in sizes:
                fh.seek(position)
                assert fh.read(size) == content[position : position + int(size)]
                assert type(fh.tell()) is int
                assert fh.read(few) == content[position + int(size) :][:10]
    with session.iter_content(nginx.url(served), chunk_size) as parts:
        assert b"".join(map(bytes, parts)) == content


def test_all_of_it_at_once_is_held_once(session: getm.Session, nginx: NginxServer, make_object: Make) -> None:
    served = make_object(64 * MIB)
    for opens in (session.open, session.urlopen):
        tracemalloc.start()
        with opens(nginx.url(served)) as fh:
            fh.seek(100)
            found = fh.read() if isinstance(fh, io.BufferedReader) else fh.readall()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found == served.read()[100:]
        assert peak < 1.2 * served.size_bytes + MIB


# What is requested ----------------------------------------------------------------------------------------------------


def test_a_plain_stream_is_one_request_and_verified(
    session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(20 * MIB)
    mark = nginx.log.mark()
    with session.urlopen(nginx.declared_url(served, etag="v1", goog_hash=f"crc32c={served.crc32c_base64}")) as fh:
        magic = fh.read(4)
        # A look at its start costs nothing.
        fh.seek(0)
        assert fh.read(4) == magic == served.read()[:4]
        fh.seek(100, io.SEEK_CUR)
        fh.seek(4)
        assert bytes(fh.read()) == served.read()[4:]
        assert fh.checksum.verified
    [request] = nginx.log.since(mark)
    assert (request.status, request.range) == (200, "")


def test_a_file_read_in_order_is_a_stream_of_growing_requests_and_verified(
    session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(20 * MIB)
    mark = nginx.log.mark()
    with session.open(nginx.declared_url(served, etag="v1", goog_hash=f"crc32c={served.crc32c_base64}")) as fh:
        parts = []
        while part := fh.read(100_000):
            parts.append(part)
        assert b"".join(parts) == served.read()
        raw: Any = fh.raw
        assert raw.checksum.verified and raw.size == served.size_bytes and raw.stats.requests <= 9
    requests = nginx.log.since(mark)
    assert fetched(requests) == served.size_bytes
    assert requests[0].range == f"bytes=0-{MIN_BYTES - 1}" and not any(each.range.endswith("-") for each in requests)


def test_scattered_reads_fetch_what_is_asked_for_and_little_more(
    session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(20 * MIB)
    content = served.read()
    mark = nginx.log.mark()
    with session.open(nginx.url(served)) as fh:
        for position in range(19 * MIB, MIB, -MIB):
            for start, length in ((position, 64 * KIB), (position - MIB // 2, 300_000)):
                fh.seek(start)
                assert fh.read(length) == content[start : start + length]
    requests = nginx.log.since(mark)
    assert len(requests) == 1 + 2 * 18 and fetched(requests) == MIN_BYTES + 18 * (64 * KIB + 300_000)
    # No response was given up, which takes its connection with it. (One may not be free again in time.)
    assert len({each.connection for each in requests}) <= 2
    etag = {each.if_range for each in requests[1:]}
    assert len(etag) == 1 and etag.pop().startswith('"')


def test_a_seek_within_what_is_here_costs_nothing(session: getm.Session, nginx: NginxServer, make_object: Make) -> None:
    served = make_object(20 * MIB)
    content = served.read()
    with session.urlopen(nginx.url(served)) as fh:
        fh.seek(-10, io.SEEK_END)
        assert fh.read() == content[-10:]
        mark = nginx.log.mark()
        for position in (-TAIL_BYTES, -50_000, -500, -TAIL_BYTES + 1):
            fh.seek(position, io.SEEK_END)
            assert fh.read(100) == content[position : position + 100]
        fh.seek(10 * SIZE)
        assert not fh.read(10) and fh.readinto(bytearray(5)) == 0 and not fh.read()
        assert nginx.log.since(mark) == []


def test_held_views_never_change(session: getm.Session, nginx: NginxServer, make_object: Make) -> None:
    served = make_object(20 * MIB)
    content = served.read()
    held = []
    with session.urlopen(nginx.url(served)) as fh:
        for position in range(0, 19 * MIB, 3 * MIB):
            fh.seek(position)
            held.append((position, fh.read(200_000)))
        for position in range(19 * MIB, 0, -MIB):
            fh.seek(position)
            fh.read(300_000)
    gc.collect()
    assert all(view == content[position : position + 200_000] for position, view in held)


def test_what_was_read_in_parts_says_that_nothing_verified_it(
    session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(20 * MIB)
    url = nginx.declared_url(served, etag="v1", goog_hash=f"crc32c={served.crc32c_base64}")
    with session.urlopen(url) as fh:
        fh.seek(10 * MIB)
        fh.read(100)
        fh.seek(0)
        assert bytes(fh.read()) == served.read()
        assert not fh.checksum.verified and "after a seek" in str(fh.checksum)
        assert fh.stats.requests >= 2 and fh.stats.received_bytes >= served.size_bytes
    with session.urlopen(url, strict=True) as fh:
        assert not fh.seekable()
        fh.seek(10 * MIB)
        assert bytes(fh.read()) == served.read()[10 * MIB :] and fh.checksum.verified
        with pytest.raises(getm.NotSeekable, match="strict"):
            fh.seek(0)


def test_spans_are_requested_where_redirects_have_led(
    session: getm.Session, nginx: NginxServer, served: ServedObject
) -> None:
    url = nginx.url(f"/redirect/absolute{served.url_path}")
    mark = nginx.log.mark()
    with session.open(url, headers={"Authorization": "secret"}) as fh:
        for position in (2 * MIB, MIB):
            fh.seek(position)
            assert fh.read(1000) == served.read()[position : position + 1000]
    assert [each.status for each in nginx.log.since(mark)] == [302, 206, 206, 206]
    assert {each.authorization for each in nginx.log.since(mark)} == {"secret"}


# What goes wrong ------------------------------------------------------------------------------------------------------

BODY = os.urandom(2 * MIB)
OTHER = os.urandom(2 * MIB)


@pytest.mark.parametrize("reply", [Reply(body=OTHER, etag='"v2"'), Reply(body=BODY, etag='"v2"', status=412)])
@pytest.mark.parametrize("opens", ["urlopen", "open"])
def test_a_replaced_object_is_noticed_and_never_mixed(
    session: getm.Session, fault_server: FaultServer, opens: str, reply: Reply
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY), reply)
    with getattr(session, opens)(url) as fh:
        length = 100 if opens == "open" else len(BODY)
        assert fh.read(length) == BODY[:length]
        for position in (MIB, 500_000):
            fh.seek(position)
            with pytest.raises(getm.RemoteChanged):
                fh.read(100_000)


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(body=BODY, ranges=False), "does not grant range requests"),
        (Reply(body=BODY, etag='W/"weak"', last_modified=None), "no strong validator"),
        (Reply(body=BODY, etag=None, last_modified=None), "no strong validator"),
        (Reply(body=BODY, framing="chunked", ranges=False), "does not say how long"),
    ],
)
@pytest.mark.parametrize("opens", ["urlopen", "open"])
def test_where_the_server_cannot_a_seek_forward_reads_on_and_others_say_what_to_do(
    session: getm.Session, fault_server: FaultServer, opens: str, reply: Reply, why: str
) -> None:
    url = fault_server.serve("/x", reply)
    with getattr(session, opens)(url) as fh:
        assert not fh.seekable()
        assert fh.read(100) == BODY[:100]
        assert fh.seek(100, 1) == 200 and bytes(fh.read(100)) == BODY[200:300]
        assert fh.seek(MIB) == MIB and bytes(fh.read(100)) == BODY[MIB : MIB + 100]
        size = getattr(fh, "raw", fh).size
        for offset, whence in ((0, 0), (-200_000, 1), *([(-5, 2)] if size is None else [])):
            with pytest.raises(getm.NotSeekable, match=r"download it to a file|read all of it"):
                fh.seek(offset, whence)
        with pytest.raises(io.UnsupportedOperation, match=r"byte|end"):
            fh.seek(0, 0) if size else fh.seek(0, 2)
        with pytest.raises(getm.NotSeekable, match=why):
            fh.seek(0)
        assert fh.tell() == MIB + 100 and bytes(fh.read()) == BODY[MIB + 100 :]
        # A buffer reads on as far as there is anything.
        assert fh.seek(5 * MIB) == fh.tell() == (5 * MIB if opens == "urlopen" else len(BODY))
        assert fh.read(1) == b""
    assert len(fault_server.requests) <= 2


@pytest.mark.parametrize(
    "slow",
    [
        Reply(body=BODY, delay_s=0.3),
        Reply(body=BODY, pace=Pace(20_000, 0.1)),
        Reply(body=BODY, headers={"X-Long": "x" * 20_000}),
        Reply(body=BODY, headers={"Content-Length": None}, framing="chunked"),
        redirect("/y"),
    ],
)
def test_a_small_span_that_comes_otherwise_is_requested_once(
    session: getm.Session, fault_server: FaultServer, slow: Reply
) -> None:
    fault_server.serve("/y", Reply(body=BODY))
    url = fault_server.serve("/x", Reply(body=BODY), slow)
    with session.open(url) as fh:
        for position in (500_000, MIB, 700_000):
            fh.seek(position)
            assert fh.read(60_000) == BODY[position : position + 60_000]
    asked = [each.header("Range") for each in fault_server.requests if each.path == "/x"]
    assert asked[1:] == [f"bytes={position}-{position + 65535}" for position in (500_000, MIB, 700_000)]


def test_a_span_that_breaks_off_is_resumed(session: getm.Session, fault_server: FaultServer) -> None:
    cut = Reply(body=BODY, cut_at=100_000, then="reset")
    url = fault_server.serve("/x", Reply(body=BODY), cut, cut, Reply(body=BODY))
    with session.open(url) as fh:
        fh.seek(500_000)
        assert fh.read(600_000) == BODY[500_000:1_100_000]
    assert len(fault_server.requests) == 4


def test_a_server_that_stops_granting_ranges_is_an_error_that_says_what_to_do(
    session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY), Reply(body=BODY, ranges=False))
    with session.open(url) as fh:
        fh.seek(500_000)
        with pytest.raises(getm.NetworkError):
            fh.read(100)


def test_closing_ends_a_read_that_waits_after_a_seek(session: getm.Session, fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=BODY), Reply(body=BODY, hold=gate))
    with session.urlopen(url) as fh:
        fh.read()
        fh.seek(10)
        raised: list[BaseException] = []

        def read() -> None:
            try:
                fh.read(5)
            except getm.GetmError as error:
                raised.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        gate.wait_reached()
        with pytest.raises(getm.ReaderBusy):
            fh.seek(0)
        fh.close()
        thread.join()
        gate.open()
    assert [type(error) for error in raised] == [getm.ReaderClosed]


def test_an_engine_that_has_ended_idle_is_replaced(nginx: NginxServer, served: ServedObject) -> None:
    with getm.Session() as session, session.open(nginx.url(served)) as fh:
        fh.seek(MIB)
        assert fh.read(100) == served.read()[MIB : MIB + 100]
        for number, position in enumerate((2 * MIB, MIB + 100)):
            [engine] = session._pool._engines
            engine.tell_to_stop()
            engine.stop()
            fh.seek(position)
            assert fh.read(200_000) == served.read()[position : position + 200_000], number


def test_views_that_keep_all_slots_are_an_error_and_not_a_wait(
    session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    served, held = make_object(20 * MIB), []
    content = served.read()
    with session.urlopen(nginx.url(served)) as fh:
        with pytest.raises(getm.SlotsExhausted, match="drop views"):
            for position in range(19 * MIB, 0, -MIB):
                fh.seek(position)
                held.append(fh.read(100_000))
        assert len(held) > 10
        held.clear()
        fh.seek(MIB)
        assert fh.read(100_000) == content[MIB : MIB + 100_000]


def test_an_engine_that_is_killed_within_a_span_is_an_error(fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=BODY), Reply(body=BODY, stall_at=1000, gate=gate))
    with getm.Session() as session, session.open(url) as fh:
        [engine] = session._pool._engines
        assert isinstance(engine, ProcessEngine)
        process = engine.process

        def kill() -> None:
            gate.wait_reached()
            process.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        fh.seek(MIB)
        with pytest.raises(getm.EngineDied):
            fh.read(100_000)
        thread.join()
        gate.open()


def test_statistics_count_what_has_come_of_a_span(session: getm.Session, fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=BODY), Reply(body=BODY), Reply(body=BODY, stall_at=120_000, gate=gate))
    with session.open(url) as fh:
        raw: Any = fh.raw
        raw.seek(MIB)
        for start in (MIB, MIB + 100_000):
            assert bytes(raw.read(100_000)) == BODY[start : start + 100_000]
        # The span that brings the second 100,000 has more, which does not come.
        gate.wait_reached()
        assert raw.stats.received_bytes >= 200_000
    assert raw.stats.received_bytes >= 200_000
    gate.open()


def test_every_reader_of_a_batch_seeks_on_its_own(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(20 * MIB)
    content, wrong = served.read(), []

    def work(session: getm.Session, number: int) -> None:
        with session.open(nginx.url(served)) as fh:
            for position in range(number * 1000, 19 * MIB, 3 * MIB):
                fh.seek(position)
                if fh.read(150_000) != content[position : position + 150_000]:
                    wrong.append((number, position))

    with getm.Session(max_memory=4 * MIB) as session:
        threads = [threading.Thread(target=work, args=(session, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.parametrize("size", [0, 1, MIN_BYTES - 1, MIN_BYTES, MIN_BYTES + 1, 3 * MIN_BYTES])
@pytest.mark.parametrize("via", ["", "no-ranges", "chunked", "gzip"])
def test_any_size_is_read_and_sought_in_where_that_is_possible(
    session: getm.Session, nginx: NginxServer, make_object: Make, size: int, via: str
) -> None:
    served = make_object(size)
    content = served.read()
    with session.open(nginx.url(served, via=via)) as fh:
        assert fh.read(10) == content[:10]
        assert fh.read() == content[10:] and fh.read() == b"" and fh.tell() == size
        if fh.seekable():
            for position in (0, size // 2, size, size + 5):
                assert fh.seek(position) == position and fh.read() == content[position:]
            assert fh.seek(0, io.SEEK_END) == size
        assert fh.seekable() or via != ""


def test_spans_come_from_the_mirror_that_has_answered(
    session: getm.Session, nginx: NginxServer, served: ServedObject
) -> None:
    missing, content = nginx.url("/objects/missing"), served.read()
    mark = nginx.log.mark()
    with session.open(missing, mirrors=[nginx.url(served, via="redirect/absolute")]) as fh:
        for position in (2 * MIB, MIB):
            fh.seek(position)
            assert fh.read(1000) == content[position : position + 1000]
    # Validators are those of one server: the first one is not asked again.
    assert [each.status for each in nginx.log.since(mark)] == [404, 302, 206, 206, 206]


def test_a_signed_address_that_expires_between_reads_is_asked_for_again(
    session: getm.Session, fault_server: FaultServer
) -> None:
    """Each read that finds it expired asks where the URL leads to now."""
    answered = []

    def target(request: Request) -> Reply:
        answered.append(request)
        return failure(403) if len(answered) > 3 and request.path == "/first" else Reply(body=BODY)

    first, second = fault_server.serve("/first", target), fault_server.serve("/second", target)
    url = fault_server.serve("/x", lambda request: redirect(second if len(answered) > 3 else first))
    with session.open(url) as fh:
        for position in (MIB, 10, 2 * MIB, 500_000, MIB + 77):
            fh.seek(position)
            assert fh.read(70_000) == BODY[position : position + 70_000]
