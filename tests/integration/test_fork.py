"""Views across a fork never change, in the child or in the parent."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import getm
from getm.buffers import fork
from getm.core.this_process import process_number
from tests.integration.test_processes import run_python
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

MIB = 1024 * 1024
Make = Callable[..., ServedObject]


@contextmanager
def child(look: Callable[[], bool]) -> Iterator[None]:
    """A forked child that calls `look` after the body, in which the parent does its worst."""
    ready_in, ready_out = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ready_out)
            os.read(ready_in, 1)
            os._exit(0 if look() else 17)
        finally:
            os._exit(18)
    os.close(ready_in)
    try:
        yield
    finally:
        # Not by the end of file: a child of another thread may have this end, too.
        os.write(ready_out, b"x")
        os.close(ready_out)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize(
    ("memory", "concurrency", "size"),
    [
        *itertools.product(("memfd",), (1, 3, None), (MIB, 1000, 3 * MIB, 1_234_567)),
        ("posix", 1, MIB),
        ("posix", 3, 3 * MIB),
        ("posix", None, 1_234_567),
    ],
)
def test_case_45_views_of_a_child_stay_as_they_are(
    size: int,
    concurrency: int | None,
    memory: str,
    nginx: NginxServer,
    make_object: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if memory == "posix":
        monkeypatch.setenv("GETM_SHARED_MEMORY", "posix")
    served = make_object(60 * MIB)
    expected = served.read()
    with getm.Session() as session, session.urlopen(nginx.url(served), concurrency=concurrency) as fh:
        views = [fh.read(size) for _ in range(3)]
        arrays = [np.frombuffer(views[1], dtype=np.uint8)[10:900]]
        with child(
            lambda: (
                bytes(views[0]) == expected[:size]
                and bytes(views[2]) == expected[2 * size : 3 * size]
                and arrays[0].tobytes() == expected[size + 10 : size + 900]
            )
        ):
            views.clear()
            arrays.clear()
            # Every slot is used again, several times.
            assert fh.read() == expected[3 * size :]
            assert session.read(nginx.url(served), concurrency=concurrency) == expected


def test_case_45_views_of_a_child_stay_after_its_reader_and_session_were_closed(
    nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(30 * MIB)
    expected = served.read()
    with getm.Session() as session:
        fh = session.urlopen(nginx.url(served))
        views = [fh.read(2 * MIB)]
        fh.close()
        with child(lambda: bytes(views[0]) == expected[: 2 * MIB]):
            views.clear()
            assert session.read(nginx.url(served)) == expected
        views.append(session.read(nginx.url(served))[: 2 * MIB])
    with child(lambda: bytes(views[0]) == expected[: 2 * MIB]):
        views.clear()


def test_case_45_views_of_the_parent_stay_while_children_use_theirs(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(30 * MIB)
    with getm.Session() as session:
        digest = hashlib.md5()
        for part in session.iter_content(nginx.url(served)):
            seen = bytes(part)
            with child(lambda: bytes(part) == seen):  # noqa: B023  # called at once
                digest.update(part)
        assert digest.hexdigest() == served.md5_hex


def test_case_45_threads_let_go_of_views_while_another_one_forks(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(30 * MIB)
    expected = served.read()
    stop = threading.Event()
    wrong: list[str] = []

    def read_on() -> None:
        while not stop.is_set():
            at = 0
            for part in session.iter_content(nginx.url(served), checksum=None):
                if part != expected[at : at + len(part)]:
                    wrong.append("parent")
                at += len(part)

    with getm.Session() as session:
        threads = [threading.Thread(target=read_on) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                view = session.read(nginx.url(served))[: 3 * MIB]
                with session.urlopen(nginx.url(served)) as fh:
                    held = [fh.read(MIB)]
                    with child(lambda: held[0] == expected[:MIB] and view == expected[: 3 * MIB]):  # noqa: B023
                        held.clear()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert wrong == []


def test_case_45_two_threads_fork_at_once(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(3 * MIB)
    expected = served.read()
    raised: list[BaseException] = []

    def use() -> None:
        try:
            for _ in range(10):
                with session.urlopen(nginx.url(served)) as fh:
                    view = fh.read(MIB)
                    with child(lambda: bytes(view) == expected[:MIB]):  # noqa: B023  # called at once
                        fh.read()
        except BaseException as error:
            raised.append(error)

    with getm.Session() as session:
        threads = [threading.Thread(target=use) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert raised == []
    assert not fork._under_way and not fork._delayed


def test_case_45_without_descriptors_the_slots_are_not_used_again(
    nginx: NginxServer, make_object: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = make_object(60 * MIB)
    expected = served.read()

    def refuse() -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    with getm.Session() as session, session.urlopen(nginx.url(served)) as fh:
        view = fh.read(MIB)
        ready_in, ready_out = os.pipe()
        monkeypatch.setattr(os, "pipe", refuse)
        pid = os.fork()
        if pid == 0:
            os.close(ready_out)
            os.read(ready_in, 1)
            os._exit(0 if bytes(view) == expected[:MIB] else 17)
        monkeypatch.undo()
        os.close(ready_in)
        del view
        assert fh.read() == expected[MIB:]
        os.close(ready_out)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


async def test_case_45_views_of_an_asynchronous_iterator(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(60 * MIB)
    expected = served.read()
    with getm.Session() as session:
        parts = session.aiter_content(nginx.url(served))
        held = [await anext(parts)]
        with child(lambda: bytes(held[0]) == expected[:MIB]):
            held.clear()
            rest = b"".join([bytes(part) async for part in parts])
        assert rest == expected[MIB:]


def test_case_45_multiprocessing_by_fork(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(60 * MIB)
    result = run_python(
        f"""
        import hashlib, multiprocessing, getm

        def work(queue):
            event.wait()
            queue.put(hashlib.md5(view).hexdigest())

        context = multiprocessing.get_context("fork")
        event, queue = context.Event(), context.Queue()
        fh = getm.urlopen({nginx.url(served)!r})
        view = fh.read(5 << 20)
        right = hashlib.md5(view).hexdigest()
        workers = [context.Process(target=work, args=(queue,)) for _ in range(4)]
        for worker in workers:
            worker.start()
        del view
        fh.read()
        event.set()
        assert [queue.get() for _ in workers] == [right] * 4
        for worker in workers:
            worker.join()
        """
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_a_fork_without_leases_costs_nothing(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(MIB)
    with getm.Session() as session:
        session.read(nginx.url(served))
        before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
        worker = multiprocessing.get_context("fork").Process(target=sys.exit)
        worker.start()
        worker.join()
        assert worker.exitcode == 0
        worker.close()
        assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_the_number_of_the_process_is_that_of_a_forked_child() -> None:
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        os.write(send, f"{process_number()} {os.getpid()}".encode())
        os._exit(0)
    os.close(send)
    with os.fdopen(receive) as answer:
        number, real = answer.read().split()
    os.waitpid(child, 0)
    assert number == real != str(process_number())
    assert process_number() == os.getpid()


def test_a_file_of_the_parent_says_so_in_the_child(nginx: NginxServer, make_object: Make) -> None:
    """And the parent reads on."""
    served = make_object(30 * MIB)
    expected = served.read()

    def refused(fh: getm.Reader) -> bool:
        try:
            fh.seek(20 * MIB)
            fh.read(10)
        except getm.ReaderClosed as error:
            return "before fork" in str(error)
        return False

    with getm.Session() as session, session.open(nginx.url(served)) as fh:
        fh.seek(10 * MIB)
        assert fh.read(5) == expected[10 * MIB :][:5]
        with child(lambda: refused(fh.raw)):
            pass
        fh.seek(5 * MIB)
        assert fh.read(5) == expected[5 * MIB :][:5]
