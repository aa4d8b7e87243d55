"""Parts of objects, read through fsspec: by its own file system for HTTP, by that of obstore, and by getm's.

"ranges": `cat_ranges` of 1,000 times 64 KiB of an object of 500 MB on loopback; 200 of them where the server is 5 ms
away. "parquet": one of 25 columns of a file of 500 MB, by pyarrow. "zarr": an array of 64 chunks of 1 MiB. The server's
log says how many requests were made and how many MB were sent.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.access import FAR, FAR_READS, LARGE_BYTES, READS, parquet_file
from benchmarks.harness.access import take_logged_turns
from benchmarks.harness.bench import Bench
from benchmarks.harness.filesystems import FILESYSTEMS, RANGE_BYTES
from benchmarks.harness.question import Answer, Column, Question, cpu_against, wall_against
from benchmarks.proxy import shaped
from tests.support.nginx import NginxServer

CHUNKS, CHUNK_EDGE = 8, 512


def zarr_folder(place: Path) -> None:
    """An array of chunks of 1 MiB (Zarr, version 3). By hand: the package keeps threads, which would be there while
    others are measured."""
    metadata = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [CHUNKS * CHUNK_EDGE] * 2,
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [CHUNK_EDGE] * 2}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    }
    generator = np.random.Generator(np.random.SFC64(3))
    for row, column in itertools.product(range(CHUNKS), repeat=2):
        chunk = place / "c" / str(row) / str(column)
        chunk.parent.mkdir(parents=True, exist_ok=True)
        generator.random((CHUNK_EDGE, CHUNK_EDGE), dtype=np.float32).tofile(chunk)
    (place / "zarr.json").write_text(json.dumps(metadata))


def measure(bench: Bench) -> Answer:
    with contextlib.ExitStack() as stack:
        # As for the question "access".
        folder = bench.folder / "filesystems"
        folder.mkdir()
        server = stack.enter_context(NginxServer(folder, tcp_nopush=False))
        large = server.objects.make(bench.sized(LARGE_BYTES))
        link = stack.enter_context(shaped(server.http_port, FAR))
        url, size = server.url(large), large.size_bytes
        near = {"work": "ranges", "url": url, "count": bench.sized(READS), "size": size}
        cases: dict[str, dict[str, Any]] = {
            "ranges": near,
            "ranges, 5 ms": {**near, "url": link.url(url), "count": bench.sized(FAR_READS)},
        }
        with contextlib.suppress(ModuleNotFoundError):
            parquet = server.objects.write("a.parquet", parquet_file(size))
            cases["parquet"] = {"work": "parquet by filesystem", "url": server.url(parquet)}
        if find_spec("zarr") is not None:
            zarr_folder(large.path.with_name("array.zarr"))
            cases["zarr"] = {"work": "zarr", "url": server.url("/objects/array.zarr")}
        return take_logged_turns(bench, server, "filesystem", FILESYSTEMS, cases, RANGE_BYTES, "filesystems")


QUESTION = Question(
    name="filesystems",
    title="What does it cost to read parts of objects through fsspec?",
    how=__doc__,
    minutes=3,
    columns=(
        Column("ms", lambda run: 1e3 * run["wall_s"], digits=0, compared=True),
        Column("CPU ms", lambda run: 1e3 * run["cpu_s"], digits=0, compared=True),
        Column("requests", lambda run: run["requests"], digits=0),
        Column("MB sent", lambda run: run["sent_bytes"] / 1e6, digits=1),
        wall_against("fsspec"),
        wall_against("obstore"),
        cpu_against("fsspec"),
    ),
    measure=measure,
    scaled_by_case=True,
)
