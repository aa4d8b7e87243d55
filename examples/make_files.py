"""Writes the files that the examples read: python examples/make_files.py FOLDER"""

from __future__ import annotations

import gzip
import random
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from make_bam import write_bam

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

write_bam(folder / "alignments.bam", generator)

layers = {f"layer{number}.weight": np.full((512, 512), number, dtype=np.float32) for number in range(10)}
safetensors.numpy.save_file({**layers, "bias": np.arange(512, dtype=np.float32)}, folder / "model.safetensors")

# 10,000 samples of 64 numbers, each of which is the sample's own number.
np.repeat(np.arange(10_000, dtype=np.float32), 64).tofile(folder / "samples.f32")
