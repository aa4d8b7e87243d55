"""Local URLs and the objects that they stand for."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.adapter.locations import Location, Locations

SIGNED = (
    "https://host/in/x.bam?X-Amz-Credential=KEY&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-Signature=SECRET"
)


@pytest.fixture
def locations() -> Locations:
    return Locations("token")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("https://host/in/x.bam", "/token/0/in/x.bam"),
        ("https://user:password@host:8443/x%20y.bam#part", "/token/0/x%20y.bam"),
        ("https://host/é b", "/token/0/%C3%A9%20b"),
        ("https://host", "/token/0/"),
        (SIGNED, "/token/0/in/x.bam"),
        ("s3://bucket/a b/50%.bam?versionId=3", "/token/0/a%20b/50%25.bam"),
        ("s3://bucket/a?b/x", "/token/0/a%3Fb/x"),
        ("s3://arn:aws:s3:eu:1:accesspoint/name/x", "/token/0/name/x"),
        ("hf://org/name@main/x.safetensors", "/token/0/name@main/x.safetensors"),
    ],
)
def test_a_name_has_a_path_that_ends_like_it(locations: Locations, name: str, path: str) -> None:
    assert locations.add(name) == path
    assert locations.find(path) == Location(name)


@pytest.mark.parametrize(
    ("name", "appended", "beside"),
    [
        ("https://host/in/x.bam", "x.bam.bai", "https://host/in/x.bam.bai"),
        ("https://user:pw@host/x.bam", "x.bai", "https://user:pw@host/x.bai"),
        ("https://host/get/x.bam?download=1", "x.bam.bai", "https://host/get/x.bam.bai"),
        ("s3://bucket/a b/x.bam?versionId=3", "x.bam.bai", "s3://bucket/a b/x.bam.bai"),
        ("s3://bucket/z.zarr", "z.zarr/c/0/0", "s3://bucket/z.zarr/c/0/0"),
        ("https://host/a/b/list.m3u8", "../c/1.ts", "https://host/a/c/1.ts"),
    ],
)
def test_what_is_beside_it_is_found_by_its_url(locations: Locations, name: str, appended: str, beside: str) -> None:
    path = urljoin(locations.add(name), appended)
    assert locations.find(path) == Location(beside, given=False)


def test_what_is_beside_a_signed_one_has_no_signature(locations: Locations) -> None:
    path = locations.add(SIGNED)
    beside = Location("https://host/in/x.bam.bai", given=False, is_refused=True, is_missed=True)
    assert locations.find(f"{path}.bai") == beside
    # Given as an argument of its own, it has one.
    index = SIGNED.replace("x.bam", "x.bam.bai")
    assert locations.add(index) == f"{path}.bai"
    assert locations.find(f"{path}.bai") == Location(index)
    assert locations.find(f"{path}.csi") == Location("https://host/in/x.bam.csi", given=False, is_refused=True)


def test_files_beside_all_others(locations: Locations) -> None:
    path = locations.add("https://host/in/x.bam")
    locations.add_beside("s3://bucket/other/x.bam.bai")
    locations.add_beside("https://host/index/17?key=SECRET", "x.bam.csi")
    assert locations.find(f"{path}.bai") == Location("s3://bucket/other/x.bam.bai")
    assert locations.find(f"{path}.csi") == Location("https://host/index/17?key=SECRET")


def test_names_that_differ_only_in_their_query(locations: Locations) -> None:
    names = ["https://host/get?id=1", "https://host/get?id=2", "https://host/get?id=3", "https://host/get?id=1"]
    paths = [locations.add(name) for name in names]
    assert paths == ["/token/0/get", "/token/1/get", "/token/2/get", "/token/0/get"]
    found = [locations.find(path) for path in paths]
    assert [each and each.name for each in found] == names


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/token",
        "/tokem/0/x",
        "/token/1/x",
        "/token/x/x",
        "/token/-1/x",
        "/token/²/x",
        "/token/99999999999/x",
        "/to\udcffken/0/x",
        "/token/0/../x",
        "/token/0/a/%2e%2e/%2e%2e/x",
        "/token/0/./x",
        "/token/0/x%00",
    ],
)
def test_what_is_not_there(locations: Locations, path: str) -> None:
    locations.add("https://host/in/x.bam")
    assert locations.find(path) is None


@given(st.text(max_size=30).filter(lambda key: not key.startswith("/") and "?" not in key and "#" not in key))
def test_any_key_has_a_path(key: str) -> None:
    locations = Locations("token")
    name = f"s3://bucket/{key}"
    try:
        path = locations.add(name)
    except UnicodeEncodeError:
        return
    assert locations.find(path) == Location(name)
    assert path.isascii() and path.isprintable() and " " not in path
