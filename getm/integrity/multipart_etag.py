"""The multipart S3 ETag: MD5 over the MD5s of the upload's parts, whose size is not recorded.

The ETag is `md5(md5(part 1) + md5(part 2) + ...)` and "-N". Uploaders use a handful of part sizes, so N and the
object's size usually leave one or two candidates; all candidates are computed in one pass over the bytes.
"""

from __future__ import annotations

import hashlib

from getm.core.units import MIB
from getm.integrity.values import S3_MAX_PARTS

_KNOWN_PART_BYTES: tuple[int, ...] = (
    *(count * MIB for count in (8, 16, 5, 64, 15, 10, 32, 50, 100, 128)),
    17_179_870,  # the AWS console's choice for large objects
)

MAX_CANDIDATES = 6
"""At most so many part sizes are tried for one ETag, each at the cost of an MD5 pass over the object (some 1.3 CPU
seconds per GB), spread over the hashing threads. Common layouts leave one or two."""


def candidate_part_bytes(size_bytes: int, parts: int) -> tuple[int, ...]:
    """The part sizes p to try, most likely first: those with ceil(size_bytes / p) == parts.

    Known uploaders' sizes come first, then 8 MiB doubled until the object fits into 10,000 parts (what the AWS tools
    do), then other whole MiB, the roundest first; at most `MAX_CANDIDATES`. Empty where no such p exists.
    """
    if size_bytes <= 0 or not 1 <= parts <= min(S3_MAX_PARTS, size_bytes):
        return ()
    if parts == 1:
        return (size_bytes,)  # every larger part size gives the same single part
    smallest = -(-size_bytes // parts)
    largest = -(-size_bytes // (parts - 1)) - 1
    doubled = 8 * MIB
    while -(-size_bytes // doubled) > S3_MAX_PARTS:
        doubled *= 2
    found = [p for p in (*_KNOWN_PART_BYTES, doubled) if smallest <= p <= largest]
    whole_mib = range(-(-smallest // MIB), largest // MIB + 1)
    found.extend(count * MIB for count in _roundest(whole_mib, MAX_CANDIDATES + len(_KNOWN_PART_BYTES) + 1))
    return tuple(dict.fromkeys(found))[:MAX_CANDIDATES]


def _roundest(counts: range, wanted: int) -> list[int]:
    """Up to `wanted` numbers of the range, multiples of high powers of two first: people choose round sizes.

    Walks powers of two downwards, so that a range of millions of numbers costs no more than one of ten.
    """
    found: dict[int, None] = {}
    step = 1 << max(counts.stop, 1).bit_length()
    while step and len(found) < wanted:
        first = -(-counts.start // step) * step
        for count in range(first, counts.stop, step):
            found.setdefault(count)
            if len(found) == wanted:
                break
        step >>= 1
    return list(found)


class PartedMd5:
    """The digest of a multipart ETag for one part size: an MD5 for each `part_bytes` bytes, and the MD5 of those.

    Holds 16 bytes for each part.
    """

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes = part_bytes
        self._left_bytes = part_bytes
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._part_digests = bytearray()

    def update(self, data: memoryview) -> None:
        while len(data) >= self._left_bytes:
            self._md5.update(data[: self._left_bytes])
            data = data[self._left_bytes :]
            self._part_digests += self._md5.digest()
            self._md5 = hashlib.md5(usedforsecurity=False)
            self._left_bytes = self._part_bytes
        if data:
            self._md5.update(data)
            self._left_bytes -= len(data)

    @property
    def parts(self) -> int:
        """Parts seen so far, the unfinished one included."""
        return len(self._part_digests) // 16 + (self._left_bytes < self._part_bytes)

    def digest(self) -> bytes:
        digests = bytes(self._part_digests)
        if self._left_bytes < self._part_bytes:
            digests += self._md5.digest()
        return hashlib.md5(digests, usedforsecurity=False).digest()
