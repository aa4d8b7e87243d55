"""Downloads by the command that do not come straight to their end: killed, interrupted, short of space, twice; many."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from getm.testing import FaultServer, Pace, Reply
from tests.support import mounts
from tests.support.command import failure, getm, names, started
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

MIB = 1024 * 1024
Make = Callable[..., ServedObject]
KILLS = 100


@pytest.fixture
def fast_disk(tmp_path: Path) -> Iterator[Path]:
    """In memory, where that may be mounted: what is tested is the order of steps, and gigabytes go through it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(pytest.skip.Exception):
            stack.enter_context(mounts.mounted(folder, "2g"))
        yield folder


class Kills:
    """Counts the kills of all threads."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def add(self) -> None:
        with self._lock:
            self.count += 1


def run_and_kill(folder: Path, arguments: list[str], moment_s: float | None, kills: Kills) -> None:
    """Run the command; kill it `moment_s` seconds after it has begun to receive (None: let it end)."""
    with started(*arguments, "--progress=json", cwd=folder, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        if moment_s is not None:
            for line in process.stderr:
                if line.startswith(b'{"event": "started"'):
                    break
            ended = os.pidfd_open(process.pid)
            select.select([ended], [], [], moment_s)
            os.close(ended)
            process.kill()
        rest = process.stderr.read()
    if process.returncode == -signal.SIGKILL:
        kills.add()
    else:
        assert process.returncode == 0, rest


@pytest.mark.slow
@pytest.mark.deadline(400)
def test_rows_43_and_44_killed_at_100_random_moments(
    fault_server: FaultServer, make_object: Make, fast_disk: Path
) -> None:
    """Whatever a kill leaves, the next run ends with the right bytes, and little is fetched twice."""
    kills = Kills()
    objects = [make_object(100 * MIB + 1), make_object(128 * MIB + 12345), make_object(256 * MIB)]
    # Object, its bytes, connections, kills on its way. With four connections each kill loses up to four unfilled slots.
    cases = [(served, served.read(), *how) for served, how in zip(objects, [(1, 4), (1, 4), (4, 1)], strict=True)]
    chance = random.Random(7)

    def download(number: int, seed: float) -> int:
        """One object, killed several times; its size."""
        moments = random.Random(seed)
        served, body, connections, times = cases[number % len(cases)]
        folder = fast_disk / str(number)
        folder.mkdir()
        # About a second for the whole.
        pace = Pace(256 * 1024, 0.002 * connections)
        url = fault_server.serve(f"/{number}", Reply(body=body, pace=pace))
        for _ in range(times):
            run_and_kill(folder, [url, "out", "-x", str(connections)], moments.uniform(0, 0.3), kills)
        run_and_kill(folder, [url, "out", "-x", str(connections)], None, kills)
        with (folder / "out").open("rb") as file:
            for start in range(0, len(body) + 1, MIB):
                assert file.read(MIB) == memoryview(body)[start : start + MIB]
        assert names(folder) == ["out"]
        (folder / "out").unlink()
        return served.size_bytes

    wanted = 0
    numbers = itertools.count()
    with ThreadPoolExecutor(4) as threads:
        while kills.count < KILLS:
            more = -(-(KILLS - kills.count) // 3)
            wanted += sum(
                threads.map(download, itertools.islice(numbers, more), [chance.random() for _ in range(more)])
            )
    sent = sum(request.sent_bytes for request in fault_server.requests)
    assert sent < wanted * 1.05


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("connections", [1, 3])
def test_an_interrupted_batch_goes_on(
    tmp_path: Path, fault_server: FaultServer, number: signal.Signals, connections: int
) -> None:
    """One line, the exit status of the signal, and the same command fetches the rest."""
    folder = tmp_path / "folder"
    folder.mkdir()
    bodies = {name: random.Random(name).randbytes(3 * MIB) for name in "ab"}
    gates = {name: fault_server.gate() for name in bodies}
    urls = []
    for name, body in bodies.items():
        first = Reply(body=body, stall_at=2 * MIB, gate=gates[name])
        urls.append(fault_server.serve(f"/{name}", first, Reply(body=body)) + "?sig=SECRET")
    arguments = [*urls, "-d", ".", "-x", connections]
    with started(*arguments, "--progress=json", cwd=folder, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        kept: dict[int, int] = {}
        for line in process.stderr:
            event = json.loads(line)
            if event["event"] == "progressed":
                kept[event["index"]] = event["done_bytes"]
            if len(kept) == 2 and min(kept.values()) >= MIB:
                break
        process.send_signal(number)
        *_, last = process.stderr
    assert process.returncode == 128 + number
    facts = failure(subprocess.CompletedProcess([], process.returncode, b"", last))
    assert number.name in str(facts["message"]) and "to resume" in str(facts["message"])
    assert all(name.startswith(".") for name in names(folder))
    for gate in gates.values():
        gate.open()
    before = len(fault_server.requests)
    assert getm(*arguments, cwd=folder).returncode == 0
    assert {name: (folder / name).read_bytes() for name in names(folder)} == bodies
    for request in fault_server.requests[before:]:
        request.wait_ended()
    assert sum(request.sent_bytes for request in fault_server.requests[before:]) <= 4 * MIB


def test_two_commands_on_one_target(tmp_path: Path, fault_server: FaultServer) -> None:
    """The second finds the first at work, works apart, and is done before it."""
    body = os.urandom(3 * MIB)
    gate = fault_server.gate()
    url = fault_server.serve("/x", Reply(body=body, stall_at=2 * MIB, gate=gate), Reply(body=body))
    with started(url, "x", cwd=tmp_path, stderr=subprocess.PIPE) as first:
        gate.wait_reached()
        second = getm(url, "x", cwd=tmp_path)
        assert (second.returncode, second.stderr) == (0, b"")
        assert (tmp_path / "x").read_bytes() == body
        gate.open()
        assert first.communicate()[1] == b""
    assert first.returncode == 0
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == body


def test_several_commands_on_one_target_at_once(tmp_path: Path, fault_server: FaultServer) -> None:
    body = os.urandom(8 * MIB + 1)
    url = fault_server.serve("/x", Reply(body=body, pace=Pace(256 * 1024, 0.002)))
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(started(url, "x", "-x", str(number + 1), cwd=tmp_path, stderr=subprocess.PIPE))
            for number in range(3)
        ]
        ends = [(process.communicate()[1], process.returncode) for process in running]
    assert ends == [(b"", 0)] * 3
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == body


def test_row_44_a_full_disk(tmp_path: Path, fault_server: FaultServer) -> None:
    """Told before any bytes are kept, where the size is known; and what was begun has its space."""
    disk = tmp_path / "disk"
    disk.mkdir()
    bodies = {"large": os.urandom(12 * MIB), "begun": os.urandom(6 * MIB), "little": b"little"}
    gate = fault_server.gate()
    large = fault_server.serve("/large", Reply(body=bodies["large"], stall_at=9 * MIB, gate=gate))
    cut = Reply(body=bodies["begun"], cut_at=4 * MIB)
    begun = fault_server.serve("/begun", cut, Reply(body=bodies["begun"]))
    little = fault_server.serve("/little", Reply(body=bodies["little"]))
    with mounts.mounted(disk, "16m"):
        assert getm(begun, "--retries", 0, cwd=disk).returncode == 4
        run = getm(large, begun, little, "-d", ".", "-c", "-j", 1, cwd=disk)
        assert run.returncode == 3
        facts = failure(run)
        assert facts["path"] == "large" and "free some space" in str(facts["message"])
        # It was refused at its head: the server could not have come to the end of it.
        assert {name: (disk / name).read_bytes() for name in names(disk)} == {
            name: bodies[name] for name in ("begun", "little")
        }
        gate.open()
        (disk / "begun").unlink()
        assert getm(large, cwd=disk).returncode == 0
        assert (disk / "large").read_bytes() == bodies["large"]


@pytest.mark.slow
@pytest.mark.deadline(400)
def test_20_000_small_files(tmp_path: Path, nginx: NginxServer, make_object: Make) -> None:
    objects = [make_object(16_384 - 40 + number, seed=9) for number in range(80)]
    contents = [served.read() for served in objects]
    with (tmp_path / "list.jsonl").open("w") as rows:
        for number in range(20_000):
            served = objects[number % 80]
            row = {
                "url": f"{nginx.url(served)}?{number}",
                "filepath": f"{number % 37}/{number}",
                "size": 16_344 + number % 80,
            }
            if number % 2:
                row |= {"checksum": served.md5_hex, "checksum-algorithm": "md5"}
            rows.write(json.dumps(row) + "\n")
    mark = nginx.log.mark()
    run = getm("-m", "list.jsonl", "-d", "out", "-j", 32, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    for number in range(20_000):
        path = tmp_path / "out" / str(number % 37) / str(number)
        assert path.read_bytes() == contents[number % 80]
    assert sum(len(files) for _, _, files in os.walk(tmp_path / "out")) == 20_000
    requests = nginx.log.since(mark)
    assert len(requests) == 20_000
    assert len({request.connection for request in requests}) <= 32
