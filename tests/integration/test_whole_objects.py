"""Whole objects at their final place: no copy, no ring, and memory that nobody can change after the verdict."""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import getm
from getm.buffers import object_memory
from getm.buffers.object_memory import ObjectMemory
from getm.testing import FaultServer, Reply, Request
from tests.support.engines import engines
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

MIB = 1024 * 1024
BODY = random.Random(17).randbytes(21 * MIB + 5)
OTHER = random.Random(18).randbytes(len(BODY))
MODES = (1, 4, "auto", None)
Make = Callable[..., ServedObject]

F_GET_SEALS, F_SEAL_WRITE = 1034, 8

each_mode = pytest.mark.parametrize("concurrency", MODES)


@pytest.fixture
def session(shared_session: Callable[..., getm.Session], nginx: NginxServer) -> getm.Session:
    return shared_session(cacert=nginx.ca_path)


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seals of each object's memory, as they are when the caller gets it."""
    found: list[int] = []
    seal = ObjectMemory.seal

    def record(memory: ObjectMemory) -> None:
        seal(memory)
        found.append(fcntl.fcntl(memory.descriptor, F_GET_SEALS))

    monkeypatch.setattr(ObjectMemory, "seal", record)
    return found


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@each_mode
@pytest.mark.parametrize("tls", (False, True))
@pytest.mark.parametrize("size", (MIB, 4 * MIB + 1, 30 * MIB))
def test_every_mode_gives_sealed_memory(
    size: int,
    tls: bool,
    concurrency: int | None,
    nginx: NginxServer,
    make_object: Make,
    session: getm.Session,
    sealed: list[int],
) -> None:
    served = make_object(size)
    url = nginx.url(served, tls=tls)
    view = session.read(url, concurrency=concurrency, checksum=f"md5:{served.md5_hex}", strict=True)
    assert view == served.read() and view.readonly
    assert asyncio.run(session.aread(url, concurrency=concurrency)) == view
    assert len(sealed) == 2 and all(seals & F_SEAL_WRITE for seals in sealed)


@each_mode
@pytest.mark.parametrize("via", ("chunked", "close-delimited", "no-ranges", "gzip-always", "redirect/relative"))
def test_whatever_the_framing(
    via: str, concurrency: int | None, nginx: NginxServer, make_object: Make, session: getm.Session
) -> None:
    served = make_object(5 * MIB)
    expected = nginx.objects.add_gzip(served) if via == "gzip-always" else served.read()
    assert session.read(nginx.url(served, via=via), concurrency=concurrency) == expected


def test_held_views_never_change_and_hold_no_descriptor(
    nginx: NginxServer, make_object: Make, session: getm.Session
) -> None:
    objects = [make_object(2 * MIB, seed) for seed in range(3)]
    session.read(nginx.url(objects[0]))
    before = descriptors()
    held = [(served, session.read(nginx.url(served))) for served in objects for _ in range(5)]
    assert descriptors() <= before + 1
    for served, view in held:
        assert view == served.read()
        assert view[MIB:].obj is view.obj


def test_the_memory_is_unmapped_with_the_last_view(
    nginx: NginxServer, make_object: Make, session: getm.Session
) -> None:
    def mapped() -> int:
        with open("/proc/self/maps") as maps:  # noqa: PTH123
            return sum("memfd:getm-object" in line for line in maps)

    view = session.read(nginx.url(make_object(2 * MIB)))
    part = view[5:10]
    del view
    assert mapped() == 1
    del part
    assert mapped() == 0


@each_mode
def test_wrong_bytes_are_no_view(
    concurrency: int | None, fault_server: FaultServer, session: getm.Session, sealed: list[int]
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY, flip_bit=len(BODY) * 4))
    right = str(getm.checksum(BODY, "sha256"))
    with pytest.raises(getm.ChecksumMismatch):
        session.read(url, concurrency=concurrency, checksum=right)
    assert sealed == []


@pytest.mark.parametrize("concurrency", (1, 4))
def test_broken_connections_are_continued_in_place(
    concurrency: int, fault_server: FaultServer, session: getm.Session, sealed: list[int]
) -> None:
    url = fault_server.serve(
        "/x", Reply(body=BODY, cut_at=3 * MIB + 1), Reply(body=BODY, cut_at=70_000, then="reset"), Reply(body=BODY)
    )
    right = str(getm.checksum(BODY, "sha256"))
    assert session.read(url, concurrency=concurrency, checksum=right) == BODY
    assert all(seals & F_SEAL_WRITE for seals in sealed)


def test_without_a_validator_it_starts_over(fault_server: FaultServer, session: getm.Session) -> None:
    url = fault_server.serve(
        "/x", Reply(body=OTHER, etag=None, last_modified=None, cut_at=3 * MIB), Reply(body=BODY, etag=None)
    )
    assert session.read(url, concurrency=1) == BODY


@pytest.mark.parametrize("lies", (False, True))
def test_another_version_in_the_middle_is_never_joined(
    lies: bool, fault_server: FaultServer, session: getm.Session
) -> None:
    """An object that is replaced once; and a server that sends a 206 of the other one though If-Range forbids it."""

    def reply(request: Request) -> Reply:
        wanted = request.header("Range")
        if lies and request.header("If-Range") and wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            return Reply(body=OTHER, etag='"v2"', span=(int(first), int(last) + 1))
        new = request.number >= 2
        return Reply(body=OTHER if new and not lies else BODY, etag='"v2"' if new and not lies else '"v1"')

    url = fault_server.serve("/x", reply)
    if lies:
        # Read again over one connection, which asks for no ranges.
        assert session.read(url, concurrency=4) == BODY
    else:
        assert session.read(url, concurrency=4) == OTHER


def test_what_it_needs_is_said_before_it_is_taken(
    fault_server: FaultServer, session: getm.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    assert session.read(url) == BODY
    monkeypatch.setattr(object_memory, "available_bytes", lambda: 20 * MIB)
    with pytest.raises(getm.MemoryUnavailable, match=f"{len(BODY)} bytes.*iter_content") as caught:
        session.read(url)
    assert caught.value.wanted == len(BODY) and caught.value.available is not None
    assert session.read(url, length=5) == BODY[:5]


def test_objects_that_are_being_read_count(
    fault_server: FaultServer, session: getm.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = fault_server.gate()
    slow = fault_server.serve("/slow", Reply(body=BODY, stall_at=MIB, gate=gate))
    url = fault_server.serve("/x", Reply(body=BODY))
    monkeypatch.setattr(object_memory, "available_bytes", lambda: 40 * MIB)
    reading = threading.Thread(target=session.read, args=(slow,))
    reading.start()
    gate.wait_reached()
    with pytest.raises(getm.MemoryUnavailable):
        session.read(url)
    gate.open()
    reading.join()
    assert session.read(url) == BODY


def test_a_forked_child_keeps_nothing_of_what_is_being_read(fault_server: FaultServer, session: getm.Session) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=BODY, stall_at=MIB, gate=gate))
    reading = threading.Thread(target=session.read, args=(url,))
    reading.start()
    gate.wait_reached()
    child = os.fork()
    if not child:
        links = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
        found = [link for link in links if "getm-object" in str(link)]
        os._exit(len(found))
    assert os.waitpid(child, 0)[1] == 0
    gate.open()
    reading.join()


@pytest.mark.parametrize("tls", (False, True))
def test_helper_engines_write_into_it_as_well(
    tls: bool, nginx: NginxServer, make_object: Make, shared_session: Callable[..., getm.Session], sealed: list[int]
) -> None:
    served = make_object(30 * MIB)
    session = shared_session(processes=3, cacert=nginx.ca_path)
    for checksum in ("auto", f"sha256:{served.sha256_hex}"):
        mark = nginx.log.mark()
        assert session.read(nginx.url(served, tls=tls), concurrency=4, checksum=checksum) == served.read()
        assert len({each.connection for each in nginx.log.since(mark)}) >= 3
    assert len(engines()) == 3
    assert len(sealed) == 2 and all(seals & F_SEAL_WRITE for seals in sealed)


def test_a_helper_that_is_killed_is_an_error(fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=BODY), Reply(body=BODY, stall_at=5, gate=gate))
    with getm.Session(processes=2) as session:

        def kill() -> None:
            gate.wait_reached()
            # The lead was started first.
            engines()[-1].send_signal(signal.SIGKILL)

        killing = threading.Thread(target=kill)
        killing.start()
        with pytest.raises(getm.EngineDied):
            session.read(url, concurrency=2)
        killing.join()
        gate.open()
        fault_server.serve("/x", Reply(body=BODY))
        assert session.read(url, concurrency=2) == BODY


def test_an_engine_that_is_killed_is_an_error_and_leaves_nothing(fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=BODY, stall_at=5 * MIB, gate=gate), Reply(body=BODY))
    with getm.Session() as session:

        def kill() -> None:
            gate.wait_reached()
            for engine in engines():
                engine.send_signal(signal.SIGKILL)

        killing = threading.Thread(target=kill)
        killing.start()
        with pytest.raises(getm.EngineDied):
            session.read(url, concurrency=1)
        killing.join()
        gate.open()
        assert session.read(url) == BODY


def test_a_session_that_is_closed_ends_the_wait(fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=BODY, stall_at=5 * MIB, gate=gate))
    session = getm.Session()

    def close() -> None:
        gate.wait_reached()
        session.close()

    closing = threading.Thread(target=close)
    closing.start()
    with pytest.raises(getm.ReaderClosed):
        session.read(url)
    closing.join()
    gate.open()


def test_a_cancelled_task_ends_its_transfer(fault_server: FaultServer, session: getm.Session) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=BODY, stall_at=5 * MIB, gate=gate), Reply(body=BODY))

    async def cancel() -> None:
        reading = asyncio.ensure_future(session.aread(url))
        await asyncio.get_running_loop().run_in_executor(None, gate.wait_reached)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(cancel())
    gate.open()
    assert session.read(url) == BODY


@each_mode
@pytest.mark.parametrize("offset", (0, 7, 5 * MIB, 2**63 - 1, -100, -len(BODY) - 5))
def test_into_a_buffer(offset: int, concurrency: int | None, fault_server: FaultServer, session: getm.Session) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    buffer = bytearray(b"." * (len(BODY) + 3))
    expected = BODY[offset:]
    assert session.readinto(url, buffer, offset=offset, concurrency=concurrency) == len(expected)
    assert buffer == expected + b"." * (len(buffer) - len(expected))


@pytest.mark.parametrize("framing", ("length", "chunked"))
def test_a_buffer_that_is_too_small(framing: str, fault_server: FaultServer, session: getm.Session) -> None:
    url = fault_server.serve("/x", Reply(body=BODY, framing=framing, ranges=False))  # type: ignore[arg-type]
    buffer = bytearray(3 * MIB)
    with pytest.raises(getm.SizeMismatch, match="larger one"):
        session.readinto(url, buffer)
    assert any(buffer) is (framing == "chunked")
    with pytest.raises(TypeError):
        session.readinto(url, b"read-only")


def test_seals_refuse_every_write() -> None:
    for let_go in (True, False):
        memory = ObjectMemory(3 * MIB)
        writing = object_memory.WritableMemory(os.dup(memory.descriptor), memory.size)
        writing.space(0, 5)[:] = b"12345"
        if let_go:
            assert writing.close()
        memory.seal()
        view = memory.view()
        assert bytes(view[:6]) == b"12345\0" and object_memory.is_sealed(memory.descriptor)
        with pytest.raises(PermissionError):
            os.pwrite(memory.descriptor, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(memory.descriptor, 5)
        with pytest.raises(PermissionError):
            mmap.mmap(memory.descriptor, 5)
        memory.close()
        assert bytes(view[:5]) == b"12345"
        writing.close()
