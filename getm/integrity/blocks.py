"""CRC32C of the blocks of a file: they say where it is damaged, so that only those need be fetched again."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from msgspec import Struct

from getm.core.lazy import importing
from getm.core.spans import Span
from getm.errors import InvalidInput
from getm.integrity.values import Checksum

ALGORITHM = "crc32c"
_CRC_BYTES = 4
# No smaller: a request for fewer bytes costs as much. No more of them: those of any file take at most 11 KB of text,
# and a block is at most a thousandth of the file (of 10 GB: 8 MiB, and 6.4 KB of text).
MIN_BLOCK_BYTES = 1024 * 1024
MAX_BLOCKS = 2048


def block_bytes_for(size: int | None) -> int | None:
    """The size of the blocks of a file, a power of two; None where its size is not known, or all of it is one block."""
    if size is None or size <= MIN_BLOCK_BYTES:
        return None
    block_bytes = MIN_BLOCK_BYTES
    while block_bytes * MAX_BLOCKS < size:
        block_bytes *= 2
    return block_bytes


class BlockSums(Struct, frozen=True, gc=False):
    """The CRC32C of each block of a file of `size` bytes. Blocks have `block_bytes` each, the last one the rest;
    `crcs` has four bytes for each, big-endian."""

    size: int
    block_bytes: int
    crcs: bytes

    @classmethod
    def parse(cls, size: int, block_bytes: int, text: str) -> BlockSums:
        """From base64, as `text` has it. Raises InvalidInput where that is none, or does not fit the sizes."""
        try:
            crcs = base64.b64decode(text, validate=True)
        except ValueError as error:
            raise InvalidInput(f"the CRC32C of its blocks cannot be read: {error}") from None
        if size < 0 or block_bytes < MIN_BLOCK_BYTES or len(crcs) != -(-size // block_bytes) * _CRC_BYTES:
            raise InvalidInput(f"{len(crcs)} bytes of CRC32C are not those of {size} bytes in blocks of {block_bytes}")
        return cls(size, block_bytes, crcs)

    @property
    def text(self) -> str:
        """All of them in base64."""
        return base64.b64encode(self.crcs).decode("ascii")

    def __iter__(self) -> Iterator[tuple[Span, int]]:
        """The blocks, and the CRC32C of each."""
        for number, start in enumerate(range(0, self.size, self.block_bytes)):
            crc = self.crcs[number * _CRC_BYTES : (number + 1) * _CRC_BYTES]
            yield Span(start, min(start + self.block_bytes, self.size)), int.from_bytes(crc, "big")

    @property
    def whole(self) -> Checksum:
        """The CRC32C of the file."""
        with importing:
            # Most processes pass these on, and no more.
            from getm.integrity.combine import combine
        whole = 0
        for span, crc in self:
            whole = combine(ALGORITHM, whole, crc, len(span))
        return Checksum(ALGORITHM, whole.to_bytes(_CRC_BYTES, "big"))
