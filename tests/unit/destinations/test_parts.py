"""The parts in which an object is sent: sizes for all objects, and checksums of parts and of the whole."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.core.units import MIB
from getm.destinations.parts import PartSums, algorithm_for, part_bytes, parts_at_once
from getm.errors import TargetError
from getm.integrity.files import checksum
from getm.integrity.values import S3_MAX_PARTS, Checksum

GIB = 1024 * MIB
# What S3 takes (Amazon S3 User Guide, "Multipart upload limits").
LEAST, MOST = 5 * MIB, 5 * GIB


@given(st.integers(0, 48 * 1024 * GIB))
def test_parts_of_known_size_are_equal_and_few_enough(size: int) -> None:
    each = part_bytes(0, size)
    assert LEAST <= each <= MOST and each % MIB == 0
    assert -(-size // each) <= S3_MAX_PARTS
    assert all(part_bytes(number, size) == each for number in (1, 999, 1000, 9999))


def test_parts_of_unknown_size_hold_the_largest_object() -> None:
    sizes = [part_bytes(number, None) for number in range(S3_MAX_PARTS)]
    assert sizes == sorted(sizes) and sizes[0] >= LEAST and sizes[-1] <= MOST
    assert sum(sizes) > 5 * 1024 * GIB


@given(st.integers(1, MOST))
def test_memory_for_parts_is_bounded(each: int) -> None:
    at_once = parts_at_once(each)
    assert 1 <= at_once <= 4
    assert at_once == 1 or at_once * each <= 64 * MIB


@given(st.lists(st.binary(max_size=100), max_size=10), st.randoms(), st.sampled_from(["crc32", "crc32c", "crc64nvme"]))
def test_the_whole_is_that_of_all_parts_in_any_order(parts: list[bytes], order: object, algorithm: str) -> None:
    sums = PartSums(algorithm)
    numbers = list(range(len(parts)))
    order.shuffle(numbers)  # type: ignore[attr-defined]  # a Random of Hypothesis's own
    for number in numbers:
        assert sums.add(number, parts[number]) == checksum(parts[number], algorithm)
    whole = b"".join(parts)
    assert (sums.whole(), sums.size) == (checksum(whole, algorithm), len(whole))
    sums.check([checksum(whole, algorithm), checksum(whole, "md5")], "s3://bucket/x")


def test_bytes_that_were_damaged_here() -> None:
    sums = PartSums("crc32")
    sums.add(0, b"data")
    received = Checksum("crc32", zlib.crc32(b"daza").to_bytes(4, "big"))
    with pytest.raises(TargetError, match="damaged in this machine's memory"):
        sums.check([received], "s3://bucket/x")


@pytest.mark.parametrize(
    ("declared", "algorithm"),
    [
        ([], "crc32c"),
        (["sha256:00", "md5:00"], "crc32c"),
        (["sha256:00", "crc64nvme:00", "crc32:00"], "crc64nvme"),
        (["crc32:00"], "crc32"),
    ],
)
def test_the_algorithm_of_the_source(declared: list[str], algorithm: str) -> None:
    assert algorithm_for(declared) == algorithm
