"""Multipart S3 ETags: which part sizes are tried, what they give, and that no more than promised are tried."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.core.units import MIB
from getm.integrity.multipart_etag import MAX_CANDIDATES, PartedMd5, candidate_part_bytes

GIB = 1024 * MIB


def etag_of(data: bytes, part_bytes: int) -> tuple[bytes, int]:
    """A multipart ETag by its definition."""
    digests = [hashlib.md5(data[start : start + part_bytes]).digest() for start in range(0, len(data), part_bytes)]
    return hashlib.md5(b"".join(digests)).digest(), len(digests)


@given(
    data=st.binary(min_size=1, max_size=2000),
    part_bytes=st.integers(1, 700),
    cuts=st.lists(st.integers(1, 300), max_size=20),
)
def test_any_chunking_gives_the_etag_of_its_definition(data: bytes, part_bytes: int, cuts: list[int]) -> None:
    parted = PartedMd5(part_bytes)
    rest = memoryview(data)
    for cut in [*cuts, len(data)]:
        parted.update(rest[:cut])
        rest = rest[cut:]
    assert (parted.digest(), parted.parts) == etag_of(data, part_bytes)


@given(size_bytes=st.integers(1, 5 * 1024 * GIB), parts=st.integers(1, 10_000))
def test_every_candidate_gives_the_number_of_parts_and_they_are_few(size_bytes: int, parts: int) -> None:
    candidates = candidate_part_bytes(size_bytes, parts)
    assert len(candidates) <= MAX_CANDIDATES
    assert len(set(candidates)) == len(candidates)
    assert all(-(-size_bytes // part_bytes) == parts for part_bytes in candidates)


@pytest.mark.parametrize(
    "part_bytes", [*(count * MIB for count in (8, 16, 5, 64, 15, 10, 32, 50, 100, 128)), 17_179_870]
)
@pytest.mark.parametrize("parts", [2, 3, 7, 100, 9_999])
@pytest.mark.parametrize("short_bytes", [0, 1, 4 * MIB])
def test_every_known_part_size_is_found_again(part_bytes: int, parts: int, short_bytes: int) -> None:
    assert part_bytes in candidate_part_bytes(part_bytes * parts - short_bytes, parts)


def test_the_part_size_that_aws_tools_choose_for_huge_objects_is_found() -> None:
    # 8 MiB doubled until 10,000 parts suffice: 200 GiB needs 32 MiB, 3 TiB needs 512 MiB.
    assert candidate_part_bytes(200 * GIB, 6400)[0] == 32 * MIB
    assert 512 * MIB in candidate_part_bytes(3 * 1024 * GIB, 6144)


def test_other_whole_mebibytes_come_after_the_known_sizes() -> None:
    assert 24 * MIB in candidate_part_bytes(240 * MIB, 10)
    assert candidate_part_bytes(16 * MIB, 2)[0] == 8 * MIB


@pytest.mark.parametrize(("size_bytes", "parts"), [(0, 1), (10, 11), (100, 0), (10**12, 10_001), (1000, 500)])
def test_no_candidates_where_none_can_be(size_bytes: int, parts: int) -> None:
    assert candidate_part_bytes(size_bytes, parts) == ()


def test_a_single_part_upload_has_one_layout() -> None:
    assert candidate_part_bytes(12345, 1) == (12345,)


def test_candidates_of_a_very_wide_range_are_found_at_once() -> None:
    # Two parts of 5 TiB: millions of whole MiB would do.
    assert len(candidate_part_bytes(5 * 1024 * GIB, 2)) == MAX_CANDIDATES
