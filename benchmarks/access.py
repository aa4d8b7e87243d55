"""Parts of an object, read by a file object.

"scattered": 1,000 reads of 64 KiB, one after another, of an object of 500 MB on loopback; 200 of them where the server
is 5 ms away. "at once": the same 1,000 by one call, in memory at its end (obstore joins those that are near to each
other). "parquet": one of 25 columns of a file of 500 MB, by pyarrow. "zip": the names of 1,000 members, and one
of 700 kB. The server's log says how many requests were made and how many MB were sent.
"""

from __future__ import annotations

import contextlib
import io
import zipfile
from typing import Any

import numpy as np

from benchmarks.harness.access import take_logged_turns
from benchmarks.harness.bench import Bench
from benchmarks.harness.file_objects import AT_ONCE, OPENERS, SCATTERED_BYTES
from benchmarks.harness.question import Answer, Column, Question, cpu_against, wall_against
from benchmarks.link import Link
from benchmarks.proxy import shaped
from tests.support.nginx import NginxServer

LARGE_BYTES = 500 * 10**6
READS = 1000
FAR_READS = 200
FAR = Link(rtt_s=0.005)
COLUMNS = 25
ROW_BYTES = COLUMNS * 8
MEMBERS = 1000
MEMBER_BYTES = 700_000


def parquet_file(size_bytes: int) -> bytes:
    """A Parquet file of that size: random numbers in columns "c0", "c1", ... Raises `ModuleNotFoundError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, generator = max(1000, size_bytes // ROW_BYTES), np.random.Generator(np.random.SFC64(1))
    table = pa.table({f"c{number}": generator.random(rows) for number in range(COLUMNS)})
    written = io.BytesIO()
    pq.write_table(table, written, row_group_size=250_000, compression="none", use_dictionary=False)
    return written.getvalue()


def zip_file() -> bytes:
    """1,000 members of 50 kB, of which that in the middle is larger."""
    member, written = np.random.Generator(np.random.SFC64(2)).bytes(MEMBER_BYTES), io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for number in range(MEMBERS):
            archive.writestr(f"folder/member-{number:04}.bin", member if number == MEMBERS // 2 else member[:50_000])
    return written.getvalue()


def measure(bench: Bench) -> Answer:
    with contextlib.ExitStack() as stack:
        # With its log, and without what makes Nagle's algorithm wait 40 ms for each response of 64 KiB on loopback.
        folder = bench.folder / "access"
        folder.mkdir()
        server = stack.enter_context(NginxServer(folder, tcp_nopush=False))
        large = server.objects.make(bench.sized(LARGE_BYTES))
        link = stack.enter_context(shaped(server.http_port, FAR))
        url, size = server.url(large), large.size_bytes
        near = {"work": "scattered", "url": url, "count": bench.sized(READS), "size": size}
        cases: dict[str, dict[str, Any]] = {
            "scattered": near,
            "scattered, 5 ms": {**near, "url": link.url(url), "count": bench.sized(FAR_READS)},
            "at once": {**near, "work": "at once", "tools": AT_ONCE},
            "at once, 5 ms": {**near, "work": "at once", "tools": AT_ONCE, "url": link.url(url)},
            "zip": {"work": "zip", "url": server.url(server.objects.write("a.zip", zip_file()))},
        }
        with contextlib.suppress(ModuleNotFoundError):
            parquet = server.objects.write("a.parquet", parquet_file(size))
            cases["parquet"] = {"work": "parquet", "url": server.url(parquet)}
        return take_logged_turns(bench, server, "opener", OPENERS, cases, SCATTERED_BYTES, "access")


QUESTION = Question(
    name="access",
    title="What does it cost to read parts of an object?",
    how=__doc__,
    minutes=4,
    columns=(
        Column("ms", lambda run: 1e3 * run["wall_s"], digits=0, compared=True),
        Column("CPU ms", lambda run: 1e3 * run["cpu_s"], digits=0, compared=True),
        Column("requests", lambda run: run["requests"], digits=0),
        Column("MB sent", lambda run: run["sent_bytes"] / 1e6, digits=1),
        wall_against("fsspec uncached"),
        wall_against("obstore"),
        cpu_against("obstore"),
    ),
    measure=measure,
    scaled_by_case=True,
)
