"""Files and buffers: hashing, verifying, many at once."""

from __future__ import annotations

import array
import ctypes
import hashlib
import itertools
import os
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from getm.errors import InvalidInput
from getm.integrity.file_batch import FileReport, check_files
from getm.integrity.files import check_file, checksum
from getm.integrity.hashing.threads import HashPool
from getm.integrity.values import DIGEST_BYTES, Checksum, parse_checksum

MIB = 1 << 20
SIZES = [0, 1, 32 * 1024, MIB - 1, MIB, MIB + 1, 5 * MIB + 7]


@pytest.mark.parametrize("size_bytes", SIZES)
def test_a_file_and_its_bytes_have_the_same_checksums(size_bytes: int, tmp_path: Path) -> None:
    data = random.Random(size_bytes).randbytes(size_bytes)
    path = tmp_path / "file"
    path.write_bytes(data)
    of_file = check_file(path, also=list(DIGEST_BYTES)).computed
    assert of_file == tuple(checksum(data, name) for name in DIGEST_BYTES)
    assert [each.algorithm for each in of_file] == list(DIGEST_BYTES)
    assert checksum(str(path)).hex == hashlib.sha256(data).hexdigest()
    assert checksum(path, "SHA-512").hex == hashlib.sha512(data).hexdigest()


def test_every_kind_of_buffer() -> None:
    data = random.Random(0).randbytes(800_000)
    shared = (ctypes.c_ubyte * len(data)).from_buffer_copy(data)
    for algorithm in DIGEST_BYTES:
        expected = checksum(data, algorithm)
        buffers: list[Any] = [
            bytearray(data),
            memoryview(data),
            array.array("I", data),
            np.frombuffer(data, dtype=np.float64),
            shared,
            memoryview(shared).toreadonly(),
        ]
        for buffer in buffers:
            assert checksum(buffer, algorithm) == expected


@pytest.mark.parametrize(
    "array",
    [np.empty((0, 3)), np.array(["2026-11-28", "1970-01-01"], dtype="datetime64[s]"), np.arange(100)[::3], np.eye(5).T],
    ids=["no bytes", "dates", "strides", "transposed"],
)
def test_case_53_every_array_that_a_file_takes(array: Any) -> None:
    assert checksum(array) == checksum(array.tobytes())


def test_a_descriptor_without_bytes_for_now_is_no_end() -> None:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    try:
        os.write(writing, b"the first half")
        with HashPool(1) as pool, pytest.raises(BlockingIOError):
            check_file(reading, (), also=("md5",), pool=pool)
    finally:
        os.close(reading)
        os.close(writing)


def test_a_descriptor_is_read_from_its_position_and_stays_open(tmp_path: Path) -> None:
    data = os.urandom(2 * MIB)
    path = tmp_path / "file"
    path.write_bytes(b"skipped" + data)
    with path.open("rb", buffering=0) as file, HashPool(1) as pool:
        file.seek(7)
        verdict = check_file(file.fileno(), (checksum(data, "md5"),), pool=pool)
        assert verdict.verified and file.tell() == 7 + len(data)


def test_a_file_whose_size_is_not_told_is_read_to_its_end() -> None:
    assert checksum("/proc/self/mounts").value != hashlib.sha256(b"").digest()


def test_check_file(tmp_path: Path) -> None:
    data = os.urandom(3 * MIB)
    path = tmp_path / "file"
    path.write_bytes(data)
    right = checksum(data, "sha1")
    verdict = check_file(path, [right, checksum(data, "crc32c")])
    assert (verdict.verified, verdict.checksum, verdict.source) == (True, right, "caller")
    wrong = check_file(path, [right, Checksum("crc32c", bytes(4))])
    assert wrong.mismatch is not None
    assert wrong.mismatch.actual == checksum(data, "crc32c")
    assert not check_file(path)


def test_check_file_against_a_multipart_etag(tmp_path: Path) -> None:
    data = os.urandom(17 * MIB)
    path = tmp_path / "file"
    path.write_bytes(data)
    parts = [hashlib.md5(data[start : start + 8 * MIB]).digest() for start in range(0, len(data), 8 * MIB)]
    etag = parse_checksum(f"s3-etag:{hashlib.md5(b''.join(parts)).hexdigest()}-3")
    assert check_file(path, [etag])
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    damaged = check_file(path, [etag])
    assert not damaged
    assert damaged.mismatch is None


def test_files_that_cannot_be_read_raise(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checksum(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        checksum(tmp_path)
    with pytest.raises(InvalidInput):
        checksum(tmp_path, "sha3000")


@pytest.fixture
def folder(tmp_path: Path) -> dict[Path, bytes]:
    chance = random.Random(7)
    files = {
        tmp_path / f"{number:03}": chance.randbytes(chance.choice([0, 10, 40_000, 1_500_000])) for number in range(60)
    }
    for path, data in files.items():
        path.write_bytes(data)
    return files


@pytest.mark.parametrize("jobs", [None, 1, 5])
def test_check_files_reports_in_order_and_counts_every_byte(jobs: int | None, folder: dict[Path, bytes]) -> None:
    read: Counter[Path] = Counter()
    lock = threading.Lock()

    def on_bytes(path: Path, count: int) -> None:
        with lock:
            read[path] += count

    reports = list(check_files([(path, ()) for path in folder], also=("md5", "crc32c"), jobs=jobs, on_bytes=on_bytes))
    assert [report.path for report in reports] == list(folder)
    for report, data in zip(reports, folder.values(), strict=True):
        assert report.verdict is not None
        assert report.verdict.computed == (checksum(data, "md5"), checksum(data, "crc32c"))
        assert read[report.path] == len(data)


def test_check_files_tells_right_wrong_and_unreadable_apart(folder: dict[Path, bytes]) -> None:
    entries = [(path, [checksum(data, "sha256")]) for path, data in folder.items()]
    damaged, missing = list(folder)[3], list(folder)[9]
    damaged.write_bytes(damaged.read_bytes() + b"x")
    missing.unlink()
    reports = {report.path: report for report in check_files(iter(entries))}

    def outcome(report: FileReport) -> str:
        if report.verdict is None:
            return type(report.error).__name__
        return "ok" if report.verdict else "mismatch" if report.verdict.mismatch else "unverified"

    assert Counter(map(outcome, reports.values())) == {"ok": 58, "mismatch": 1, "FileNotFoundError": 1}
    assert outcome(reports[damaged]) == "mismatch"
    assert outcome(reports[missing]) == "FileNotFoundError"


def test_an_abandoned_iterator_stops_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"x")
    large.write_bytes(bytes(6 * MIB))
    opened, stopping = threading.Event(), threading.Event()
    reads: list[int] = []

    def on_bytes(path: Path, count: int) -> None:
        if path == large:
            reads.append(count)
            opened.set()
            stopping.wait(30)

    original = ThreadPoolExecutor.shutdown

    def shutdown(self: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False) -> None:
        stopping.set()
        original(self, wait, cancel_futures=cancel_futures)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shutdown)
    endless = ((path, ()) for path in itertools.chain([small], itertools.repeat(large)))
    reports = check_files(endless, also=("sha256",), jobs=1, on_bytes=on_bytes)
    assert next(reports).path == small
    assert opened.wait(30)
    reports.close()
    assert len(reads) == 1  # the file being read was left at its next read, and no other was begun


def test_unknown_algorithms_are_refused_before_any_file_is_opened(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        next(check_files([(tmp_path / "nothing", ())], also=("md4096",)))
