"""Joining CRCs: the CRC of A followed by B, from the CRCs of A and of B and the length of B.

A CRC is the remainder of a polynomial over GF(2), so appending B to A multiplies A's remainder by x^(8 * len(B)) modulo
the generator and adds B's. (The all-ones start and end values that these three CRCs share cancel out.) That makes parts
checkable in any order and in parallel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class CrcModel:
    """A reflected CRC with all-ones start and end values: its width in bits, and its generator bit-reversed without
    the leading term, as the catalogues print it for reflected use."""

    name: str
    width_bits: int
    reversed_generator: int

    @property
    def digest_bytes(self) -> int:
        return self.width_bits // 8


CRC_MODELS: dict[str, CrcModel] = {
    model.name: model
    for model in (
        CrcModel("crc32", 32, 0xEDB88320),  # ISO/IEC 3309, RFC 1952
        CrcModel("crc32c", 32, 0x82F63B78),  # RFC 3720, appendix B.4
        CrcModel("crc64nvme", 64, 0x9A6C9329AC4BC9B5),  # NVM Command Set Specification 1.0, 5.2.1.3.4
    )
}


def _multiply(a: int, b: int, model: CrcModel) -> int:
    """The product of two remainders modulo the generator; in reflected form the highest bit is x^0."""
    product = 0
    generator = model.reversed_generator
    bit = 1 << (model.width_bits - 1)
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        bit >>= 1
        b = (b >> 1) ^ generator if b & 1 else b >> 1
    return product


@lru_cache(maxsize=256)
def _append_factor(size_bytes: int, model: CrcModel) -> int:
    """x^(8 * size_bytes) modulo the generator, by repeated squaring.

    Cached because the parts of a transfer have one length, the last one excepted.
    """
    square = 1 << (model.width_bits - 1 - 8)  # x^8: one byte
    factor = 1 << (model.width_bits - 1)  # x^0
    while size_bytes:
        if size_bytes & 1:
            factor = _multiply(square, factor, model)
        square = _multiply(square, square, model)
        size_bytes >>= 1
    return factor


def combine(algorithm: str, first: int, second: int, second_bytes: int) -> int:
    """The CRC of A followed by B, where `first` is the CRC of A, `second` that of B, and B has `second_bytes` bytes.

    `algorithm` is "crc32", "crc32c" or "crc64nvme". Takes a few microseconds.
    """
    model = CRC_MODELS[algorithm]
    return _multiply(_append_factor(second_bytes, model), first, model) ^ second
