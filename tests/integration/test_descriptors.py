"""File descriptors that end, in the caller's process and in the engine; descriptors 0 to 2 closed; hostile messages."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import msgspec
import psutil
import pytest

import getm
from getm.client.connection import ClientConnection
from getm.client.engines import ProcessEngine
from getm.errors import DescriptorsExhausted, EngineDied, ProtocolError
from getm.protocol.codec import FRAME, encode_body
from getm.protocol.messages import Kind, ServeRequest
from getm.testing import FaultServer, Reply
from tests.support.consumer import consumer, open_request
from tests.support.engines import engines
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

MIB = 1024 * 1024
Make = Callable[..., ServedObject]


def run_python(code: str, *arguments: str, **how: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, **how)  # type: ignore[call-overload, no-any-return]  # as `run`


def number_of_free(count: int, pid: int | None = None) -> int:
    """The limit that leaves a process `count` descriptors beside those that it has open."""
    taken = {int(name) for name in os.listdir(f"/proc/{pid or os.getpid()}/fd")}  # noqa: PTH208
    return next(islice((number for number in itertools.count() if number not in taken), count, None))


@contextlib.contextmanager
def limit(count: int, pid: int = 0) -> Iterator[None]:
    """At most `count` descriptors beside the open ones, in this process or another."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (number_of_free(count, pid), hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def test_case_10_the_engine_raises_its_limit(nginx: NginxServer, make_object: Make) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(200, before[1]), before[1]))
    try:
        with getm.Session() as session:
            session.read(nginx.url(make_object(1000)))
            (engine,) = engines()
            assert resource.prlimit(engine.pid, resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("left", range(9))
def test_case_10_descriptors_that_end_in_this_process_are_named(
    left: int, nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(MIB)
    with getm.Session() as session:
        with limit(left):
            try:
                assert session.read(nginx.url(served)) == served.read()
            except DescriptorsExhausted as error:
                assert left < 8
                assert "descriptor" in str(error) and "ulimit -n" in str(error)
                assert isinstance(error, OSError)
        assert session.read(nginx.url(served)) == served.read()


def test_case_10_a_batch_goes_on_with_what_it_has(nginx: NginxServer, make_object: Make, tmp_path: Path) -> None:
    """A second engine cannot be had: the first one does all of it."""
    urls = [nginx.url(make_object(MIB, seed)) for seed in range(6)]
    with getm.Session(processes=2) as session:
        real, count = session._pool.try_acquire, 0

        def once(*args: int, **more: int) -> ClientConnection | None:
            nonlocal count
            count += 1
            if count > 1:
                raise DescriptorsExhausted.of("this process")
            return real(*args, **more)  # type: ignore[arg-type]  # passed on as they came

        session._pool.try_acquire = once  # type: ignore[method-assign,assignment]  # a stand-in
        assert len(list(session.download_all(urls, directory=tmp_path, jobs=4))) == 6
        assert count > 1


def test_case_10_an_engine_without_descriptors_refuses_one_and_goes_on_with_the_others(
    nginx: NginxServer, make_object: Make
) -> None:
    served = make_object(30 * MIB)
    url = nginx.url(served)
    with getm.Session(max_memory=1024 * MIB) as session:
        first = session.urlopen(url)
        (engine,) = engines()
        opened, refused = [first], []
        with limit(40, engine.pid):
            for _ in range(30):
                try:
                    opened.append(session.urlopen(url))
                except DescriptorsExhausted as error:
                    refused.append(error)
        assert refused and all("descriptor" in str(error) for error in refused)
        assert engine.is_running()
        for fh in opened:
            assert fh.read() == served.read()
            fh.close()
        assert session.read(url, concurrency=2) == served.read()
        assert [each.pid for each in engines()] == [engine.pid]


def test_case_10_lost_descriptors_are_noticed(nginx: NginxServer, make_object: Make) -> None:
    """The kernel drops those that a full engine cannot take, and says so (MSG_CTRUNC)."""
    served = make_object(5 * MIB)
    with getm.Session() as session, session.urlopen(nginx.url(served)) as fh:
        (engine,) = engines()
        fds = engine.num_fds()
        for room in (0, 1):
            ours, theirs = zip(*(socket.socketpair() for _ in range(3)), strict=True)
            try:
                with limit(room, engine.pid):
                    control = session._pool._engines[0]._control
                    message = encode_body(Kind.SERVE, 0, ServeRequest(4096, 4, 1, 16384, None, 0, None))
                    socket.send_fds(control, [message], [end.fileno() for end in theirs])
                    for end in theirs:
                        end.close()
                    # All of them are closed: none is kept, none becomes another message's.
                    assert [end.recv(1) for end in ours] == [b""] * len(ours)
            finally:
                for end in (*ours, *theirs):
                    end.close()
        assert engine.num_fds() == fds
        assert fh.read() == served.read()


@pytest.mark.parametrize("room", range(6))
def test_case_10_a_transfer_that_is_refused_leaves_nothing_for_the_next_one(
    room: int, nginx: NginxServer, make_object: Make
) -> None:
    """Whichever descriptor is missing: one of those that come with the message, or one to map the segment."""
    served = make_object(1000)
    url = nginx.url(served)
    with getm.Session(processes=2) as session, contextlib.ExitStack() as opened:

        def open_another() -> getm.Reader:
            # Each has a ring of its own.
            return opened.enter_context(session.urlopen(url, concurrency=2))

        open_another()
        for serving in session._pool._engines:
            # With few descriptors it would take no further transfer, whatever comes with it.
            segment = os.memfd_create("segment")
            os.truncate(segment, 16384)
            pairs = [socket.socketpair() for _ in range(51)]
            message = encode_body(Kind.SERVE, 0, ServeRequest(4096, 4, 1, 16384, None, 50, None))
            ends = [pair[1].fileno() for pair in pairs]
            socket.send_fds(serving._control, [message], [ends[0], segment, *ends[1:]])
            os.close(segment)
            for pair in pairs:
                opened.enter_context(pair[0])
                pair[1].close()
        open_another()
        open_another()
        for engine in engines():
            for _ in range(2):
                with limit(room, engine.pid), contextlib.suppress(DescriptorsExhausted, EngineDied):
                    open_another()
        assert [open_another().read() for _ in range(4)] == [served.read()] * 4


def test_case_10_an_engine_goes_on_without_a_helper_that_was_refused(nginx: NginxServer, make_object: Make) -> None:
    small, large = make_object(1000), make_object(40 * MIB)
    with getm.Session(processes=2) as session:
        with session.urlopen(nginx.url(small), concurrency=2) as first:
            lead = first._transfer.connection.team[0]
            assert isinstance(lead, ProcessEngine)
            # The next ring has it as its helper. The lead may ask it before it learns of the refusal.
            with limit(0, lead.process.pid), contextlib.suppress(EngineDied):
                session.read(nginx.url(large), concurrency=4)
        for _ in range(3):
            with session.urlopen(nginx.url(large), concurrency=4) as fh:
                assert fh.read() == large.read()


def test_case_10_no_descriptor_for_a_connection_to_a_server(
    nginx: NginxServer, make_object: Make, fault_server: FaultServer
) -> None:
    served = make_object(30 * MIB)
    other = fault_server.serve("/other", Reply(body=b"other"))
    with getm.Session() as session:
        assert session.read(nginx.url(served)) == served.read()
        with session.urlopen(nginx.url(served)) as fh:
            session.read(nginx.url(served))
            (engine,) = engines()
            with limit(0, engine.pid), pytest.raises(DescriptorsExhausted, match="descriptor is left in the engine"):
                session.read(other)
            assert fh.read() == served.read()
        assert bytes(session.read(other)) == b"other"


def test_case_10_no_descriptor_for_certificates(
    nginx: NginxServer, make_object: Make, tls_fault_server: FaultServer, ca_path: Path
) -> None:
    """No error says that they are wrong."""
    url = tls_fault_server.serve("/x", Reply(body=b"x"))
    with getm.Session(cacert=ca_path) as session:
        session.read(nginx.url(make_object(1000)))
        (engine,) = engines()
        with limit(0, engine.pid), pytest.raises(DescriptorsExhausted, match="in the engine"):
            session.read(url)
        assert bytes(session.read(url)) == b"x"


def test_case_10_no_descriptor_for_a_module_that_is_loaded_on_first_use(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(1000)
    declared = f"crc32c:{served.crc32c.hex()}"
    with getm.Session() as session:
        session.read(nginx.url(served), checksum=None)
        (engine,) = engines()
        with limit(0, engine.pid), pytest.raises(DescriptorsExhausted, match="in the engine"):
            session.read(nginx.url(served), checksum=declared)
        assert session.read(nginx.url(served), checksum=declared) == served.read()
        assert engines() == [engine]


@pytest.mark.parametrize("room", range(4))
def test_case_10_a_small_file_fails_where_what_its_request_needs_cannot_be_loaded(
    room: int, nginx: NginxServer, make_object: Make, tmp_path: Path
) -> None:
    """It never stands still: not where its request would begin without a task of its own, either."""
    served = make_object(1000)
    url, target = nginx.url(served), tmp_path / "x"
    with getm.Session(ip_version=4, retries=0) as session:
        with pytest.raises(getm.URLExpired):
            # The engine runs, and has not made a request.
            session.download(
                f"{url}?X-Amz-Credential=a&X-Amz-Date=20200101T000000Z&X-Amz-Expires=1&X-Amz-Signature=0", target
            )
        (engine,) = engines()
        with limit(room, engine.pid), contextlib.suppress(getm.GetmError):
            session.download(url, target)
        session.download(url, target)
    assert target.read_bytes() == served.read()


def test_case_10_no_message_carries_more_descriptors_than_it_may(nginx: NginxServer, make_object: Make) -> None:
    """64 engines were refused: their pipes in one message were more than an engine took."""
    served = make_object(3 * MIB)
    with getm.Session() as session:
        session.read(nginx.url(served))
        engine = session._pool._engines[0]
        layout = session._pool._connections[0].layout
        connection = ClientConnection([engine] * 81, layout, lambda count: True, private=False)
        connection.close()
        assert session.read(nginx.url(served)) == served.read()
        assert engine.alive
    with getm.Session(processes=300) as session:
        asked: list[int] = []

        def connect(layout: object, helpers: int, private: bool) -> ClientConnection:
            asked.append(helpers)
            raise EngineDied("enough")

        session._pool._connect = connect  # type: ignore[method-assign]  # a stand-in
        with pytest.raises(EngineDied):
            session.read(nginx.url(served), concurrency=256)
        assert asked[0] == 251


# Descriptors 0 to 2 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("closed", "concurrency"),
    [
        *itertools.product(((2,), (0, 1, 2)), (1, 3, None)),
        ((0,), 1),
        ((1,), 3),
        ((0, 1), None),
        ((1, 2), 1),
    ],
)
def test_case_57_standard_descriptors_are_closed(
    concurrency: int | None, closed: tuple[int, ...], nginx: NginxServer, make_object: Make, tmp_path: Path
) -> None:
    served = make_object(5 * MIB)
    told = tmp_path / "told"
    code = f"""
        import os, stat
        for number in {closed}:
            os.close(number)
        import getm
        with getm.Session(processes=2) as session:
            view = session.read({nginx.url(served)!r}, concurrency={concurrency}, checksum="md5:{served.md5_hex}")
            session.download({nginx.url(served)!r}, {str(tmp_path / "copy")!r}, concurrency={concurrency})
            kinds = []
            for number in {closed}:
                try:
                    kinds.append(stat.S_ISSOCK(os.fstat(number).st_mode))
                except OSError:
                    pass
        open({str(told)!r}, "w").write(f"{{len(view)}} {{any(kinds)}}")
    """
    run_python(code)
    assert told.read_text() == f"{served.size_bytes} False"
    assert (tmp_path / "copy").read_bytes() == served.read()


# Messages that an engine cannot read ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    (
        b"",
        b"\xc1",
        msgspec.msgpack.encode("no list"),
        msgspec.msgpack.encode(["http://x/"]),
        msgspec.msgpack.encode([1] * 30),
    ),
    ids=("empty", "no MessagePack", "no list", "too short", "wrong types"),
)
def test_case_46_an_engine_answers_what_it_cannot_read_and_serves_the_others(
    body: bytes, fault_server: FaultServer
) -> None:
    gate = fault_server.gate()
    data = os.urandom(3 * MIB)
    url = fault_server.serve("/x", Reply(body=data, stall_at=MIB, gate=gate))
    other = fault_server.serve("/y", Reply(body=data))
    with consumer() as opened:
        first = opened.open(url)
        gate.wait_reached()
        connection = opened.connection
        number = connection.open(open_request(other), refused := Refused())
        assert number == 2
        raw = FRAME.pack(Kind.OPEN, 3, 0, 0, len(body)) + body
        connection._conversation.pass_(Kind.OPEN, 3)
        connection._last_number = 3
        connection._listeners[3] = unread = Refused()
        connection._sock.sendall(raw)
        while unread.error is None:
            connection.pump(wait=True)
        assert isinstance(unread.error, ProtocolError)
        gate.open()
        opened.receive(first)
        assert b"".join(part for _, part in sorted(first.parts.items())) == data
        assert refused.error is None
        assert b"".join(opened.fetch(other).parts.values()) == data


class Refused:
    """Hears of one object, and takes nothing of it."""

    error: getm.GetmError | None = None

    def on_head(self, info: object) -> None: ...
    def on_bytes(self, offset: int, slot: int, start: int, length: int, *, full: bool) -> None: ...
    def on_written(self, offset: int, length: int) -> None: ...
    def on_note(self, info: object) -> None: ...
    def on_adapted(self, info: object) -> None: ...
    def on_expired(self, serial: object) -> None: ...
    def on_end(self, info: object) -> None: ...

    def on_failed(self, error: getm.GetmError) -> None:
        self.error = error


def test_case_46_an_engine_that_ends_one_connection_is_not_killed(
    nginx: NginxServer, make_object: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no message at all ends its pipe: the engine lives, and so do the transfers of others."""
    monkeypatch.setattr("getm.client.engines._DEATH_S", 0.05)
    served = make_object(30 * MIB)
    with getm.Session() as session, session.urlopen(nginx.url(served)) as other:
        with session.urlopen(nginx.url(served)) as fh:
            (engine,) = engines()
            fh._transfer.connection._sock.sendall(b"\xff" * FRAME.size)
            with pytest.raises(EngineDied, match="serves others"):
                fh.read()
        assert other.read() == served.read()
        assert engine.is_running() and engine.status() != psutil.STATUS_ZOMBIE


def test_case_46_a_killed_engine_is_still_told_by_its_signal(nginx: NginxServer, make_object: Make) -> None:
    served = make_object(30 * MIB)
    with getm.Session() as session:
        readers = [session.urlopen(nginx.url(served)) for _ in range(4)]
        process = session._pool._engines[0]
        assert isinstance(process, ProcessEngine)
        process.process.kill()
        raised: list[BaseException] = []

        def use(fh: getm.Reader) -> None:
            try:
                fh.read()
            except EngineDied as error:
                raised.append(error)

        threads = [threading.Thread(target=use, args=(fh,)) for fh in readers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(raised) == 4 and all("SIGKILL" in str(error) for error in raised)
