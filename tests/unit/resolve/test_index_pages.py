"""What index pages list: pages that servers made of one folder, and pages that mean harm."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.resolve.index_pages import IndexEntry, parse_html_index, parse_json_index

URL = "http://data.example.org/data/"
PAGES = Path(__file__).with_name("pages")
LONG = "very-long-name-that-a-server-cuts-in-the-middle-when-it-shows-it-to-people.bin"
# Names as they are on the disk, decoded, and sizes in bytes.
FOLDER = {
    "100%.txt": 2,
    "<b>.txt": 4,
    "a b&c.txt": 3,
    "colon:name.txt": 2,
    "empty.txt": 0,
    'it\'s "q".txt': 2,
    "reads.bam": 3000,
    "sub/": None,
    LONG: 5_000_000,
    "what?#1.txt": 2,
    "ünï.txt": 2,
}
ROUNDED = {"reads.bam": None, LONG: None}
HIDDEN = {".dot": 2, ".hidden/": None}


def decoded(entries: list[IndexEntry]) -> dict[str, int | None]:

    return {unquote(entry.name): entry.size for entry in entries}


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("nginx", FOLDER),
        ("nginx-rounded", FOLDER | {LONG: None}),
        ("apache-list", dict.fromkeys(FOLDER | HIDDEN)),
        ("apache-fancy", FOLDER | ROUNDED | HIDDEN),
        ("apache-table", FOLDER | ROUNDED | HIDDEN),
        ("lighttpd", dict.fromkeys(FOLDER)),
        ("caddy", FOLDER | HIDDEN),
        ("python", dict.fromkeys(FOLDER | HIDDEN)),
    ],
)
def test_pages_of_servers(page: str, expected: dict[str, int | None]) -> None:
    text = (PAGES / f"{page}.html").read_text()
    assert decoded(parse_html_index(text, URL)) == expected


def names(href: str, url: str = URL) -> list[str]:
    return [entry.name for entry in parse_html_index(f'<a href="{href}">x</a>', url)]


@pytest.mark.parametrize(
    "href",
    [
        *("..", "../", "../x", "/", "/etc/passwd", "//evil.example/x", "https://data.example.org/data/x", "x/../../y"),
        *("%2e%2e", "%2e%2e/", "%2E%2E/", "%2e", "a%2fb", "..%2fb", "a%5cb", r"a\\b", "x%00", "x/y", "//"),
        *("", "./", "?C=N;O=D", "#top", "javascript:alert(1)", "mailto:a@example.org", "http://[bad", "&#47;x"),
    ],
)
def test_links_to_elsewhere_are_no_entries(href: str) -> None:
    assert names(href) == []


@pytest.mark.parametrize(
    ("href", "name"),
    [
        ("x", "x"),
        (" x ", "x"),
        ("./x", "x"),
        ("sub/", "sub/"),
        ("/data/x", "x"),
        (URL + "x", "x"),
        ("HTTP://DATA.example.org/data/x", "x"),
        ("//data.example.org/data/sub/", "sub/"),
        ("../data/x", "x"),
        ("/d%61ta/x", "x"),
        ("x?version=1#top", "x?version=1"),
        ("a&amp;b", "a&b"),
        ("...", "..."),
    ],
)
def test_links_to_what_is_in_the_folder(href: str, name: str) -> None:
    assert names(href) == [name]


def test_the_base_of_a_page_counts() -> None:
    assert parse_html_index('<base href="/data/"><a href="x">', "http://data.example.org/data/") == [
        IndexEntry("x", None)
    ]
    assert parse_html_index('<base href="/other/"><a href="x"><a href="/data/y">', URL) == [IndexEntry("y", None)]


def test_each_entry_comes_once_and_anchors_without_a_target_do_no_harm() -> None:
    assert [entry.name for entry in parse_html_index('<a><a name=y><a href="x">x</a><A HREF=x>', URL)] == ["x"]


def test_the_root_of_a_server_is_a_folder() -> None:
    assert names("x", "http://data.example.org") == names("x", "http://data.example.org/") == ["x"]


def test_json_of_nginx() -> None:
    content = b"""[{"name": "sub", "type": "directory", "mtime": "x"}, {"name": "a b?.txt", "type": "file", "size": 7,
        "mtime": "Tue, 01 Jul 2025 00:00:00 GMT"}, {"name": "n", "type": "file", "size": -1, "mtime": 5},
        {"name": "../x", "type": "file", "size": 1}, {"name": 5, "type": "file"}, {"name": "l", "type": "other"}]"""
    assert parse_json_index(content) == [
        IndexEntry("sub/", None),
        IndexEntry("a%20b%3F.txt", 7, datetime(2025, 7, 1, tzinfo=UTC)),
        IndexEntry("n", None),
        IndexEntry("l", None),
    ]


@pytest.mark.parametrize("content", (b"", b"{", b"5", b"null", b'{"a": 1}', b'["a"]', b'[{"type": "file"}]', b"\xff"))
def test_other_json_is_no_index(content: bytes) -> None:
    assert parse_json_index(content) is None


@given(st.text(alphabet=st.sampled_from(list("<>a/.\"'= &;%2ef:?#[]\\b\x00\n")), max_size=60))
def test_whatever_a_page_says_its_entries_are_plain_names_in_the_folder(text: str) -> None:
    for entry in [*parse_html_index(text, URL), *parse_html_index(f'<a href="{text}">', URL)]:
        path = entry.name.partition("?")[0].removesuffix("/")
        assert path not in ("", ".", "..") and "/" not in path
