"""Ray on this machine: a datasource, and the workers as an executor. Skipped where Ray is not installed."""

from __future__ import annotations

import json
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import getm
from tests.integration.test_dask import run_program
from tests.support.documentation import blocks_run_by
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

pytest.importorskip("ray", reason='pip install "getm[ray]"')
from getm.integrations import ray as getm_ray  # it needs Ray

Make = Callable[..., ServedObject]

PROGRAM = """
import json, logging, sys
import ray
import getm
from getm.integrations.ray import GetmDatasource, executor

entries, missing, data = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    given = [getm.Entry(url, name, checksum, size) for url, name, checksum, size in entries]
    rows = ray.data.read_datasource(GetmDatasource(given), override_num_blocks=3).take_all()
    for row in sorted(rows, key=lambda row: row["index"]):
        right = row["bytes"] == bytes(getm.read(entries[row["index"]][0]))
        print(row["index"], row["url"] == entries[row["index"]][0], right, row["checksum"], row["verified"])
    try:
        ray.data.read_datasource(GetmDatasource([missing], retries=0)).take_all()
    except Exception as error:
        print("404" in str(error))
    with executor() as workers:
        for result in getm.download_all(given, directory=data, executor=workers):
            print(result.path.name, result.size)
        try:
            list(getm.download_all([missing], directory=data, executor=workers, retries=0))
        except getm.HTTPStatusError as error:
            print(error.status)
    # What the documentation shows.
    urls, entries = json.loads(sys.argv[4]), given
{blocks}
    print([row["size"] for row in sizes.take_all()], len(results))
"""


@pytest.fixture
def _no_traces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray leaves its sessions' folders, and tells its makers that it is used."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Paths of sockets may not be long, as those below the temporary folder of a test are.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield


@pytest.mark.slow
@pytest.mark.deadline(180)
@pytest.mark.usefixtures("_no_traces")
def test_rows_and_files(nginx: NginxServer, make_object: Make, tmp_path: Path) -> None:
    objects = [make_object(size, number) for number, size in enumerate((0, 5, 100_000, 3_000_000))]
    entries = [
        (nginx.url(each), f"{number}.bin", f"md5:{each.md5_hex}" if number % 2 else None, each.size_bytes)
        for number, each in enumerate(objects)
    ]
    missing = nginx.url("/objects/missing")
    data = tmp_path / "data"
    declared = [nginx.declared_url(each, repr_digest=f"sha-256=:{each.sha256_base64}:") for each in objects]
    blocks = "".join(block.code for block in blocks_run_by("how-to/clusters.md", __file__))
    blocks = textwrap.indent(blocks.replace('"/shared/data"', f'"{data}-again"'), "    ")
    arguments = json.dumps(entries), missing, data, json.dumps(declared)
    *lines, shown = run_program(PROGRAM.replace("{blocks}", blocks), *arguments, folder=tmp_path)
    assert shown == f"{[each.size_bytes for each in objects]} {len(objects)}"
    rows = [f"{number} True True {entry[2]} {entry[2] is not None}" for number, entry in enumerate(entries)]
    assert lines[:5] == [*rows, "True"]
    assert sorted(lines[5:-1]) == [f"{number}.bin {each.size_bytes}" for number, each in enumerate(objects)]
    assert lines[-1] == "404"
    for number, each in enumerate(objects):
        assert (data / f"{number}.bin").read_bytes() == each.read()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("sizes", [[None] * 7, [0] * 5, [10**9, 1, 1, 1], []])
def test_parts_are_all_of_it_in_order(sizes: list[int | None], count: int) -> None:
    entries = [getm.Entry(f"http://127.0.0.1:9/{number}", size=size) for number, size in enumerate(sizes)]
    tasks = list(getm_ray._parts(entries, count))
    assert [entry for _, part in tasks for entry in part] == entries
    assert [first for first, _ in tasks] == [entries.index(part[0]) for _, part in tasks]
    assert len(tasks) <= max(1, count)


def test_what_is_no_list_is_refused() -> None:
    for wrong in ("http://127.0.0.1:9/", getm.Entry("http://127.0.0.1:9/"), [7]):
        with pytest.raises(getm.InvalidInput):
            getm_ray.GetmDatasource(wrong)  # type: ignore[arg-type]
