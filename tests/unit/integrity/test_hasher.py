"""PartsHasher: any order and chunking, every done() once, cancelling, verdicts; faults rows 34, 35, 37 and 39."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import random
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from queue import SimpleQueue

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.core.units import MIB
from getm.errors import ChecksumMismatch, MissingExtra
from getm.integrity.declared.types import Declared
from getm.integrity.files import checksum
from getm.integrity.hashing.hasher import INLINE_BYTES, PartsHasher
from getm.integrity.hashing.threads import HashPool
from getm.integrity.values import DIGEST_BYTES, Checksum, parse_checksum
from getm.integrity.verdict import Verdict

ALL = tuple(DIGEST_BYTES)


@pytest.fixture
def pool() -> Iterator[HashPool]:
    made = HashPool(3)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _nothing_failed_unseen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What goes wrong in a hashing thread is logged there: a test that provokes it clears the log."""
    yield
    seen = [*caplog.get_records("call"), *caplog.records]
    assert [record.message for record in seen if record.levelno >= logging.WARNING] == []


def spans(size_bytes: int, cuts: Sequence[int]) -> list[tuple[int, int]]:
    edges = sorted({0, size_bytes, *(cut for cut in cuts if 0 < cut < size_bytes)})
    return list(itertools.pairwise(edges))


class Feeder:
    """Feeds parts of `data` and counts what comes back."""

    def __init__(self, hasher: PartsHasher, data: bytes) -> None:
        self.hasher = hasher
        self.data = bytearray(data)
        self.done: Counter[int] = Counter()
        self.all_back = threading.Semaphore(0)
        self.verdicts: SimpleQueue[Verdict] = SimpleQueue()

    def feed(self, order: Sequence[tuple[int, int]]) -> None:
        for start, end in order:
            self.hasher.feed(start, memoryview(self.data)[start:end].toreadonly(), partial(self._done, start))

    def _done(self, start: int) -> None:
        self.done[start] += 1
        self.all_back.release()

    def finish(self) -> Verdict:
        self.hasher.finish(len(self.data), self.verdicts.put)
        return self.verdicts.get(timeout=30)


def declare(data: bytes, algorithms: Sequence[str] = ALL) -> list[Declared]:
    return [Declared(checksum(data, name), "caller") for name in algorithms]


def check(data: bytes, expectations: Sequence[Declared], order: Sequence[tuple[int, int]], pool: HashPool) -> Verdict:
    feeder = Feeder(PartsHasher(expectations, size=len(data), pool=pool), data)
    feeder.feed(order)
    verdict = feeder.finish()
    assert feeder.done == Counter(start for start, _ in order), "each done() once, before the verdict"
    feeder.data.append(0)  # raises BufferError if the hasher still held a view
    return verdict


@given(data=st.binary(max_size=4000), cuts=st.lists(st.integers(1, 4000), max_size=12), seed=st.integers())
def test_any_chunking_and_order_gives_the_same_verdict(data: bytes, cuts: list[int], seed: int) -> None:
    order = spans(len(data), cuts)
    random.Random(seed).shuffle(order)
    pool = HashPool(2)
    try:
        verdict = check(data, declare(data), order, pool)
    finally:
        pool.close()
    assert verdict
    assert verdict.computed == tuple(checksum(data, name) for name in ALL)
    assert verdict.checksum == checksum(data, ALL[0])


@pytest.mark.parametrize("algorithm", ALL)
@pytest.mark.parametrize("seed", range(3))
def test_row_39_large_parts_in_any_order_through_the_threads(algorithm: str, seed: int, pool: HashPool) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(3_000_017)
    order = spans(len(data), [chance.randrange(len(data)) for _ in range(40)])
    chance.shuffle(order)
    verdict = check(data, declare(data, [algorithm]), order, pool)
    assert verdict
    assert verdict.checksum == checksum(data, algorithm)


def test_documented_ways_of_hashing_agree_with_the_threads(pool: HashPool) -> None:
    data = os.urandom(2_500_000)
    expectations = [
        Declared(Checksum("sha256", hashlib.sha256(data).digest()), "Repr-Digest"),
        Declared(Checksum("crc32", zlib.crc32(data).to_bytes(4, "big")), "x-amz-checksum-crc32"),
    ]
    verdict = check(data, expectations, spans(len(data), range(0, len(data), 300_000)), pool)
    assert (verdict.verified, verdict.source, verdict.reason) == (True, "Repr-Digest", None)
    assert str(verdict) == f"verified: sha256:{hashlib.sha256(data).hexdigest()} (from Repr-Digest)"


@pytest.mark.parametrize("algorithm", ALL)
@given(
    data=st.binary(min_size=1, max_size=500),
    cuts=st.lists(st.integers(1, 500), max_size=4),
    at=st.integers(0),
    bit=st.integers(0, 7),
)
def test_row_34_one_flipped_bit_is_always_found(
    algorithm: str, data: bytes, cuts: list[int], at: int, bit: int
) -> None:
    damaged = bytearray(data)
    damaged[at % len(data)] ^= 1 << bit
    pool = HashPool(1)
    verdict = check(bytes(damaged), declare(data, [algorithm]), spans(len(data), cuts), pool)
    pool.close()
    assert not verdict
    assert verdict.mismatch is not None
    assert verdict.mismatch.actual == checksum(bytes(damaged), algorithm)
    assert verdict.checksum is None


@pytest.mark.parametrize("algorithm", ALL)
@pytest.mark.parametrize("part", range(4))
def test_row_34_one_flipped_bit_in_any_large_part(algorithm: str, part: int, pool: HashPool) -> None:
    data = random.Random(part).randbytes(4 * 100_000)
    damaged = bytearray(data)
    damaged[part * 100_000 + 99_999] ^= 0x10
    verdict = check(bytes(damaged), declare(data, [algorithm]), spans(len(data), range(0, len(data), 100_000)), pool)
    assert verdict.mismatch is not None


def test_a_mismatch_becomes_an_error_that_tells_all(pool: HashPool) -> None:
    declared = Declared(parse_checksum("md5:" + "0" * 32), "Content-MD5")
    verdict = check(b"123456789", [declared], [(0, 9)], pool)
    assert verdict.mismatch is not None
    error = verdict.mismatch.as_error("https://example.org/file")
    assert isinstance(error, ChecksumMismatch)
    assert "Checksum failed!" in str(error)  # existing callers look for these words
    assert error.fields() == {
        "algorithm": "md5",
        "expected": "md5:" + "0" * 32,
        "actual": "md5:25f9e794323b453885f5181f1b624d0b",
        "source": "Content-MD5",
    }
    assert error.url == "https://example.org/file"
    assert str(verdict).startswith("wrong: expected md5:000")


def test_one_wrong_expectation_among_right_ones_is_a_mismatch(pool: HashPool) -> None:
    data = b"x" * 100
    wrong = Declared(checksum(b"y", "crc32c"), "x-goog-hash")
    verdict = check(data, [*declare(data, ["sha256"]), wrong], [(0, 100)], pool)
    assert not verdict
    assert verdict.mismatch is not None
    assert verdict.mismatch.declared == wrong


def test_two_expectations_of_one_algorithm_are_both_checked(pool: HashPool) -> None:
    data = b"x" * 100
    right, wrong = Declared(checksum(data, "md5"), "caller"), Declared(checksum(b"", "md5"), "Content-MD5")
    verdict = check(data, [right, wrong], [(0, 100)], pool)
    assert verdict.mismatch is not None
    assert verdict.mismatch.declared == wrong
    assert len(verdict.computed) == 1


def test_nothing_declared_is_not_verified_and_costs_no_wait(pool: HashPool) -> None:
    verdict = check(os.urandom(200_000), [], [(0, 200_000)], pool)
    assert not verdict
    assert verdict.reason == "no checksum was declared"
    assert str(verdict) == "not verified: no checksum was declared"


def test_the_empty_representation(pool: HashPool) -> None:
    assert check(b"", declare(b""), [], pool)
    wrong = check(b"", declare(b"x", ["crc32"]), [], pool)
    assert wrong.mismatch is not None


def test_algorithms_computed_without_expectation(pool: HashPool) -> None:
    hasher = PartsHasher((), size=3, pool=pool, also=("sha1", "crc32c"))
    feeder = Feeder(hasher, b"abc")
    feeder.feed([(0, 3)])
    verdict = feeder.finish()
    assert verdict.computed == (checksum(b"abc", "sha1"), checksum(b"abc", "crc32c"))
    assert not verdict


# Multipart S3 ETags --------------------------------------------------------------------------------------------------


def multipart(data: bytes, part_bytes: int) -> Checksum:
    digests = [hashlib.md5(data[start : start + part_bytes]).digest() for start in range(0, len(data), part_bytes)]
    return Checksum("s3-etag", hashlib.md5(b"".join(digests)).digest(), len(digests))


@pytest.mark.parametrize("part_mib", [5, 8, 11])
def test_a_multipart_etag_of_a_usual_layout_verifies(part_mib: int, pool: HashPool) -> None:
    data = random.Random(part_mib).randbytes(24 * MIB + 12345)
    etag = multipart(data, part_mib * MIB)
    order = spans(len(data), range(0, len(data), 1_000_003))
    random.Random(1).shuffle(order)
    verdict = check(data, [Declared(etag, "ETag")], order, pool)
    assert verdict
    assert (verdict.checksum, verdict.source, verdict.computed) == (etag, "ETag", (etag,))


@pytest.mark.parametrize("source", ["ETag", "caller"])
def test_row_35_a_multipart_etag_whose_part_size_is_not_found_is_unverified(source: str, pool: HashPool) -> None:
    data = os.urandom(6 * MIB)
    etag = multipart(data, 3 * MIB + 1)
    verdict = check(data, [Declared(etag, source)], spans(len(data), range(0, len(data), MIB)), pool)
    assert not verdict
    assert verdict.mismatch is None
    assert "part size" in (verdict.reason or "")


def test_row_35_damaged_bytes_under_a_multipart_etag_are_unverified_not_corrupt(pool: HashPool) -> None:
    data = bytearray(os.urandom(10 * MIB))
    etag = multipart(bytes(data), 5 * MIB)
    data[0] ^= 1
    verdict = check(bytes(data), [Declared(etag, "ETag")], spans(len(data), [MIB]), pool)
    assert not verdict
    assert verdict.mismatch is None
    assert "this checksum cannot tell" in (verdict.reason or "")


def test_a_multipart_etag_without_a_size_is_unverified(pool: HashPool) -> None:
    data = b"x" * 1000
    feeder = Feeder(PartsHasher([Declared(multipart(data, MIB), "caller")], size=None, pool=pool), data)
    feeder.feed([(0, 1000)])
    verdict = feeder.finish()
    assert not verdict
    assert "cannot be found from the size" in (verdict.reason or "")


def test_a_multipart_etag_with_the_digest_of_another_number_of_parts_is_unverified(pool: HashPool) -> None:
    data = os.urandom(200)
    claimed = Checksum("s3-etag", multipart(data, 100).value, 1)
    feeder = Feeder(PartsHasher([Declared(claimed, "caller")], size=100, pool=pool), data)  # 100: one part of 100
    feeder.feed([(0, 200)])
    assert not feeder.finish()


def test_another_checksum_verifies_where_the_multipart_etag_cannot(pool: HashPool) -> None:
    data = os.urandom(6 * MIB)
    etag = Declared(multipart(data, 3 * MIB + 1), "ETag")
    verdict = check(data, [etag, *declare(data, ["crc64nvme"])], [(0, len(data))], pool)
    assert verdict
    assert verdict.checksum == checksum(data, "crc64nvme")


def test_a_single_part_etag_of_the_caller_that_differs_is_a_mismatch(pool: HashPool) -> None:
    etag = Declared(parse_checksum("s3-etag:" + hashlib.md5(b"other").hexdigest()), "caller")
    verdict = check(b"data", [etag], [(0, 4)], pool)
    assert verdict.mismatch is not None
    assert verdict.mismatch.actual == checksum(b"data", "s3-etag")


# Threads, cancelling, contracts -------------------------------------------------------------------------------------


def test_small_parts_in_order_start_no_thread() -> None:
    pool = HashPool(2)
    threads = threading.active_count()
    data = os.urandom(4 * INLINE_BYTES)
    assert check(data, declare(data, ["md5", "crc32c"]), spans(len(data), range(0, len(data), INLINE_BYTES)), pool)
    assert threading.active_count() == threads
    pool.close()


class Gate:
    """A digest that stops at its first update until it is let go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.release = threading.Event()

    def update(self, data: memoryview) -> None:
        self.reached.set()
        self.release.wait(30)

    def digest(self) -> bytes:
        return bytes(16)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate()
    monkeypatch.setattr("getm.integrity.hashing.hasher.new_digest", lambda algorithm, size, paged: made)
    yield made
    made.release.set()


def test_cancel_gives_every_part_back_once_also_the_one_being_read(pool: HashPool, gate: Gate) -> None:
    data = bytes(10 * 100_000)
    hasher = PartsHasher([Declared(Checksum("md5", bytes(16)), "caller")], size=len(data), pool=pool, also=("crc32",))
    feeder = Feeder(hasher, data)
    order = spans(len(data), range(0, len(data), 100_000))
    feeder.feed(order)
    assert gate.reached.wait(30)
    hasher.cancel()
    for _ in range(9):  # all but the one that a thread is reading come back without waiting for it
        assert feeder.all_back.acquire(timeout=30)
    assert feeder.done[0] == 0
    gate.release.set()
    assert feeder.all_back.acquire(timeout=30)
    assert feeder.done == Counter(start for start, _ in order)
    hasher.finish(len(data), feeder.verdicts.put)
    hasher.feed(0, memoryview(data), partial(feeder._done, -1))
    assert feeder.done[-1] == 1
    hasher.cancel()
    assert feeder.verdicts.empty()
    feeder.data.append(0)


def test_cancel_after_finish_means_no_verdict(pool: HashPool, gate: Gate) -> None:
    feeder = Feeder(
        PartsHasher([Declared(Checksum("md5", bytes(16)), "caller")], size=100_000, pool=pool), bytes(100_000)
    )
    feeder.feed([(0, 100_000)])
    assert gate.reached.wait(30)
    feeder.hasher.finish(100_000, feeder.verdicts.put)
    feeder.hasher.cancel()
    gate.release.set()
    assert feeder.all_back.acquire(timeout=30)
    pool.close()
    assert feeder.verdicts.empty()


def test_feed_does_not_wait_for_a_busy_digest(pool: HashPool, gate: Gate) -> None:
    size = 50 * 100_000
    feeder = Feeder(PartsHasher([Declared(Checksum("md5", bytes(16)), "caller")], size=size, pool=pool), bytes(size))
    feeder.feed(spans(size, range(0, size, 100_000)))  # returns although nothing can be hashed
    small = Feeder(PartsHasher([Declared(Checksum("md5", bytes(16)), "caller")], size=1, pool=pool), b"")
    assert not feeder.done
    gate.release.set()
    assert feeder.finish()
    assert sum(feeder.done.values()) == 50
    small.hasher.cancel()


@pytest.mark.parametrize(
    ("order", "total"),
    [
        ([(0, 100_000)], 100_001),
        ([(0, 50_000), (60_000, 110_000)], 100_000),
        ([(10, 100_010)], 100_000),
        ([(0, 60_000), (50_000, 90_000)], 100_000),
        ([], 1),
    ],
)
def test_parts_that_do_not_make_up_the_whole_are_refused_and_given_back(
    order: list[tuple[int, int]], total: int, pool: HashPool
) -> None:
    data = bytes(200_000)
    feeder = Feeder(PartsHasher(declare(data, ["md5", "crc32c"]), size=total, pool=pool), data)
    feeder.feed(order)
    with pytest.raises(ValueError, match="do not make up"):
        feeder.hasher.finish(total, feeder.verdicts.put)
    pool.close()
    assert feeder.done == Counter(start for start, _ in order)
    assert feeder.verdicts.empty()


def test_a_view_that_cannot_be_read_ends_in_a_verdict_not_a_hang(
    pool: HashPool, caplog: pytest.LogCaptureFixture
) -> None:
    data = bytes(100_000)
    feeder = Feeder(PartsHasher(declare(data, ["md5"]), size=len(data), pool=pool), data)
    hasher_view = memoryview(feeder.data)

    def late(task: Callable[[], None]) -> None:
        hasher_view.release()
        HashPool.submit(pool, task)

    pool.submit = late  # type: ignore[method-assign]
    feeder.hasher.feed(0, hasher_view, partial(feeder._done, 0))
    verdict = feeder.finish()
    assert not verdict
    assert "hashing failed" in (verdict.reason or "")
    assert feeder.done == {0: 1}
    caplog.clear()


def test_a_callback_that_raises_is_logged_and_stops_nothing(pool: HashPool, caplog: pytest.LogCaptureFixture) -> None:
    data = os.urandom(300_000)
    hasher = PartsHasher(declare(data, ["sha1"]), size=len(data), pool=pool)

    def broken() -> None:
        raise RuntimeError("done() of the caller is broken")

    for start in range(0, 300_000, 100_000):
        hasher.feed(start, memoryview(data)[start : start + 100_000], broken)
    verdicts: SimpleQueue[Verdict] = SimpleQueue()
    hasher.finish(len(data), verdicts.put)
    assert verdicts.get(timeout=30)
    assert sum("callback for a hashed block" in record.message for record in caplog.records) == 3
    caplog.clear()


def test_parts_still_come_back_when_the_pool_is_closed_before() -> None:
    pool = HashPool(2)
    pool.close()
    data = os.urandom(5_000_000)
    assert check(data, declare(data, ["md5", "crc32c"]), spans(len(data), range(0, len(data), 50_000)), pool)


def test_closing_the_pool_finishes_what_is_queued() -> None:
    pool = HashPool(1)
    data = os.urandom(20 * 200_000)
    feeder = Feeder(PartsHasher(declare(data, ["md5"]), size=len(data), pool=pool), data)
    feeder.feed(spans(len(data), range(0, len(data), 200_000)))
    pool.close()
    assert sum(feeder.done.values()) == 20
    assert feeder.finish()


def test_the_hashers_reference_to_a_view_has_gone_when_done_is_called(pool: HashPool) -> None:
    parts = [bytearray(os.urandom(100_000)) for _ in range(20)]
    hasher = PartsHasher(declare(b"".join(parts), ["md5", "crc32", "sha256"]), size=2_000_000, pool=pool)
    resized: SimpleQueue[bool] = SimpleQueue()

    def resize(part: bytearray) -> None:
        try:
            part.append(0)  # refused while anyone holds a view
        except BufferError:
            resized.put(False)
        else:
            resized.put(True)

    for number, part in enumerate(parts):
        hasher.feed(number * 100_000, memoryview(part), partial(resize, part))
    verdicts: SimpleQueue[Verdict] = SimpleQueue()
    hasher.finish(2_000_000, verdicts.put)
    assert verdicts.get(timeout=30)
    assert [resized.get_nowait() for _ in parts] == [True] * 20


def test_a_pool_has_as_many_threads_as_asked_for() -> None:
    before = threading.active_count()
    with HashPool(2) as pool:
        assert pool.threads == 2
        ran: SimpleQueue[str] = SimpleQueue()
        for _ in range(50):
            pool.submit(lambda: ran.put(threading.current_thread().name))
        names = {ran.get(timeout=30) for _ in range(50)}
        assert threading.active_count() == before + 2
    assert names <= {"getm-hash-0", "getm-hash-1"}


def test_many_transfers_share_the_threads(pool: HashPool) -> None:
    feeders = []
    for number in range(20):
        data = random.Random(number).randbytes(400_000)
        feeders.append(Feeder(PartsHasher(declare(data, ["md5", "sha256", "crc32c"]), size=400_000, pool=pool), data))
    parts = spans(400_000, range(0, 400_000, 40_000))
    random.Random(0).shuffle(parts)
    for part in parts:
        for feeder in feeders:
            feeder.feed([part])
    assert all(feeder.finish() for feeder in feeders)


def test_a_forked_child_hashes_with_threads_of_its_own(pool: HashPool) -> None:
    data = os.urandom(500_000)
    assert check(data, declare(data, ["md5"]), [(0, len(data))], pool)
    child = os.fork()
    if not child:
        status = 1
        try:
            status = 0 if check(data, declare(data, ["md5", "crc32c"]), [(0, len(data))], pool) else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_a_pool_that_nobody_holds_ends_its_threads() -> None:
    pool = HashPool(1)
    worker: SimpleQueue[threading.Thread] = SimpleQueue()
    pool.submit(lambda: worker.put(threading.current_thread()))
    thread = worker.get(timeout=30)
    del pool
    thread.join(30)
    assert not thread.is_alive()


def test_a_missing_package_is_told_when_the_hasher_is_made(pool: HashPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "blake3", None)
    with pytest.raises(MissingExtra, match="blake3"):
        PartsHasher([Declared(Checksum("blake3", bytes(32)), "caller")], size=1, pool=pool)


def test_a_git_blob_needs_the_size_before_the_bytes() -> None:
    data = b"test content\n"
    declared = Declared(checksum(data, "git-blob"), "caller")
    for size, verified in ((len(data), True), (None, False)):
        with HashPool() as pool:
            hasher = PartsHasher([declared], size=size, pool=pool)
            verdicts: list[Verdict] = []
            hasher.feed(0, memoryview(data), lambda: None)
            hasher.finish(len(data), verdicts.append)
        (verdict,) = verdicts
        assert verdict.verified is verified and verdict.mismatch is None
        assert verified or "cannot be computed where the size is not known" in str(verdict.reason)
