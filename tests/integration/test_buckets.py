"""Buckets filled by the vendors' own clients, read by signed URLs and by names: those of emulators, and, where the
environment names them, real ones. CONTRIBUTING.md says how."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import getm
from tests.support.buckets import TestBucket, open_bucket

ODD = "a b/ü+z&=.bam"
OBJECTS = {
    "empty": b"",
    "small": b"0123456789" * 100,
    ODD: random.Random(7).randbytes(300_000),
    "large": random.Random(8).randbytes(11 << 20),
}


@pytest.fixture(scope="module", params=["moto", "emulator", "s3", "gs"])
def bucket(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestBucket]:
    with open_bucket(request.param, tmp_path_factory.mktemp("bucket")) as bucket:
        bucket.fill(OBJECTS)
        yield bucket


@pytest.fixture(scope="module")
def signed(bucket: TestBucket) -> dict[str, str]:
    return dict(zip(OBJECTS, bucket.signed(*OBJECTS), strict=True))


@pytest.fixture
def session(
    bucket: TestBucket, shared_session: Callable[..., getm.Session], monkeypatch: pytest.MonkeyPatch
) -> getm.Session:
    for name, value in bucket.variables.items():
        monkeypatch.setenv(name, value)
    return shared_session()


@pytest.mark.parametrize("concurrency", [1, 4, None, "auto"])
@pytest.mark.parametrize("key", OBJECTS)
def test_signed_urls(
    key: str, concurrency: int | None, bucket: TestBucket, signed: dict[str, str], session: getm.Session
) -> None:
    # Of the emulators, one has no checksum in an answer to a range.
    with session.urlopen(signed[key], concurrency=concurrency, strict=bucket.is_real) as fh:
        assert fh.read() == OBJECTS[key]


@pytest.mark.parametrize("key", OBJECTS)
def test_names(key: str, bucket: TestBucket, session: getm.Session, tmp_path: Path) -> None:
    session.download(bucket.name(key), tmp_path / "x", strict=bucket.is_real)
    assert (tmp_path / "x").read_bytes() == OBJECTS[key]
    assert session.read(bucket.name(key)) == OBJECTS[key]


def test_spans(bucket: TestBucket, signed: dict[str, str], session: getm.Session) -> None:
    spans = [(0, 10), (5 << 20, (5 << 20) + 1000), (-7, None)]
    for span, data in zip(spans, session.read_ranges(signed["large"], spans), strict=True):
        assert data == OBJECTS["large"][slice(*span)]


def test_listing(bucket: TestBucket, session: getm.Session) -> None:
    listed = {each.name: each.size for each in session.list_objects(bucket.name(""), recursive=True)}
    assert {bucket.name(key): len(body) for key, body in OBJECTS.items()}.items() <= listed.items()


def test_random_data(bucket: TestBucket, session: getm.Session, tmp_path: Path) -> None:
    """More than a part of an upload, and the same twice."""
    name = bucket.name("random")
    said = {bucket.script("upload_random.py", "--seed", "3", name, "9M").strip() for _ in range(2)}
    result = session.download(name, tmp_path / "x", checksum=said)
    assert result.size == 9 << 20
    assert said == {f"sha256:{hashlib.sha256((tmp_path / 'x').read_bytes()).hexdigest()}"}
