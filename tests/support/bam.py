"""An indexed BAM file, as samtools makes it of random reads, and which of its bytes the index names for a region."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

READ_BASES = 150
CHROMOSOME_BASES = 10_000_000
_BLOCK_READS = 2_000
_BASES = bytes(b"ACGT"[number % 4] for number in range(256))
_QUALITIES = bytes(b"FFFFFFFFFF:::,,#"[number % 16] for number in range(256))


def make_bam(path: Path, reads: int, chromosomes: int, *, level: int = 6) -> None:
    """Write a sorted BAM file and its index, compressed at `level`: the same bytes each time, by the same samtools."""
    command = ["samtools", "view", "--no-PG", "-b", f"--output-fmt-option=level={level}", "-o", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as samtools:
        assert samtools.stdin is not None
        samtools.stdin.writelines(_sam(reads, chromosomes))
    assert samtools.returncode == 0
    subprocess.run(["samtools", "index", path], check=True)


def _sam(reads: int, chromosomes: int) -> Iterator[bytes]:
    yield b"@HD\tVN:1.6\tSO:coordinate\n"
    for number in range(chromosomes):
        yield b"@SQ\tSN:chr%d\tLN:%d\n" % (number + 1, CHROMOSOME_BASES)
    each = reads // chromosomes
    step = (CHROMOSOME_BASES - READ_BASES) // each
    for number in range(chromosomes):
        for first in range(0, each, _BLOCK_READS):
            count = min(_BLOCK_READS, each - first)
            random = hashlib.shake_256(b"%d %d" % (number, first)).digest(2 * count * READ_BASES)
            lines = []
            for read in range(count):
                start = 2 * read * READ_BASES
                bases = random[start : start + READ_BASES].translate(_BASES)
                qualities = random[start + READ_BASES : start + 2 * READ_BASES].translate(_QUALITIES)
                position = (first + read) * step + 1
                lines.append(
                    b"r%d\t0\tchr%d\t%d\t60\t150M\t*\t0\t0\t%b\t%b\n"
                    % (first + read, number + 1, position, bases, qualities)
                )
            yield b"".join(lines)


@dataclass(frozen=True)
class Region:
    """Bases of a chromosome, whose number is from 1, counted from 1 and including the last."""

    chromosome: int
    first: int
    last: int

    def __str__(self) -> str:
        return f"chr{self.chromosome}:{self.first}-{self.last}"


def named_bytes(bam: Path, regions: list[Region]) -> int:
    """How many bytes of the file the index names for these regions: the compressed blocks of its chunks (The SAM format
    specification, section 5.2)."""
    index = bam.with_name(f"{bam.name}.bai").read_bytes()
    spans: list[tuple[int, int]] = []
    with bam.open("rb") as file:
        for region in regions:
            for start, stop in _chunks(index, region):
                end = stop >> 16
                if stop & 0xFFFF:
                    # All of the block that it ends in: its length is in its header.
                    file.seek(end + 16)
                    end += struct.unpack("<H", file.read(2))[0] + 1
                spans.append((start >> 16, end))
    total = reached = 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _chunks(index: bytes, region: Region) -> Iterator[tuple[int, int]]:
    """The chunks of the bins that overlap a region, and that may have reads of it by the linear index."""
    begin, end = region.first - 1, region.last
    wanted = {0}
    for shift, offset in ((26, 1), (23, 9), (20, 73), (17, 585), (14, 4681)):
        wanted.update(range(offset + (begin >> shift), offset + ((end - 1) >> shift) + 1))
    position = 8
    found: list[tuple[int, int]] = []
    for _ in range(region.chromosome):
        (bins,) = struct.unpack_from("<i", index, position)
        position += 4
        found = []
        for _ in range(bins):
            name, count = struct.unpack_from("<Ii", index, position)
            pairs = list(struct.iter_unpack("<QQ", index[position + 8 : position + 8 + 16 * count]))
            position += 8 + 16 * count
            if name in wanted:
                found += pairs
        (windows,) = struct.unpack_from("<i", index, position)
        linear = struct.unpack_from(f"<{windows}Q", index, position + 4)
        position += 4 + 8 * windows
    window = begin >> 14
    least = linear[window] if window < len(linear) else 0
    return ((start, stop) for start, stop in found if stop > least)
