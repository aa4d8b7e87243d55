"""Writes the files that the examples read: python examples/make_files.py FOLDER"""

from __future__ import annotations

import gzip
import random
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
generator = random.Random(1)

with gzip.open(folder / "reads.fastq.gz", "wt", compresslevel=1) as fastq:
    for number in range(20_000):
        bases = "".join(generator.choices("ACGT", k=100))
        fastq.write(f"@read{number}\n{bases}\n+\n{'I' * 100}\n")

rows = 100_000
table = pa.table({f"column{number}": [generator.random() for _ in range(rows)] for number in range(10)})
pq.write_table(table, folder / "table.parquet", compression="none", use_dictionary=False)

with zipfile.ZipFile(folder / "members.zip", "w") as archive:
    for number in range(1000):
        archive.writestr(f"member-{number}.txt", f"This is member {number}.\n" * 1000)
