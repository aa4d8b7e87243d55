"""Engines and callers that end, fork, or live in odd places; views that outlive everything else."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import pytest

import getm
from getm.client import pool, process_count
from getm.client import process as launch
from getm.client.engines import ProcessEngine
from getm.engine.main import serve
from getm.errors import EngineDied, ReaderClosed, SlotsExhausted
from getm.protocol.codec import encode
from getm.protocol.messages import Kind
from getm.testing import FaultServer, Reply
from tests.support.consumer import consumer
from tests.support.engines import engines
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

MIB = 1024 * 1024
_ENGINE_END_S = 5.0  # faults row 48 says 2 on a machine that is not busy with other tests
Make = Callable[..., ServedObject]


@pytest.fixture
def session() -> Iterator[getm.Session]:
    with getm.Session() as opened:
        yield opened


def run_python(code: str, *arguments: str, stdin: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a program that uses getm in an interpreter of its own."""
    program = textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-W", "error", *(["-"] if stdin else ["-c", program]), *arguments],
        input=program if stdin else None,
        capture_output=True,
        text=True,
        timeout=50,
    )


@pytest.mark.parametrize("face", ("sync", "async"))
def test_row_47_a_killed_engine_raises_at_once_and_the_next_call_starts_another(
    face: str, session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(100 * MIB)
    url = nginx.url(served)
    if face == "sync":
        with session.urlopen(url) as fh:
            fh.read(10)
            (engine,) = engines()
            engine.send_signal(signal.SIGKILL)
            with pytest.raises(EngineDied, match="SIGKILL") as caught:
                fh.read()
    else:

        async def use() -> pytest.ExceptionInfo[EngineDied]:
            with pytest.raises(EngineDied, match="SIGKILL") as caught:
                async with session.aiter_content(url) as parts:
                    (engine,) = engines()
                    engine.send_signal(signal.SIGKILL)
                    async for _ in parts:
                        pass
            return caught

        caught = asyncio.run(use())
    assert caught.value.exit_status == -signal.SIGKILL
    assert caught.value.url == url
    assert session.read(url, checksum=f"md5:{served.md5_hex}").nbytes == served.size_bytes


def test_row_47_an_engine_killed_while_it_waits_for_the_server(
    session: getm.Session, fault_server: FaultServer
) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/held", Reply(body=b"x", hold=gate))
    failures: list[BaseException] = []

    def use() -> None:
        try:
            session.read(url)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    gate.wait_reached()
    (engine,) = engines()
    engine.kill()
    thread.join()
    gate.open()
    assert isinstance(failures[0], EngineDied)


def test_row_47_after_the_death_of_a_helper_the_next_call_has_another(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(20 * MIB)
    with getm.Session(processes=2) as session:
        assert session.read(nginx.url(served), concurrency=3) == served.read()
        helper = session._pool._connections[0].team[1]
        assert isinstance(helper, ProcessEngine)
        helper.process.kill()
        helper.process.wait()
        assert session.read(nginx.url(served), concurrency=3) == served.read()


@pytest.mark.parametrize(("busy", "number"), ((True, 2), (False, 1)))
def test_a_batch_has_another_engine_where_the_first_keeps_a_core_busy(
    busy: bool, number: int, tmp_path: Path, nginx: NginxServer, make_object: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever this machine's clocks and cores are: an engine says that it is busy all the time, or never."""
    monkeypatch.setattr(pool, "usable_cpus", lambda: 2)
    monkeypatch.setattr(process_count, "_WINDOW_S", 0.0)
    monkeypatch.setattr(ProcessEngine, "cpu_s", lambda _: time.monotonic() if busy else 0.0)
    served = make_object(1000)
    with getm.Session() as session:
        entries = [getm.Entry(nginx.url(served), f"copy-{number}") for number in range(40)]
        results = list(session.download_all(entries, directory=tmp_path, jobs=4))
        assert len(results) == 40 and all(
            (tmp_path / f"copy-{index}").read_bytes() == served.read() for index in range(40)
        )
        assert len(engines()) == number


@pytest.mark.parametrize(
    ("tls", "concurrency", "cores", "number"),
    ((True, 3, 8, 2), (True, 1, 8, 1), (False, 3, 8, 1), (True, 3, 2, 1), (True, "auto", 8, 1)),
)
def test_several_connections_over_tls_have_another_engine(
    tls: bool,
    concurrency: int | Literal["auto"],
    cores: int,
    number: int,
    nginx: NginxServer,
    make_object: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "usable_cpus", lambda: cores)
    served = make_object(20 * MIB)
    with getm.Session(cacert=nginx.ca_path) as session:
        assert session.read(nginx.url(served, tls=tls), concurrency=concurrency) == served.read()
        assert len(engines()) == number


def test_a_single_file_of_a_list_has_the_help_of_other_engines(
    tmp_path: Path, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(20 * MIB)
    with getm.Session(processes=2) as session:
        (result,) = session.download_all([nginx.url(served)], directory=tmp_path, concurrency=3)
        assert result.path is not None and result.path.read_bytes() == served.read()
        assert [len(each.team) for each in session._pool._connections] == [2]


def test_the_cpu_time_of_an_engine_is_known(session: getm.Session, nginx: NginxServer, make_object: Make) -> None:
    session.read(nginx.url(make_object(1000)))
    (engine,) = session._pool._engines
    assert isinstance(engine, ProcessEngine)
    # Its start took some.
    assert 0 < engine.cpu_s() < time.monotonic()
    engine.process.kill()
    engine.process.wait()
    assert engine.cpu_s() == 0


@pytest.mark.parametrize("when", ("before the request", "as the request comes"))
def test_an_engine_that_ended_by_itself_is_replaced_unseen(
    when: str, session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    """As it does when idle: a clean end, of which the caller hears nothing."""
    served = make_object(1000)
    assert session.read(nginx.url(served)) == served.read()
    (engine,) = engines()
    control = session._pool._engines[0]._control
    if when == "before the request":
        # Several idle channels lead to it: none of them may be offered again.
        streams = [session.urlopen(nginx.url(served)) for _ in range(3)]
        for fh in streams:
            assert fh.read() == served.read()
            fh.close()
        control.send(encode(Kind.STOP))
        engine.wait()
        assert session.read(nginx.url(served)) == served.read()
        return
    engine.suspend()
    control.send(encode(Kind.STOP))
    results: list[bytes] = []
    thread = threading.Thread(target=lambda: results.append(bytes(session.read(nginx.url(served)))))
    thread.start()
    # The request lies in the pipe of an engine that will stop before it reads it.
    wait_until_written(session)
    engine.resume()
    thread.join()
    assert results == [served.read()]


def wait_until_written(session: getm.Session) -> None:
    """Until the session's channel has a request under way."""
    (channel,) = session._pool._connections
    while channel.idle:
        os.sched_yield()


@pytest.mark.parametrize("pidfd", (True, False), ids=("pidfd", "no pidfd"))
@pytest.mark.parametrize("hangs", (False, True), ids=("prompt", "hangs"))
def test_an_engine_is_waited_for_and_killed_where_it_does_not_end(
    hangs: bool, pidfd: bool, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open")
    with getm.Session() as session:
        assert session.read(fault_server.serve("/x", Reply(body=b"data"))).tobytes() == b"data"
        (engine,) = session._pool._engines
        assert isinstance(engine, ProcessEngine)
        process = engine.process
        if hangs:
            monkeypatch.setattr(launch, "STOP_S", 0.01)
            process.send_signal(signal.SIGSTOP)
    assert process.returncode == (-signal.SIGKILL if hangs else 0)


def test_what_a_dead_engine_said_is_read_before_another_thread_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor that is closed while it is read may by then be another file's."""
    launched = launch.Launched()
    real = launched._stderr
    ending = threading.Thread(target=launched.kill)

    class Slow:
        """Is read while another thread is about to close it."""

        closed = False

        def seek(self, position: int) -> None:
            ending.start()
            # It has waited for the process by then, and closing is all that is left to do.
            launched.process.wait()

        def read(self) -> bytes:
            assert not real.closed and launched._reading.locked()
            return b"said"

        def close(self) -> None:
            assert launched._reading.locked()
            real.close()

    monkeypatch.setattr(launched, "_stderr", Slow())
    assert launched.said() == "said"
    ending.join()
    assert real.closed
    monkeypatch.undo()
    assert launched.said() == ""


def test_an_idle_engine_ends_by_itself() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        thread = threading.Thread(target=serve, args=(theirs, None, 0.01))
        thread.start()
        assert ours.recv(1) == b""
        thread.join()


@pytest.mark.parametrize("sibling", (False, True), ids=("alone", "forked sibling holds the pipes"))
@pytest.mark.parametrize("memory", ("memfd", "posix"))
def test_row_48_the_engine_ends_when_its_parent_is_killed(
    memory: str, sibling: bool, nginx: NginxServer, make_object: Make
) -> None:
    """And leaves nothing in /dev/shm: that is looked at after each test."""
    url = nginx.url(make_object(100 * MIB), via="slow")
    program = f"""
        import os, sys, time, getm
        fh = getm.urlopen({url!r})
        from getm import default_session
        engine = default_session._default._pool._engines[0].process.pid
        child = os.fork() if {sibling} else 0
        if {sibling} and child == 0:
            sys.stdin.read()
            os._exit(0)
        print(engine, child, flush=True)
        sys.stdin.read()
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, **({} if memory == "memfd" else {"GETM_SHARED_MEMORY": "posix"})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    engine_pid, child_pid = map(int, parent.stdout.readline().split())
    # Readable once it has ended: its new parent may take its time to wait for it.
    ended = select.poll()
    with os.fdopen(os.pidfd_open(engine_pid), "rb") as engine:
        ended.register(engine, select.POLLIN)
        child = psutil.Process(child_pid) if sibling else None
        parent.kill()
        parent.wait()
        try:
            assert ended.poll(_ENGINE_END_S * 1000)
        finally:
            if child is not None:
                assert child.is_running()
                child.kill()
    parent.stdin.close()
    parent.stdout.close()


def test_row_49_the_engine_outlives_the_thread_that_started_it(
    session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(30 * MIB)
    opened: list[getm.Reader] = []
    thread = threading.Thread(target=lambda: opened.append(session.urlopen(nginx.url(served))))
    thread.start()
    thread.join()
    with opened[0] as fh:
        assert fh.read() == served.read()


def test_row_55_many_threads_share_a_session(session: getm.Session, nginx: NginxServer, make_object: Make) -> None:
    objects = [make_object(3 * MIB + seed, seed) for seed in range(8)]
    wrong: list[ServedObject] = []

    def use(served: ServedObject) -> None:
        for concurrency in (1, 3, None):
            if session.read(nginx.url(served), concurrency=concurrency) != served.read():
                wrong.append(served)

    threads = [threading.Thread(target=use, args=(served,)) for served in objects]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_views_stay_valid_and_unchanged_after_close(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(40 * MIB)
    session = getm.Session()
    fh = session.urlopen(nginx.url(served))
    views = [fh.read(MIB) for _ in range(3)]
    slices = [view[100:200] for view in views]
    del views
    for _ in range(30):
        fh.read(MIB)
    fh.close()
    assert session.read(nginx.url(served)) == served.read()
    session.close()
    gc.collect()
    assert [bytes(part) for part in slices] == [served.read(n * MIB + 100, n * MIB + 200) for n in range(3)]


@pytest.mark.parametrize("concurrency", (1, 4, None))
def test_row_51_a_consumer_that_keeps_every_view_is_told(
    concurrency: int | None, session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(100 * MIB)
    kept: list[np.typing.NDArray[np.uint8]] = []
    with (
        session.iter_content(nginx.url(served), concurrency=concurrency) as parts,
        pytest.raises(SlotsExhausted, match="drop views") as caught,
    ):
        kept.extend(np.frombuffer(part, dtype=np.uint8) for part in parts)
    assert caught.value.slot_bytes == MIB
    assert b"".join(array.tobytes() for array in kept) == served.read(0, len(kept) * MIB)


def test_a_view_let_go_in_another_thread_lets_the_stream_go_on(
    session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(30 * MIB)
    kept: list[memoryview] = []
    full = threading.Event()

    def let_go() -> None:
        full.wait()
        kept.clear()

    thread = threading.Thread(target=let_go)
    thread.start()
    received = 0
    for part in session.iter_content(nginx.url(served)):
        received += len(part)
        kept.append(part)
        del part
        if received == 16 * MIB:
            full.set()
    thread.join()
    assert received == served.size_bytes


def test_cycles_that_hold_views_are_collected_before_anything_is_said(
    session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(40 * MIB)
    gc.disable()
    try:
        received = 0
        for part in session.iter_content(nginx.url(served)):
            received += len(part)
            cycle: list[object] = [part]
            cycle.append(cycle)
            del cycle, part
    finally:
        gc.enable()
    assert received == served.size_bytes


def test_row_52_abandoned_iterators_free_their_slots_and_connections(
    session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(100 * MIB)
    url = nginx.url(served)
    for _ in range(30):
        for _part in session.iter_content(url):
            break
        for _offset, _part in session.iter_content_unordered(url):
            break
        del _part

    async def use() -> None:
        for _ in range(10):
            async for _part in session.aiter_content(url):
                break
        task = asyncio.ensure_future(consume())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    started = asyncio.Event()

    async def consume() -> None:
        async for _part in session.aiter_content(nginx.url(served, via="slow")):
            started.set()

    asyncio.run(use())
    assert session.read(url, concurrency=3) == served.read()


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", (1, 3, None))
def test_two_hundred_opens_leak_nothing(
    concurrency: int | None, session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(2 * MIB)
    url, expected = nginx.url(served), served.read()

    def use() -> tuple[int, int, int]:
        for number in range(100):
            with session.urlopen(url, concurrency=concurrency) as fh:
                # Some are read to the end, some are left midway, some are not read at all.
                assert fh.read([-1, MIB, 0][number % 3]) == expected[: [None, MIB, 0][number % 3]]
        everyone = [psutil.Process(), *engines()]
        memory = sum(process.memory_full_info().uss for process in everyone)
        return sum(process.num_fds() for process in everyone), len(everyone), memory

    fds, processes, memory = use()
    again = use()
    assert again[1] == processes
    # A connection that was left midway is closed by the engine a little later than the next one is opened.
    assert again[0] <= fds + 3
    assert again[2] <= memory + 8 * MIB


def test_row_55_after_a_fork_the_child_starts_its_own_engine(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(5 * MIB)
    result = run_python(
        f"""
        import os, getm
        url, md5 = {nginx.url(served)!r}, "md5:{served.md5_hex}"
        fh = getm.urlopen(url)
        view = fh.read(100)
        child = os.fork()
        if child == 0:
            try:
                fh.read(1)
            except getm.errors.ReaderClosed as error:
                assert "fork" in str(error), error
            assert bytes(view[:1]) == {served.read(0, 1)!r}
            del view
            assert len(getm.read(url, checksum=md5)) == {served.size_bytes}
            getm.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert len(fh.read()) == {served.size_bytes} - 100
        """
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_row_55_daemonic_workers_use_it(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(5 * MIB)
    result = run_python(
        f"""
        import multiprocessing, getm

        def work(url):
            return sum(len(part) for part in getm.iter_content(url, checksum="md5:{served.md5_hex}"))

        url = {nginx.url(served)!r}
        assert work(url) == {served.size_bytes}
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(work, [url] * 4) == [{served.size_bytes}] * 4
            pool.close()
            pool.join()
        """
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_row_55_python_reads_the_program_from_standard_input(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(1000)
    result = run_python(f"import getm\nprint(len(getm.read({nginx.url(served)!r})))", stdin=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "1000\n", "")


def test_a_program_that_never_closes_anything_ends_cleanly(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(40 * MIB)
    result = run_python(
        f"""
        import getm
        url = {nginx.url(served)!r}
        session = getm.Session()
        for concurrency in (1, 3, None):
            fh = session.urlopen(url, concurrency=concurrency)
            view = fh.read(10)
            parts = getm.iter_content(url, concurrency=concurrency)
            part = next(parts)
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_row_55_synchronous_use_inside_a_running_loop(
    session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    """As in a notebook cell."""
    served = make_object(5 * MIB)

    async def cell() -> bytes:
        return bytes(session.read(nginx.url(served), concurrency=None)) + bytes(session.read(nginx.url(served)))

    assert asyncio.run(cell()) == served.read() * 2


async def test_the_loop_stays_free_and_what_is_there_needs_no_thread(
    session: getm.Session, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(3 * MIB)
    url = nginx.url(served)
    readers = [session.urlopen(url) for _ in range(10)]
    for fh in readers:
        assert fh.read() == served.read()
        fh.close()
    threads = threading.active_count()
    seen: list[int] = []

    async def consume() -> int:
        total = 0
        async for part in session.aiter_content(url):
            seen.append(threading.active_count())
            total += len(part)
        return total

    assert await asyncio.gather(*(consume() for _ in range(10))) == [served.size_bytes] * 10
    assert set(seen) == {threads}


def test_row_56_the_url_stands_in_no_process_list(session: getm.Session, nginx: NginxServer, make_object: Make) -> None:
    with session.urlopen(nginx.url(make_object(1000)) + "?X-Amz-Signature=verysecret") as fh:
        fh.read(1)
        for process in (psutil.Process(), *engines()):
            assert "verysecret" not in " ".join(process.cmdline())
            assert "verysecret" not in " ".join(process.environ().values())


def test_a_closed_session_says_so(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(30 * MIB)
    session = getm.Session()
    fh = session.urlopen(nginx.url(served))
    session.close()
    with pytest.raises(ReaderClosed, match="session was closed"):
        fh.read()
    fh.close()
    with pytest.raises(ReaderClosed, match="session is closed"):
        session.urlopen(nginx.url(served))
    session.close()


def test_a_dropped_session_takes_its_engine_along(nginx: NginxServer, make_object: Make) -> None:
    session = getm.Session()
    session.read(nginx.url(make_object(1000)))
    (engine,) = engines()
    del session
    gc.collect()
    engine.wait()


def test_an_object_that_is_cancelled_before_it_was_begun_ends(fault_server: FaultServer) -> None:
    """OPEN and CANCEL reach the engine together: each OPEN still has its one end, and the channel is idle after it."""
    url = fault_server.serve("/x", Reply(body=b"body"))
    with consumer() as opened:
        opened.fetch(url)
        (engine,) = engines()
        engine.suspend()
        for _ in range(3):
            opened.open(url)
            opened.connection.cancel(opened.last_number)
        engine.resume()
        while not opened.connection.idle:
            opened.connection.pump(wait=True)
        assert b"".join(opened.fetch(url).parts.values()) == b"body"
