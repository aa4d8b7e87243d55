"""Streams: nothing looks complete before its verdict, slow ones come as they come, and neither a death, nor a hostile
server, nor a slow consumer makes anybody hang."""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

import getm
from getm import errors
from getm.testing import FaultServer, Gate, Reply, Request
from tests.support import ways
from tests.support.command import GETM
from tests.support.command import getm as run_getm
from tests.support.engines import engines

KIB = 1024
MIB = 1024 * KIB
BODY = random.Random(49).randbytes(20 * MIB + 12345)
WRONG = "md5:00000000000000000000000000000000"
RETRIES = getm.Retries(2, base_s=0.001, cap_s=0.01)

each_stream = pytest.mark.parametrize("way", ways.STREAMS)
each_mode = pytest.mark.parametrize("concurrency", (1, 4, None))


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session(retries=RETRIES)


# Case 5: nothing looks complete before the verdict ------------------------------------------------------------------

each_framing = pytest.mark.parametrize("framing", ("length", "chunked", "close"))
each_size = pytest.mark.parametrize("size", (1, ways.READ_BYTES, MIB, len(BODY)))


@each_size
@each_framing
@each_stream
def test_case_5_the_newest_part_is_held_back_until_the_verdict(
    way: str, framing: Any, size: int, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY[:size], framing=framing))
    outcome = ways.stream(way, session, url, checksum=WRONG)
    assert isinstance(outcome.error, errors.ChecksumMismatch)
    assert outcome.holds_only(BODY)
    assert outcome.count < size


@each_mode
@each_framing
@each_stream
def test_case_5_in_each_mode_where_the_server_declares_it(
    way: str, framing: Any, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    digest = {"x-checksum-md5": WRONG.partition(":")[2]}
    url = fault_server.serve("/x", Reply(body=BODY, framing=framing, headers=digest))
    outcome = ways.stream(way, session, url, concurrency=concurrency)
    assert isinstance(outcome.error, errors.ChecksumMismatch)
    assert outcome.holds_only(BODY)
    assert outcome.count < len(BODY)


@each_framing
@each_stream
def test_case_5_what_is_right_comes_whole(
    way: str, framing: Any, session: getm.Session, fault_server: FaultServer
) -> None:
    for size in (0, 1, MIB, len(BODY)):
        url = fault_server.serve(f"/{size}", Reply(body=BODY[:size], framing=framing))
        assert ways.stream(way, session, url).data == BODY[:size]


@each_framing
@each_stream
def test_case_5_nothing_looks_complete_before_a_lost_connection_is_told(
    way: str, framing: Any, session: getm.Session, fault_server: FaultServer
) -> None:
    """A reset just before the end, which nothing but the reset tells of."""
    reply = Reply(body=BODY, framing=framing, etag=None, last_modified=None, cut_at=len(BODY), then="reset")
    url = fault_server.serve("/x", reply)
    outcome = ways.stream(way, session, url, retries=0)
    assert outcome.holds_only(BODY)
    assert outcome.count < len(BODY) or outcome.error is None


@pytest.mark.parametrize(
    ("framing", "size"),
    [("length", 1), ("length", len(BODY)), ("chunked", 100_000), ("chunked", len(BODY)), ("close", 100_000)],
)
def test_case_5_standard_output_lacks_the_end_as_well(
    framing: Any, size: int, fault_server: FaultServer, tmp_path: Path
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY[:size], framing=framing))
    run = run_getm(url, "-", "--checksum", WRONG, cwd=tmp_path)
    assert run.returncode == 9
    assert len(run.stdout) < size and BODY.startswith(run.stdout)


# Case 6: the death of an engine while another one, or a worker, waits for slots -------------------------------------


def survives(outcome: ways.Outcome) -> None:
    """Complete, or `EngineDied`; never a hang, which the deadline of the test tells."""
    assert outcome.holds_only(BODY)
    if outcome.error is None:
        assert outcome.data == BODY
    else:
        assert isinstance(outcome.error, errors.EngineDied)


@pytest.mark.deadline(30)
# Any two of the three with each other.
@pytest.mark.parametrize(
    ("killed", "memory", "held"),
    [
        pytest.param((0,), MIB, False, id="first, little memory, view dropped"),
        pytest.param((0,), 256 * MIB, True, id="first, view held"),
        pytest.param((1,), MIB, True, id="second, little memory, view held"),
        pytest.param((1,), 256 * MIB, False, id="second, view dropped"),
        pytest.param((0, 1), MIB, True, id="both, little memory, view held"),
        pytest.param((0, 1), 256 * MIB, False, id="both, view dropped"),
    ],
)
def test_case_6_a_stream_whose_engine_dies(
    killed: tuple[int, ...], memory: int, held: bool, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    with getm.Session(processes=2, max_memory=memory, retries=RETRIES) as session:
        outcome = ways.Outcome()
        parts = session.iter_content(url, 16 * KIB, concurrency=2)
        view: memoryview | None = next(parts)
        assert view is not None
        outcome.take(0, view)
        if not held:
            view = None
        kill([engines()[number] for number in killed])
        try:
            for part in parts:
                outcome.take(outcome.count, part)
        except errors.GetmError as error:
            outcome.error = error
        survives(outcome)
        # The session serves on.
        assert session.read(url, concurrency=2) == BODY if memory > MIB else True


@pytest.mark.deadline(30)
@pytest.mark.parametrize("killed", (0, 1))
@pytest.mark.parametrize("way", ("read", "readinto", "iter_content_unordered", "aiter_content", "download"))
def test_case_6_in_each_way(way: str, killed: int, fault_server: FaultServer, tmp_path: Path) -> None:
    gate = fault_server.gate()

    def script(request: Request) -> Reply:
        return Reply(body=BODY, stall_at=100 * KIB, gate=gate)

    url = fault_server.serve("/x", script)

    def kill_one() -> None:
        gate.wait_reached()
        kill([engines()[killed % len(engines())]])
        gate.open()

    killer = threading.Thread(target=kill_one)
    memory = 256 * MIB if way == "read" else MIB
    with getm.Session(processes=2, max_memory=memory, retries=RETRIES) as session:
        killer.start()
        if way == "download":
            outcome = ways.file(way, session, url, tmp_path / "to", concurrency=2)
            assert outcome.data == BODY
        else:
            survives(ways.stream(way, session, url, concurrency=2))
        killer.join()


@pytest.mark.deadline(30)
@pytest.mark.parametrize("killed", (0, 1))
def test_case_6_the_command_goes_on(killed: int, fault_server: FaultServer, tmp_path: Path) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", lambda request: Reply(body=BODY, stall_at=100 * KIB, gate=gate))
    with subprocess.Popen([*GETM, url, "object", "-x4", "--processes=2"], cwd=tmp_path) as process:
        try:
            fault_server.wait_for_requests(3)
            children = psutil.Process(process.pid).children()
            workers = [child for child in children if "getm.engine" in " ".join(child.cmdline())]
            kill(workers[: killed + 1])
            gate.open()
            assert process.wait(25) == 0
        except BaseException:
            process.kill()
            raise
    assert (tmp_path / "object").read_bytes() == BODY


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)


# Case 7: slots do not leak into helpers -----------------------------------------------------------------------------


@pytest.mark.deadline(45)
@pytest.mark.parametrize(
    ("way", "memory"),
    [("download", 64 * MIB), ("download", 256 * MIB), ("adownload", 64 * MIB), ("download_all", 256 * MIB)],
)
def test_case_7_downloads_of_objects_that_are_replaced_under_way(
    way: str, memory: int, fault_server: FaultServer, tmp_path: Path
) -> None:
    """Each is replaced once."""
    with getm.Session(processes=2, max_memory=memory, retries=RETRIES) as session:
        for number in range(5):
            url = fault_server.serve(f"/{number}", replaced_once(fault_server))
            assert ways.file(way, session, url, tmp_path / str(number), concurrency=4).data == BODY


def replaced_once(server: FaultServer) -> Callable[[Request], Reply]:
    numbers = itertools.count()
    old = bytes(len(BODY))

    def script(request: Request) -> Reply:
        return Reply(body=old, etag='"old"') if next(numbers) < 2 else Reply(body=BODY, etag='"new"')

    return script


@pytest.mark.deadline(45)
@pytest.mark.parametrize("way", ("left", "failed", "replaced"))
def test_case_7_streams_that_end_early_leave_the_slots_to_others(way: str, fault_server: FaultServer) -> None:
    good = fault_server.serve("/good", Reply(body=BODY))
    with getm.Session(processes=2, max_memory=8 * MIB, retries=RETRIES) as session:
        for number in range(6):
            if way == "left":
                with session.iter_content(good, concurrency=4) as parts:
                    next(parts)
            elif way == "failed":
                url = fault_server.serve(f"/{number}", Reply(body=BODY, cut_at=1000))
                assert ways.stream("iter_content", session, url, concurrency=4, retries=0).error is not None
            else:
                url = fault_server.serve(f"/{number}", replaced_once(fault_server))
                outcome = ways.stream("iter_content", session, url, concurrency=4)
                assert outcome.error is None or isinstance(outcome.error, errors.RemoteChanged)
            assert ways.stream("iter_content", session, good, concurrency=4).data == BODY


# Case 9: a hostile server fails nobody else -------------------------------------------------------------------------

HOSTILE_HEADERS: dict[str, dict[str, str | list[str] | None]] = {
    "254 fields of 64 KiB": {f"X-{number}": "a" * (64 * KIB - 16) for number in range(254)},
    "one name, 254 fields of 64 KiB": {"X-Same": ["a" * (64 * KIB - 16)] * 254},
    "bytes of any kind": {"X-Any": "".join(map(chr, (*range(0x80, 0x100), 0x20, 0x09)))},
    "1,000 small fields": {f"X-{number}": "" for number in range(1000)},
}
each_hostile = pytest.mark.parametrize("kind", HOSTILE_HEADERS)


@each_hostile
@pytest.mark.parametrize("status", (200, 404))
def test_case_9_strangers_of_one_batch_go_on(
    status: int, kind: str, session: getm.Session, fault_server: FaultServer, tmp_path: Path
) -> None:
    gate = fault_server.gate()
    hostile = [
        fault_server.serve(f"/hostile{number}", Reply(body=b"x", status=status, headers=HOSTILE_HEADERS[kind]))
        for number in range(2)
    ]
    strangers = [
        fault_server.serve(f"/stranger{number}", Reply(body=BODY, stall_at=MIB, gate=gate)) for number in range(2)
    ]
    urls = [*strangers, *hostile]
    results = session.download_all(urls, jobs=4, directory=tmp_path, continue_after_error=True)
    for result in itertools.islice(results, 2):
        # The strangers stand at the gate.
        if isinstance(result, getm.DownloadFailure):
            assert result.error.url == result.url == hostile[result.index - 2]
        else:
            assert result.path.read_bytes() == b"x"
    gate.open()
    rest = list(results)
    assert [isinstance(result, getm.DownloadResult) for result in rest] == [True, True]
    assert all((tmp_path / f"stranger{number}").read_bytes() == BODY for number in range(2))


@each_hostile
@each_stream
def test_case_9_strangers_of_one_session_go_on(
    way: str, kind: str, session: getm.Session, fault_server: FaultServer
) -> None:
    gate = fault_server.gate()
    stranger = session.urlopen(fault_server.serve("/stranger", Reply(body=BODY, stall_at=MIB, gate=gate)))
    url = fault_server.serve("/hostile", Reply(body=b"x", headers=HOSTILE_HEADERS[kind]))
    outcome = ways.stream(way, session, url)
    assert outcome.error is None or outcome.error.url == url
    assert not isinstance(outcome.error, errors.EngineDied | errors.ProtocolError)
    gate.open()
    with stranger:
        assert stranger.read() == BODY


@pytest.mark.parametrize("kind", ("254 fields of 64 KiB", "bytes of any kind"))
def test_case_9_by_the_command(kind: str, fault_server: FaultServer, tmp_path: Path) -> None:
    gate = fault_server.gate()
    fault_server.serve("/stranger", Reply(body=BODY, stall_at=MIB, gate=gate))
    fault_server.serve("/hostile", Reply(body=b"x", headers=HOSTILE_HEADERS[kind]))
    urls = [fault_server.url("/stranger"), fault_server.url("/hostile")]
    with subprocess.Popen([*GETM, *urls, "-j2", "-c"], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        try:
            requests = fault_server.wait_for_requests(2)
            next(request for request in requests if request.path == "/hostile").wait_ended()
            gate.open()
            assert process.stderr is not None
            told = process.stderr.read().splitlines()
        except BaseException:
            process.kill()
            raise
    assert (tmp_path / "stranger").read_bytes() == BODY
    assert len(told) <= 1 and all("/hostile" in line and "stranger" not in line for line in told)


# Case 49: slow streams come as they come ----------------------------------------------------------------------------

LINES = [b"line%02d\n" % number for number in range(10)]
TEXT = b"".join(LINES)
# Nothing is declared: there is no verdict to wait for, but for the end of what comes by a known length.
each_open_end = pytest.mark.parametrize("framing", ("length", "chunked", "close"))


class Slow:
    """An object that comes piece by piece: `let` lets the next piece go."""

    def __init__(self, server: FaultServer, pieces: list[bytes], **reply: Any) -> None:
        edges = list(itertools.accumulate(map(len, pieces)))[:-1]
        self._gates: list[Gate] = [server.gate() for _ in edges]
        body = b"".join(pieces)
        self.url = server.serve("/slow", Reply(body=body, gates=dict(zip(edges, self._gates, strict=True)), **reply))

    def let(self) -> None:
        """Let the next piece go; there may be none."""
        if self._gates:
            self._gates.pop(0).open()


@pytest.mark.deadline(20)
@each_mode
@each_open_end
def test_case_49_a_plain_loop_gets_each_line_as_it_comes(
    framing: Any, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    slow = Slow(fault_server, LINES, framing=framing)
    came = []
    for line in session.iter_content(slow.url, len(LINES[0]), concurrency=concurrency):
        # The server goes on only now: a line that were held back for the next one would never come.
        came.append(bytes(line))
        slow.let()
    assert came == LINES


@pytest.mark.deadline(20)
@each_mode
@each_open_end
async def test_case_49_an_asynchronous_loop(
    framing: Any, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    slow = Slow(fault_server, LINES, framing=framing)
    came = []
    async for line in session.aiter_content(slow.url, len(LINES[0]), concurrency=concurrency):
        came.append(bytes(line))
        slow.let()
    assert came == LINES


@pytest.mark.deadline(20)
@each_open_end
def test_case_49_every_line_may_be_kept(framing: Any, session: getm.Session, fault_server: FaultServer) -> None:
    lines = [b"%06d\n" % number for number in range(100)]
    slow = Slow(fault_server, lines, framing=framing)
    kept = []
    for line in session.iter_content(slow.url, 7):
        kept.append(line)
        slow.let()
    assert kept == lines


@pytest.mark.deadline(20)
@pytest.mark.parametrize("asynchronous", (False, True), ids=("iter", "aiter"))
@pytest.mark.parametrize("chunk_size", (100, 1000, 4096, 10_000, 16_384))
@each_open_end
def test_case_49_chunks_come_as_soon_as_they_are_full(
    framing: Any, chunk_size: int, asynchronous: bool, session: getm.Session, fault_server: FaultServer
) -> None:
    pieces = [BODY[at : at + 10_000] for at in range(0, 100_000, 10_000)]
    slow = Slow(fault_server, pieces, framing=framing)
    let = 1
    came = bytearray()

    def take(view: memoryview) -> None:
        nonlocal let
        came.extend(view)
        # Every full chunk of what was sent came before more was sent.
        while let < len(pieces) and let * 10_000 - len(came) < chunk_size:
            let += 1
            slow.let()

    async def iterate() -> None:
        async for view in session.aiter_content(slow.url, chunk_size):
            take(view)

    if chunk_size > 10_000:
        let += 1
        slow.let()
    if asynchronous:
        asyncio.run(iterate())
    else:
        for view in session.iter_content(slow.url, chunk_size):
            take(view)
    assert came == b"".join(pieces)


@pytest.mark.deadline(20)
@each_open_end
@pytest.mark.parametrize("reader", ("BufferedReader lines", "read1", "TextIOWrapper", "readinto", "read"))
def test_case_49_files_of_the_standard_library(
    reader: str, framing: Any, session: getm.Session, fault_server: FaultServer
) -> None:
    slow = Slow(fault_server, LINES, framing=framing)
    opened: Any = session.urlopen(slow.url)
    with opened as fh:
        take: Callable[[], bytes]
        if reader == "BufferedReader lines":
            take = io.BufferedReader(fh).readline
        elif reader == "read1":
            buffered = io.BufferedReader(fh)
            take = lambda: buffered.read1(1000)  # noqa: E731  # one of five forms of the same
        elif reader == "TextIOWrapper":
            text = io.TextIOWrapper(io.BufferedReader(fh), newline="")
            take = lambda: text.readline().encode()  # noqa: E731
        elif reader == "readinto":
            buffer = bytearray(1000)
            take = lambda: bytes(buffer[: fh.readinto(buffer)])  # noqa: E731
        else:
            take = lambda: bytes(fh.read(7))  # noqa: E731
        for line in LINES:
            assert take() == line
            slow.let()
        assert take() == b""


@pytest.mark.deadline(20)
@each_open_end
@pytest.mark.parametrize("asynchronous", (False, True), ids=("iter", "aiter"))
def test_case_49_without_a_chunk_size_whatever_has_come(
    asynchronous: bool, framing: Any, session: getm.Session, fault_server: FaultServer
) -> None:
    pieces = [BODY[: 3 * MIB], *LINES, BODY[:5], BODY[: 70 * KIB]]
    slow = Slow(fault_server, pieces, framing=framing)
    came, let = bytearray(), 1
    whatever: Any = None

    def take(view: memoryview) -> None:
        nonlocal let
        assert len(view) > 0
        came.extend(view)
        while let < len(pieces) and len(came) == sum(map(len, pieces[:let])):
            let += 1
            slow.let()

    async def iterate() -> None:
        async for view in session.aiter_content(slow.url, chunk_size=whatever):
            take(view)

    if asynchronous:
        asyncio.run(iterate())
    else:
        for view in session.iter_content(slow.url, chunk_size=whatever):
            take(view)
    assert came == b"".join(pieces)


@pytest.mark.deadline(20)
@pytest.mark.parametrize("asynchronous", (False, True), ids=("iter", "aiter"))
def test_case_49_unordered_parts_come_as_they_come(
    asynchronous: bool, session: getm.Session, fault_server: FaultServer
) -> None:
    slow = Slow(fault_server, LINES)
    came: dict[int, bytes] = {}

    def take(offset: int, view: memoryview) -> None:
        came[offset] = bytes(view)
        slow.let()

    async def iterate() -> None:
        async for offset, view in session.aiter_content_unordered(slow.url, 7, concurrency=1):
            take(offset, view)

    if asynchronous:
        asyncio.run(iterate())
    else:
        for offset, view in session.iter_content_unordered(slow.url, 7, concurrency=1):
            take(offset, view)
    assert b"".join(came[offset] for offset in sorted(came)) == TEXT


# Case 49: small reads pin nothing -----------------------------------------------------------------------------------


def shared_bytes() -> int:
    """What this process maps of shared memory."""
    total = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, _, *name = line.split(maxsplit=5)
        if name and ("memfd:" in name[0] or "/dev/shm/" in name[0]):
            start, _, stop = span.partition("-")
            total += int(stop, 16) - int(start, 16)
    return total


@each_mode
@pytest.mark.parametrize("size", (1, 100, 4096, 64 * KIB - 1))
def test_case_49_many_tiny_objects_may_be_kept(size: int, concurrency: int | None, fault_server: FaultServer) -> None:
    url = fault_server.serve("/tiny", Reply(body=BODY[:size]))
    with getm.Session(max_memory=16 * MIB) as session:
        before = shared_bytes()
        kept = [session.read(url, concurrency=concurrency) for _ in range(80)]
        assert shared_bytes() - before <= 16 * MIB
        assert all(view == BODY[:size] for view in kept)


@each_mode
@pytest.mark.parametrize("size", (1, 16, 100, 4096, 64 * KIB - 1))
def test_case_49_headers_within_a_large_object_may_be_kept(
    size: int, concurrency: int | None, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    kept = []
    with session.urlopen(url, concurrency=concurrency) as fh:
        while header := fh.read(size):
            kept.append((fh.tell() - len(header), header))
            fh.read(256 * KIB)
    assert len(kept) > 60
    assert all(header == BODY[at : at + len(header)] for at, header in kept)


@pytest.mark.parametrize("chunk_size", (4096, 64 * KIB - 1))
def test_case_49_small_chunks_may_all_be_kept(
    chunk_size: int, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    assert b"".join(session.iter_content(url, chunk_size)) == BODY


# Case 52: slow consumers in pools -----------------------------------------------------------------------------------

# So long others may take to let go of a view, and so long they take: both a tenth of what is usual.
_GRACE_S = 2.0
_SLOW_WORK_S = 0.65
LARGE = BODY * 3


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getm.client.receiver._OTHERS_GRACE_S", _GRACE_S)


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("way", ("ordered", "unordered"))
def test_case_52_a_pool_of_threads_that_works_slowly(
    way: str, session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=LARGE))
    gone_on = threading.Event()
    timer = threading.Timer(_SLOW_WORK_S, gone_on.set)
    timer.start()

    def work(part: Any) -> bytes:
        gone_on.wait()
        return bytes(part if way == "ordered" else part[1])

    with ThreadPoolExecutor(20) as pool:
        if way == "ordered":
            came = b"".join(pool.map(work, session.iter_content(url)))
        else:
            came = b"".join(pool.map(work, session.iter_content_unordered(url, concurrency=1)))
    timer.join()
    assert came == LARGE


@pytest.mark.usefixtures("short_grace")
async def test_case_52_tasks_that_work_slowly(session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=LARGE))
    gone_on = asyncio.Event()
    asyncio.get_running_loop().call_later(_SLOW_WORK_S, gone_on.set)

    async def work(part: memoryview) -> bytes:
        await gone_on.wait()
        data = bytes(part)
        part.release()
        return data

    tasks = [asyncio.create_task(work(part)) async for part in session.aiter_content(url)]
    assert b"".join(await asyncio.gather(*tasks)) == LARGE


@pytest.mark.usefixtures("short_grace")
def test_case_52_a_certain_deadlock_is_an_error(session: getm.Session, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=LARGE))
    with pytest.raises(errors.SlotsExhausted):
        list(session.iter_content(url))


@pytest.mark.usefixtures("short_grace")
async def test_case_52_a_certain_deadlock_of_the_only_task_is_an_error(
    session: getm.Session, fault_server: FaultServer
) -> None:
    url = fault_server.serve("/x", Reply(body=LARGE))
    with pytest.raises(errors.SlotsExhausted):
        [part async for part in session.aiter_content(url)]
