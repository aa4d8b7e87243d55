"""The getm JSON manifest: what existing callers write is read; everything else is refused by entry (faults row 42)."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.errors import InvalidInput
from getm.integrity.values import Checksum
from getm.manifests.entry import Entry
from tests.support.lists import read_list

URL = "https://bucket.s3.amazonaws.com/a/b%2Fc.bam?X-Amz-Signature=SECRET"
MD5 = hashlib.md5(b"data").hexdigest()


def manifest(*entries: object) -> bytes:
    return json.dumps(entries).encode()


def parse_manifest(data: bytes) -> list[Entry]:
    return read_list(data, "json")


def test_what_cromwell_writes(tmp_path: Path) -> None:
    """BulkAccessUrlDownloader.scala: absolute paths; a pair, or neither; "null" with any text beside it."""
    crc32c = base64.b64encode(b"\x01\x02\x03\x04").decode()
    entries = parse_manifest(
        manifest(
            {"url": URL, "filepath": f"{tmp_path}/1", "checksum": MD5, "checksum-algorithm": "md5"},
            {"url": URL, "filepath": f"{tmp_path}/2", "checksum": crc32c, "checksum-algorithm": "gs_crc32c"},
            {"url": URL, "filepath": f"{tmp_path}/3", "checksum": f"{MD5}-4", "checksum-algorithm": "s3_etag"},
            {"url": URL, "filepath": f"{tmp_path}/4", "checksum": "sha256, etag", "checksum-algorithm": "null"},
            {"url": URL, "filepath": f"{tmp_path}/5"},
        )
    )
    assert [entry.urls for entry in entries] == [(URL,)] * 5
    assert [entry.path for entry in entries] == [f"{tmp_path}/{number}" for number in range(1, 6)]
    assert [entry.place for entry in entries] == [f"entry {index} (counted from 0)" for index in range(5)]
    assert [entry.warn_unverified for entry in entries] == [True, True, True, False, True]
    assert all(entry.trusted_path for entry in entries)
    assert [entry.checksum for entry in entries] == [
        Checksum("md5", bytes.fromhex(MD5)),
        Checksum("crc32c", b"\x01\x02\x03\x04"),
        Checksum("s3-etag", bytes.fromhex(MD5), parts=4),
        None,
        None,
    ]


def test_absent_null_and_empty_are_the_same() -> None:
    nothing = {"url": "https://h/1", "filepath": None, "checksum": None, "checksum-algorithm": None, "size": 3}
    first, second = parse_manifest(manifest(nothing, {"url": "https://h/2", "filepath": ""}))
    assert first.path is None and second.path is None
    assert first.checksum is None and second.checksum is None


def test_json_null_as_the_algorithm_and_base64_md5() -> None:
    md5 = base64.b64encode(bytes.fromhex(MD5)).decode()
    (entry,) = parse_manifest(manifest({"url": URL, "checksum": md5, "checksum-algorithm": "md5"}))
    assert entry.checksum == Checksum("md5", bytes.fromhex(MD5))


def test_home_and_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    first, second = parse_manifest(
        manifest({"url": URL, "filepath": "~/data/"}, {"url": URL, "filepath": "~nobody-has-this-name/x"})
    )
    assert first.path == "/home/someone/data/"
    assert second.path == "~nobody-has-this-name/x"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"   ", "not JSON"),
        (b"https://host/a\n", "not JSON"),
        (b'[{"url": "https://h/a"}', "not JSON"),
        (b'[{"url": "https://h/a"}] x', "not JSON"),
        (b"\xef\xbb\xbf[]", "byte order mark"),
        ('[{"url": "https://h/a"}]'.encode("utf-16"), "byte order mark"),
        (b"[]", "empty list"),
        (b"{}", "line 1: Object missing required field `url`"),
        (b"null", "list of entries"),
        (b'"https://h/a"', "list of entries"),
    ],
)
def test_row_42_what_is_no_manifest(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        parse_manifest(data)


GOOD = {"url": "https://host/good"}


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("https://h/a", "Expected `object`, got `str`"),
        (None, "Expected `object`, got `null`"),
        ({}, "`url`"),
        ({"filepath": "a"}, "`url`"),
        ({"url": 3}, r"Expected `str`, got `int` - at `\$.url`"),
        ({"url": "https://h/a", "filepath": ["a"]}, r"\$.filepath"),
        ({"url": "https://h/a", "filepath": "a\0b"}, "NUL"),
        ({"url": "https://h/a", "checksum": 3, "checksum-algorithm": "md5"}, r"\$.checksum"),
        ({"url": "https://h/a", "checksum": MD5}, "checksum|algorithm"),
        ({"url": "https://h/a", "checksum-algorithm": "md5"}, "checksum|algorithm"),
        ({"url": "https://h/a", "checksum": "xyz", "checksum-algorithm": "md5"}, "md5"),
        ({"url": "https://h/a", "checksum": MD5, "checksum-algorithm": "md6"}, "md6"),
        ({"url": "ftp://bucket/a"}, "ftp"),
        ({"url": "file:///etc/passwd"}, "file"),
        ({"url": "www.example.com/a"}, "http"),
        ({"url": "https://h/a\n"}, "control"),
        ({"url": ""}, "http"),
    ],
)
def test_row_42_a_bad_entry_is_named(entry: object, reason: str) -> None:
    with pytest.raises(InvalidInput, match=rf"entry 1 \(counted from 0\).*(?:{reason})"):
        parse_manifest(manifest(GOOD, entry))


def test_no_secret_of_a_bad_url_is_told() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_manifest(manifest({"url": "ftp://user:PASSWORD@host/a?sig=SECRET"}))
    assert caught.value.url == "ftp://host/a"
    assert "SECRET" not in str(caught.value) and "PASSWORD" not in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a", "a"),
        ("a", "./a"),
        ("a", "x/../a"),
        ("folder/a", "link/a"),
        ("{cwd}/a", "a"),
        ("folder", "folder/object"),
        ("new/", "new/object"),
        (None, "object"),
        (None, None),
    ],
)
def test_row_42_two_entries_with_one_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str | None, second: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    paths = [path and path.format(cwd=tmp_path) for path in (first, second)]
    with pytest.raises(InvalidInput, match=r"entry 2 .* of entry 0 already"):
        parse_manifest(
            manifest(
                {"url": "https://host/x/object?1", "filepath": paths[0]},
                {"url": "https://host/x/object?2", "filepath": "other"},
                {"url": "https://host/x/object?3", "filepath": paths[1]},
            )
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link"]


def test_one_device_takes_many_downloads() -> None:
    assert len(parse_manifest(manifest(*[{"url": URL, "filepath": "/dev/null"}] * 3))) == 3


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["url", "filepath", "checksum", "checksum-algorithm"]), inner)
    ),
    max_leaves=12,
)


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps([value]).encode()))
def test_only_typed_errors_come_out(data: bytes) -> None:
    try:
        entries = parse_manifest(data)
    except InvalidInput:
        return
    assert entries
