"""Counts the reads and bases of a gzip'd FASTQ file while it comes: python examples/fastq_lines.py URL

The file is requested in pieces that grow as they are read, so this uses the whole rate of the network. The bytes are
verified by the checksum that the server declares.
"""

from __future__ import annotations

import gzip
import sys
from itertools import islice

import getm

with getm.open(sys.argv[1] + "reads.fastq.gz") as fh:
    reads = bases = 0
    with gzip.open(fh, "rt", encoding="ascii") as lines:
        # The second of each four lines.
        for line in islice(lines, 1, None, 4):
            reads += 1
            bases += len(line) - 1
    print(f"{reads} reads, {bases} bases; {fh.raw.checksum}")
