"""What is refused in a list before the first request, in every format (faults row 42); a hundred thousand entries."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.errors import InvalidInput
from getm.integrity.sums_files import format_sums_line
from getm.integrity.values import Checksum
from getm.manifests.entry import Entry
from getm.manifests.formats import FORMATS
from tests.support.lists import read_list

MD5 = hashlib.md5(b"data").hexdigest()
MIB = 1024 * 1024

Writer = Callable[[list[tuple[str, str]]], str]
"""(URL, path) -> a list of one format."""


def metalink(rows: list[tuple[str, str]]) -> str:
    def escaped(text: str) -> str:
        return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")

    files = "".join(f'<file name="{escaped(path)}"><url>{escaped(url)}</url></file>\n' for url, path in rows)
    return f'<metalink xmlns="urn:ietf:params:xml:ns:metalink">\n{files}</metalink>'


# Formats with paths from elsewhere, and the number of the line of the first entry.
THIRD_PARTY: dict[str, tuple[Writer, int]] = {
    "aria2": (lambda rows: "".join(f"{url}\n out={path}\n" for url, path in rows), 1),
    "sums": (lambda rows: "".join(f"{MD5}  {path}\n" for _, path in rows), 1),
    "csv": (lambda rows: "url,path\n" + "".join(f'{url},"{path}"\n' for url, path in rows), 2),
    "tsv": (lambda rows: "url\tpath\n" + "".join(f"{url}\t{path}\n" for url, path in rows), 2),
    "gdc": (lambda rows: "id\tfilename\tmd5\tsize\n" + "".join(f".\t/{path}\t{MD5}\t1\n" for _, path in rows), 2),
    "metalink": (metalink, 2),
    "bagit": (lambda rows: "".join(f"{url} - data/{path}\n" for url, path in rows), 1),
    "drs": (
        lambda rows: "\n".join(json.dumps({"access_url": {"url": url}, "name": path}) for url, path in rows),
        1,
    ),
}


def entries_of(form: str, rows: list[tuple[str, str]], directory: Path | None = None) -> list[Entry]:
    data = THIRD_PARTY[form][0](rows).encode()
    base_url = "https://h/" if form == "sums" else None
    return read_list(data, "jsonl" if form == "drs" else form, base_url=base_url, directory=directory)


@pytest.mark.parametrize("form", THIRD_PARTY)
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("path", ["../x", "a/../../x", "a/..", "..\\x", "link/x"])
def test_row_42_no_path_from_elsewhere_leaves_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, path: str, given: bool
) -> None:
    inside = tmp_path / "inside"
    for folder in ("", "data", "a", "data/a"):
        (inside / folder).mkdir(parents=True, exist_ok=True)
        (inside / folder / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path if given else inside)
    first = THIRD_PARTY[form][1]
    # aria2's entries take two lines.
    place = f"line {first + (2 if form == 'aria2' else 1)}"
    with pytest.raises(InvalidInput, match=rf"{place}: .*(?:leave|leads out)"):
        entries_of(form, [("https://h/1", "good"), ("https://h/2", path)], inside if given else None)


@pytest.mark.parametrize("form", [form for form in THIRD_PARTY if form not in ("gdc", "bagit")])
@pytest.mark.parametrize("path", ["/tmp/x", "C:\\x", "c:x", "\\\\server\\x"])
def test_row_42_no_path_from_elsewhere_is_absolute(form: str, path: str) -> None:
    with pytest.raises(InvalidInput, match="is absolute and would leave the current folder"):
        entries_of(form, [("https://h/2", path)])


@pytest.mark.parametrize("path", ["/tmp/x", "../x", "~/x", "C:\\x", "a/../x", "link/x", "outside"])
def test_row_42_with_a_directory_no_path_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to("..")
    (inside / "outside").symlink_to(tmp_path)
    rows = [{"url": "https://h/1"}, {"url": "https://h/2", "filepath": path}]
    with pytest.raises(InvalidInput, match=r"entry 1 \(counted from 0\): .*(?:leave|leads out)"):
        read_list(json.dumps(rows).encode(), directory=inside)
    # Without one, getm's own lists go where they say.
    monkeypatch.chdir(inside)
    assert len(read_list(json.dumps(rows).encode())) == 2


def test_targets_within_a_directory(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "link").symlink_to("inner")
    paths = ["./a", "b//c", "link/d", "e/", "-", "f..g", ".hidden"]
    rows = [{"url": "https://h/x", "filepath": path} for path in paths]
    entries = read_list(json.dumps(rows).encode(), directory=tmp_path)
    targets = ["a", "b/c", "link/d", "e/x", "./-", "f..g", ".hidden"]
    assert [entry.target(str(tmp_path)) for entry in entries] == targets
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inner", "link"]


def test_a_device_is_no_target_for_a_list_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    with pytest.raises(InvalidInput, match="device or pipe"):
        entries_of("metalink", [("https://h/1", "null")], tmp_path)


@pytest.mark.parametrize("form", THIRD_PARTY)
def test_row_42_one_target_for_two(form: str) -> None:
    rows = [("https://h/1", "x/a"), ("https://h/2", "b"), ("https://h/3", "./x//a")]
    first = THIRD_PARTY[form][1]
    step = 2 if form == "aria2" else 1
    if form == "sums":
        rows[2] = ("", "x//a")
    with pytest.raises(InvalidInput, match=f"line {first + 2 * step}: its target .* of line {first} already"):
        entries_of(form, rows)


@pytest.mark.parametrize("data", [b"https://h/1/x?a\nhttps://h/2/x?b\n", b"https://h/x\nhttps://h/%78\n"])
def test_names_by_the_url_that_meet(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="line 2: its target x is the target of line 1 already"):
        read_list(data)


def test_case_is_left_alone() -> None:
    assert len(read_list(b"https://h/a\nhttps://h/A\n")) == 2


# Many problems -------------------------------------------------------------------------------------------------------


def test_all_problems_are_told_at_once() -> None:
    rows = [
        {"url": "https://h/a"},
        {"url": "ftp://user:SECRET@h/b?SECRET"},
        {"url": "https://h/a"},
        {"url": "https://h/c", "size": -1},
        3,
    ]
    with pytest.raises(InvalidInput) as caught:
        read_list(json.dumps(rows).encode())
    lines = str(caught.value).split("\n")
    assert lines[0].endswith("list has 4 problems:")
    assert (
        lines[1].startswith("  entry 1 (counted from 0): expected an http or https URL") and "[ftp://h/b]" in lines[1]
    )
    assert lines[2].startswith("  entry 2 (counted from 0): its target a is the target of entry 0 already")
    assert lines[3] == "  entry 3 (counted from 0): Expected `int` >= 0 - at `$.size`"
    assert lines[4] == "  entry 4 (counted from 0): Expected `object`, got `int`"
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("row", ['{"url": 3}', '{"url": "https://h/same"}'])
def test_of_many_problems_the_first_are_told(row: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_list("\n".join([row] * 101).encode(), "jsonl")
    lines = str(caught.value).split("\n")
    first = 1 if "3" in row else 2
    assert [line.partition(":")[0] for line in lines[1:21]] == [f"  line {first + number}" for number in range(20)]
    assert lines[0].endswith(f" {102 - first} problems:") and lines[21:] == [f"  and {82 - first} more"]


def test_many_pairs_of_duplicates() -> None:
    with pytest.raises(InvalidInput, match=r"(?s)has 50 problems:\n  line 51: .*\n  and 30 more$"):
        read_list("".join(f"https://h/{number % 50}\n" for number in range(100)).encode())


@pytest.mark.parametrize(
    ("data", "format", "reason"),
    [
        (b'[\n\n{"url": "https://h/a"},\n{"url" 3}]', "json", "line 4: not JSON: Expecting ':' delimiter"),
        (b'[{"url": "https://h/a"} {}]', "json", "line 1: not JSON: Expecting ',' delimiter"),
        (b'[{"url": "https://h/a"},]', "json", "line 1: not JSON"),
        (b'[{"url": "https://h/a", "size": NaN}]', "json", "NaN is no JSON"),
        (b"[" + b"9" * 5000 + b"]", "json", "not JSON"),
        (b'[{"url": "https://h/\xff"}]', "json", "not UTF-8"),
        (b"[" * 200_000, "json", "not JSON: nested too deeply"),
        (b'{"url": "https://h/a"}\n{"url"', "jsonl", "line 2: not JSON"),
        (b'\xef\xbb\xbf{"url": "https://h/a"}\n', "jsonl", "byte order mark"),
        (b'{"a":' * 200_000, "jsonl", "line 1: "),
        (b"https://h/\xff\x00", "urls", "line 1: "),
        (f"{MD5}  a\nhttps://h/?SECRET\n".encode(), "sums", "line 2: expected a line of a sums file"),
    ],
)
def test_row_42_lists_that_are_broken(data: bytes, format: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        read_list(data, format, base_url="https://h/" if format == "sums" else None)
    assert "SECRET" not in str(caught.value)


# Anything at all -----------------------------------------------------------------------------------------------------

SEEDS = [
    json.dumps([{"url": "https://h/a", "filepath": "a", "checksum": MD5, "checksum-algorithm": "md5", "size": 1}]),
    json.dumps({"access_url": {"url": "https://h/a", "headers": ["A: b"]}, "checksums": {"md5": MD5}}),
    f"https://h/a\thttps://m/a\n dir=x\n out=y\n checksum=md5={MD5}\n header=A: b\n",
    f"{MD5}  name\nMD5 (other) = {MD5}\n\\{MD5}  a\\nb\n",
    f"url,path,md5,size\nhttps://h/a,b,{MD5},3\n",
    f"id\tfilename\tmd5\tsize\tstate\nx\ty\t{MD5}\t3\tok\n",
    f"fastq_ftp\tfastq_md5\tfastq_bytes\nh/a;h/b\t{MD5};{MD5}\t1;2\n",
    metalink([("https://h/a", "a"), ("https://h/b", "b")]),
    "https://h/a 3 data/a%0A\nhttps://h/b - data/b\n",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good list with pieces of it, or anything else, put elsewhere in it."""
    data = draw(st.sampled_from(SEEDS)).encode()
    for _ in range(draw(st.integers(0, 3))):
        start, stop = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
        middle = draw(st.binary(max_size=4) | st.sampled_from([data[start:stop] * 2, b"\n", b"\t", b'"', b"..", b"\\"]))
        data = data[:start] + middle + data[stop:]
    return data


@given(data=mutated() | st.binary(max_size=60), format=st.none() | st.sampled_from(FORMATS))
def test_only_typed_errors_come_out(data: bytes, format: str | None) -> None:
    try:
        entries = read_list(data, format, base_url="https://h/" if format == "sums" else None)
    except InvalidInput:
        return
    assert entries


names = st.text(st.characters(exclude_characters='/\\\0\r\n\t"', exclude_categories=["Cs"]), min_size=1, max_size=12)
paths = st.lists(names.filter(lambda name: name.strip() == name and name not in (".", "..")), min_size=1, max_size=3)


@given(
    paths=st.lists(paths.map("/".join), min_size=1, max_size=4, unique=True),
    form=st.sampled_from([form for form in THIRD_PARTY if form != "gdc"]),
)
def test_what_is_written_is_read(paths: list[str], form: str) -> None:
    if form == "bagit":
        rows = [(f"https://h/{number}", path.replace("%", "%25")) for number, path in enumerate(paths)]
        wanted = [f"data/{path}" for path in paths]
    else:
        rows, wanted = [(f"https://h/{number}", path) for number, path in enumerate(paths)], paths
    try:
        found = [entry.path for entry in entries_of(form, rows)]
    except InvalidInput as error:
        # Control characters are no XML, and drive letters no names.
        assert "not XML" in str(error) or "absolute" in str(error)
        return
    assert found == wanted


@given(paths=st.lists(paths.map("/".join), min_size=1, max_size=4, unique=True), bsd=st.booleans())
def test_sums_with_any_names(paths: list[str], bsd: bool) -> None:
    checksum = Checksum("sha256", hashlib.sha256().digest())
    data = "\n".join(format_sums_line(checksum, path, bsd=bsd) for path in paths).encode()
    try:
        entries = read_list(data, "sums", base_url="https://h/")
    except InvalidInput as error:
        assert "absolute" in str(error)
        return
    assert [entry.path for entry in entries] == paths
    assert all(entry.checksums == (checksum,) for entry in entries)


# A hundred thousand --------------------------------------------------------------------------------------------------


CHECK = """
import sys
from getm.manifests.read import read_list

def peak_bytes():
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))

before = peak_bytes()
entries = read_list(sys.argv[1])
print(len(entries), entries.total_bytes, peak_bytes() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_hundred_thousand_entries_in_bounded_memory(tmp_path: Path) -> None:
    """The file has 16 MB; what is made of it about ten times as much while it is read."""
    path = tmp_path / "list.json"
    rows = (
        f'{{"url": "https://bucket.s3.amazonaws.com/{number}?X-Amz-Signature={number:064x}",'
        f' "filepath": "out/{number // 1000}/{number}", "size": 2}}'
        for number in range(100_000)
    )
    path.write_text(f"[{','.join(rows)}]")
    done = subprocess.run([sys.executable, "-c", CHECK, path], stdout=subprocess.PIPE, text=True, check=True)
    count, total_bytes, peak_bytes = map(int, done.stdout.split())
    assert (count, total_bytes) == (100_000, 200_000)
    assert peak_bytes < 250 * MIB


def test_an_entry_is_a_value() -> None:
    entry = Entry(["http://host/a", "http://mirror/a"], "a", "md5:" + "00" * 16, 5, {"X-Of": "it"}, place="line 1")
    for same in (copy.copy(entry), copy.deepcopy(entry), pickle.loads(pickle.dumps(entry))):
        assert same == entry and hash(same) == hash(entry)
    assert entry != Entry("http://host/a", "a") and entry != "http://host/a"
    with pytest.raises(AttributeError, match="immutable"):
        entry.size = 6
    with pytest.raises(AttributeError, match="immutable"):
        del entry.size
