"""Patterns: what they match, by tables and against a matcher that tries everything."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.resolve.patterns import filter_of, has_wild_root, is_root, matcher, names_several, split_pattern


@pytest.mark.parametrize(
    ("name", "several"),
    [
        *(("s3://bucket/key", False), ("s3://bucket/a/", True), ("s3://bucket", True), ("s3://bucket/*.bam", True)),
        *(("s3://bucket/a?b", True), ("s3://bucket/a?versionId=x.y", False), ("s3://bucket/a*?versionId=x", True)),
        *(("s3://bucket/a[1].bam", True), ("s3://bucket/a[1.bam", False), ("s3://bucket/a[].bam", False)),
        *(
            ("s3://arn:aws:s3:eu-west-1:1:accesspoint/lab", True),
            ("s3://arn:aws:s3:eu-west-1:1:accesspoint/lab/x", False),
        ),
        *(("hf://org/model", True), ("hf://org/model@v1", True), ("hf://org", False), ("hf://datasets/org/x", True)),
        *(("hf://datasets/org", False), ("hf://org/model@refs/pr/1", True), ("hf://org/model@v1/a.txt", False)),
        *(("https://h/a/", True), ("https://h/a", False), ("https://h/*", True), ("https://h/a?x=*", False)),
        *(
            ("https://h/a[1]", True),
            ("http://[::1]:80/a", False),
            ("http://[::1]:80/*", True),
            ("https://h/a/#*", False),
        ),
        *(("lims://S1", False), ("lims://S1/", True), ("lims://S1/[!a]", True)),
    ],
)
def test_names_that_stand_for_several(name: str, several: bool) -> None:
    assert names_several(name) is several


@pytest.mark.parametrize(
    ("name", "folder", "parts"),
    [
        ("s3://b/in/*.cram", "s3://b/in/", ("*.cram",)),
        ("s3://b/in/a*/x/?.txt", "s3://b/in/", ("a*", "x", "?.txt")),
        ("s3://b/in/a*/", "s3://b/in/", ("a*", "")),
        ("s3://b/in/", "s3://b/in/", ()),
        ("s3://b", "s3://b/", ()),
        ("https://h/p/[ab].txt", "https://h/p/", ("[ab].txt",)),
    ],
)
def test_the_folder_of_a_pattern(name: str, folder: str, parts: tuple[str, ...]) -> None:
    assert split_pattern(name) == (folder, parts)


def test_where_wildcards_may_not_stand() -> None:
    for name in ("s3://b*", "s3://b*/x", "s3://*/x", "hf://org/*", "hf://org/m*/x", "hf://*/m/x", "lims://S*/x"):
        assert has_wild_root(name), name
    for name in ("s3://b/*", "hf://org/m/*", "hf://org/m@v1/*", "https://h/*", "lims://S1/*", "s3://b"):
        assert not has_wild_root(name), name
    assert is_root("s3://b") and is_root("hf://org/m@x") and not is_root("s3://b/") and not is_root("lims://S1")


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*.txt", ["a.txt", ".txt", "a\nb.txt"], ["a/b.txt", "a.txt.gz", "atxt"]),
        ("**.txt", ["a.txt", "a/b.txt", "/.txt"], ["a.txtx"]),
        ("**/x", ["x", "a/x", "a//b/x"], ["ax", "x/a"]),
        ("a/**", ["a/b", "a/b/c", "a/"], ["a", "ab/c"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["ab", "a/xb"]),
        ("a**b", ["ab", "a/b", "axb"], ["a/bc"]),
        ("?", ["a", "ü", "?"], ["", "ab", "/"]),
        ("a?b=c", ["a?b=c"], ["axb=c"]),
        ("[a-c]", ["a", "b", "c", "[a-c]"], ["d", "-", "/"]),
        ("[!a-c]", ["d", "!", "-"], ["a", "/", "dd"]),
        ("[^a]", ["b"], ["a", "/"]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[z-a]", ["[z-a]"], ["z", "a", "b"]),
        ("[!z-a]", ["q"], ["/"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("[[]x]", ["[x]"], ["x]", "[[x]"]),
        ("[*]", ["*"], ["a"]),
        ("a.b+(c)|d", ["a.b+(c)|d"], ["axb+(c)|d", "d"]),
        ("[.-0]", [".", "0"], ["/", "1"]),
    ],
)
def test_what_a_pattern_matches(pattern: str, matching: list[str], others: list[str]) -> None:
    matches = matcher(pattern)
    assert [text for text in matching if not matches(text)] == []
    assert [text for text in others if matches(text)] == []


def test_in_a_url_either_form_matches() -> None:
    for pattern in ("a b*", "a%20b*", "a%20b%3F.txt"):
        assert matcher(pattern, in_url=True)("a%20b%3F.txt")
    assert not matcher("a?", in_url=True)("ab")


TEXT = st.text("ab*?[]!-/", max_size=8)


def by_trying(pattern: str, text: str, *, at_start: bool = True) -> bool:
    """Tries everything that each wildcard could match. `at_start`: of a part of the path that the pattern describes."""
    if not pattern:
        return not text
    if at_start and pattern.startswith("**/"):
        ends = [0, *(number + 1 for number, char in enumerate(text) if char == "/")]
        return any(by_trying(pattern[3:], text[end:]) for end in ends)
    if pattern.startswith("**"):
        return any(by_trying(pattern[2:], text[end:], at_start=False) for end in range(len(text) + 1))
    if pattern[0] == "*":
        ends = list(range(len(text.partition("/")[0]) + 1))
        return any(by_trying(pattern[1:], text[end:], at_start=False) for end in ends)
    if not text or (pattern[0] == "?" and text[0] == "/") or pattern[0] not in ("?", text[0]):
        return False
    return by_trying(pattern[1:], text[1:], at_start=pattern[0] == "/")


@given(pattern=st.text("ab*?/", max_size=10), text=st.text("ab/", max_size=12))
def test_stars_match_as_if_everything_was_tried(pattern: str, text: str) -> None:
    assert matcher(pattern)(text) == by_trying(pattern, text)


@given(TEXT)
def test_every_name_can_be_written_as_a_pattern(name: str) -> None:
    assert matcher(name)(name)
    escaped = re.sub(r"[*?\[]", lambda found: f"[{found[0]}]", name)
    assert matcher(escaped)(name)
    assert not matcher(escaped)(f"{name}x")


@given(st.text("*?[]!^-ab/", max_size=12))
def test_any_text_is_a_pattern(pattern: str) -> None:
    matcher(pattern)("a")
    names_several(f"s3://bucket/{pattern}")


def test_a_hostile_name_takes_no_time() -> None:
    for pattern in ("*a*a*a*a*a*a*a*b", "**a**a**a**a**a**b", "*a?a*a[a]*a*c/b"):
        assert not matcher(pattern)("a" * 10_000)


@pytest.mark.parametrize(
    ("include", "exclude", "wanted"),
    [
        ([], [], ["a.txt", "a/b.txt", "a/c/d.bin", "tmp/x.txt", "a/tmp/y"]),
        (["*.txt"], [], ["a.txt", "a/b.txt", "tmp/x.txt"]),
        (["*.txt"], ["tmp/"], ["a.txt", "a/b.txt"]),
        ([], ["tmp/"], ["a.txt", "a/b.txt", "a/c/d.bin"]),
        ([], ["/tmp/"], ["a.txt", "a/b.txt", "a/c/d.bin", "a/tmp/y"]),
        (["a/*"], [], ["a/b.txt"]),
        (["a/**"], ["c/"], ["a/b.txt", "a/tmp/y"]),
        (["/a.txt", "d.bin"], [], ["a.txt", "a/c/d.bin"]),
        (["a/c/"], [], ["a/c/d.bin"]),
        (["nothing"], [], []),
    ],
)
def test_include_and_exclude(include: list[str], exclude: list[str], wanted: list[str]) -> None:
    paths = ["a.txt", "a/b.txt", "a/c/d.bin", "tmp/x.txt", "a/tmp/y"]
    assert list(filter(filter_of(include, exclude), paths)) == wanted
