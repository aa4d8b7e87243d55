"""Libraries that open URLs by fsspec: each reads by getm where its URL says so, with `storage_options`.

Each runs in a process of its own, since most keep threads and descriptors for as long as their process lives.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from tests.support.nginx import NginxServer

ROOT = Path(__file__).parents[2]
ROWS = 20_000
OPTIONS: dict[str, Any] = {"headers": {"X-Purpose": "test"}}


@pytest.fixture(scope="module")
def folder(nginx: NginxServer) -> Iterator[Path]:
    place = nginx.objects.make(1).path.parents[1] / "libraries"
    place.mkdir()
    yield place
    shutil.rmtree(place)


def columns() -> dict[str, Any]:
    return {"number": np.arange(ROWS), "noise": np.random.default_rng(1).random(ROWS)}


def pandas_reads(folder: Path, root: str) -> None:
    pandas: Any = importlib.import_module("pandas")
    frame = pandas.DataFrame(columns())
    frame.to_csv(folder / "frame.csv", index=False)
    frame.to_csv(folder / "frame.csv.gz", index=False)
    frame.to_json(folder / "frame.json", double_precision=15)
    for name in ("frame.csv", "frame.csv.gz"):
        pandas.testing.assert_frame_equal(pandas.read_csv(f"{root}/{name}", storage_options=OPTIONS), frame)
    pandas.testing.assert_frame_equal(pandas.read_json(f"{root}/frame.json", storage_options=OPTIONS), frame)


def pandas_reads_parquet(folder: Path, root: str) -> None:
    pandas: Any = importlib.import_module("pandas")
    frame = pandas.DataFrame(columns())
    frame.to_parquet(folder / "frame.parquet", row_group_size=ROWS // 4)
    pandas.testing.assert_frame_equal(pandas.read_parquet(f"{root}/frame.parquet", storage_options=OPTIONS), frame)
    read = pandas.read_parquet(f"{root}/frame.parquet", columns=["number"], storage_options=OPTIONS)
    assert read["number"].tolist() == list(range(ROWS))


def pyarrow_reads_a_dataset(folder: Path, root: str) -> None:
    arrow: Any = importlib.import_module("pyarrow")
    dataset: Any = importlib.import_module("pyarrow.dataset")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    whole = arrow.table(columns())
    for part in range(4):
        place = folder / "dataset" / f"part={part}"
        place.mkdir(parents=True)
        parquet.write_table(whole.slice(part * ROWS // 4, ROWS // 4), place / "rows.parquet")
    fs, path = fsspec.url_to_fs(f"{root}/dataset/", **OPTIONS)
    found = dataset.dataset(path, filesystem=fs, format="parquet", partitioning="hive")
    assert len(found.files) == 4
    read = found.to_table(columns=["number"], filter=dataset.field("part") >= 2)
    assert sorted(read["number"].to_pylist()) == list(range(ROWS // 2, ROWS))
    single = parquet.read_table(f"{path}part=1/rows.parquet", filesystem=fs, partitioning=None)
    assert single["number"].to_pylist() == list(range(ROWS // 4, ROWS // 2))


def zarr_reads(folder: Path, root: str) -> None:
    zarr: Any = importlib.import_module("zarr")
    values = np.random.default_rng(2).random((200, 300))
    group = zarr.create_group(folder / "group.zarr")
    group.create_array("plain", data=values, chunks=(50, 50))
    group.create_array("sharded", data=values, chunks=(10, 10), shards=(100, 100))
    read = zarr.open_group(f"{root}/group.zarr", mode="r", storage_options=OPTIONS)
    for name in ("plain", "sharded"):
        np.testing.assert_array_equal(read[name][:], values)
        np.testing.assert_array_equal(read[name][45:55, 45:155], values[45:55, 45:155])
    assert "nothing" not in read
    # Chunks that are not there are the fill value: 404 is an answer, not an error.
    zarr.create_array(folder / "empty.zarr", shape=(10,), chunks=(5,), dtype="f8", fill_value=7)
    np.testing.assert_array_equal(zarr.open_array(f"{root}/empty.zarr", mode="r")[:], np.full(10, 7.0))


def xarray_reads(folder: Path, root: str) -> None:
    xarray: Any = importlib.import_module("xarray")
    made = xarray.Dataset({"t": (("x", "y"), np.arange(600.0).reshape(20, 30))}, coords={"x": np.arange(20)})
    made.to_zarr(folder / "set.zarr", zarr_format=2, consolidated=True)
    # To xarray, a scheme has no "+".
    importlib.import_module("getm.integrations.fsspec").register()
    url = f"{root}/set.zarr".removeprefix("getm+")
    with xarray.open_zarr(url, storage_options=OPTIONS, chunks=None) as read:
        xarray.testing.assert_identical(read.load(), made)
    assert "GetmFileSystem" in repr(fsspec.url_to_fs(url)[0])


def dask_reads(folder: Path, root: str) -> None:
    array: Any = importlib.import_module("dask.array")
    bag: Any = importlib.import_module("dask.bag")
    zarr: Any = importlib.import_module("zarr")
    lines = [f"line {number}" for number in range(5000)]
    for part in range(3):
        (folder / f"lines-{part}.txt").write_text("\n".join(lines[part::3]) + "\n")
    read = bag.read_text(f"{root}/lines-*.txt", blocksize=4096, storage_options=OPTIONS)
    assert read.npartitions > 3
    assert sorted(line.strip() for line in read.compute(scheduler="threads", num_workers=4)) == sorted(lines)
    values = np.random.default_rng(3).random((100, 100))
    zarr.create_array(folder / "dask.zarr", data=values, chunks=(25, 25))
    found = array.from_zarr(f"{root}/dask.zarr", storage_options=OPTIONS)
    np.testing.assert_allclose(found.sum().compute(scheduler="threads", num_workers=4), values.sum())


def fsspec_passes_options_on(folder: Path, root: str) -> None:
    (folder / "small.txt").write_bytes(b"hello")
    opened = fsspec.open(f"{root}/small.txt", **OPTIONS)
    assert opened.fs.common["headers"] == OPTIONS["headers"]
    with opened as file:
        assert io.BufferedReader(file).read() == b"hello"


@pytest.mark.parametrize(
    ("reads", "needs"),
    [
        (fsspec_passes_options_on, ()),
        (pandas_reads, ("pandas",)),
        (pandas_reads_parquet, ("pandas", "pyarrow")),
        (pyarrow_reads_a_dataset, ("pyarrow",)),
        (zarr_reads, ("zarr",)),
        (xarray_reads, ("xarray", "zarr")),
        (dask_reads, ("dask", "zarr")),
    ],
    ids=lambda value: getattr(value, "__name__", "-"),
)
def test_library(reads: Callable[[Path, str], None], needs: tuple[str, ...], folder: Path, nginx: NginxServer) -> None:
    missing = [name for name in needs if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    root = f"getm+{nginx.url(f'/index/{folder.name}')}"
    mark = nginx.log.mark()
    program = f"from {__name__} import *\nif __name__ == '__main__': {reads.__name__}(Path({str(folder)!r}), {root!r})"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    asked = nginx.log.since(mark)
    assert asked and {each.user_agent.partition("/")[0] for each in asked} == {"getm"}
