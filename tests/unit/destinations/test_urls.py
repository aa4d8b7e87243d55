"""URLs of destinations: which there are, what they name, and what of them may be shown."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import pytest

from getm.core.url_path import URLPath, as_path, is_url
from getm.destinations.urls import as_destination, in_folder, is_folder, is_writable, s3_place, shown
from getm.errors import InvalidInput


@pytest.mark.parametrize(
    "text", ["s3://bucket/key", "memory://", "simplecache::s3://bucket/a b", "a+b.c-1://x", "S3://B/"]
)
def test_urls(text: str) -> None:
    assert is_url(text)


@pytest.mark.parametrize("text", ["", "s3:/bucket", "a/s3://b", "/s3://b", "://x", "1s://x", "a::b", "C:\\x", "-://x"])
def test_paths(text: str) -> None:
    assert not is_url(text)


@pytest.mark.parametrize(
    "url", ["s3://bucket/in/a b?c#d", "memory://x", "s3://bucket//a//b", "s3://bucket/x/../y", "s3://b/é"]
)
def test_a_url_stays_as_it_is(url: str) -> None:
    path = as_path(url)
    assert isinstance(path, URLPath)
    for each in (path, pickle.loads(pickle.dumps(path)), copy.deepcopy(path)):
        assert str(each) == os.fspath(each) == f"{each}" == url and each == path and hash(each) == hash(path)
    assert not path.exists()
    with pytest.raises(FileNotFoundError, match=url.split("?")[0]):
        path.open()
    assert type(path.parent / "x") is not URLPath or str(path.parent / "x") != url


def test_the_name_of_an_object() -> None:
    assert as_path("s3://bucket/in/a.tar.gz").name == "a.tar.gz"
    assert type(as_path("in/a")) is type(Path("in/a"))


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("data/x", "data/x"),
        ("s3://bucket/x", "s3://bucket/x"),
        ("file:///tmp/a%20b", "/tmp/a b"),
        ("local:///tmp/a%20b", "/tmp/a%20b"),
    ],
)
def test_destinations(given: str, taken: str) -> None:
    assert as_destination(given) == taken


@pytest.mark.parametrize(
    "given", ["http://x/y", "https://x", "getm+https://x", "data://x", "file://host/x", "s3://", "s3://a b/x"]
)
def test_what_is_none(given: str) -> None:
    with pytest.raises(InvalidInput):
        as_destination(given)


def test_keys_of_s3() -> None:
    assert s3_place("s3://my.bucket-1/a/b?c#d") == ("my.bucket-1", "a/b?c#d")
    assert s3_place("s3://bucket") == ("bucket", "")
    assert is_folder("s3://bucket") and is_folder("s3://bucket/in/") and not is_folder("s3://bucket/in")
    assert not is_folder("memory://x") and is_folder("memory://x/") and is_folder("memory://")
    with pytest.raises(InvalidInput, match="1,024 bytes"):
        s3_place(f"s3://bucket/{'é' * 600}")


def test_folders() -> None:
    assert in_folder("s3://bucket", "a/b") == in_folder("s3://bucket/", "a/b") == "s3://bucket/a/b"
    assert in_folder("memory://", "a") == "memory://a"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("s3://bucket/a?b#c@d", "s3://bucket/a?b#c@d"),
        ("ftp://user:pa/ss@word@host/x?y", "ftp://host/x"),
        ("sftp://user@host/x#y", "sftp://user@host/x"),
        (
            "abfs://container@account.dfs.core.windows.net/x?sig=SECRET",
            "abfs://container@account.dfs.core.windows.net/x",
        ),
        ("simplecache::ftp://u:p@host/x", "simplecache::ftp://host/x"),
    ],
)
def test_what_is_shown(url: str, text: str) -> None:
    assert shown(url) == text


def test_where_one_can_write() -> None:
    assert is_writable("s3://bucket/x") and is_writable("memory://x")
    assert not is_writable("nosuch://x") and not is_writable("https://x")
