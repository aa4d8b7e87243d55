"""A list of downloads over the workers of a real Dask cluster on this machine."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from getm import errors
from getm.integrations import dask
from getm.testing import FaultServer, Pace, Reply, Request, failure
from tests.support.command import getm
from tests.support.documentation import blocks_run_by
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

Make = Callable[..., ServedObject]


# In a process of its own: what Dask opens once stays open.
PROGRAM = """
import json, os, signal, sys
import distributed, getm

entries, data, receipt = json.load(open(sys.argv[1])), sys.argv[2], sys.argv[3]
if __name__ == "__main__":
    with distributed.LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=None) as cluster:
        first, *_ = [worker.pid for worker in cluster.workers.values()]
        with distributed.Client(cluster) as client:
            count = 0
            found = getm.download_all(
                [getm.Entry(*each) for each in entries], directory=data, executor=client.get_executor(), receipt=receipt
            )
            for result in found:
                print(result.index)
                count += 1
                if count == 500:
                    os.kill(first, signal.SIGKILL)
"""


def run_program(program: str, *arguments: object, folder: Path) -> list[str]:
    """The lines that the program prints."""
    path = folder / "program.py"
    path.write_text(program)
    environment = os.environ | {"DASK_TEMPORARY_DIRECTORY": str(folder)}
    command = [sys.executable, str(path), *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, check=False, timeout=150, env=environment)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout.decode().splitlines()


@pytest.mark.slow
@pytest.mark.deadline(180)
def test_a_worker_is_killed_and_a_server_fails_at_times(
    nginx: NginxServer,
    fault_server: FaultServer,
    make_object: Make,
    tmp_path: Path,
) -> None:
    """5,000 files: each is right, and none is in the receipt twice."""
    object_ = make_object(16384)
    count = itertools.count()

    def at_times(_: Request) -> Reply:
        return failure(503, retry_after="0") if next(count) % 7 == 0 else Reply(body=b"at times")

    url, other = nginx.url(object_), fault_server.serve("/x", at_times)
    entries = [(other if number % 25 == 0 else url, f"{number % 50}/{number}") for number in range(5000)]
    data, receipt, listed = tmp_path / "data", tmp_path / "receipt.jsonl", tmp_path / "entries.json"
    listed.write_text(json.dumps(entries))
    indexes = [int(line) for line in run_program(PROGRAM, listed, data, receipt, folder=tmp_path)]
    assert sorted(indexes) == list(range(5000))
    expected = {url: hashlib.sha256(object_.read()).digest(), other: hashlib.sha256(b"at times").digest()}
    for source, path in entries:
        assert hashlib.sha256((data / path).read_bytes()).digest() == expected[source]
    assert sum(len(names) for _, _, names in os.walk(data)) == 5000
    lines = [json.loads(line) for line in receipt.read_text().splitlines()]
    assert sorted(line["path"] for line in lines) == sorted(f"data/{path}" for _, path in entries)
    assert {line["status"] for line in lines} == {"done"}


@pytest.mark.deadline(120)
def test_the_command_with_workers_on_this_machine(
    nginx: NginxServer, make_object: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_TEMPORARY_DIRECTORY", str(tmp_path))
    objects = {f"{number}.bin": make_object(50_000 * number, number) for number in range(8)}
    (tmp_path / "list").write_text("".join(f"{nginx.url(each)}\n  out={name}\n" for name, each in objects.items()))
    data, receipt = tmp_path / "data", tmp_path / "receipt.jsonl"
    options = ["-d", str(data), "--dask", "local:2", "--receipt", str(receipt), "--json"]
    done = getm("-m", tmp_path / "list", *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout.splitlines()) == len(receipt.read_text().splitlines()) == 8
    for name, each in objects.items():
        assert (data / name).read_bytes() == each.read()


@pytest.mark.parametrize(
    ("scheduler", "says"), [("local:0", "tcp://HOST:PORT"), ("head-node", "tcp://HOST:PORT"), ("", "tcp://HOST:PORT")]
)
def test_what_is_no_scheduler(scheduler: str, says: str) -> None:
    with pytest.raises(errors.InvalidInput, match=says), dask.executor(scheduler):
        pytest.fail("it is one")


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(errors.MissingExtra, match=r"getm\[dask\]"), dask.executor("local"):
        pytest.fail("there is none")
    with pytest.raises(errors.MissingExtra, match=r"getm\[dask\]"):
        dask.read_bytes("http://127.0.0.1:9/")
    with pytest.raises(errors.MissingExtra, match=r"getm\[dask\]"):
        dask.read_ranges("http://127.0.0.1:9/", [(0, 1)])


BLOCKS = """
import sys
import dask, getm
from getm.integrations.dask import read_bytes, read_ranges

first, second, changing = sys.argv[1:]
whole = dask.compute(*read_bytes([first, second])[1])
print(*map(len, whole))
blocks = read_bytes([first, second], blocksize=100_000)
print(*map(len, blocks))
found = dask.compute(blocks)[0]
assert [b"".join(each) for each in found] == [getm.read(first).tobytes(), getm.read(second).tobytes()]
ranges = dask.compute(*read_ranges(second, [(5, 10), (0, 3)]))
assert ranges == (getm.read(second)[5:10].tobytes(), getm.read(second)[:3].tobytes())
try:
    dask.compute(read_bytes(changing, blocksize=10))
except getm.RemoteChanged as error:
    print(type(error).__name__)
for wrong in (0, -1, True, "1 MiB", 1.5):
    try:
        read_bytes(first, blocksize=wrong)
    except getm.InvalidInput:
        print("refused")
"""


def test_blocks_of_objects(nginx: NginxServer, fault_server: FaultServer, make_object: Make, tmp_path: Path) -> None:
    objects = make_object(250_000, 1), make_object(16384, 2)
    old, new = Reply(body=b"x" * 20, etag='"old"'), Reply(body=b"y" * 20, etag='"new"')
    changing = fault_server.serve("/x", old, new)
    lines = run_program(BLOCKS, *map(nginx.url, objects), changing, folder=tmp_path)
    assert lines == ["16384", "3 1", "RemoteChanged", *["refused"] * 5]


LIMITED = """
import sys

urls = sys.argv[1:]

if __name__ == "__main__":
    with distributed.LocalCluster(n_workers=2, threads_per_worker=4, dashboard_address=None) as cluster:
        {call}
        print(*map(len, blocks))
"""


def test_a_limit_for_the_whole_cluster(fault_server: FaultServer, tmp_path: Path) -> None:
    """As the page has it, but for the scheduler's address and the number: no third request while two are answered."""
    (block,) = blocks_run_by("how-to/clusters.md", __file__)
    recipe = block.code.replace('"tcp://head-node:8786"', "cluster").replace("max_leases=8", "max_leases=2")
    definitions, _, call = recipe.partition("\nwith distributed.Client")
    program = definitions + LIMITED.format(call=textwrap.indent("with distributed.Client" + call, " " * 8).lstrip())
    inside: list[Request] = []
    most = 0

    def script(request: Request) -> Reply:
        nonlocal inside, most
        inside = [*(each for each in inside if each.outcome == "open"), request]
        most = max(most, len(inside))
        return Reply(body=bytes(1000), delay_s=0.05)

    urls = [fault_server.serve(f"/{number}", script) for number in range(12)]
    assert run_program(program, *urls, folder=tmp_path) == [" ".join(["1000"] * 12)]
    assert most == 2


STOPPED = """
import sys
import distributed, getm
from getm.batch import portions
from getm.integrations import dask

url, data = sys.argv[1:]

class Enough(Exception):
    pass

def on_event(event):
    print(type(event).__name__.lower(), event.index)
    if isinstance(event, getm.Progressed) and event.done_bytes < event.total_bytes:
        raise Enough

def ended():
    threads = [batch._thread for batches in portions._batches.values() for batch in batches]
    for thread in threads:
        thread.join(20)
    return not any(thread.is_alive() for thread in threads)

if __name__ == "__main__":
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        with distributed.Client(cluster) as client, dask.executor(client) as workers:
            try:
                for _ in getm.download_all([url], directory=data, executor=workers, concurrency=1, on_event=on_event):
                    pass
            except Enough:
                print("stopped")
            print(*client.run(ended).values())
            [result] = getm.download_all([url], directory=data, executor=workers)
            print(result.stats.received_bytes)
"""


@pytest.mark.deadline(120)
def test_progress_of_a_large_file_is_heard_and_leaving_the_loop_stops_the_worker(
    fault_server: FaultServer, tmp_path: Path
) -> None:
    body = os.urandom(9 * 1024 * 1024)
    held = fault_server.gate()
    first = Reply(body=body, pace=Pace(256 * 1024, 0.05), stall_at=len(body) - 1, gate=held)
    url = fault_server.serve("/large", first, Reply(body=body))
    lines = run_program(STOPPED, url, tmp_path / "data", folder=tmp_path)
    held.open()
    assert lines[:-1] == ["started 0", "progressed 0", "stopped", "True"]
    assert (tmp_path / "data" / "large").read_bytes() == body
    assert int(lines[-1]) < len(body)
