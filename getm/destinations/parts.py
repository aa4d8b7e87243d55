"""The parts in which an object is sent to a store: their sizes, and their checksums."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from getm.core.units import MIB
from getm.errors import TargetError
from getm.integrity.algorithms import crc_function
from getm.integrity.combine import GENERATORS, combine
from getm.integrity.values import DIGEST_BYTES, S3_MAX_PARTS, Checksum

# S3 wants parts of at least 5 MiB (Amazon S3 User Guide, "Multipart upload limits").
_LEAST_BYTES = 8 * MIB
# Of an object of unknown size, parts become larger as it goes on: 10,000 of them have 8 TiB then.
_DOUBLE_EACH = 1000
# Parts of one object that are sent at once, where they are not large.
_AT_ONCE = 4
_AT_ONCE_BYTES = 64 * MIB


def part_bytes(number: int, size: int | None) -> int:
    """The size of part `number`, counted from 0, of an object of `size` bytes (None: unknown). All parts but the last
    one of an object of known size have the same: some stores demand it."""
    if size is None:
        return _LEAST_BYTES << (number // _DOUBLE_EACH)
    least = -(-size // S3_MAX_PARTS)
    return max(_LEAST_BYTES, -(-least // MIB) * MIB)


def parts_at_once(part_bytes: int) -> int:
    """How many parts of that size are sent at once."""
    return max(1, min(_AT_ONCE, _AT_ONCE_BYTES // part_bytes))


class PartSums:
    """The CRC of each part that is sent, and of all of them. `algorithm`: "crc32", "crc32c" or "crc64nvme". For any
    thread."""

    def __init__(self, algorithm: str) -> None:
        self.algorithm: str = algorithm
        self._crc = crc_function(algorithm)
        self._lock = threading.Lock()
        self._parts: dict[int, tuple[int, int]] = {}

    def add(self, number: int, data: bytes | bytearray) -> Checksum:
        """The checksum of a part."""
        crc = self._crc(memoryview(data), 0)
        with self._lock:
            self._parts[number] = crc, len(data)
        return self._checksum(crc)

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(length for _, length in self._parts.values())

    def whole(self) -> Checksum:
        """The checksum of all parts in their order."""
        whole = 0
        for _, (crc, length) in sorted(self._parts.items()):
            whole = combine(self.algorithm, whole, crc, length)
        return self._checksum(whole)

    def check(self, received: Sequence[Checksum], shown: str) -> None:
        """Raises `TargetError` where what is sent is not what was received and verified."""
        whole = self.whole()
        for checksum in received:
            if checksum.algorithm == self.algorithm and checksum != whole:
                raise TargetError(
                    f"the bytes for {shown} have {whole}, and those that were received {checksum}: they were damaged "
                    "in this machine's memory; nothing was put there",
                    path=shown,
                )

    def _checksum(self, crc: int) -> Checksum:
        return Checksum(self.algorithm, crc.to_bytes(DIGEST_BYTES[self.algorithm], "big"))


def algorithm_for(declared: Sequence[str]) -> str:
    """The algorithm for an object whose server declares those ("crc64nvme:..."): the same one where a store can have
    it, so that both can be compared."""
    names = [text.partition(":")[0] for text in declared]
    return next((name for name in names if name in GENERATORS), "crc32c")
