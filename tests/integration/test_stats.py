"""What a transfer tells of itself: the counts on every face, result and error, and the log of its retries."""

from __future__ import annotations

import asyncio
import logging
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import getm
from getm import errors
from getm.testing import FaultServer, Reply, Request, failure, redirect
from tests.support.engines import engines

MIB = 1024 * 1024
PART = 8 * MIB
BODY = random.Random(2).randbytes(2 * PART + 777)
SMALL = BODY[:100_000]
FAST = getm.Retries(3, base_s=0.001, cap_s=0.002)

each_mode = pytest.mark.parametrize("concurrency", (1, 3, None))


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=FAST)


async def exhaust(parts: getm.AsyncContentIterator | getm.AsyncUnorderedIterator) -> getm.Stats:
    async for _ in parts:
        pass
    return parts.stats


def by_reader(session: getm.Session, url: str, folder: Path) -> getm.Stats:
    with session.urlopen(url) as fh:
        fh.read()
        return fh.stats


def by_iterator(session: getm.Session, url: str, folder: Path) -> getm.Stats:
    parts = session.iter_content(url)
    list(parts)
    return parts.stats


def by_unordered_iterator(session: getm.Session, url: str, folder: Path) -> getm.Stats:
    parts = session.iter_content_unordered(url, concurrency=1)
    list(parts)
    return parts.stats


def by_async_iterator(session: getm.Session, url: str, folder: Path) -> getm.Stats:
    return asyncio.run(exhaust(session.aiter_content(url)))


def by_async_unordered_iterator(session: getm.Session, url: str, folder: Path) -> getm.Stats:
    return asyncio.run(exhaust(session.aiter_content_unordered(url, concurrency=1)))


def by_download(session: getm.Session, url: str, folder: Path) -> getm.Stats:
    return session.download(url, folder / "x").stats


def by_async_download(session: getm.Session, url: str, folder: Path) -> getm.Stats:
    return asyncio.run(session.adownload(url, folder / "x")).stats


# On every face -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "face",
    [
        by_reader,
        by_iterator,
        by_unordered_iterator,
        by_async_iterator,
        by_async_unordered_iterator,
        by_download,
        by_async_download,
    ],
)
def test_every_face_tells_what_it_took(
    face: Callable[[getm.Session, str, Path], getm.Stats],
    session: getm.Session,
    fault_server: FaultServer,
    tmp_path: Path,
) -> None:
    # A status, a cut, and the rest: three requests, the last of them on the connection of the second one no more.
    url = fault_server.serve("/x", failure(503), Reply(body=SMALL, cut_at=70_000), Reply(body=SMALL))
    stats = face(session, url, tmp_path)
    assert (stats.received_bytes, stats.requests, stats.stalls) == (len(SMALL), 3, 0)
    assert stats.retries == {"status": 1, "truncation": 1}
    assert stats.connections == fault_server.connections == 2
    assert stats.first_byte_s is not None and 0 < stats.first_byte_s <= stats.seconds
    assert stats.throughput == stats.received_bytes / stats.seconds


@pytest.mark.parametrize("concurrency", (1, None))
def test_the_time_of_a_small_object_is_never_zero(
    session: getm.Session, fault_server: FaultServer, concurrency: int | None
) -> None:
    """It takes less than a millisecond, which is what the event loop's clock counts in."""
    url = fault_server.serve("/small", Reply(body=b"data"))
    for _ in range(50):
        with session.urlopen(url, concurrency=concurrency) as fh:
            fh.read()
        assert fh.stats.first_byte_s is not None
        assert 0 < fh.stats.first_byte_s < fh.stats.seconds and fh.stats.throughput > 0


@each_mode
def test_connections_that_were_kept_are_not_counted_again(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    fault_server.serve("/there", Reply(body=BODY))
    url = fault_server.serve("/x", redirect("/there"))
    counted = []
    for _ in range(2):
        with session.urlopen(url, concurrency=concurrency) as fh:
            assert fh.read() == BODY
            counted.append(fh.stats)
    first, second = counted
    assert 1 <= first.connections == fault_server.connections <= 3
    assert second.connections == 0
    # A redirect is no request of its own here; a range is.
    assert first.requests == second.requests == (3 if concurrency == 3 else 1)


def test_connections_over_tls_are_counted(tls_fault_server: FaultServer, ca_path: Path) -> None:
    url = tls_fault_server.serve("/x", Reply(body=SMALL))
    with getm.Session(cacert=ca_path) as session:
        for connections in (1, 0):
            with session.urlopen(url) as fh:
                fh.read()
                assert fh.stats.connections == connections


def test_helper_engines_count_for_the_whole(fault_server: FaultServer) -> None:
    cut: set[str] = set()

    def script(request: Request) -> Reply:
        """Each part breaks off once."""
        asked = request.header("Range") or ""
        again = asked in cut or not asked.split("=")[1].split("-")[0].isdigit() or int(asked[6:].split("-")[0]) % PART
        cut.add(asked)
        return Reply(body=BODY, cut_at=None if again else 300)

    url = fault_server.serve("/x", script)
    with getm.Session(processes=2, retries=FAST) as session, session.urlopen(url, concurrency=3) as fh:
        assert fh.read() == BODY
        stats = fh.stats
    assert stats.received_bytes == len(BODY)
    assert stats.retries == {"truncation": 3}
    assert stats.requests == len(fault_server.requests) == 6
    assert stats.connections == fault_server.connections


def test_until_the_end_only_what_is_here_is_known(session: getm.Session, fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=BODY, stall_at=MIB, gate=gate))
    fh = session.urlopen(url)
    fh.read(MIB)
    assert (fh.stats.received_bytes, fh.stats.requests, fh.stats.retries) == (MIB, 0, {})
    fh.close()
    closed = fh.stats
    assert closed.received_bytes == MIB and fh.stats == closed
    gate.open()


# On errors -----------------------------------------------------------------------------------------------------------


@each_mode
def test_an_error_tells_what_was_done_before_it(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=SMALL, cut_at=1000), Reply(body=SMALL, cut_at=0))
    with pytest.raises(errors.Truncated) as caught:
        session.read(url, concurrency=concurrency)
    stats = caught.value.stats
    assert stats is not None
    assert (stats.received_bytes, stats.retries) == (1000, {"truncation": 3})
    assert stats.requests == caught.value.attempts == len(fault_server.requests) == 4
    assert pickle.loads(pickle.dumps(caught.value)).stats == stats


def test_the_requests_of_helper_engines_are_told_in_the_error(fault_server: FaultServer) -> None:
    gate = fault_server.gate()

    def script(request: Request) -> Reply:
        start = int((request.header("Range") or "bytes=1-")[6:].split("-")[0])
        # The first part never ends: its worker at the lead asks for nothing else.
        return Reply(body=BODY, stall_at=MIB, gate=gate) if start == 0 else failure(503)

    url = fault_server.serve("/x", script)
    retries = getm.Retries(2, base_s=0.0)
    with getm.Session(processes=3, retries=retries) as session, pytest.raises(errors.HTTPStatusError) as caught:
        session.read(url, concurrency=2)
    assert caught.value.stats is not None
    gate.open()
    # The first part, the second one three times, and whether the whole is granted.
    assert caught.value.attempts == caught.value.stats.requests == 5
    assert "after 5 requests" in str(caught.value)


def test_stalls_are_counted_though_the_last_is_no_retry(fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=SMALL, stall_at=10, gate=gate))
    with (
        getm.Session(timeout=getm.Timeout(connect_s=5, stall_s=0.05), retries=1) as session,
        pytest.raises(errors.TimedOut) as caught,
    ):
        session.read(url)
    gate.open()
    assert caught.value.stats is not None
    assert (caught.value.stats.stalls, caught.value.stats.retries) == (2, {"stall": 1})


def test_a_dead_engine_leaves_what_is_known_here(fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=BODY, stall_at=MIB, gate=gate))
    with getm.Session() as session:
        fh = session.urlopen(url)
        fh.read(MIB)
        (engine,) = engines()
        engine.kill()
        with pytest.raises(errors.EngineDied) as caught:
            fh.read(1)
    gate.open()
    assert caught.value.stats is not None and caught.value.stats.received_bytes == MIB


# In the log ----------------------------------------------------------------------------------------------------------


@each_mode
def test_retries_are_logged_in_the_callers_process(
    concurrency: int | None, session: getm.Session, fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = fault_server.serve("/x", failure(503), Reply(body=SMALL, cut_at=70_000), Reply(body=SMALL))
    with caplog.at_level(logging.INFO, "getm"):
        session.read(f"{url}?X-Amz-Signature=secret", concurrency=concurrency)
    told = [(record.name, record.levelno, record.getMessage()) for record in caplog.records]
    assert [(name, level) for name, level, _ in told] == [("getm", logging.INFO)] * 2
    assert told[0][2].startswith(f"retry 1 of {url} in 0.0 s (status): 503")
    assert told[1][2].startswith(f"retry 1 of {url} in 0.0 s (truncation): the con")
    assert "secret" not in caplog.text


def test_retries_are_logged_by_the_asynchronous_face(
    session: getm.Session, fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = fault_server.serve("/x", Reply(body=SMALL, cut_at=70_000), Reply(body=SMALL))
    with caplog.at_level(logging.INFO, "getm"):
        asyncio.run(exhaust(session.aiter_content(url)))
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_retries_of_helper_engines_are_logged(fault_server: FaultServer, caplog: pytest.LogCaptureFixture) -> None:
    second = iter([failure(503), failure(429)])

    def script(request: Request) -> Reply:
        start = int((request.header("Range") or "")[6:].split("-")[0])
        return Reply(body=BODY) if start != PART else next(second, Reply(body=BODY))

    url = fault_server.serve("/x", script)
    with caplog.at_level(logging.INFO, "getm"), getm.Session(processes=2, retries=FAST) as session:
        assert session.read(url, concurrency=2) == BODY
    assert [record.getMessage().split("(")[1].split(")")[0] for record in caplog.records] == ["status", "status"]


def test_nothing_is_printed_unless_the_program_asks(fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", failure(503), Reply(body=SMALL))
    program = f"import getm; getm.read({url!r}, retries=getm.Retries(1, base_s=0.0))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert (ran.stdout, ran.stderr) == (b"", b"")


# How often, and how long ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retries", (1, getm.Retries(1, base_s=0.0)))
def test_a_call_has_retries_of_its_own(retries: int | getm.Retries, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", failure(503))
    with getm.Session(retries=getm.Retries(50, base_s=0.0)) as session:
        with pytest.raises(errors.HTTPStatusError) as caught:
            session.read(url, retries=retries)
        assert caught.value.attempts == 2
        with pytest.raises(errors.InvalidInput, match="retries"):
            session.read(url, retries=-1)


@each_mode
def test_row_19_503_for_ever_ends_before_the_deadline_with_the_attempts_told(
    concurrency: int | None, fault_server: FaultServer
) -> None:
    """The third attempt would have to wait for ten minutes, the whole may take five: nothing is waited for."""
    url = fault_server.serve("/x", failure(503), failure(503, retry_after="600"))
    with (
        getm.Session(timeout=getm.Timeout(total_s=300), retries=getm.Retries(9, base_s=0.0, cap_s=1000)) as session,
        pytest.raises(errors.HTTPStatusError, match=r"503.*limit of 300 s.*after 2 requests") as caught,
    ):
        session.read(url, concurrency=concurrency)
    assert caught.value.attempts == len(fault_server.requests) == 2


def test_row_19_a_helper_engine_knows_the_deadline_of_the_whole(fault_server: FaultServer) -> None:
    def script(request: Request) -> Reply:
        return Reply(body=BODY) if (request.header("Range") or "").startswith("bytes=0-") else failure(503)

    url = fault_server.serve("/x", script)
    retries = getm.Retries(9, base_s=1e6, cap_s=1e6)
    with (
        getm.Session(timeout=getm.Timeout(total_s=300), retries=retries, processes=3) as session,
        pytest.raises(errors.HTTPStatusError, match="for the whole"),
    ):
        session.read(url, concurrency=2)
