"""Many downloads at once: every file compared, and what happens when things go wrong between them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import getm
from getm import errors
from getm.client.connection import ClientConnection
from getm.client.engines import ProcessEngine
from getm.testing import FaultServer, Gate, Pace, Reply, Request, failure, redirect
from tests.support.command import names
from tests.support.engines import engines
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

Make = Callable[..., ServedObject]
MIB = 1024 * 1024
SIZES = (0, 1, 16384, MIB - 1, MIB, MIB + 1, 5 * MIB + 77)


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=1)


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in visible(folder))


def entries(nginx: NginxServer, objects: list[ServedObject]) -> list[getm.Entry]:
    return [getm.Entry(nginx.url(served), f"{number}.bin") for number, served in enumerate(objects)]


@pytest.mark.parametrize(("concurrency", "processes"), [(1, 1), (4, 1), (4, 2), (1, 2), (None, 1)])
def test_every_file_is_right(
    tmp_path: Path, nginx: NginxServer, make_object: Make, concurrency: int | None, processes: int
) -> None:
    objects = [make_object(size, seed) for size in SIZES for seed in range(3)]
    with getm.Session(processes=processes) as session:
        results = list(
            session.download_all(entries(nginx, objects), jobs=5, directory=tmp_path, concurrency=concurrency)
        )
    for result in results:
        assert isinstance(result, getm.DownloadResult)
        assert result.path == tmp_path / f"{result.index}.bin"
        assert (result.size, result.path.read_bytes()) == (
            objects[result.index].size_bytes,
            objects[result.index].read(),
        )
    assert sorted(result.index for result in results) == list(range(len(objects)))
    assert names(tmp_path) == sorted(f"{number}.bin" for number in range(len(objects)))


async def test_asynchronously(tmp_path: Path, session: getm.Session, nginx: NginxServer, make_object: Make) -> None:
    objects = [make_object(size) for size in SIZES]
    found = {}
    async for result in session.adownload_all(entries(nginx, objects), jobs=3, directory=tmp_path):
        assert isinstance(result, getm.DownloadResult)
        found[result.index] = result.path.read_bytes()
    assert found == {number: served.read() for number, served in enumerate(objects)}


def test_small_files_come_first(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=b"x"))
    listed = [getm.Entry(f"{url}?0", "large", size=10**9), getm.Entry(f"{url}?1", "small", size=1)]
    with contextlib.suppress(errors.GetmError):
        list(session.download_all(listed, jobs=1, directory=tmp_path))
    assert [request.target for request in fault_server.requests] == [b"/x?1", b"/x?0"]


async def test_a_failure_ends_the_rest(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    gate, held = fault_server.gate(), fault_server.gate()
    waiting = fault_server.serve("/waiting", Reply(body=bytes(3 * MIB), stall_at=2 * MIB, gate=gate))
    missing = fault_server.serve("/missing", Reply(hold=held, status=404))

    async def fail() -> None:
        await asyncio.to_thread(gate.wait_reached)
        held.open()

    failing = asyncio.create_task(fail())
    with pytest.raises(getm.HTTPStatusError) as caught:
        async for _ in session.adownload_all([waiting, missing, "http://127.0.0.1:9/"], jobs=2, directory=tmp_path):
            pass
    await failing
    gate.open()
    assert caught.value.status == 404
    assert visible(tmp_path) == []


def test_going_on_after_failures(tmp_path: Path, session: getm.Session, nginx: NginxServer, make_object: Make) -> None:
    served = make_object(16384)
    listed = [getm.Entry(nginx.url("/missing"), "a"), getm.Entry(nginx.url(served), "b")]
    results = list(session.download_all(listed, directory=tmp_path, continue_after_error=True))
    by_index = {result.index: result for result in results}
    failed, done = by_index[0], by_index[1]
    assert isinstance(failed, getm.DownloadFailure)
    assert isinstance(failed.error, getm.HTTPStatusError) and failed.path == tmp_path / "a"
    assert isinstance(done, getm.DownloadResult) and done.path.read_bytes() == served.read()


def test_leaving_the_loop_stops_and_keeps(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    body = os.urandom(4 * MIB)
    gate = fault_server.gate()
    url = fault_server.serve("/large", Reply(body=body, stall_at=3 * MIB, gate=gate), Reply(body=body))
    quick = fault_server.serve("/quick", Reply(body=b"quick"))
    listed = [getm.Entry(url, "large"), getm.Entry(quick, "quick")]
    results = session.download_all(listed, jobs=2, directory=tmp_path)
    next(results)
    gate.wait_reached()
    results.close()  # type: ignore[attr-defined]
    gate.open()
    assert visible(tmp_path) == ["quick"]
    session.download(url, tmp_path / "large")
    assert (tmp_path / "large").read_bytes() == body
    assert hidden(tmp_path) == []


# Resume --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 3, None])
def test_a_second_run_fetches_what_is_missing(
    tmp_path: Path, fault_server: FaultServer, concurrency: int | None
) -> None:
    body = os.urandom(20 * MIB + 5)
    broken = Reply(body=body, cut_at=3 * MIB)
    url = fault_server.serve("/x", *[broken] * 9, Reply(body=body))
    with getm.Session(retries=0) as session:
        with pytest.raises(getm.NetworkError):
            session.download(url, tmp_path / "x", concurrency=concurrency)
        assert visible(tmp_path) == []
        # By another URL: a request of the first download may reach the server only now.
        later = fault_server.serve("/later", Reply(body=body))
        result = session.download(later, tmp_path / "x", concurrency=concurrency)
    assert result.path.read_bytes() == body
    assert names(tmp_path) == ["x"]
    again = [request for request in fault_server.requests if request.path == "/later"]
    assert again and all(request.header("If-Range") == '"v1"' for request in again)
    for request in again:
        request.wait_ended()
    assert sum(request.sent_bytes for request in again) <= len(body) - 2 * MIB


@pytest.mark.parametrize(("concurrency", "processes"), [(1, 1), (3, 2)])
def test_a_name_by_the_server_is_resumed_as_well(
    tmp_path: Path, fault_server: FaultServer, concurrency: int, processes: int
) -> None:
    body = os.urandom(5 * MIB)
    named = {"Content-Disposition": 'attachment; filename="theirs.bin"'}
    url = fault_server.serve("/x", Reply(body=body, cut_at=3 * MIB, headers=named), Reply(body=body, headers=named))
    with getm.Session(retries=0, processes=processes) as session:
        with pytest.raises(getm.NetworkError):
            session.download(url, tmp_path, concurrency=concurrency)
        result = session.download(url, tmp_path, concurrency=concurrency)
    assert result.path == tmp_path / "theirs.bin"
    assert result.path.read_bytes() == body
    assert fault_server.requests[-1].header("Range") is not None


def test_a_name_by_the_url_is_asked_for_what_is_missing_at_once(tmp_path: Path, fault_server: FaultServer) -> None:
    body = os.urandom(5 * MIB)
    url = fault_server.serve("/x", Reply(body=body, cut_at=3 * MIB), Reply(body=body))
    with getm.Session(retries=0) as session:
        with pytest.raises(getm.NetworkError):
            session.download(url, tmp_path)
        session.download(url, tmp_path)
    assert (tmp_path / "x").read_bytes() == body
    first, second = fault_server.requests
    assert first.header("Range") is None and second.header("Range") is not None


def test_what_another_object_of_that_name_left_stays(tmp_path: Path, fault_server: FaultServer) -> None:
    """The URL's last part is the name of a partial file, and the server means another one."""
    body, other = os.urandom(5 * MIB), os.urandom(3 * MIB)
    url = fault_server.serve("/a/x", Reply(body=body, cut_at=3 * MIB), Reply(body=body))
    named = {"Content-Disposition": "filename=theirs"}
    theirs = fault_server.serve("/b/x", Reply(body=other, headers=named))
    with getm.Session(retries=0) as session:
        with pytest.raises(getm.NetworkError):
            session.download(url, tmp_path)
        assert session.download(theirs, tmp_path).path == tmp_path / "theirs"
        session.download(url, tmp_path)
    assert (tmp_path / "theirs").read_bytes() == other
    assert (tmp_path / "x").read_bytes() == body
    assert fault_server.requests[-1].header("Range") is not None
    assert names(tmp_path) == ["theirs", "x"]


def test_without_resume_all_is_fetched_again(tmp_path: Path, fault_server: FaultServer) -> None:
    body = os.urandom(5 * MIB)
    url = fault_server.serve("/x", Reply(body=body, cut_at=3 * MIB), Reply(body=body))
    with getm.Session(retries=0) as session:
        with pytest.raises(getm.NetworkError):
            session.download(url, tmp_path / "x", resume=False)
        assert names(tmp_path) == []
        session.download(url, tmp_path / "x", resume=False)
    assert fault_server.requests[-1].header("Range") is None


@pytest.mark.parametrize("change", ["etag", "size", "no validator"])
def test_row_46_another_version_is_fetched_whole(tmp_path: Path, fault_server: FaultServer, change: str) -> None:
    old, new = os.urandom(5 * MIB), os.urandom(5 * MIB if change != "size" else 4 * MIB)
    second = {
        "etag": Reply(body=new, etag='"v2"'),
        "size": Reply(body=new),
        "no validator": Reply(body=new, etag=None, last_modified=None),
    }[change]
    url = fault_server.serve("/x", Reply(body=old, cut_at=3 * MIB), second)
    with getm.Session(retries=0) as session:
        with pytest.raises(getm.NetworkError):
            session.download(url, tmp_path / "x")
        session.download(url, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == new
    assert names(tmp_path) == ["x"]


def test_row_10_an_object_replaced_midway_is_fetched_anew(
    tmp_path: Path, session: getm.Session, fault_server: FaultServer
) -> None:
    old, new = os.urandom(5 * MIB), os.urandom(5 * MIB)
    url = fault_server.serve("/x", Reply(body=old, cut_at=3 * MIB), Reply(body=new, etag='"v2"'))
    result = session.download(url, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == new
    # What the first attempt took counts, too, and that there was a second one is told.
    assert result.stats.retries == {"truncation": 1, "changed": 1}
    assert result.stats.requests == len(fault_server.requests) == 3
    assert result.stats.received_bytes == 3 * MIB + len(new)


@pytest.mark.parametrize("left_s", [0.0, 0.3])
def test_the_time_for_the_whole_is_that_of_all_attempts(
    left_s: float,
    tmp_path: Path,
    session: getm.Session,
    fault_server: FaultServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first attempt ends with its engine, when all of the time is over, or nearly all."""
    gates = [fault_server.gate(), fault_server.gate()]
    body = os.urandom(5 * MIB)
    # The second one may ask for the last bytes only.
    url = fault_server.serve("/x", Reply(body=body, stall_at=4 * MIB, gate=gates[0]), Reply(body=body, hold=gates[1]))
    began, late = time.monotonic(), False

    def clock() -> float:
        return began + (1000 - left_s if late else 0.0)

    def kill() -> None:
        nonlocal late
        gates[0].wait_reached()
        late = True
        for engine in engines():
            engine.kill()

    monkeypatch.setattr("getm.batch.job.time", SimpleNamespace(monotonic=clock))
    killing = threading.Thread(target=kill)
    killing.start()
    with pytest.raises(errors.TimedOut, match="longer than its 1000 s") as caught:
        session.download(url, tmp_path / "x", timeout=getm.Timeout(total_s=1000))
    killing.join()
    for gate in gates:
        gate.open()
    assert (caught.value.phase, caught.value.timeout_s) == ("total", 1000)
    assert caught.value.stats is not None and caught.value.stats.retries["engine-died"] == 1
    assert len(fault_server.requests) <= (2 if left_s else 1)


def test_row_6_everything_had_come(tmp_path: Path, fault_server: FaultServer) -> None:
    body = os.urandom(3 * MIB)
    url = fault_server.serve("/x", Reply(body=body, headers={"x-checksum-md5": "0" * 32}))
    with getm.Session(retries=0) as session:
        gate = fault_server.gate()
        fault_server.serve("/x", Reply(body=body, stall_at=2 * MIB, gate=gate, cut_at=3 * MIB - 1), Reply(body=body))
        gate.open()
        with pytest.raises(getm.NetworkError):
            session.download(url, tmp_path / "x")
        session.download(url, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == body


def test_row_46_a_tampered_partial_is_found_out(tmp_path: Path, fault_server: FaultServer) -> None:
    """The journal is right and the bytes are not: the declared checksum finds it, and all of it is fetched again."""
    body = os.urandom(5 * MIB)
    digest = {"x-checksum-sha256": hashlib.sha256(body).hexdigest()}
    url = fault_server.serve("/x", Reply(body=body, cut_at=3 * MIB, headers=digest), Reply(body=body, headers=digest))
    with getm.Session(retries=0) as session:
        with pytest.raises(getm.NetworkError):
            session.download(url, tmp_path / "x")
        (part,) = [tmp_path / name for name in names(tmp_path) if name.endswith("part")]
        with part.open("r+b") as file:
            file.seek(1000)
            file.write(b"tampered")
        result = session.download(url, tmp_path / "x")
    assert result.path.read_bytes() == body
    assert result.verified
    assert fault_server.requests[-1].header("Range") is None


@pytest.mark.parametrize("declared", [True, False])
def test_a_resumed_file_is_verified_whole(tmp_path: Path, fault_server: FaultServer, declared: bool) -> None:
    body = os.urandom(5 * MIB)
    headers = {"x-checksum-sha256": hashlib.sha256(body).hexdigest()} if declared else {}
    url = fault_server.serve("/x", Reply(body=body, cut_at=3 * MIB, headers=headers), Reply(body=body, headers=headers))
    checksum = "auto" if declared else f"md5:{hashlib.md5(body).hexdigest()}"
    with getm.Session(retries=0) as session:
        with pytest.raises(getm.NetworkError):
            session.download(url, tmp_path / "x", checksum=checksum, strict=True)
        result = session.download(url, tmp_path / "x", checksum=checksum, strict=True)
    assert result.verified and result.path.read_bytes() == body
    assert result.checksum.source == ("x-checksum-sha256" if declared else "caller")
    assert fault_server.requests[-1].header("Range") is not None


def test_row_47_downloads_carry_on_with_another_engine(
    tmp_path: Path, session: getm.Session, fault_server: FaultServer
) -> None:
    bodies = [os.urandom(4 * MIB) for _ in range(3)]
    gates = [fault_server.gate() for _ in bodies]
    urls = [
        fault_server.serve(f"/{number}", Reply(body=body, stall_at=2 * MIB, gate=gate), Reply(body=body))
        for number, (body, gate) in enumerate(zip(bodies, gates, strict=True))
    ]
    results = session.adownload_all(urls, jobs=3, directory=tmp_path)

    async def run() -> None:
        async def kill() -> None:
            for gate in gates:
                await asyncio.to_thread(gate.wait_reached)
            (engine,) = session._pool._engines
            assert isinstance(engine, ProcessEngine)
            engine.process.kill()

        killing = asyncio.create_task(kill())
        async for _ in results:
            pass
        await killing

    asyncio.run(run())
    for gate in gates:
        gate.open()
    assert [(tmp_path / str(number)).read_bytes() for number in range(3)] == bodies


def test_row_47_a_failure_to_go_on_ends_the_others_that_were_to(
    tmp_path: Path, session: getm.Session, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two wait for another engine, and the first of them finds that there is no room for it."""
    gates = [fault_server.gate(), fault_server.gate()]
    body = bytes(4 * MIB)
    urls = [
        fault_server.serve(f"/{number}", Reply(body=body, stall_at=2 * MIB, gate=gate))
        for number, gate in enumerate(gates)
    ]

    def no_room(*_: object, **__: object) -> ClientConnection:
        raise errors.MemoryUnavailable("no room", wanted=1, available=0)

    def kill() -> None:
        for gate in gates:
            gate.wait_reached()
        monkeypatch.setattr(session._pool, "try_acquire", no_room)
        for engine in engines():
            engine.kill()

    killing = threading.Thread(target=kill)
    killing.start()
    with pytest.raises(errors.MemoryUnavailable):
        list(session.download_all(urls, jobs=2, directory=tmp_path, continue_after_error=False))
    killing.join()
    for gate in gates:
        gate.open()


# What is asked for beside the bytes -----------------------------------------------------------------------------------


def test_events(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", failure(503, retry_after="0"), Reply(body=bytes(3 * MIB)))
    heard: list[getm.Event] = []
    (result,) = session.download_all([getm.Entry(f"{url}?sig=SECRET", "x")], directory=tmp_path, on_event=heard.append)
    names = [type(event).__name__ for event in heard]
    assert names[0] == "Retried" and names[1] == "Started" and names[-1] == "Finished"
    assert set(names[2:-1]) <= {"Progressed"}
    assert isinstance(heard[-1], getm.Finished) and heard[-1].result is result
    assert "SECRET" not in repr(heard)


def test_what_came_before_a_silence_is_told(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    """However soon after the last telling it came: the server goes on only when it was told."""
    gate = fault_server.gate()
    # Chunked: no low-water mark, behind which bytes would wait that wake everybody later.
    reply = Reply(body=bytes(3 * MIB), framing="chunked", stall_at=2 * MIB, gate=gate, pace=Pace(MIB, 0.03))
    url = fault_server.serve("/x", reply)

    def hear(event: getm.Event) -> None:
        if isinstance(event, getm.Progressed) and event.done_bytes == 2 * MIB:
            gate.open()

    list(session.download_all([url], directory=tmp_path, on_event=hear))
    assert (tmp_path / "x").stat().st_size == 3 * MIB


def test_no_clobber(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=b"new", headers={"Content-Disposition": "filename=there"}))
    (tmp_path / "there").write_text("old")
    heard: list[getm.Event] = []
    for listed in ([getm.Entry(url, "there")], [getm.Entry(fault_server.url("/there"))]):
        fault_server.serve("/there", Reply(body=b"new"))
        options = {"existing": "keep", "on_event": heard.append}
        (result,) = session.download_all(listed, directory=tmp_path, **options)  # type: ignore[arg-type]
        assert (result.left, result.size, result.verified) == ("it exists", 3, False)  # type: ignore[union-attr]
    assert [type(event) for event in heard if not isinstance(event, getm.Started)] == [getm.Skipped, getm.Skipped]
    assert (tmp_path / "there").read_text() == "old"
    assert names(tmp_path) == ["there"]


def test_the_servers_time(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=b"x", last_modified="Tue, 01 Jul 2025 00:00:00 GMT"))
    session.download(url, tmp_path / "x", remote_time=True)
    assert (tmp_path / "x").stat().st_mtime == 1751328000
    session.download(url, tmp_path / "y")
    assert (tmp_path / "y").stat().st_mtime > 1751328000


def test_a_dry_run_writes_nothing(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=bytes(3 * MIB), headers={"Content-Disposition": "filename=n"}))
    heard: list[getm.Event] = []
    folder = tmp_path / "folder"
    listed = [getm.Entry(url), getm.Entry(url, "below/given")]
    assert list(session.download_all(listed, directory=folder, dry_run=True, on_event=heard.append)) == []
    started = {event.index: event for event in heard if isinstance(event, getm.Started)}
    assert {index: (event.path, event.size) for index, event in started.items()} == {
        0: (folder / "n", 3 * MIB),
        1: (folder / "below/given", 3 * MIB),
    }
    assert names(tmp_path) == []


def test_connections_to_a_host_are_capped(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    gates: list[Gate] = [fault_server.gate() for _ in range(6)]
    for number, gate in enumerate(gates):
        fault_server.serve(f"/{number}", Reply(body=b"x", hold=gate))

    def open_one_by_one() -> None:
        for number, gate in enumerate(gates):
            gate.wait_reached()
            assert len(fault_server.requests) <= number + 2
            gate.open()

    async def run() -> None:
        opening = asyncio.create_task(asyncio.to_thread(open_one_by_one))
        urls = [fault_server.url(f"/{number}") for number in range(6)]
        async for _ in session.adownload_all(urls, jobs=6, per_host=2, directory=tmp_path):
            pass
        await opening

    asyncio.run(run())
    assert len(names(tmp_path)) == 6


def test_two_entries_for_one_file(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    urls = [fault_server.serve(f"/{number}/x", Reply(body=str(number).encode())) for number in range(2)]
    with pytest.raises(errors.TargetError, match="another download of this batch"):
        list(session.download_all(urls, jobs=1, directory=tmp_path))
    assert (tmp_path / "x").read_text() == "0"


def test_a_bad_entry_ends_it(tmp_path: Path, session: getm.Session) -> None:
    with pytest.raises(getm.InvalidInput):
        list(session.download_all(["ftp://host/x"], directory=tmp_path))
    with pytest.raises(getm.InvalidInput):
        session.download_all([], jobs=0)


def test_an_origin_url_that_redirects(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    fault_server.serve("/there", Reply(body=b"x"))
    url = fault_server.serve("/here", redirect("/there"))
    (result,) = session.download_all([url], directory=tmp_path)
    assert result.path == tmp_path / "here"


def test_many_small_files(tmp_path: Path, session: getm.Session, nginx: NginxServer, make_object: Make) -> None:
    served = make_object(16384)
    listed = [getm.Entry(f"{nginx.url(served)}?{number}", f"{number % 7}/{number}") for number in range(500)]
    results = list(session.download_all(listed, jobs=16, directory=tmp_path))
    assert len(results) == 500
    expected = served.read()
    for number in range(500):
        assert (tmp_path / f"{number % 7}" / f"{number}").read_bytes() == expected


def test_one_request_for_each_small_file(tmp_path: Path, session: getm.Session, fault_server: FaultServer) -> None:
    def reply(request: Request) -> Reply:
        return Reply(body=request.target)

    urls = [fault_server.serve(f"/{number}", reply) for number in range(30)]
    for concurrency in (1, 4):
        before = len(fault_server.requests)
        list(session.download_all(urls, jobs=4, concurrency=concurrency, directory=tmp_path / str(concurrency)))
        assert len(fault_server.requests) == before + 30
    assert fault_server.connections <= 8


def test_row_47_an_engine_that_dies_while_it_is_written_to(
    tmp_path: Path, session: getm.Session, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its death shows when a credit is sent: then nothing else will ever wake the batch."""
    body = os.urandom(3 * MIB)
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=body, stall_at=2 * MIB, gate=gate), Reply(body=body))
    flush = ClientConnection.flush
    killed: list[int] = []

    def flush_to_the_dead(connection: ClientConnection) -> None:
        if connection._unsent and not killed and tmp_path.joinpath(".x.getm-journal").exists():
            engine = connection.team[0]
            assert isinstance(engine, ProcessEngine)
            engine.process.kill()
            killed.append(engine.process.wait())
        flush(connection)

    monkeypatch.setattr(ClientConnection, "flush", flush_to_the_dead)
    session.download(url, tmp_path / "x")
    gate.open()
    assert killed and (tmp_path / "x").read_bytes() == body
