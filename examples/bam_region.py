"""The alignments of one region of a BAM file, found by its index: python examples/bam_region.py URL

The index (.bai) says at which compressed blocks (BGZF) the alignments of a region are: all of them are read by one
`read_ranges`, and nothing else but the header. The formats: https://samtools.github.io/hts-specs/SAMv1.pdf, sections 4
and 5.
"""

from __future__ import annotations

import gzip
import struct
import sys
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import getm

# 0-based and half-open: samtools writes it as chr1:500,001-500,200.
REFERENCE, START, STOP = "chr1", 500_000, 500_200

BLOCK_BYTES = 65536
# (virtual offset of the first byte, virtual offset after the last one): the position of a block, shifted left by 16,
# and a position in what the block has when it is decompressed.
Chunk = tuple[int, int]


class Alignment(NamedTuple):
    name: str
    start: int
    stop: int
    cigar: str
    sequence: str


def read_reference_names(url: str) -> list[str]:
    """From the header, which is as long as there are references."""
    # A BGZF file is a gzip file of many members.
    with getm.open(url) as fh, gzip.open(fh) as header:
        magic, text_bytes = struct.unpack("<4si", header.read(8))
        if magic != b"BAM\1":
            raise ValueError("this is no BAM file")
        header.read(text_bytes)
        names = []
        for _ in range(struct.unpack("<i", header.read(4))[0]):
            (name_bytes,) = struct.unpack("<i", header.read(4))
            names.append(header.read(name_bytes).rstrip(b"\0").decode("ascii"))
            header.read(4)
        return names


def bins_of(start: int, stop: int) -> set[int]:
    """The bins that may have alignments which overlap the region: of the whole reference, of 64 MiB, 8 MiB, ..."""
    bins = {0}
    for first, shift in ((1, 26), (9, 23), (73, 20), (585, 17), (4681, 14)):
        bins.update(range(first + (start >> shift), first + ((stop - 1) >> shift) + 1))
    return bins


def find_chunks(index: memoryview, reference: int, start: int, stop: int) -> list[Chunk]:
    """Where the alignments of the region are."""
    if bytes(index[:4]) != b"BAI\1":
        raise ValueError("this is no BAI file")
    wanted, last_leaf, at = bins_of(start, stop), 4681 + (stop - 1 >> 14), 8
    chunks: list[Chunk] = []
    behind = 1 << 64
    for number in range(reference + 1):
        (bin_count,) = struct.unpack_from("<i", index, at)
        at += 4
        for _ in range(bin_count):
            bin_number, chunk_count = struct.unpack_from("<Ii", index, at)
            at += 8
            found = list(struct.iter_unpack("<QQ", index[at : at + 16 * chunk_count]))
            at += 16 * chunk_count
            if number == reference and bin_number in wanted:
                chunks += found
            elif number == reference and last_leaf < bin_number <= 37448:
                # All alignments from here on begin after the region.
                behind = min(behind, found[0][0])
        (window_count,) = struct.unpack_from("<i", index, at)
        at += 4
        if number == reference and start >> 14 < window_count:
            # No alignment that overlaps this window of 16 KiB begins before this.
            (first,) = struct.unpack_from("<Q", index, at + 8 * (start >> 14))
            chunks = [chunk for chunk in chunks if chunk[1] > first]
        at += 8 * window_count
    merged: list[Chunk] = []
    for begin, end in sorted(chunk for chunk in chunks if chunk[0] < behind):
        if merged and begin <= merged[-1][1]:
            # Chunks of several bins may have the same alignments.
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged


def decompress(blocks: memoryview, chunk: Chunk) -> bytearray:
    """What a chunk has, of the blocks from its first one on."""
    (first, skipped), (last, stop) = divmod(chunk[0], BLOCK_BYTES), divmod(chunk[1], BLOCK_BYTES)
    data, at = bytearray(), 0
    while first + at <= last and at < len(blocks):
        # A gzip header with one extra field, which ends with the size of the block minus one.
        size = int.from_bytes(blocks[at + 16 : at + 18], "little") + 1
        content = zlib.decompress(blocks[at : at + size], wbits=31)
        data += content[:stop] if first + at == last else content
        at += size
    del data[:skipped]
    return data


def alignments_in(data: bytearray) -> Iterator[tuple[int, Alignment]]:
    """Pairs of the number of the reference and an alignment."""
    at = 0
    while at < len(data):
        size, reference, start, name_bytes, _, _, operations, _, bases = struct.unpack_from("<iiiBBHHHi", data, at)
        name_at = at + 36
        cigar_at = name_at + name_bytes
        bases_at = cigar_at + 4 * operations
        cigar = [(code >> 4, "MIDNSHP=X"[code & 15]) for code in struct.unpack_from(f"<{operations}I", data, cigar_at)]
        # Insertions and clipped bases have no place on the reference.
        length = sum(count for count, operation in cigar if operation in "MDN=X")
        # Two bases a byte.
        pairs = data[bases_at : bases_at + (bases + 1) // 2].hex()
        yield (
            reference,
            Alignment(
                data[name_at : cigar_at - 1].decode("ascii"),
                start,
                start + length,
                "".join(f"{count}{operation}" for count, operation in cigar),
                "".join("=ACMGRSVTWYHKDBN"[int(digit, 16)] for digit in pairs[:bases]),
            ),
        )
        at += 4 + size


def read_region(url: str, reference: str, start: int, stop: int) -> tuple[list[Alignment], int]:
    """The alignments that overlap the region, and how many bytes were received for them."""
    number = read_reference_names(url).index(reference)
    chunks = find_chunks(getm.read(url + ".bai"), number, start, stop)
    # The last block of a chunk has at most 64 KiB. What spans have in common is received once.
    spans = [(first // BLOCK_BYTES, last // BLOCK_BYTES + BLOCK_BYTES) for first, last in chunks]
    blocks = getm.read_ranges(url, spans)
    return [
        alignment
        for chunk, part in zip(chunks, blocks, strict=True)
        for found, alignment in alignments_in(decompress(part, chunk))
        if found == number and alignment.start < stop and alignment.stop > start
    ], blocks.stats.received_bytes


if __name__ == "__main__":
    url = sys.argv[1] + "alignments.bam"
    found, received = read_region(url, REFERENCE, START, STOP)
    print(f"{len(found)} alignments overlap {REFERENCE}:{START + 1:,}-{STOP:,}")
    for alignment in found:
        print(alignment.name, alignment.start, alignment.cigar, alignment.sequence, sep="\t")
    print(f"{received} of {getm.info(url).size} bytes")
