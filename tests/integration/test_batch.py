"""A batch seen by its caller: where the iterable runs, what events say, how many connections it opens."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import getm
from getm import errors
from tests.support.command import names
from tests.support.fault_script import Gate, Reply, Request, failure
from tests.support.fault_server import FaultServer

MIB = 1024 * 1024


@pytest.fixture
def session() -> Iterator[getm.Session]:
    with getm.Session(retries=0) as opened:
        yield opened


def run(
    session: getm.Session,
    way: str,
    entries: object,
    on_event: Callable[[getm.Event], None] | None = None,
    **options: object,
) -> list[getm.DownloadResult | getm.DownloadFailure]:
    """All results, by `download_all` or by `adownload_all`."""
    if way == "sync":
        return list(session.download_all(entries, on_event=on_event, **options))  # type: ignore[arg-type]

    async def collect() -> list[getm.DownloadResult | getm.DownloadFailure]:
        results = session.adownload_all(entries, on_event=on_event, **options)  # type: ignore[arg-type]
        return [result async for result in results]

    return asyncio.run(collect())


both_ways = pytest.mark.parametrize("way", ["sync", "async"])


# Case 15: events ------------------------------------------------------------------------------------------------------


@both_ways
def test_case_15_nothing_progresses_after_it_has_failed(
    way: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """The part that fails is itself progress: of a list whose size is wrong, only the body's end tells."""
    url = fault_server.serve("/x", Reply(body=bytes(3 * MIB), framing="chunked"))
    gate = fault_server.gate()
    other = fault_server.serve("/y", Reply(body=bytes(3 * MIB), framing="chunked", stall_at=2 * MIB, gate=gate))
    heard: list[getm.Event] = []

    def hear(event: getm.Event) -> None:
        heard.append(event)
        if isinstance(event, getm.Progressed) and event.index == 1 and event.done_bytes == 2 * MIB:
            # By now everything was told that had changed before.
            gate.open()

    entries = [getm.Entry(url, "x", size=MIB), getm.Entry(other, "y")]
    run(session, way, entries, hear, directory=tmp_path, jobs=1, continue_after_error=True)
    by_index = {index: [type(event) for event in heard if event.index == index] for index in (0, 1)}  # type: ignore[attr-defined]
    assert by_index[0][-1] is getm.Failed and by_index[1][-1] is getm.Finished


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [0, 1, 3 * MIB + 5])
def test_case_15_the_last_progress_is_the_end(
    size: int, framing: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", Reply(body=bytes(size), framing=framing))  # type: ignore[arg-type]
    calls: list[tuple[int, int | None]] = []
    session.download(url, tmp_path / "x", on_progress=lambda *call: calls.append(call))
    assert calls[-1] == (size, size)
    heard: list[getm.Event] = []
    run(session, "sync", [url], heard.append, directory=tmp_path)
    assert heard[-2] == getm.Progressed(0, size, size) and isinstance(heard[-1], getm.Finished)


def test_case_15_a_resumed_download_tells_its_end(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    body = os.urandom(5 * MIB)
    url = fault_server.serve("/x", Reply(body=body, cut_at=3 * MIB), Reply(body=body))
    calls: list[tuple[int, int | None]] = []
    with pytest.raises(errors.NetworkError):
        session.download(url, tmp_path / "x", on_progress=lambda *call: calls.append(call))
    calls.clear()
    session.download(url, tmp_path / "x", on_progress=lambda *call: calls.append(call))
    assert calls[-1] == (len(body), len(body)) and all(done >= 3 * MIB for done, _ in calls)


# Case 16: the caller's iterable ---------------------------------------------------------------------------------------


@both_ways
def test_case_16_the_iterable_runs_in_the_callers_thread(
    way: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """So that a cursor of a database can be one, which works in its own thread only."""
    database = sqlite3.connect(":memory:")
    with contextlib.closing(database):
        database.execute("create table files (url text)")
        urls = [(fault_server.serve(f"/{number}", Reply(body=b"x")),) for number in range(600)]
        database.executemany("insert into files values (?)", urls)
        threads = set()

        def rows() -> Iterator[str]:
            for (url,) in database.execute("select url from files"):
                threads.add(threading.get_ident())
                yield url

        assert len(run(session, way, rows(), directory=tmp_path)) == 600
    assert threads == {threading.get_ident()}
    assert len(names(tmp_path)) == 600


@both_ways
def test_case_16_a_slow_iterable_holds_up_neither_transfers_nor_events(
    way: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """Each entry comes only after the file of the one before it is in place; events come between entries."""
    heard: list[getm.Event] = []
    finished: list[int] = []

    def entries() -> Iterator[str]:
        for number in range(12):
            yield fault_server.serve(f"/{number}", Reply(body=b"x"))
            target = tmp_path / str(number)
            while not target.exists():
                os.sched_yield()
            finished.append(sum(isinstance(event, getm.Finished) for event in heard))

    assert len(run(session, way, entries(), heard.append, directory=tmp_path, jobs=8)) == 12
    assert finished[-1] > 0


async def test_case_16_a_slow_iterable_leaves_the_loop_to_others(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    turns = 0
    seen: list[int] = []
    urls = [fault_server.serve(f"/{number}", Reply(body=b"x")) for number in range(8)]

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def entries() -> Iterator[str]:
        for url in urls:
            seen.append(turns)
            # Longer than a slice.
            threading.Event().wait(0.01)
            yield url

    counting = asyncio.create_task(count())
    async for _ in session.adownload_all(entries(), jobs=8, directory=tmp_path):
        pass
    counting.cancel()
    assert all(later > earlier for earlier, later in itertools.pairwise(seen))


@both_ways
def test_case_16_the_look_ahead_is_bounded(
    way: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    gate = fault_server.gate()
    fault_server.serve("/0", Reply(body=b"x", hold=gate))
    most = 0

    def entries() -> Iterator[getm.Entry]:
        nonlocal most
        for number in itertools.count():
            most = number
            yield getm.Entry(
                fault_server.serve(f"/{number}", Reply(body=b"x")) if number else fault_server.url("/0"), str(number)
            )

    def stop(event: getm.Event) -> None:
        if isinstance(event, getm.Finished):
            raise KeyError(event.index)

    def open_later() -> None:
        gate.wait_reached()
        gate.open()

    opening = threading.Thread(target=open_later)
    opening.start()
    with pytest.raises(KeyError):
        run(session, way, entries(), stop, directory=tmp_path, jobs=1)
    opening.join()
    assert most < 1000


@both_ways
def test_case_16_what_the_iterable_raises_is_raised_and_what_has_come_is_told(
    way: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", Reply(body=b"x"))

    def entries() -> Iterator[str]:
        yield url
        while not (tmp_path / "x").exists():
            os.sched_yield()
        raise LookupError("the database is gone")

    heard: list[getm.Event] = []
    with pytest.raises(LookupError, match="gone"):
        run(session, way, entries(), heard.append, directory=tmp_path)
    assert isinstance(heard[-1], getm.Finished)


@both_ways
@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 255, 256, 257, 700])
def test_case_16_every_entry_is_downloaded_whatever_their_number(
    way: str, count: int, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    for number in range(count):
        fault_server.serve(f"/{number}", Reply(body=str(number).encode()))
    results = run(session, way, map(fault_server.url, (f"/{number}" for number in range(count))), directory=tmp_path)
    assert len(results) == count
    assert all((tmp_path / str(number)).read_text() == str(number) for number in range(count))


# Case 24: connections to a host ---------------------------------------------------------------------------------------


class Crowd:
    """Counts the requests that are open at a time."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.most = 0

    def reply(self, body: bytes) -> Callable[[Request], Reply]:
        def script(request: Request) -> Reply:
            self.requests.append(request)
            self.most = max(self.most, sum(each.outcome == "open" for each in self.requests))
            return Reply(body=body)

        return script


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize(("files", "jobs"), [(1, 1), (1, 4), (4, 4)])
def test_case_24_per_host_is_a_hard_cap(
    files: int, jobs: int, processes: int, fault_server: FaultServer, tmp_path: Path
) -> None:
    """Whatever `concurrency` says, and however many jobs share the host."""
    crowd = Crowd()
    bodies = [os.urandom(20 * MIB) for _ in range(files)]
    urls = [fault_server.serve(f"/{number}", crowd.reply(body)) for number, body in enumerate(bodies)]
    with getm.Session(processes=processes) as session:
        results = list(session.download_all(urls, jobs=jobs, concurrency=8, per_host=2, directory=tmp_path))
    assert len(results) == files
    assert [(tmp_path / str(number)).read_bytes() for number in range(files)] == bodies
    assert crowd.most <= 2


def test_case_24_a_job_takes_what_the_cap_leaves(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """Not all or nothing: of five, the first takes three, and the second begins at once with two."""
    gates: list[Gate] = [fault_server.gate(), fault_server.gate()]
    bodies = [os.urandom(20 * MIB), os.urandom(20 * MIB)]
    urls = [fault_server.serve(f"/{number}", Reply(body=bodies[number], hold=gates[number])) for number in range(2)]

    def open_both() -> None:
        for gate in gates:
            gate.wait_reached()
        for gate in gates:
            gate.open()

    opening = threading.Thread(target=open_both)
    opening.start()
    list(session.download_all(urls, jobs=2, concurrency=3, per_host=5, directory=tmp_path))
    opening.join()
    assert [(tmp_path / str(number)).read_bytes() for number in range(2)] == bodies


def test_case_24_a_download_that_begins_again_waits_for_its_turn(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """Its place under the cap is somebody else's by then, perhaps."""
    crowd = Crowd()
    old, new = os.urandom(3 * MIB), os.urandom(3 * MIB)
    crowded = crowd.reply(new)
    changed = fault_server.serve("/0", Reply(body=old, cut_at=2 * MIB), failure(412), lambda request: crowded(request))
    urls = [changed, *(fault_server.serve(f"/{number}", crowd.reply(new)) for number in range(1, 5))]
    with getm.Session(retries=1) as patient:
        list(patient.download_all(urls, jobs=5, per_host=1, directory=tmp_path))
    assert all((tmp_path / str(number)).read_bytes() == new for number in range(5))
    assert crowd.most == 1
