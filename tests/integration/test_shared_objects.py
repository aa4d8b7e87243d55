"""Objects in memory that processes share: the same pages for all, and one transfer for those that ask together."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing import util
from pathlib import Path
from typing import Any

import pytest

import getm
from getm.client import single_flight
from getm.testing import FaultServer, Reply, failure
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

MIB = 1024 * 1024
BODY = random.Random(21).randbytes(3 * MIB + 5)
Make = Callable[..., ServedObject]

# Prints the digest of what it has of the object, and of which memory; then waits for a line.
PROGRAM = """
import sys, getm
# Not "auto", where a connection may be given up with some bytes on their way.
shared = getm.shared(sys.argv[1], once=True, checksum=None, concurrency=1)
print(getm.checksum(shared.view, "md5"), shared._memory.name, flush=True)
sys.stdin.readline()
for line in open("/proc/self/smaps"):
    if "-" in line.split()[0]:
        ours = "memfd:getm-object" in line
    elif ours and line.startswith("Pss:"):
        print(line.split()[1], flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session()


@pytest.fixture(autouse=True)
def runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where processes meet in a test."""
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder / "getm"


class Member:
    """A process that asks for a shared object."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def has(self) -> tuple[str, str]:
        """The digest of what it has, and the name of its memory."""
        assert self.process.stdout is not None
        digest, name = self.process.stdout.readline().split()
        return digest, name

    def pss_bytes(self) -> int:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline()) * 1024

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def member() -> Iterator[Callable[[str], Member]]:
    members: list[Member] = []

    def start(url: str) -> Member:
        members.append(Member(url))
        return members[-1]

    yield start
    for each in members:
        each.kill()


def last_bytes(shared: getm.SharedObject) -> tuple[bytes, int, str]:
    return bytes(shared.view[-5:]), shared.size, str(shared.checksum)


@pytest.mark.parametrize("once", [True, False])
def test_a_mirror_brings_what_the_first_server_refuses(
    once: bool, fault_server: FaultServer, session: getm.Session
) -> None:
    url, mirror = fault_server.serve("/x", failure(403)), fault_server.serve("/y", Reply(body=BODY))
    with session.shared(url, mirrors=[mirror], once=once, checksum=getm.checksum(BODY, "md5")) as shared:
        assert shared.view == BODY and shared.checksum.verified


@pytest.mark.parametrize("method", ("fork", "spawn", "forkserver"))
def test_workers_of_every_start_method_map_the_same(
    method: str, fault_server: FaultServer, session: getm.Session
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    context: Any = multiprocessing.get_context(method)
    md5 = getm.checksum(BODY, "md5")
    with session.shared(url, checksum=md5) as shared:
        assert shared.view == BODY and shared.size == len(shared) == len(BODY)
        expected = (BODY[-5:], len(BODY), f"verified: {md5} (from caller)")
        assert last_bytes(shared) == expected
        with concurrent.futures.ProcessPoolExecutor(1, context) as workers:
            assert workers.submit(last_bytes, shared).result() == expected
        # Nothing refers to it but the arguments of the process.
        process = context.Process(target=last_bytes, args=(session.shared(url),))
        process.start()
        process.join()
        assert process.exitcode == 0
    if method == "forkserver":
        multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]
        # Its folder for sockets would go when this process ends.
        for finalizer in list(util._finalizer_registry.values()):  # type: ignore[attr-defined]
            if finalizer._callback is util._remove_temp_dir:  # type: ignore[attr-defined]
                finalizer()
        del multiprocessing.current_process()._config["tempdir"]  # type: ignore[attr-defined]
    if method != "fork":
        multiprocessing.resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", (0, 1, 1000, MIB - 1))
@pytest.mark.parametrize("framing", ("length", "chunked"))
def test_objects_of_any_size(size: int, framing: str, fault_server: FaultServer, session: getm.Session) -> None:
    url = fault_server.serve("/x", Reply(body=BODY[:size], framing=framing))  # type: ignore[arg-type]
    with session.shared(url) as shared, pickle.loads(pickle.dumps(shared)) as other:
        assert shared.view == other.view == BODY[:size]
        assert shared.size == size and shared.view.readonly


def test_another_process_of_the_user(fault_server: FaultServer, session: getm.Session) -> None:
    with session.shared(fault_server.serve("/x", Reply(body=BODY))) as shared:
        program = "import pickle, sys; print(len(pickle.load(sys.stdin.buffer).view))"
        done = subprocess.run([sys.executable, "-c", program], input=pickle.dumps(shared), capture_output=True)
        assert (done.stdout, done.stderr) == (b"%d\n" % len(BODY), b"")


def test_views_outlive_what_was_closed_and_a_pickle_does_not(fault_server: FaultServer, session: getm.Session) -> None:
    shared = session.shared(fault_server.serve("/x", Reply(body=BODY)))
    pickled = pickle.dumps(shared)
    other = pickle.loads(pickled)
    shared.close()
    assert shared.view == other.view == BODY
    with pytest.raises(getm.MemoryUnavailable, match="keep the shared object"):
        pickle.loads(pickled)
    with pytest.raises(getm.MemoryUnavailable, match="closed"):
        pickle.dumps(shared)
    third = pickle.loads(pickle.dumps(other))
    other.close()
    assert third.view == BODY
    third.close()


def test_eight_processes_make_one_transfer_and_share_its_pages(
    nginx: NginxServer, make_object: Make, member: Callable[[str], Member]
) -> None:
    served = make_object(16 * MIB)
    mark = nginx.log.mark()
    members = [member(f"{nginx.url(served)}?signature={number}") for number in range(8)]
    found = [each.has() for each in members]
    assert {digest for digest, _ in found} == {f"md5:{served.md5_hex}"}
    assert len({name for _, name in found}) == 1
    assert sum(each.body_bytes for each in nginx.log.since(mark)) == served.size_bytes
    assert sum(each.pss_bytes() for each in members) <= 1.05 * served.size_bytes


def test_the_leader_is_killed_and_the_next_one_goes_on(
    fault_server: FaultServer, member: Callable[[str], Member]
) -> None:
    gate = fault_server.gate()
    bodies = []

    def reply(request: object) -> Reply:
        if getattr(request, "method", "") == "GET":
            bodies.append(request)
            return Reply(body=BODY, stall_at=MIB, gate=gate) if len(bodies) == 1 else Reply(body=BODY)
        return Reply(body=BODY)

    url = fault_server.serve("/x", reply)
    leader = member(url)
    gate.wait_reached()
    followers = [member(url), member(url)]
    # All have asked what version there is, and wait for the leader.
    fault_server.wait_for_requests(4)
    leader.kill()
    found = {each.has() for each in followers}
    assert {digest for digest, _ in found} == {str(getm.checksum(BODY, "md5"))}
    assert len({name for _, name in found}) == 1 and len(bodies) == 2
    gate.open()


def test_who_has_it_last_passes_it_on(
    fault_server: FaultServer, member: Callable[[str], Member], runtime_folder: Path, session: getm.Session
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    first = member(url)
    _, name = first.has()
    second = member(url)
    assert second.has()[1] == name
    first.kill()
    with session.shared(url, once=True) as third:
        assert third._memory.name == name
    second.kill()
    with session.shared(url, once=True) as fourth:
        assert fourth._memory.name != name and fourth.view == BODY
    gets = [request for request in fault_server.requests if request.method == "GET"]
    assert len(gets) == 2


def test_another_version_is_another_transfer_and_its_leftovers_go(
    fault_server: FaultServer, runtime_folder: Path, session: getm.Session
) -> None:
    old = fault_server.serve("/x", Reply(body=BODY))
    with session.shared(old, once=True) as first:
        new = fault_server.serve("/x", Reply(body=BODY[::-1], etag='"v2"'))
        with session.shared(new, once=True) as second:
            assert first.view == BODY and second.view == BODY[::-1]
            assert len(list(runtime_folder.iterdir())) == 2
    third = session.shared(fault_server.serve("/y", Reply(body=BODY)), once=True)
    assert len(list(runtime_folder.iterdir())) == 1
    third.close()


def test_without_a_strong_validator_each_reads_for_itself(
    fault_server: FaultServer, runtime_folder: Path, session: getm.Session
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY, etag='W/"1"', last_modified=None))
    with session.shared(url, once=True) as first, session.shared(url, once=True) as second:
        assert first.view == second.view == BODY and first._memory.name != second._memory.name
    assert not runtime_folder.exists()


def test_what_another_one_has_read_is_verified_as_asked(fault_server: FaultServer, session: getm.Session) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    with session.shared(url, once=True) as first:
        assert not first.checksum.verified
        with pytest.raises(getm.Unverified):
            session.shared(url, once=True, strict=True)
        with pytest.raises(getm.ChecksumMismatch):
            session.shared(url, once=True, checksum="md5:" + "0" * 32)
        with session.shared(url, once=True, checksum=getm.checksum(BODY, "sha256"), strict=True) as second:
            assert second.checksum.verified and second._memory.name == first._memory.name


def test_the_wait_for_a_leader_has_the_limit_of_the_whole(
    fault_server: FaultServer, member: Callable[[str], Member], session: getm.Session
) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=BODY), Reply(body=BODY, stall_at=MIB, gate=gate), Reply(body=BODY))
    leader = member(url)
    gate.wait_reached()
    with pytest.raises(getm.TimedOut, match="another process"):
        session.shared(url, once=True, timeout=getm.Timeout(total_s=0.2))
    gate.open()
    name = leader.has()[1]
    # Also in the thread that has waited too long.
    with session.shared(url, once=True) as shared:
        assert shared._memory.name == name


def test_a_folder_that_others_can_use_is_refused(
    fault_server: FaultServer, runtime_folder: Path, session: getm.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr(tempfile, "tempdir", str(runtime_folder.parent))
    folder = runtime_folder.parent / f"getm-{os.geteuid()}"
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(getm.TargetError, match="this user alone"):
        session.shared(url, once=True)
    folder.chmod(0o700)
    session.shared(url, once=True).close()


def test_a_forked_child_does_not_keep_a_lock(runtime_folder: Path, fault_server: FaultServer) -> None:
    flight = single_flight.Flight("0" * 64)
    with flight.taken(None):
        child = os.fork()
        if not child:
            signal.pause()
            os._exit(0)
    try:
        with single_flight.Flight("0" * 64).taken(5.0):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_record_that_is_torn_is_none(runtime_folder: Path, fault_server: FaultServer, session: getm.Session) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    with session.shared(url, once=True):
        (record,) = runtime_folder.iterdir()
        data = record.read_bytes()
        for torn in (b"", data[: len(data) // 2], b"\xff" * 100):
            record.write_bytes(torn)
            with session.shared(url, once=True) as shared:
                assert shared.view == BODY


def test_a_system_without_such_memory_says_so(
    fault_server: FaultServer, session: getm.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GETM_SHARED_MEMORY", "posix")
    with pytest.raises(getm.MemoryUnavailable, match="memfd_create"):
        session.shared(fault_server.serve("/x", Reply(body=BODY)))
