"""The mean of one column of a Parquet file, without the others: python examples/parquet_column.py URL"""

from __future__ import annotations

import sys

import pyarrow.compute
import pyarrow.parquet

import getm

with getm.open(sys.argv[1] + "table.parquet") as fh:
    column = pyarrow.parquet.read_table(fh, columns=["column3"])["column3"]
    print(f"{len(column)} rows, mean {pyarrow.compute.mean(column).as_py():.3f}")
    stats = fh.raw.stats
    print(f"{stats.received_bytes} of {fh.raw.size} bytes in {stats.requests} requests")
