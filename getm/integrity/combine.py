"""Combining CRCs: the CRC of A followed by B, from the CRCs of A and of B and the length of B.

A CRC is the remainder of a polynomial over GF(2), so appending B to A multiplies A's remainder by x^(8 * len(B)) modulo
the generator and adds B's. (The all-ones start and end values that these three CRCs share cancel out.) So parts can be
checked in any order and in parallel.
"""

from __future__ import annotations

from functools import lru_cache

from getm.integrity.values import DIGEST_BYTES

GENERATORS: dict[str, int] = {
    "crc32": 0xEDB88320,  # ISO/IEC 3309, RFC 1952
    "crc32c": 0x82F63B78,  # RFC 3720, appendix B.4
    "crc64nvme": 0x9A6C9329AC4BC9B5,  # NVM Command Set Specification 1.0, 5.2.1.3.4
}
"""The polynomials, bit-reversed and without the leading term, as the catalogues print them for reflected use."""


def _highest_bit(algorithm: str) -> int:
    """x^0: in reflected form the highest bit."""
    return 1 << (8 * DIGEST_BYTES[algorithm] - 1)


def _multiply(a: int, b: int, algorithm: str) -> int:
    """The product of two remainders modulo the generator."""
    product = 0
    generator = GENERATORS[algorithm]
    bit = _highest_bit(algorithm)
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        bit >>= 1
        b = (b >> 1) ^ generator if b & 1 else b >> 1
    return product


@lru_cache(maxsize=256)
def _append_factor(size_bytes: int, algorithm: str) -> int:
    """x^(8 * size_bytes) modulo the generator, by repeated squaring.

    Cached because all parts of a transfer but the last have one length.
    """
    factor = _highest_bit(algorithm)  # x^0
    square = factor >> 8  # x^8: one byte
    while size_bytes:
        if size_bytes & 1:
            factor = _multiply(square, factor, algorithm)
        square = _multiply(square, square, algorithm)
        size_bytes >>= 1
    return factor


def combine(algorithm: str, first: int, second: int, second_bytes: int) -> int:
    """The CRC of A followed by B, where `first` is the CRC of A, `second` that of B, and B has `second_bytes` bytes.

    `algorithm` is "crc32", "crc32c" or "crc64nvme". Takes a few microseconds.
    """
    return _multiply(_append_factor(second_bytes, algorithm), first, algorithm) ^ second
