"""Downloads by the workers of an executor: threads, processes, and executors that lose their workers."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import getm
from getm import errors
from getm.batch import executors, portions
from getm.testing import FaultServer, Pace, Reply, failure
from tests.support.engines import engines_end
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

MIB = 1024 * 1024
Make = Callable[..., ServedObject]


@pytest.fixture(autouse=True)
def _no_kept_engines() -> Iterator[None]:
    """A worker keeps its engines; here, where threads are workers, somebody must end them."""
    yield
    for pool in portions._pools.values():
        pool.close()
    portions._pools.clear()


def threads() -> Executor:
    return ThreadPoolExecutor(2)


def processes() -> Executor:
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


def forked() -> Executor:
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"))


class Losing(ThreadPoolExecutor):
    """An executor that lives on where a worker dies, as those of clusters do. A portion for which `loses` says so is
    lost: before it is done, or after."""

    def __init__(self, loses: Callable[[portions.Portion], str | None]) -> None:
        super().__init__(2)
        self._loses = loses
        self.portions: list[portions.Portion] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        (portion,) = args
        self.portions.append(portion)
        when = self._loses(portion)

        def work() -> Any:
            result = None if when == "before" else fn(portion)
            if when is not None:
                raise RuntimeError("the worker is gone")
            return result

        return super().submit(work)


class Live(ThreadPoolExecutor, portions.LiveExecutor):
    """An executor whose workers can be heard and stopped: they are threads here."""

    def __init__(self) -> None:
        super().__init__(2)
        self.hearing: dict[str, Callable[[bytes], None]] = {}
        self.stopped: list[str] = []

    def listen(self, call: str, hear: Callable[[bytes], None]) -> portions.Tell:
        self.hearing[call] = hear
        return lambda call, told: self.hearing[call](told)

    def end(self, call: str) -> None:
        self.hearing.pop(call, None)

    def stop(self, call: str, *, wait: bool) -> None:
        self.stopped.append(call)
        portions.stop_portions(call)


def served(fault_server: FaultServer, count: int) -> dict[str, bytes]:
    """Objects by their URLs."""
    bodies = {f"/{number:03}": f"object {number}".encode() * 100 for number in range(count)}
    return {fault_server.serve(path, Reply(body=body)): body for path, body in bodies.items()}


def small_portions(monkeypatch: pytest.MonkeyPatch, entries: int) -> None:
    monkeypatch.setattr(executors, "MAX_ENTRIES", entries)


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())]


# What comes of it -----------------------------------------------------------------------------------------------------


# Python warns of forks of a process with threads.
@pytest.mark.filterwarnings("ignore:.*fork")
@pytest.mark.parametrize("make", [threads, processes, forked])
def test_every_file_is_right(
    make: Callable[[], Executor], nginx: NginxServer, make_object: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_portions(monkeypatch, 4)
    objects = [make_object(size, seed) for size in (0, 1, 16384, MIB + 1, 9 * MIB) for seed in range(4)]
    entries = [getm.Entry(nginx.url(each), f"deep/{number}.bin") for number, each in enumerate(objects)]
    events: list[getm.Event] = []
    with make() as executor, getm.Session() as session:
        found = session.download_all(
            entries,
            directory=tmp_path / "data",
            executor=executor,
            on_event=events.append,
            receipt=tmp_path / "r.jsonl",
        )
        results = [result for result in found if isinstance(result, getm.DownloadResult)]
    assert sorted(result.index for result in results) == list(range(len(objects)))
    for result in results:
        assert result.path == tmp_path / "data" / "deep" / f"{result.index}.bin"
        assert result.path.read_bytes() == objects[result.index].path.read_bytes()
    assert sorted(event.index for event in events if isinstance(event, getm.Finished)) == list(range(len(objects)))
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert sorted(line["path"] for line in lines) == sorted(f"data/deep/{number}.bin" for number in range(len(objects)))


async def test_asynchronously(fault_server: FaultServer, tmp_path: Path) -> None:
    objects = served(fault_server, 10)
    with ThreadPoolExecutor(2) as executor, getm.Session() as session:
        found = session.adownload_all(list(objects), directory=tmp_path, executor=executor)
        assert {result.index async for result in found} == set(range(10))
    assert contents(tmp_path) == list(objects.values())


def test_what_the_caller_gave_holds_in_the_workers(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", Reply(body=b"x" * 1000))
    with processes() as executor, getm.Session(headers={"X-One": "1"}, retries=0) as session:
        options: dict[str, Any] = {"headers": {"X-Two": "2"}, "checksum": "crc32c:00000000"}
        with pytest.raises(errors.ChecksumMismatch):
            list(session.download_all([url], directory=tmp_path, executor=executor, **options))
    (request,) = fault_server.requests
    assert (request.header("X-One"), request.header("X-Two")) == ("1", "2")
    assert list(tmp_path.iterdir()) == []


def test_failures(fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_portions(monkeypatch, 3)
    objects = served(fault_server, 8)
    missing = fault_server.serve("/missing", failure(404))
    urls = [*objects, missing]
    with ThreadPoolExecutor(2) as executor, getm.Session(retries=0) as session:
        found = list(session.download_all(urls, directory=tmp_path, executor=executor, continue_after_error=True))
        (failed,) = [each for each in found if isinstance(each, getm.DownloadFailure)]
        assert failed.index == 8 and isinstance(failed.error, errors.HTTPStatusError) and failed.error.status == 404
        assert len(found) == 9 and contents(tmp_path) == list(objects.values())
        with pytest.raises(errors.HTTPStatusError):
            list(session.download_all([missing, *objects], directory=tmp_path, executor=executor))


def test_a_dry_run_writes_nothing(fault_server: FaultServer, tmp_path: Path) -> None:
    objects = served(fault_server, 5)
    events: list[getm.Event] = []
    with ThreadPoolExecutor(2) as executor, getm.Session() as session:
        options: dict[str, Any] = {"dry_run": True, "on_event": events.append}
        assert list(session.download_all(list(objects), directory=tmp_path, executor=executor, **options)) == []
    started = {event.index: event.size for event in events if isinstance(event, getm.Started)}
    assert started == {number: len(body) for number, body in enumerate(objects.values())}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("by", ["list", "receipt"])
def test_what_is_there_is_not_downloaded_again(
    by: str, fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_portions(monkeypatch, 7)
    objects = served(fault_server, 20)
    checksums = {url: f"sha256:{hashlib.sha256(body).hexdigest()}" for url, body in objects.items()}
    entries = [getm.Entry(url, checksum=checksums[url] if by == "list" else None) for url in objects]
    receipt = tmp_path / "r.jsonl" if by == "receipt" else None
    data = tmp_path / "data"
    with ThreadPoolExecutor(2) as executor, getm.Session() as session:
        options: dict[str, Any] = {"directory": data, "receipt": receipt, "existing": "verify", "executor": executor}
        assert len(list(session.download_all(entries, **options))) == 20
        (data / "013").write_bytes(b"wrong")
        before = len(fault_server.requests)
        results = [each for each in session.download_all(entries, **options) if isinstance(each, getm.DownloadResult)]
    assert [request.target for request in fault_server.requests[before:]] == [b"/013"]
    assert sum(result.left is not None for result in results) == 19
    assert contents(data) == list(objects.values())


# What is asked for ----------------------------------------------------------------------------------------------------


def test_a_directory_must_be_given(fault_server: FaultServer) -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(errors.InvalidInput, match="give a directory"):
        getm.download_all([fault_server.url("/x")], executor=executor)
    assert fault_server.requests == []


def test_two_downloads_of_one_file_do_not_meet_in_two_workers(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_portions(monkeypatch, 1)
    url = fault_server.serve("/x", Reply(body=b"x"))
    entries = [getm.Entry(url, name) for name in ("a", "b", "a", "b/c")]
    with ThreadPoolExecutor(2) as executor, getm.Session() as session:
        found = list(session.download_all(entries, directory=tmp_path, executor=executor, continue_after_error=True))
    failed = {each.index: each.error for each in found if isinstance(each, getm.DownloadFailure)}
    assert set(failed) == {2, 3} and all(isinstance(error, errors.TargetError) for error in failed.values())
    assert len(fault_server.requests) == 2


def test_entries_are_read_as_workers_have_room(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any iterable, without an end even, in the thread of the loop."""
    small_portions(monkeypatch, 5)
    url = fault_server.serve("/x", Reply(body=b"x"))
    read = itertools.count()
    with ThreadPoolExecutor(2) as executor, getm.Session() as session:
        entries = (getm.Entry(url, f"{next(read)}") for _ in itertools.repeat(None))
        found = session.download_all(entries, directory=tmp_path, executor=executor)
        first = list(itertools.islice(found, 30))
        found.close()  # type: ignore[attr-defined]  # a generator
    assert len({each.index for each in first}) == 30
    # What had been sent, and what was sent while those came.
    assert next(read) <= 30 + 5 * (executors.PORTIONS_EACH * 2 + 2)


class Waiting(Executor):
    """An executor of 20 workers that all end their portions at the same time, after a hundredth of a second."""

    _max_workers = 20

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._futures: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        (portion,) = args
        self.sizes.append(len(portion.numbers))
        if len(self.sizes) > 2 * executors.PORTIONS_EACH * self._max_workers:
            raise LookupError("enough")
        future: Future[Any] = Future()
        self._futures.append(future)
        if len(self._futures) == executors.PORTIONS_EACH * self._max_workers:
            ended, self._futures = self._futures, []
            for each in ended:
                each.set_result(portions.Done([], 0.01))
        return future


def test_portions_grow_by_what_one_worker_does_however_many_there_are(tmp_path: Path) -> None:
    entries = (getm.Entry(f"http://127.0.0.1:9/{number}", size=0) for number in itertools.count())
    executor = Waiting()
    with getm.Session() as session, pytest.raises(LookupError, match="enough"):
        list(session.download_all(entries, directory=tmp_path, executor=executor))
    assert set(executor.sizes[:40]) == {64} and set(executor.sizes[40:80]) == {128}


def test_what_the_entries_raise_ends_it(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", Reply(body=b"x"))

    def entries() -> Iterator[str]:
        yield url
        raise LookupError("no more")

    with ThreadPoolExecutor(1) as executor, getm.Session() as session, pytest.raises(LookupError):
        list(session.download_all(entries(), directory=tmp_path, executor=executor))


# Workers that are lost ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_portion_of_a_lost_worker_is_done_again(
    when: str, fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_portions(monkeypatch, 6)
    objects = served(fault_server, 30)
    with Losing(lambda portion: when if portion.tries == 1 and 7 in portion.numbers else None) as executor:
        data, receipt = tmp_path / "data", tmp_path / "r.jsonl"
        with getm.Session() as session:
            results = list(session.download_all(list(objects), directory=data, executor=executor, receipt=receipt))
    assert sorted(each.index for each in results) == list(range(30))
    assert contents(data) == list(objects.values())
    names = [json.loads(line)["path"] for line in receipt.read_text().splitlines()]
    assert sorted(names) == [f"data/{number:03}" for number in range(30)]
    assert [len(portion.numbers) for portion in executor.portions if portion.tries == 2] == [3, 3]


def test_a_download_that_takes_every_worker_with_it_fails_alone(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_portions(monkeypatch, 4)
    objects = served(fault_server, 16)
    with Losing(lambda portion: "before" if 6 in portion.numbers else None) as executor, getm.Session() as session:
        found = list(
            session.download_all(list(objects), directory=tmp_path, executor=executor, continue_after_error=True)
        )
    (failed,) = [each for each in found if isinstance(each, getm.DownloadFailure)]
    assert failed.index == 6 and isinstance(failed.error, errors.WorkerLost)
    assert "3 workers" in failed.error.message and "the worker is gone" in failed.error.message
    assert sorted(each.index for each in found) == list(range(16))


def test_an_executor_that_breaks_says_what_to_do_and_the_next_one_does_the_rest(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_portions(monkeypatch, 5)
    objects = served(fault_server, 40)
    held = fault_server.gate()

    held_once = fault_server.serve("/zzz", Reply(body=b"last", hold=held), Reply(body=b"last"))
    urls = [held_once, *objects]
    receipt = tmp_path / "r.jsonl"
    options: dict[str, Any] = {"directory": tmp_path / "data", "receipt": receipt, "existing": "verify"}
    with getm.Session() as session:
        with processes() as executor:
            assert isinstance(executor, ProcessPoolExecutor)
            found = session.download_all(urls, executor=executor, **options)
            assert len(list(itertools.islice(found, 20))) == 20
            workers = list(executor._processes)
            with engines_end(workers):
                for pid in workers:
                    os.kill(pid, signal.SIGKILL)
            with pytest.raises(errors.WorkerLost, match="new executor"):
                list(found)
        before = len(fault_server.requests)
        with processes() as executor:
            results = list(session.download_all(urls, executor=executor, **options))
        held.open()
    assert len(results) == 41 and contents(tmp_path / "data") == [*objects.values(), b"last"]
    # What the receipt has is not asked for again.
    assert len(fault_server.requests) - before < 41


def test_leaving_the_loop_sends_nothing_more(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_portions(monkeypatch, 1)
    objects = served(fault_server, 60)
    with ThreadPoolExecutor(1) as executor, getm.Session() as session:
        found = session.download_all(list(objects), directory=tmp_path, executor=executor)
        next(found)
        found.close()  # type: ignore[attr-defined]  # a generator
    assert len(fault_server.requests) < 10


def test_an_executor_that_is_shut_down(fault_server: FaultServer, tmp_path: Path) -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with getm.Session() as session, pytest.raises(RuntimeError, match="shutdown"):
        list(session.download_all([fault_server.url("/x")], directory=tmp_path, executor=executor))
    assert fault_server.requests == []


def test_a_failure_stops_workers_that_can_be_stopped(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_portions(monkeypatch, 1)
    held, missing, body = fault_server.gate(), fault_server.gate(), b"x" * MIB
    slow = fault_server.serve("/slow", Reply(body=body, stall_at=MIB // 2, gate=held), Reply(body=body))
    urls = [slow, fault_server.serve("/missing", dataclasses.replace(failure(404), hold=missing))]

    def fail() -> None:
        # When the other one is on its way.
        held.wait_reached()
        missing.open()

    with Live() as executor, getm.Session(retries=0) as session:
        failing = threading.Thread(target=fail)
        failing.start()
        with pytest.raises(errors.HTTPStatusError):
            list(session.download_all(urls, directory=tmp_path, executor=executor, concurrency=1))
        failing.join()
        held.open()
        assert len(set(executor.stopped)) == 1 and executor.hearing == {}
        # Another call is not stopped.
        assert len(list(session.download_all([slow], directory=tmp_path, executor=executor))) == 1
    assert (tmp_path / "slow").read_bytes() == body


def test_how_far_a_large_file_is_comes_with_its_number_and_in_order(fault_server: FaultServer, tmp_path: Path) -> None:
    body = b"x" * MIB
    paced = fault_server.serve("/large", Reply(body=body, pace=Pace(64 * 1024, 0.1)))
    small = fault_server.serve("/small", Reply(body=b"small"))
    events: list[getm.Event] = []
    with Live() as executor, getm.Session() as session:
        list(session.download_all([small, paced], directory=tmp_path, executor=executor, on_event=events.append))
        assert executor.stopped == [] and executor.hearing == {}
    large = [event for event in events if getattr(event, "index", None) == 1]
    assert [type(event).__name__ for event in large[:2]] == ["Started", "Progressed"]
    assert isinstance(large[-1], getm.Finished)
    progress = [event.done_bytes for event in large if isinstance(event, getm.Progressed)]
    assert progress == sorted(progress) and 0 < progress[0] < MIB and progress[-1] == MIB


def test_the_executor_is_the_callers(fault_server: FaultServer, tmp_path: Path) -> None:
    url = fault_server.serve("/x", Reply(body=b"x"))
    with ThreadPoolExecutor(1) as executor, getm.Session() as session:
        list(session.download_all([url], directory=tmp_path, executor=executor))
        assert executor.submit(int, 7).result() == 7


def sign() -> str:
    """A provider that workers can import."""
    return os.environ["GETM_TEST_URL"]


def test_providers_go_to_workers(nginx: NginxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = nginx.objects.write("provided", b"provided")
    monkeypatch.setenv("GETM_TEST_URL", nginx.url(stored))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        entries = [getm.Entry(sign, "provided")]
        (result,) = getm.download_all(entries, directory=tmp_path, executor=executor)
        assert (tmp_path / "provided").read_bytes() == b"provided" and result.url == nginx.url(stored)
        with pytest.raises(getm.InvalidInput, match="cannot be sent to a worker"):
            list(getm.download_all([getm.Entry(lambda: "x", "x")], directory=tmp_path, executor=executor))
