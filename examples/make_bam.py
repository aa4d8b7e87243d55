"""Writes a small BAM file and its index, as samtools does, for `bam_region.py`.

The formats: https://samtools.github.io/hts-specs/SAMv1.pdf, sections 4 and 5.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections import defaultdict
from pathlib import Path

REFERENCES = {"chr1": 1_200_000, "chr2": 600_000}
STEP, READ_BASES, INTRON_BASES = 50, 100, 20_000
# Uncompressed bytes of a block: those of samtools.
_BLOCK_BYTES = 0xFF00
# Two bases each: A is 1, C 2, G 4, T 8.
_PAIRS = [first << 4 | second for first in (1, 2, 4, 8) for second in (1, 2, 4, 8)]


def cigar_of(number: int) -> list[tuple[int, int]]:
    """Pairs of an operation (0: match, 3: skipped, as an intron is) and a length."""
    return [(0, 50), (3, INTRON_BASES), (0, 50)] if number % 20 == 0 else [(0, READ_BASES)]


def _bin(start: int, stop: int) -> int:
    """The smallest bin that has all of it."""
    for first, shift in ((4681, 14), (585, 17), (73, 20), (9, 23), (1, 26)):
        if start >> shift == (stop - 1) >> shift:
            return first + (start >> shift)
    return 0


def _block(data: bytes) -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = compressor.compress(data) + compressor.flush()
    # gzip, with an extra field that has the block's size minus one.
    header = struct.pack("<4BI2BH2sHH", 31, 139, 8, 4, 0, 0, 255, 6, b"BC", 2, len(body) + 25)
    return header + body + struct.pack("<II", zlib.crc32(data), len(data))


def write_bam(path: Path, generator: random.Random) -> None:
    """A read at each `STEP` bases of each reference; every twentieth is spliced."""
    text = b"@HD\tVN:1.6\tSO:coordinate\n"
    text += b"".join(b"@SQ\tSN:%s\tLN:%d\n" % (name.encode(), length) for name, length in REFERENCES.items())
    header = struct.pack("<4si", b"BAM\1", len(text)) + text + struct.pack("<i", len(REFERENCES))
    for name, length in REFERENCES.items():
        header += struct.pack("<i", len(name) + 1) + name.encode() + struct.pack("<Bi", 0, length)
    index = struct.pack("<4si", b"BAI\1", len(REFERENCES))
    with path.open("wb") as file:
        file.write(_block(header))
        pending = bytearray()
        for reference, length in enumerate(REFERENCES.values()):
            bins: defaultdict[int, list[list[int]]] = defaultdict(list)
            windows: dict[int, int] = {}
            for number, start in enumerate(range(0, length - 2 * INTRON_BASES, STEP)):
                cigar = cigar_of(number)
                stop = start + sum(count for _, count in cigar)
                record = struct.pack(
                    "<iiBBHHHiiii", reference, start, 12, 60, _bin(start, stop), len(cigar), 0, READ_BASES, -1, -1, 0
                )
                record += b"r%d_%08d\0" % (reference, number)
                record += b"".join(struct.pack("<I", count << 4 | operation) for operation, count in cigar)
                record += bytes(generator.choices(_PAIRS, k=READ_BASES // 2)) + b"\x1e" * READ_BASES
                first = file.tell() << 16 | len(pending)
                pending += struct.pack("<i", len(record)) + record
                # Records go over the ends of blocks.
                while len(pending) >= _BLOCK_BYTES:
                    file.write(_block(bytes(pending[:_BLOCK_BYTES])))
                    del pending[:_BLOCK_BYTES]
                last = file.tell() << 16 | len(pending)
                chunks = bins[_bin(start, stop)]
                if chunks and chunks[-1][1] >> 16 == first >> 16:
                    # Of one block, whatever else stands between them.
                    chunks[-1][1] = last
                else:
                    chunks.append([first, last])
                for window in range(start >> 14, (stop - 1 >> 14) + 1):
                    windows.setdefault(window, first)
            index += struct.pack("<i", len(bins))
            for bin_number, chunks in sorted(bins.items()):
                index += struct.pack("<Ii", bin_number, len(chunks))
                index += b"".join(struct.pack("<QQ", *chunk) for chunk in chunks)
            index += struct.pack(f"<i{len(windows)}Q", len(windows), *(windows[each] for each in sorted(windows)))
        # The last block is empty: it says that the file is complete.
        file.write(_block(bytes(pending)) + _block(b""))
    path.with_name(path.name + ".bai").write_bytes(index)
