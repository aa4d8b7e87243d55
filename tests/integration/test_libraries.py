"""`getm.open` with the libraries that take a file object, each on a file that it has written itself."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import getm
from getm.core.units import KIB, MIB
from tests.support.nginx import NginxServer

Serve = Callable[[str, bytes], str]
ROWS = 200_000


@pytest.fixture
def session(shared_session: Callable[..., getm.Session]) -> getm.Session:
    return shared_session()


@pytest.fixture
def serve(nginx: NginxServer) -> Serve:
    """Write a file of that name; returns its URL."""
    return lambda name, content: nginx.url(nginx.objects.write(name, content))


@pytest.fixture(scope="module", autouse=True)
def started() -> None:
    """What polars and pyarrow open once and keep is no leak of a test."""
    import polars as pl
    import pyarrow.csv

    written = io.BytesIO()
    pl.DataFrame({"a": [1]}).write_parquet(written)
    pl.read_parquet(io.BytesIO(written.getvalue()))
    pyarrow.csv.read_csv(io.BytesIO(b"a\n1\n"))


def numbers() -> dict[str, Any]:
    generator = np.random.Generator(np.random.SFC64(1))
    return {name: generator.random(ROWS) for name in "abcdefgh"}


class Watch:
    """What nginx sent for the requests made within the context."""

    def __init__(self, nginx: NginxServer) -> None:
        self._nginx = nginx

    def __enter__(self) -> Watch:
        self._mark = self._nginx.log.mark()
        return self

    def __exit__(self, *raised: object) -> None:
        log = self._nginx.log.since(self._mark)
        self.requests = len(log)
        self.fetched = sum(each.body_bytes for each in log)


# The standard library -------------------------------------------------------------------------------------------------


def test_json(session: getm.Session, serve: Serve) -> None:
    value = {"a": [1, 2, {"b": "ä"}] * 10_000}
    url = serve("a.json", json.dumps(value).encode())
    with session.open(url) as fh:
        assert json.load(fh) == value
    with session.open(url, "r", encoding="utf-8") as text:
        assert json.load(text) == value


def test_csv(session: getm.Session, serve: Serve) -> None:
    rows = [[str(number), f"line\nof {number}"] for number in range(5000)]
    written = io.StringIO(newline="")
    csv.writer(written).writerows(rows)
    with session.open(serve("a.csv", written.getvalue().encode()), "r", encoding="utf-8", newline="") as fh:
        assert list(csv.reader(fh)) == rows


def test_text_is_decoded_as_by_the_built_in_open(session: getm.Session, serve: Serve) -> None:
    content = "grün\r\nä\n\rend".encode() + b"\xff" + b"x" * 200_000
    url = serve("a.txt", content)
    for newline in (None, "", "\n"):
        expected = io.TextIOWrapper(io.BytesIO(content), "utf-8", "replace", newline).readlines()
        with session.open(url, "rt", encoding="utf-8", errors="replace", newline=newline) as fh:
            assert fh.readlines() == expected and fh.seekable()
            fh.seek(0)
            assert fh.readline() == expected[0]
    with session.open(url, "r", encoding="utf-8") as fh, pytest.raises(UnicodeDecodeError):
        fh.read()


def test_zipfile_takes_four_requests_for_the_names_and_a_member(
    session: getm.Session, nginx: NginxServer, serve: Serve
) -> None:
    content, member = io.BytesIO(), np.random.Generator(np.random.SFC64(2)).bytes(700_000)
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(1000):
            archive.writestr(f"folder/member-{number:04}.bin", member if number == 500 else member[: 20 * KIB + number])
    url = serve("a.zip", content.getvalue())
    with Watch(nginx) as watch, session.open(url) as fh, zipfile.ZipFile(fh) as archive:
        assert len(archive.namelist()) == 1000
        assert archive.read("folder/member-0500.bin") == member
    assert watch.requests <= 4 and watch.fetched < len(member) + MIB


def test_tarfile(session: getm.Session, nginx: NginxServer, serve: Serve) -> None:
    content, member = io.BytesIO(), np.random.Generator(np.random.SFC64(3)).bytes(4 * MIB)
    with tarfile.open(fileobj=content, mode="w") as archive:
        for number in range(4):
            info = tarfile.TarInfo(f"member-{number}")
            info.size = len(member)
            archive.addfile(info, io.BytesIO(member))
    url = serve("a.tar", content.getvalue())
    with Watch(nginx) as watch, session.open(url) as fh, tarfile.open(fileobj=fh) as archive:
        assert archive.getnames() == [f"member-{number}" for number in range(4)]
    # The members were left out.
    assert watch.fetched < MIB
    with session.open(url) as fh, tarfile.open(fileobj=fh) as archive:
        found = archive.extractfile("member-2")
        assert found is not None and found.read() == member
    url = serve("a.tar.gz", gzip.compress(content.getvalue(), 1))
    with session.open(url) as fh, tarfile.open(fileobj=fh, mode="r|gz") as archive:
        assert [info.size for info in archive] == [len(member)] * 4


def test_gzip(session: getm.Session, serve: Serve) -> None:
    lines = b"".join(b"@read %d\nACGT\n+\nIIII\n" % number for number in range(100_000))
    with session.open(serve("a.fastq.gz", gzip.compress(lines))) as fh, gzip.open(fh) as unpacked:
        assert unpacked.read() == lines
        unpacked.seek(10)
        assert unpacked.readline() == lines[10:].splitlines(keepends=True)[0]
    with session.open(serve("a.fastq.gz", gzip.compress(lines))) as fh, gzip.open(fh, "rt", encoding="ascii") as text:
        assert sum(1 for _ in text) == 400_000


# Arrays and pictures --------------------------------------------------------------------------------------------------


def test_numpy(session: getm.Session, nginx: NginxServer, serve: Serve) -> None:
    arrays = numbers()
    saved, archive = io.BytesIO(), io.BytesIO()
    np.save(saved, arrays["a"])
    np.savez(archive, **arrays)
    with session.open(serve("a.npy", saved.getvalue())) as fh:
        assert np.array_equal(np.load(fh), arrays["a"])
    with Watch(nginx) as watch, session.open(serve("a.npz", archive.getvalue())) as fh, np.load(fh) as found:
        assert np.array_equal(found["c"], arrays["c"])
    # It is read in small pieces, in order, so that more is read ahead.
    assert watch.fetched < 3 * arrays["c"].nbytes + MIB


def test_pillow(session: getm.Session, serve: Serve) -> None:
    from PIL import Image

    pixels = np.random.Generator(np.random.SFC64(4)).integers(0, 255, (400, 300, 3), np.uint8)
    for kind in ("PNG", "TIFF"):
        written = io.BytesIO()
        Image.fromarray(pixels).save(written, kind)
        with session.open(serve(f"a.{kind}", written.getvalue())) as fh, Image.open(fh) as image:
            assert image.format == kind and np.array_equal(np.asarray(image), pixels)


def test_h5py_and_xarray(session: getm.Session, nginx: NginxServer, serve: Serve) -> None:
    import h5py
    import xarray

    arrays, written = numbers(), io.BytesIO()
    xarray.Dataset({name: ("x", values) for name, values in arrays.items()}).to_netcdf(
        written, engine="h5netcdf", encoding={name: {"chunksizes": (10_000,)} for name in arrays}
    )
    url = serve("a.nc", written.getvalue())
    with Watch(nginx) as watch, session.open(url) as fh, h5py.File(fh) as file:
        assert np.array_equal(file["d"][50_000:60_000], arrays["d"][50_000:60_000])
    assert watch.fetched < MIB
    with session.open(url) as fh, xarray.open_dataset(fh, engine="h5netcdf") as dataset:
        assert np.array_equal(dataset["e"].values, arrays["e"])


def test_torch(session: getm.Session, serve: Serve) -> None:
    torch: Any = pytest.importorskip("torch", reason="its CPU build is 750 MB")
    tensors = {name: torch.from_numpy(values) for name, values in numbers().items()}
    written = io.BytesIO()
    torch.save(tensors, written)
    with session.open(serve("a.pt", written.getvalue())) as fh:
        found = torch.load(fh, weights_only=True)
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


# Tables ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> Any:
    import pyarrow as pa

    return pa.table(numbers())


@pytest.fixture(scope="module")
def parquet(table: Any) -> bytes:
    import pyarrow.parquet as pq

    written = io.BytesIO()
    pq.write_table(table, written, row_group_size=50_000, compression="none", use_dictionary=False)
    return written.getvalue()


def test_pandas(session: getm.Session, nginx: NginxServer, serve: Serve, table: Any, parquet: bytes) -> None:
    import pandas as pd

    frame = table.to_pandas()
    with session.open(serve("a.csv", frame[:5000].to_csv(index=False).encode())) as fh:
        assert pd.read_csv(fh).equals(frame[:5000])
    with session.open(serve("a.json", frame[:500].to_json(orient="records", double_precision=15).encode())) as fh:
        assert np.allclose(pd.read_json(fh), frame[:500])
    with Watch(nginx) as watch, session.open(serve("a.parquet", parquet)) as fh:
        assert pd.read_parquet(fh, columns=["c"])["c"].equals(frame["c"])
    assert watch.fetched < 1.2 * frame["c"].nbytes


def test_pyarrow(session: getm.Session, nginx: NginxServer, serve: Serve, table: Any, parquet: bytes) -> None:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.ipc
    import pyarrow.parquet as pq

    with Watch(nginx) as watch, session.open(serve("a.parquet", parquet)) as fh:
        file = pq.ParquetFile(fh)
        assert file.metadata.num_rows == ROWS
        assert file.read(columns=["f"])["f"].equals(table["f"])
    assert watch.fetched < 1.2 * table["f"].nbytes
    written = pa.BufferOutputStream()
    pa.csv.write_csv(table.slice(0, 5000), written)
    with session.open(serve("a.csv", written.getvalue().to_pybytes())) as fh:
        assert pa.csv.read_csv(fh).num_rows == 5000
    for new, read in ((pa.ipc.new_file, pa.ipc.open_file), (pa.ipc.new_stream, pa.ipc.open_stream)):
        written = pa.BufferOutputStream()
        with new(written, table.schema) as writer:
            writer.write_table(table)
        with session.open(serve("a.arrow", written.getvalue().to_pybytes())) as fh:
            assert read(fh).read_all().equals(table)


def test_polars(session: getm.Session, serve: Serve, table: Any, parquet: bytes) -> None:
    import polars as pl

    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    with session.open(serve("a.parquet", parquet)) as fh:
        assert pl.read_parquet(fh, columns=["b"]).equals(frame.select("b"))
    with session.open(serve("a.csv", frame[:5000].write_csv().encode())) as fh:
        assert pl.read_csv(fh).shape == (5000, 8)
    ipc = io.BytesIO()
    frame.write_ipc(ipc)
    with session.open(serve("a.ipc", ipc.getvalue())) as fh:
        assert pl.read_ipc(fh, use_pyarrow=False).equals(frame)
