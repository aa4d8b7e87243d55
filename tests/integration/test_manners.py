"""Processes of one user that together ask a host no more often than it allows, and no more at once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import getm
from getm.testing import FaultServer, Reply, failure
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

Make = Callable[..., ServedObject]

# Reads one object again and again; says when it is ready, and after each time.
_READER = """
import os, sys, getm
warm, url, times = sys.argv[1:]
with getm.Session() as session:
    session.read(warm)
    os.write(1, b"ready\\n")
    sys.stdin.readline()
    for _ in range(int(times)):
        session.read(url)
        os.write(1, b"read\\n")
"""


class Readers:
    """Processes that all read `url`, `times` times each. Their words come by one pipe."""

    def __init__(self, count: int, warm: str, url: str, table: Path, times: int = 1000) -> None:
        words, out = os.pipe()
        environment = {**os.environ, "GETM_HOST_TABLE": str(table)}
        arguments = [sys.executable, "-c", _READER, warm, url, str(times)]
        self.processes = [
            subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=out, env=environment) for _ in range(count)
        ]
        os.close(out)
        self.words = os.fdopen(words, "rb")

    def start(self) -> None:
        for _ in self.processes:
            assert next(self.words) == b"ready\n"
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
        self.words.close()


@contextlib.contextmanager
def readers(count: int, warm: str, url: str, table: Path, times: int = 1000) -> Iterator[Readers]:
    found = Readers(count, warm, url, table, times)
    try:
        yield found
    finally:
        found.kill()


# Few find it out later than many, and less exactly: they wait before they ask again, as long as they do not know why.
@pytest.mark.parametrize(
    ("processes", "reads", "known_s", "use"),
    [(3, 12, 2.5, 0.6), pytest.param(16, 28, 1.1, 0.75, marks=pytest.mark.slow)],
)
def test_many_processes_use_what_a_host_allows_and_are_not_refused_even_where_one_is_killed(
    processes: int, reads: int, known_s: float, use: float, nginx: NginxServer, make_object: Make, tmp_path: Path
) -> None:
    served = make_object(1000)
    mark = nginx.log.mark()
    with readers(processes, nginx.url(served), nginx.url(served, via="paced"), tmp_path / "table") as those:
        those.start()
        for number in range(reads):
            assert next(those.words) == b"read\n"
            if number == reads // 2:
                those.processes[0].kill()
    asked = [each for each in nginx.log.since(mark) if each.target.startswith("/paced/")]
    began_s = asked[0].ended_s
    refused = [each.ended_s - began_s for each in asked if each.status == 429]
    granted = [each.ended_s - began_s for each in asked if each.status == 200]
    # One that a busy machine sends late, so that the next one follows too soon, may be refused.
    assert len([seconds for seconds in refused if seconds > known_s]) <= 1
    # It allows three a second.
    late = [seconds for seconds in granted if seconds > known_s]
    assert (len(late) - 1) / (late[-1] - late[0]) >= use * 3


def test_processes_wait_for_each_other_where_a_host_serves_few_at_once(
    nginx: NginxServer, make_object: Make, tmp_path: Path
) -> None:
    served = make_object(200_000)
    url = nginx.url(served, via="few") + "?rate=400k"
    mark = nginx.log.mark()
    with readers(6, nginx.url(served), url, tmp_path / "table", times=2) as those:
        those.start()
        assert list(those.words) == [b"read\n"] * 12
        assert [process.wait() for process in those.processes] == [0] * 6
    asked = [each for each in nginx.log.since(mark) if each.target.startswith("/few/")]
    assert sum(each.status == 200 for each in asked) == 12


def test_a_process_knows_what_another_one_has_learned(fault_server: FaultServer, tmp_path: Path) -> None:
    """Of a host that wants a pause for a minute, the second process requests nothing."""
    url = fault_server.serve("/x", failure(429, retry_after="60"), Reply(body=b"data"))
    program = f"""
import getm
try:
    getm.read({url!r}, timeout=getm.Timeout(total_s=1.0))
except getm.NetworkError as error:
    print(type(error).__name__, error)
"""
    environment = {**os.environ, "GETM_HOST_TABLE": str(tmp_path / "table")}
    for expected in (b"HTTPStatusError 429", b"TimedOut"):
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
        assert done.stdout.startswith(expected), done
    assert len(fault_server.requests) == 1
    off = {**environment, "GETM_HOST_TABLE": "off"}
    done = subprocess.run([sys.executable, "-c", program], env=off, capture_output=True, check=True)
    assert (done.stdout, len(fault_server.requests)) == (b"", 2)


def test_what_a_host_states_is_heard_of_small_files_too(fault_server: FaultServer, tmp_path: Path) -> None:
    little = Reply(body=b"data", headers={"RateLimit": '"default";r=0;t=60'})
    urls = [fault_server.serve(f"/{number}", reply) for number, reply in enumerate([Reply(body=b"data"), little])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GETM_HOST_TABLE", str(tmp_path / "table"))
        with getm.Session(processes=1) as session:
            for url in urls:
                assert session.download(url, tmp_path / "x").size == 4
            with pytest.raises(getm.TimedOut):
                session.download(urls[0], tmp_path / "x", timeout=getm.Timeout(total_s=0.3))
    assert len(fault_server.requests) == 2
