"""The CRC32C of blocks: of any bytes, fed in any order and in any pieces, and as text."""

from __future__ import annotations

import itertools
import random
from queue import SimpleQueue

import crc32c
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from getm.core.units import MIB
from getm.errors import InvalidInput
from getm.integrity.blocks import MAX_BLOCKS, BlockSums, block_bytes_for
from getm.integrity.declared.types import Declared
from getm.integrity.hashing.hasher import PartsHasher
from getm.integrity.hashing.threads import HashPool
from getm.integrity.values import Checksum
from getm.integrity.verdict import Verdict

DATA = random.Random(1).randbytes(5 * MIB + 12345)


def reference(data: bytes, block_bytes: int) -> bytes:
    blocks = [data[start : start + block_bytes] for start in range(0, len(data), block_bytes)]
    return b"".join(crc32c.crc32c(block).to_bytes(4, "big") for block in blocks)


@given(st.integers(0, 2**50))
@example(MIB)
@example(MIB + 1)
@example(MIB * MAX_BLOCKS)
@example(MIB * MAX_BLOCKS + 1)
@example(10**10)
def test_the_size_of_blocks(size: int) -> None:
    block_bytes = block_bytes_for(size)
    if block_bytes is None:
        assert size <= MIB
        return
    blocks = -(-size // block_bytes)
    assert size > MIB and block_bytes.bit_count() == 1 and 1 < blocks <= MAX_BLOCKS
    assert block_bytes == MIB or blocks > MAX_BLOCKS // 2


def test_what_10_gb_cost() -> None:
    assert block_bytes_for(10**10) == 8 * MIB and -(-(10**10) // (8 * MIB)) * 4 * 4 // 3 < 6500


@given(st.lists(st.integers(1, len(DATA) - 1), max_size=20), st.randoms(use_true_random=False), st.sampled_from([1, 2]))
def test_any_pieces_in_any_order(cuts: list[int], order: random.Random, mebibytes: int) -> None:
    bounds = sorted({0, *cuts, len(DATA)})
    spans = list(itertools.pairwise(bounds))
    order.shuffle(spans)
    whole = Checksum("crc32c", crc32c.crc32c(DATA).to_bytes(4, "big"))
    with HashPool(3) as pool:
        hasher = PartsHasher([Declared(whole, "x")], size=len(DATA), pool=pool, block_bytes=mebibytes * MIB)
        for start, stop in spans:
            hasher.feed(start, memoryview(DATA)[start:stop], lambda: None)
        verdicts: SimpleQueue[Verdict] = SimpleQueue()
        hasher.finish(len(DATA), verdicts.put)
        verdict = verdicts.get()
    assert verdict.verified and verdict.blocks is not None
    assert (verdict.blocks.crcs, verdict.blocks.whole) == (reference(DATA, mebibytes * MIB), whole)
    assert BlockSums.parse(len(DATA), mebibytes * MIB, verdict.blocks.text) == verdict.blocks
    assert [span.stop for span, _ in verdict.blocks][-1] == len(DATA)


@given(
    st.integers(0, 2**40), st.integers(-(2**40), 2**40), st.text(max_size=30) | st.binary(max_size=30).map(bytes.hex)
)
@example(2 * MIB, MIB, "AAAA")
@example(2 * MIB, MIB, "AAAAAAAAAAAAAAAA")
@example(2 * MIB, 0, "")
@example(0, MIB, "AAAAAA==")
def test_what_does_not_fit_together_is_refused(size: int, block_bytes: int, text: str) -> None:
    """A receipt may come from anywhere."""
    try:
        sums = BlockSums.parse(size, block_bytes, text)
    except InvalidInput:
        return
    assert len(list(sums)) * 4 == len(sums.crcs)


def test_a_declared_checksum_is_not_hidden_by_blocks() -> None:
    with HashPool(1) as pool:
        hasher = PartsHasher([Declared(Checksum("crc32c", bytes(4)), "x")], size=3, pool=pool, block_bytes=MIB)
        hasher.feed(0, memoryview(b"abc"), lambda: None)
        verdicts: SimpleQueue[Verdict] = SimpleQueue()
        hasher.finish(3, verdicts.put)
        assert verdicts.get().mismatch is not None


@pytest.mark.parametrize("block_bytes", [MIB, 4 * MIB])
def test_without_a_checksum(block_bytes: int) -> None:
    with HashPool(2) as pool:
        hasher = PartsHasher((), size=len(DATA), pool=pool, block_bytes=block_bytes)
        hasher.feed(0, memoryview(DATA), lambda: None)
        verdicts: SimpleQueue[Verdict] = SimpleQueue()
        hasher.finish(len(DATA), verdicts.put)
        verdict = verdicts.get()
    assert not verdict.verified and verdict.computed == ()
    assert verdict.blocks is not None and verdict.blocks.crcs == reference(DATA, block_bytes)
