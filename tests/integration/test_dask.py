"""A list of downloads over the workers of a real Dask cluster on this machine."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.fault_script import Reply, Request, failure
from tests.support.fault_server import FaultServer
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
    data, receipt, program = tmp_path / "data", tmp_path / "receipt.jsonl", tmp_path / "program.py"
    program.write_text(PROGRAM)
    (tmp_path / "entries.json").write_text(json.dumps(entries))
    arguments = [program, tmp_path / "entries.json", data, receipt]
    environment = os.environ | {"DASK_TEMPORARY_DIRECTORY": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=150, env=environment
    )
    assert run.returncode == 0, run.stderr
    indexes = [int(line) for line in run.stdout.split()]
    assert sorted(indexes) == list(range(5000))
    expected = {url: hashlib.sha256(object_.read()).digest(), other: hashlib.sha256(b"at times").digest()}
    for source, path in entries:
        assert hashlib.sha256((data / path).read_bytes()).digest() == expected[source]
    assert sum(len(names) for _, _, names in os.walk(data)) == 5000
    lines = [json.loads(line) for line in receipt.read_text().splitlines()]
    assert sorted(line["path"] for line in lines) == sorted(f"data/{path}" for _, path in entries)
    assert {line["status"] for line in lines} == {"done"}
