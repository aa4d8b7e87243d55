"""Every algorithm against documented values, the combination of CRCs, and packages that are missing."""

from __future__ import annotations

import functools
import hashlib
import itertools
import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.errors import InvalidInput, MissingExtra
from getm.integrity.algorithms import available_algorithms, crc_function, new_digest, require_algorithm
from getm.integrity.combine import GENERATORS, combine
from getm.integrity.files import checksum
from getm.integrity.values import DIGEST_BYTES

CRCS = sorted(GENERATORS)

# (algorithm, input, digest in hex, where it is documented)
VECTORS = [
    ("md5", b"", "d41d8cd98f00b204e9800998ecf8427e", "RFC 1321, A.5"),
    ("md5", b"message digest", "f96b697d7cb7938d525a2f31aaf161d0", "RFC 1321, A.5"),
    ("sha1", b"abc", "a9993e364706816aba3e25717850c26c9cd0d89d", "FIPS 180, RFC 3174"),
    ("sha224", b"abc", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7", "RFC 3874"),
    ("sha256", b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "FIPS 180"),
    (
        "sha384",
        b"abc",
        "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
        "FIPS 180",
    ),
    (
        "sha512",
        b"abc",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "FIPS 180",
    ),
    ("git-blob", b"test content\n", "d670460b4b4aece5915caf5c68d12f560a9fe3e4", "Pro Git, section 10.2"),
    ("git-blob", b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", "git hash-object of nothing"),
    ("crc32", b"123456789", "cbf43926", "check value, CRC-32/ISO-HDLC"),
    ("crc32c", b"123456789", "e3069283", "check value, CRC-32/ISCSI"),
    ("crc64nvme", b"123456789", "ae8b14860a799888", "check value, CRC-64/NVME"),
    # RFC 3720, B.4 prints the bytes as they travel, the lowest first; here they stand highest first.
    ("crc32c", bytes(32), "8a9136aa", "RFC 3720, B.4, 32 bytes of zeroes"),
    ("crc32c", b"\xff" * 32, "62a8ab43", "RFC 3720, B.4, 32 bytes of ones"),
    ("crc32c", bytes(range(32)), "46dd794e", "RFC 3720, B.4, incrementing"),
    ("crc32c", bytes(reversed(range(32))), "113fdb5c", "RFC 3720, B.4, decrementing"),
    (
        "crc32c",
        bytes.fromhex(
            "01c00000000000000000000000000000140000000000040000000014000000182800000000000000" + "02" + "00" * 7
        ),
        "d9963a56",
        "RFC 3720, B.4, an iSCSI SCSI Read (10) command",
    ),
    ("s3-etag", b"message digest", "f96b697d7cb7938d525a2f31aaf161d0", "S3: MD5 of a single PUT"),
    ("blake3", b"", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262", "BLAKE3 test vectors"),
    ("xxh64", b"", "ef46db3751d8e999", "xxHash, XXH64 of nothing"),
    ("xxh3-64", b"", "2d06800538d394c2", "xxHash, XXH3_64bits of nothing"),
    ("xxh3-128", b"", "99aa06d3014798d86001c324468d497f", "xxHash, XXH3_128bits of nothing"),
]


@pytest.mark.parametrize(("algorithm", "data", "digest", "source"), VECTORS, ids=[f"{v[0]}: {v[3]}" for v in VECTORS])
def test_documented_vectors(algorithm: str, data: bytes, digest: str, source: str) -> None:
    assert checksum(data, algorithm).hex == digest, source


def test_every_algorithm_has_a_vector_and_is_available() -> None:
    assert {vector[0] for vector in VECTORS} == set(DIGEST_BYTES)
    assert available_algorithms() == tuple(DIGEST_BYTES)


def crc_of(algorithm: str, data: bytes) -> int:
    return crc_function(algorithm)(memoryview(data), 0) if data else 0


@pytest.mark.parametrize("algorithm", CRCS)
@given(first=st.binary(max_size=3000), second=st.binary(max_size=3000))
def test_the_combination_of_two_crcs_is_the_crc_of_both(algorithm: str, first: bytes, second: bytes) -> None:
    whole = combine(algorithm, crc_of(algorithm, first), crc_of(algorithm, second), len(second))
    assert whole == crc_of(algorithm, first + second)


@pytest.mark.parametrize("algorithm", CRCS)
@given(parts=st.lists(st.binary(max_size=200), max_size=12))
def test_combination_is_associative(algorithm: str, parts: list[bytes]) -> None:
    def join(left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
        return combine(algorithm, left[0], right[0], right[1]), left[1] + right[1]

    pairs = [(crc_of(algorithm, part), len(part)) for part in parts]
    forwards = functools.reduce(join, pairs, (0, 0))
    backwards = functools.reduce(lambda right, left: join(left, right), reversed(pairs), (0, 0))
    assert forwards == backwards == (crc_of(algorithm, b"".join(parts)), sum(map(len, parts)))


@pytest.mark.parametrize("algorithm", CRCS)
def test_combination_over_a_length_that_no_32_bit_number_holds(algorithm: str) -> None:
    # 2^33 zero bytes, without hashing them: doubling a run of zeroes 20 times from 8 KiB.
    zeroes, size = crc_of(algorithm, bytes(8192)), 8192
    while size < 1 << 33:
        zeroes, size = combine(algorithm, zeroes, zeroes, size), size * 2
    ahead = crc_of(algorithm, b"head")
    once = combine(algorithm, ahead, zeroes, size)
    half = size // 2
    halves = crc_of(algorithm, bytes(8192))
    reached = 8192
    while reached < half:
        halves, reached = combine(algorithm, halves, halves, reached), reached * 2
    assert once == combine(algorithm, combine(algorithm, ahead, halves, half), halves, half)


@pytest.mark.parametrize(
    ("algorithm", "module", "named"),
    [
        ("blake3", "blake3", "getm[blake3]"),
        ("xxh64", "xxhash", "getm[xxhash]"),
        ("xxh3-64", "xxhash", "getm[xxhash]"),
        ("xxh3-128", "xxhash", "getm[xxhash]"),
        ("crc64nvme", "anycrc", "anycrc"),
        ("crc32c", "crc32c", "crc32c"),
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, module: str, named: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=f'pip install "{named}"'.replace("[", r"\[")):
        require_algorithm(algorithm.upper())
    assert algorithm not in available_algorithms()
    with pytest.raises(MissingExtra):
        checksum(b"", algorithm)


def test_an_unknown_algorithm_is_invalid_input() -> None:
    with pytest.raises(InvalidInput, match=r"whirlpool.*expected one of sha512"):
        require_algorithm("whirlpool")


def test_which_algorithms_are_combined() -> None:
    assert {name for name in DIGEST_BYTES if name.startswith("crc")} == set(GENERATORS)


PAGES = random.Random(7).randbytes(300_001)


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha224", "sha256", "sha512"])
@given(cuts=st.lists(st.integers(0, len(PAGES)), max_size=6), flip=st.integers(0, len(PAGES) - 1))
def test_a_digest_read_page_by_page_is_that_of_every_byte(algorithm: str, cuts: list[int], flip: int) -> None:
    edges = sorted([0, *cuts, len(PAGES)])

    def digest_of(data: bytes) -> bytes:
        digest = new_digest(algorithm, len(data), paged=True)
        for start, stop in itertools.pairwise(edges):
            digest.update(memoryview(data)[start:stop])
        return digest.digest()

    assert digest_of(PAGES) == hashlib.new(algorithm, PAGES).digest()
    wrong = bytearray(PAGES)
    wrong[flip] ^= 1
    assert digest_of(bytes(wrong)) != hashlib.new(algorithm, PAGES).digest()
