"""The functions of the module: methods of one session, which starts when it is used, whatever has ended it."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator

import pytest

import getm
from getm.core.units import MIB
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

Make = Callable[..., ServedObject]


@pytest.fixture(autouse=True)
def closed_afterwards() -> Iterator[None]:
    yield
    getm.close()


def test_it_starts_again_after_close(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(MIB)
    read, close = getm.read, getm.close
    for _ in range(3):
        assert read(nginx.url(served)) == served.read()
        close()
        close()


def test_close_ends_what_is_under_way_and_nothing_that_comes_later(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(64 * MIB)
    with getm.urlopen(nginx.url(served)) as fh:
        start = fh.read(MIB)
        getm.close()
        with pytest.raises(getm.GetmError):
            fh.read()
        assert start == served.read(0, MIB)
    with getm.urlopen(nginx.url(served)) as fh:
        assert fh.read(MIB) == start


def test_it_starts_again_after_a_fork(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(MIB)
    assert getm.read(nginx.url(served)) == served.read()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if getm.read(nginx.url(served)) == served.read() else 2
            getm.close()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert getm.read(nginx.url(served)) == served.read()


def test_case_61_its_methods_work_in_other_processes(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(MIB)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        for algorithm in ("md5", "sha256"):
            assert pool.submit(getm.checksum, served.read(), algorithm).result() == getm.checksum(
                served.read(), algorithm
            )
        assert pool.submit(_length, getm.read, nginx.url(served)).result() == MIB
    assert pickle.loads(pickle.dumps(getm.read)) == getm.read


def _length(read: Callable[[str], memoryview], url: str) -> int:
    length = len(read(url))
    getm.close()
    return length
