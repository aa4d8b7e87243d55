"""Whole transfers on each kind of memory, and on machines that have little of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import getm
from getm.buffers.segment import BACKING_VARIABLE
from getm.client import pool
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

MIB = 1024 * 1024
Make = Callable[..., ServedObject]


def everything(session: getm.Session, url: str, expected: bytes) -> None:
    for concurrency in (1, 4, None):
        assert session.read(url, concurrency=concurrency) == expected
        parts = session.iter_content(url, concurrency=concurrency)
        assert b"".join(map(bytes, parts)) == expected


def test_posix_shared_memory_leaves_no_name(
    nginx: NginxServer, make_object: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BACKING_VARIABLE, "posix")
    served = make_object(40 * MIB)
    before = set(os.listdir("/dev/shm"))  # noqa: PTH208
    with getm.Session(processes=2) as session, session.urlopen(nginx.url(served)) as fh:
        fh.read(1)
        assert any("/dev/shm/getm-" in line for line in Path("/proc/self/maps").read_text().splitlines())
        assert set(os.listdir("/dev/shm")) == before  # noqa: PTH208
        everything(session, nginx.url(served), served.read())


def test_a_refused_memfd_falls_back(nginx: NginxServer, make_object: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a seccomp profile refuses it."""

    def refuse(name: str, flags: int = 0) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", refuse)
    served = make_object(5 * MIB)
    with getm.Session() as session:
        everything(session, nginx.url(served), served.read())


@pytest.mark.parametrize("available", (64 * MIB, 5 * MIB, MIB, 200_000))
def test_the_ring_fits_what_the_machine_has(
    available: int, nginx: NginxServer, make_object: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "available_bytes", lambda: available)
    served = make_object(5 * MIB)
    with getm.Session() as session:
        everything(session, nginx.url(served), served.read())
        assert sum(channel.geometry.total_bytes for channel in session._pool._channels[:1]) <= available // 2


def test_too_little_memory_is_a_clear_error(
    nginx: NginxServer, make_object: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "available_bytes", lambda: 1000)
    with (
        getm.Session() as session,
        pytest.raises(getm.errors.MemoryUnavailable, match="no room for another ring") as caught,
    ):
        session.read(nginx.url(make_object(1000)))
    assert isinstance(caught.value, MemoryError)


@pytest.mark.parametrize("max_memory", (64 * 1024, 300_000, 2 * MIB, 20 * MIB))
def test_a_small_budget_is_kept(max_memory: int, nginx: NginxServer, make_object: Make) -> None:
    served = make_object(5 * MIB)
    with getm.Session(max_memory=max_memory) as session:
        everything(session, nginx.url(served), served.read())
        assert sum(channel.geometry.total_bytes for channel in session._pool._channels) <= max_memory


def test_many_streams_share_the_budget_and_one_too_many_is_told(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(40 * MIB)
    with getm.Session(max_memory=64 * MIB) as session:
        opened: list[getm.Reader] = []
        with pytest.raises(getm.errors.MemoryUnavailable, match="close some") as caught:
            while True:
                opened.append(session.urlopen(nginx.url(served)))
        assert len(opened) >= 4
        assert caught.value.available is not None
        first = opened.pop()
        first.close()
        with session.urlopen(nginx.url(served)) as fh:
            assert fh.read(10) == served.read(0, 10)
        for fh in opened:
            assert fh.read(5 * MIB) == served.read(0, 5 * MIB)
            fh.close()
