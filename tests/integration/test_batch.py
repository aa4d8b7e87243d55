"""A batch seen by its caller: where the iterable runs, what events say, how many connections it opens."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

import getm
from getm import errors
from getm.batch.scheduler import Batch
from getm.files import libc, recorder
from getm.testing import FaultServer, Gate, Pace, Reply, Request, failure
from tests.support.command import names
from tests.support.engines import engines

MIB = 1024 * 1024


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=0)


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


# Case 18: the disk ----------------------------------------------------------------------------------------------------


class SlowDisk:
    """fdatasync and fsync wait until the test lets them, and say in which thread they were called."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.threads: set[str] = set()
        self.at_once: Counter[int] = Counter()
        self.most_at_once = 0
        self._lock = threading.Lock()
        self._fdatasync = libc.fdatasync
        patch.setattr(libc, "fdatasync", self._wait)

    def _wait(self, fd: int) -> None:
        inode = os.fstat(fd).st_ino
        with self._lock:
            self.threads.add(threading.current_thread().name.partition("_")[0])
            self.at_once[inode] += 1
            self.most_at_once = max(self.most_at_once, self.at_once[inode])
        self.reached.set()
        self.go_on.wait()
        with self._lock:
            self.at_once[inode] -= 1
        self._fdatasync(fd)


def test_case_18_a_slow_disk_holds_up_no_other_download(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a checkpoint of one file waits for the disk, others are begun, received and finished."""
    monkeypatch.setattr(recorder, "CHECKPOINT_S", 0.0)
    disk = SlowDisk(monkeypatch)
    gate = fault_server.gate()
    body = os.urandom(6 * MIB)
    slow = fault_server.serve("/slow", Reply(body=body, stall_at=3 * MIB, gate=gate))
    quick = [fault_server.serve(f"/{number}", Reply(body=b"x")) for number in range(20)]

    def entries() -> Iterator[getm.Entry]:
        yield getm.Entry(slow, "slow")
        assert disk.reached.wait(20)
        yield from (getm.Entry(url, str(number)) for number, url in enumerate(quick))

    order: list[int] = []
    for result in session.download_all(entries(), jobs=2, directory=tmp_path):
        assert isinstance(result, getm.DownloadResult)
        order.append(result.index)
        if len(order) == 20:
            # The slow one has come to a stop at a checkpoint, and the rest is done.
            gate.open()
            disk.go_on.set()
    assert order[-1] == 0 and sorted(order) == list(range(21))
    assert (tmp_path / "slow").read_bytes() == body
    assert disk.threads == {"getm-finish"}
    assert disk.most_at_once == 1


@pytest.mark.parametrize("end", ["failure", "early exit"])
def test_case_18_what_is_kept_is_brought_onto_the_disk_in_another_thread(
    end: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    disk.go_on.set()
    body = os.urandom(6 * MIB)
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=body, cut_at=3 * MIB, stall_at=2 * MIB, gate=gate), Reply(body=body))
    if end == "failure":
        gate.open()
        with pytest.raises(errors.Truncated):
            session.download(url, tmp_path / "x")
    else:
        results = session.download_all(
            [getm.Entry(url, "x"), fault_server.serve("/y", Reply(body=b"y"))], directory=tmp_path
        )
        next(results)
        gate.wait_reached()
        results.close()  # type: ignore[attr-defined]
        gate.open()
    assert disk.threads == {"getm-finish"}
    assert any(name.endswith("getm-part") for name in names(tmp_path))
    session.download(url, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == body
    assert disk.threads == {"getm-finish"}


def test_case_18_a_checkpoint_that_fails_ends_its_download_only(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "CHECKPOINT_S", 0.0)

    def failing(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=bytes(6 * MIB), stall_at=3 * MIB, gate=gate))
    other = fault_server.serve("/y", Reply(body=b"y"))
    with monkeypatch.context() as patch:
        patch.setattr(libc, "fdatasync", failing)
        results = list(
            session.download_all([getm.Entry(url, "x"), other], directory=tmp_path, continue_after_error=True)
        )
    gate.open()
    by_index = {result.index: result for result in results}
    failed = by_index[0]
    assert isinstance(failed, getm.DownloadFailure) and isinstance(failed.error, errors.TargetError)
    assert isinstance(by_index[1], getm.DownloadResult)


# Case 20: what cannot be resumed starts over --------------------------------------------------------------------------

UNRESUMABLE = {
    "no validator": Reply(etag=None, last_modified=None),
    "weak ETag": Reply(etag='W/"v1"', last_modified=None),
    "Last-Modified without Date": Reply(etag=None, headers={"Date": None}),
    "chunked": Reply(framing="chunked"),
}


@pytest.mark.parametrize("concurrency", [1, 4, None])
@pytest.mark.parametrize("kind", UNRESUMABLE)
@pytest.mark.parametrize("ending", ["close", "reset"])
def test_case_20_a_lost_connection_that_cannot_be_resumed_starts_over(
    kind: str, concurrency: int | None, ending: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    body = os.urandom(5 * MIB)
    whole = replace(UNRESUMABLE[kind], body=body)
    broken = replace(whole, cut_at=2 * MIB, then="reset" if ending == "reset" else "keep")
    url = fault_server.serve("/x", broken, broken, whole)
    calls: list[tuple[int, int | None]] = []
    retries = getm.Retries(attempts=2, base_s=0.0)
    result = session.download(
        url,
        tmp_path / "x",
        concurrency=concurrency,
        retries=retries,
        on_progress=lambda *call: calls.append(call),
    )
    assert result.path.read_bytes() == body
    assert calls[-1] == (len(body), len(body))
    # Range requests for parts of what turns out to have no validator count as well.
    assert concurrency == 4 or (sum(result.stats.retries.values()), len(fault_server.requests)) == (2, 3)
    assert result.stats.requests == len(fault_server.requests)
    assert names(tmp_path) == ["x"]


def test_a_job_whose_pause_is_over_waits_for_room_without_work(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was cut off, and has lost its place at the host to another one: nothing is done until that one ends."""
    held, kept = fault_server.gate(), Reply(body=bytes(100))
    cut = Reply(body=bytes(3 * MIB), cut_at=2 * MIB, etag=None, last_modified=None)
    # The first retry comes at once.
    urls = [fault_server.serve("/cut", cut, cut, kept), fault_server.serve("/held", replace(kept, hold=held))]
    at_once, turn = 0, Batch._turn

    def counted(batch: Batch, timeout_ms: float | None) -> None:
        nonlocal at_once
        at_once += timeout_ms == 0
        assert at_once < 100, "it looks again and again"
        if timeout_ms is None and [job.url for job in batch._active] == urls[1:]:
            held.open()
        turn(batch, timeout_ms)

    monkeypatch.setattr(Batch, "_turn", counted)
    with getm.Session(retries=getm.Retries(base_s=0.01)) as session:
        results = list(session.download_all(urls, jobs=2, per_host=1, directory=tmp_path))
    assert len(results) == 2


@pytest.mark.parametrize("attempts", [0, 2])
def test_case_20_as_often_as_the_retry_policy_says(attempts: int, fault_server: FaultServer, tmp_path: Path) -> None:
    reply = Reply(body=bytes(3 * MIB), cut_at=2 * MIB, etag=None, last_modified=None)
    url = fault_server.serve("/x", reply)
    retries = getm.Retries(attempts=attempts, base_s=0.0)
    with getm.Session(retries=retries) as session, pytest.raises(errors.Truncated) as caught:
        session.download(url, tmp_path / "x")
    assert len(fault_server.requests) == attempts + 1
    assert caught.value.stats is not None and caught.value.stats.requests == attempts + 1
    assert names(tmp_path) == []


def test_case_20_the_time_for_the_whole_ends_a_wait_between_attempts(fault_server: FaultServer, tmp_path: Path) -> None:
    """A delay of minutes, and a second for all: told at once where it cannot be kept to."""
    reply = Reply(body=bytes(3 * MIB), cut_at=2 * MIB, etag=None, last_modified=None)
    url = fault_server.serve("/x", reply)
    retries = getm.Retries(attempts=20, base_s=1e6, cap_s=1e6)
    with getm.Session(retries=retries, timeout=getm.Timeout(total_s=5)) as session, pytest.raises(errors.NetworkError):
        session.download(url, tmp_path / "x")
    assert len(fault_server.requests) <= 3


def test_case_20_what_went_to_a_pipe_is_not_sent_again(fault_server: FaultServer, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    body = os.urandom(3 * MIB)
    reply = Reply(body=body, etag=None, last_modified=None)
    url = fault_server.serve("/x", replace(reply, cut_at=2 * MIB), reply)
    with getm.Session(retries=3) as session, pytest.raises(errors.Truncated):
        session.download(url, tmp_path / "pipe")
    reader.join()
    assert body.startswith(received[0]) and len(received[0]) <= 2 * MIB


# Case 23: fewer connections granted than asked for --------------------------------------------------------------------


class Doorkeeper:
    """Lets `most` requests in at a time, and turns the others away."""

    def __init__(self, most: int, refusal: Reply) -> None:
        self._most = most
        self._refusal = refusal
        self._inside: list[Request] = []
        self.refused = 0

    def serve(self, reply: Reply) -> Callable[[Request], Reply]:
        def script(request: Request) -> Reply:
            self._inside = [each for each in self._inside if each.outcome == "open"]
            if len(self._inside) >= self._most:
                self.refused += 1
                return self._refusal
            self._inside.append(request)
            return reply

        return script


REFUSALS = {
    "429": failure(429, retry_after="0"),
    "503": failure(503),
    "closed": Reply(raw=b"", then="close"),
    "reset": Reply(raw=b"", then="reset"),
}


@pytest.mark.parametrize("retries", [0, 4])
@pytest.mark.parametrize("kind", REFUSALS)
def test_case_23_two_connections_granted_and_six_files(
    kind: str, retries: int, fault_server: FaultServer, tmp_path: Path
) -> None:
    door = Doorkeeper(2, REFUSALS[kind])
    bodies = [os.urandom(2 * MIB) for _ in range(6)]
    urls = [
        fault_server.serve(f"/{number}", door.serve(Reply(body=body, pace=Pace(256 * 1024, 0.01))))
        for number, body in enumerate(bodies)
    ]
    with getm.Session(retries=getm.Retries(attempts=retries, base_s=0.1)) as session:
        results = list(session.download_all(urls, jobs=6, directory=tmp_path))
    assert all(isinstance(result, getm.DownloadResult) for result in results) and len(results) == 6
    assert [(tmp_path / str(number)).read_bytes() for number in range(6)] == bodies
    assert door.refused


def test_case_23_nobody_waits_where_no_other_progresses(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", failure(429, retry_after="0"))
    with getm.Session(retries=1) as session, pytest.raises(errors.HTTPStatusError) as caught:
        session.download(url, tmp_path / "x")
    assert caught.value.status == 429 and len(fault_server.requests) == 2


def test_case_23_the_time_for_the_whole_ends_the_wait(fault_server: FaultServer, tmp_path: Path) -> None:
    """The other file never ends, and brings bytes all the time."""
    door = Doorkeeper(1, failure(429))
    endless = Reply(body=bytes(MIB), endless=True, framing="chunked", pace=Pace(16 * 1024, 0.01))
    urls = [fault_server.serve(f"/{number}", door.serve(endless)) for number in range(2)]
    with getm.Session(retries=0, timeout=getm.Timeout(total_s=2)) as session:
        results = list(session.download_all(urls, jobs=2, directory=tmp_path, continue_after_error=True))
    kinds = {type(result.error) for result in results if isinstance(result, getm.DownloadFailure)}
    # The one that waited may have had its turn in the last moment.
    assert len(results) == 2 and errors.TimedOut in kinds and kinds <= {errors.TimedOut, errors.HTTPStatusError}


def test_case_23_a_file_that_is_never_given_does_not_slow_down_the_others(
    fault_server: FaultServer, tmp_path: Path
) -> None:
    """It fails when the others are done."""
    bad = fault_server.serve("/bad", failure(503))
    urls = [bad, *(fault_server.serve(f"/{number}", Reply(body=bytes(2 * MIB))) for number in range(20))]
    with getm.Session(retries=0) as session:
        results = list(session.download_all(urls, jobs=4, directory=tmp_path, continue_after_error=True))
    assert [result.index for result in results if isinstance(result, getm.DownloadFailure)] == [0]
    assert len(results) == 21


# Cases 36 and 42: targets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dry_run", [False, True])
def test_case_36_a_file_that_the_server_names_and_that_exists_is_skipped(
    dry_run: bool, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    (tmp_path / "theirs").write_bytes(b"old")
    url = fault_server.serve("/x", Reply(body=b"new", headers={"Content-Disposition": "filename=theirs"}))
    heard: list[getm.Event] = []
    results = run(session, "sync", [url], heard.append, directory=tmp_path, existing="keep", dry_run=dry_run)
    assert [isinstance(each, getm.DownloadResult) and each.left for each in results] == ["it exists"][dry_run:]
    assert isinstance(heard[-1], getm.Skipped)
    assert heard[-1].path == tmp_path / "theirs"
    assert (tmp_path / "theirs").read_bytes() == b"old" and names(tmp_path) == ["theirs"]


@both_ways
@pytest.mark.parametrize("order", ["file first", "folder first", "the same"])
def test_case_42_targets_that_only_servers_name_and_that_exclude_each_other(
    order: str, way: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """The second is told, clearly, and the first is there."""
    named = {"Content-Disposition": "filename=a"}
    by_server = fault_server.serve("/x", Reply(body=b"server", headers=named))
    other = fault_server.serve("/y", Reply(body=b"other", headers=named))
    below = getm.Entry(other, "a/b")
    entries = {"file first": (by_server, below), "folder first": (below, by_server), "the same": (by_server, other)}
    results = run(session, way, iter(entries[order]), directory=tmp_path, jobs=1, continue_after_error=True)
    results.sort(key=lambda result: result.index)
    assert isinstance(results[0], getm.DownloadResult)
    assert isinstance(results[1], getm.DownloadFailure) and isinstance(results[1].error, errors.TargetError)
    assert "another download of this batch" in results[1].error.message


# Case 21: a server that refuses to send only the rest -----------------------------------------------------------------

BODY = os.urandom(5 * MIB)
REFUSED_RESUMES = {
    "200 with the same ETag": Reply(body=BODY, ranges=False),
    "a 206 of everything": Reply(body=BODY, status=206, span=(0, len(BODY))),
    "a 206 without Content-Range": Reply(body=BODY, status=206, headers={"Content-Range": None}),
    "416": Reply(status=416),
    "403": failure(403),
    "500": failure(500),
    "400": failure(400),
}


def refusing(kind: str, *, cuts: int) -> Callable[[Request], Reply]:
    """The first `cuts` whole answers are cut; a request with a Range is refused, always."""
    left = cuts

    def script(request: Request) -> Reply:
        nonlocal left
        if request.header("Range") is not None:
            return REFUSED_RESUMES[kind]
        left -= 1
        return Reply(body=BODY, cut_at=3 * MIB if left >= 0 else None)

    return script


@pytest.mark.parametrize("kind", REFUSED_RESUMES)
def test_case_21_a_resume_that_is_refused_in_the_same_run_starts_over(
    kind: str, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", refusing(kind, cuts=1))
    with getm.Session(retries=getm.Retries(attempts=2, base_s=0.01)) as session:
        result = session.download(url, tmp_path / "x")
    assert result.path.read_bytes() == BODY and names(tmp_path) == ["x"]


@pytest.mark.parametrize("kind", REFUSED_RESUMES)
def test_case_21_a_resume_that_is_refused_in_a_later_run_starts_over(
    kind: str, fault_server: FaultServer, tmp_path: Path
) -> None:
    first = fault_server.serve("/first", Reply(body=BODY, cut_at=3 * MIB))
    later = fault_server.serve("/later", refusing(kind, cuts=0))
    with getm.Session(retries=0) as session:
        with pytest.raises(errors.Truncated):
            session.download(first, tmp_path / "x")
        assert len(names(tmp_path)) == 2
        result = session.download(later, tmp_path / "x")
    assert result.path.read_bytes() == BODY and names(tmp_path) == ["x"]


def test_case_21_what_is_there_stays_where_all_of_it_is_refused_as_well(
    session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    """Row 22: the URL has expired, and the next one brings the rest."""
    url = fault_server.serve("/x", Reply(body=BODY, cut_at=3 * MIB), failure(403))
    for error in (errors.Truncated, errors.HTTPStatusError, errors.HTTPStatusError):
        with pytest.raises(error):
            session.download(url, tmp_path / "x")
        assert len(names(tmp_path)) == 2
    later = fault_server.serve("/later", Reply(body=BODY))
    assert session.download(later, tmp_path / "x").path.read_bytes() == BODY
    assert fault_server.requests[-1].header("Range") is not None


def test_case_21_as_often_as_the_retry_policy_says(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", refusing("403", cuts=1000))
    with getm.Session(retries=getm.Retries(attempts=2, base_s=0.0)) as session, pytest.raises(errors.NetworkError):
        session.download(url, tmp_path / "x")
    assert sum(request.header("Range") is None for request in fault_server.requests) <= 5


# Case 5: streams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_case_5_a_pipe_gets_its_end_only_after_the_verdict(
    framing: Literal["length", "chunked", "close"], fault_server: FaultServer, session: getm.Session, tmp_path: Path
) -> None:
    body = os.urandom(3 * MIB)
    url = fault_server.serve("/x", Reply(body=body, framing=framing))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []

    def read() -> None:
        received.append(pipe.read_bytes())

    for checksum in ("md5:" + "0" * 32, "auto"):
        reader = threading.Thread(target=read)
        reader.start()
        wrong = pytest.raises(errors.ChecksumMismatch) if checksum != "auto" else contextlib.nullcontext()
        with wrong:
            session.download(url, pipe, checksum=checksum)
        reader.join()
    assert len(received[0]) < len(body) and body.startswith(received[0])
    assert received[1] == body


# Helper engines -------------------------------------------------------------------------------------------------------


def test_row_47_the_death_of_a_helper_leaves_no_download_waiting(fault_server: FaultServer, tmp_path: Path) -> None:
    """Each engine is the helper of the other one. The small files, which have no part there, share its connection."""
    large, small = os.urandom(20 * MIB), os.urandom(2 * MIB)
    gates = [fault_server.gate() for _ in range(4)]

    def held(gate: Gate) -> Callable[[Request], Reply]:
        def script(request: Request) -> Reply:
            first = (request.header("Range") or "").startswith("bytes=0-")
            return Reply(body=large, hold=None if first else gate)

        return script

    urls = [
        fault_server.serve("/0", held(gates[0])),
        fault_server.serve("/1", held(gates[1])),
        fault_server.serve("/2", Reply(body=small, stall_at=MIB, gate=gates[2])),
        fault_server.serve("/3", Reply(body=small, stall_at=MIB, gate=gates[3])),
    ]
    with getm.Session(processes=2) as session:

        def kill() -> None:
            for gate in gates:
                gate.wait_reached()
            engines()[0].kill()
            for gate in gates:
                gate.open()

        killing = threading.Thread(target=kill)
        killing.start()
        results = list(session.download_all(urls, directory=tmp_path, jobs=4, concurrency=2, ranged_from=4 * MIB))
        killing.join()
    assert len(results) == 4
    assert [(tmp_path / str(number)).read_bytes() for number in range(4)] == [large, large, small, small]
