"""Nothing in a list is dropped silently: what it says is understood, or refused by its name."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

import getm
from getm.errors import InvalidInput
from getm.integrity.values import parse_checksum
from tests.support.lists import read_list

MD5 = hashlib.md5(b"data").hexdigest()
SHA1 = hashlib.sha1(b"data").hexdigest()
SHA256 = hashlib.sha256(b"data").hexdigest()
URL = "https://h/a"
BOTH = (parse_checksum(f"sha256:{SHA256}"), parse_checksum(f"md5:{MD5}"))


# JSON ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"md5": MD5},
        {"MD5": MD5, "sha256": None},
        {"md5sum": MD5},
        {"md5_checksum": MD5},
        {"checksum_md5": MD5},
        {"file-md5": MD5, "sha1": ""},
        {"checksum": f"md5:{MD5}"},
        {"checksum": f"md5={MD5}"},
        {"checksum": MD5, "checksum_algorithm": "MD5"},
        {"checksum": MD5, "algorithm": "md5"},
        {"checksums": {"md5": MD5}},
        {"checksums": [f"md5:{MD5}"]},
    ],
)
@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_case_12_the_obvious_keys_of_a_checksum(row: dict[str, str | None], form: str) -> None:
    data = json.dumps({"url": URL, **row})
    (entry,) = read_list((f"[{data}]" if form == "json" else data).encode())
    assert entry.checksums == (BOTH[1],)


@pytest.mark.parametrize("key", ["path", "filepath", "filename", "file_name", "file"])
def test_case_12_the_obvious_keys_of_a_path(key: str) -> None:
    (entry,) = read_list(json.dumps([{"url": URL, key: "x/y"}]).encode())
    assert entry.path == "x/y"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"md6": MD5}, "the key 'md6' is not understood"),
        ({"cheksum": f"md5:{MD5}"}, "the key 'cheksum' is not understood"),
        ({"output": "x"}, "the key 'output' is not understood"),
        ({"hash": MD5}, "the key 'hash' is not understood"),
        ({"etag": MD5}, "the key 'etag' is not understood"),
        ({"path": "a", "filepath": "b"}, "the keys 'path' and 'filepath' say the same"),
        ({"md5": MD5, "md5sum": "0" * 32}, "two md5 checksums contradict each other"),
        ({"md5": "zz"}, "expected a md5 checksum"),
        ({"md5": 3}, r"Expected `str \| null`, got `int`"),
        ({"checksum": MD5}, "a checksum was given without its algorithm"),
        ({"checksums": [{"type": "md5", "checksum": MD5, "sha256": SHA256}]}, ".*unknown field `sha256`"),
        ({"checksums": {"tiger": "00"}}, "unknown checksum algorithm 'tiger'"),
        ({"path": 3}, r"Expected `str \| null`, got `int` - at `\$.path`"),
    ],
)
def test_case_12_other_keys_are_refused_by_name(row: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidInput, match=rf"entry 1 \(counted from 0\): {reason}"):
        read_list(json.dumps([{"url": URL}, {"url": "https://h/b", **row}]).encode())


@pytest.mark.parametrize("pair", [f'"md5": "{MD5}", "md5": "{"0" * 32}"', '"checksums": {"md5": "a", "md5": "b"}'])
def test_case_12_a_key_that_comes_twice(pair: str) -> None:
    with pytest.raises(InvalidInput, match="the key 'md5' twice"):
        read_list(f'[{{"url": "{URL}", {pair}}}]'.encode())


def test_case_12_what_a_drs_object_says_beside_is_ignored_by_name(tmp_path: Path) -> None:
    drs = {"id": "1", "self_uri": "drs://x/1", "access_methods": [{"type": "https", "access_url": {"url": URL}}]}
    (tmp_path / "list").write_text(json.dumps([drs]))
    entries = getm.read_list(tmp_path / "list")
    assert entries.ignored == ("id", "self_uri")
    for key, value in (("md6", "x"), ("checksum", MD5)):
        (tmp_path / "list").write_text(json.dumps([{**drs, key: value}]))
        with pytest.raises(InvalidInput, match=key if key == "md6" else "without its algorithm"):
            getm.read_list(tmp_path / "list")


@pytest.mark.parametrize("key", ["path", "filepath", "file"])
@pytest.mark.parametrize("first", [False, True])
def test_a_path_beside_the_name_of_a_drs_object_is_its_path(key: str, first: bool) -> None:
    names = {key: "x/y", "name": "z"} if first else {"name": "z", key: "x/y"}
    (entry,) = read_list(json.dumps([{**names, "access_url": {"url": URL}}]).encode())
    assert entry.path == "x/y"


def test_case_12_a_drs_object_whose_checksums_are_all_unknown() -> None:
    drs = {"access_url": {"url": URL}, "checksums": [{"type": "trunc512", "checksum": "x"}]}
    with pytest.raises(InvalidInput, match=r"of types that getm does not know \('trunc512'\)"):
        read_list(json.dumps([drs]).encode())


# Tables --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["md5", "MD5", "md5sum", "checksum_md5", "md5_checksum", "MD5 checksum", "file_md5", "md5 hash", "Hash-MD5"]
)
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_case_12_the_obvious_columns_of_a_checksum(name: str, delimiter: str) -> None:
    (entry,) = read_list(f"url{delimiter}{name}\n{URL}{delimiter}{MD5}\n".encode())
    assert entry.checksums == (BOTH[1],)


def test_case_12_columns_of_several_checksums_and_of_a_pair() -> None:
    (entry,) = read_list(f"url,checksum_sha256,md5sum\n{URL},{SHA256},{MD5}\n".encode())
    assert entry.checksums == BOTH
    data = f"url,checksum,checksum-algorithm\n{URL},{MD5},md5\nhttps://h/b,sha256:{SHA256},\nhttps://h/c,,null\n"
    assert [entry.checksums for entry in read_list(data.encode())] == [BOTH[1:], BOTH[:1], ()]
    columns = {"url": "url", "checksum": "sum", "checksum-algorithm": "kind"}
    assert read_list(f"url,sum,kind\n{URL},{MD5},md5\n".encode(), columns=columns)[0].checksums == BOTH[1:]


@pytest.mark.parametrize(
    ("header", "row", "reason"),
    [
        ("url,md6", f"{URL},{MD5}", "the columns 'md6' are not understood"),
        ("url,note,cheksum", f"{URL},x,{MD5}", "the columns 'note', 'cheksum' are not understood"),
        ("url,hash", f"{URL},{MD5}", "the columns 'hash' are not understood"),
        ("url,path,filename", f"{URL},a,b", "both seem to be the path"),
        ("url,link", f"{URL},{URL}", "both seem to be the url"),
        ("url,checksum-algorithm", f"{URL},md5", "line 2: the checksum algorithm 'md5' was given without a checksum"),
        ("url,checksum", f"{URL},{MD5}", "line 2: a checksum was given without its algorithm"),
        ("url,md5,md5sum", f"{URL},{MD5},{'0' * 32}", "two md5 checksums contradict"),
        ("url,md5,md5", f"{URL},{MD5},{'0' * 32}", "the columns 'md5' and 'md5' both seem to be the md5"),
    ],
)
def test_case_12_other_columns_are_refused_by_name(header: str, row: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        read_list(f"{header}\n{row}\n".encode())


def test_case_12_columns_that_the_caller_leaves_out_are_ignored_by_name(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"url,note,md6\n{URL},x,y\n")
    entries = getm.read_list(tmp_path / "list.csv", columns={"url": "url"})
    assert entries.ignored == ("note", "md6")


def test_case_12_the_columns_of_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text(f"id\tfilename\tmd5\tsize\tstate\n1\ta\t{MD5}\t4\tvalidated\n")
    assert getm.read_list(path).ignored == ("state",)
    path.write_text(f"id\tfilename\tmd5\tsize\tsha256\n1\ta\t{MD5}\t4\t{SHA256}\n")
    with pytest.raises(InvalidInput, match="the columns 'sha256' are not understood"):
        getm.read_list(path)
    path.write_text(f"run_accession\tfastq_ftp\tfastq_md5\tsubmitted_md5\nERR1\th/a\t{MD5}\t{MD5}\n")
    assert getm.read_list(path).ignored == ("run_accession", "submitted_md5")
    for name in ("sha1", "fastq_sha1", "file_checksum"):
        path.write_text(f"run_accession\tfastq_ftp\tfastq_md5\t{name}\nERR1\th/a\t{MD5}\t{SHA1}\n")
        with pytest.raises(InvalidInput, match=f"the columns '{name}' are not understood"):
            getm.read_list(path)


# URL lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        f"{URL}\tmd5:{MD5}",
        f"{URL}\tmd5={MD5}",
        f"{URL}\tMD5:{MD5}\thttps://m/a",
        f"{URL} md5:{MD5}",
        f"{URL}\thttps://m/a  md5:{MD5}",
    ],
)
def test_case_12_a_checksum_behind_a_url(line: str) -> None:
    (entry,) = read_list(f"{line}\n".encode())
    assert entry.checksums == (BOTH[1],)
    assert entry.urls == ((URL, "https://m/a") if "https://m" in line else (URL,))


def test_case_12_several_checksums_of_a_url() -> None:
    (entry,) = read_list(f"{URL}\tmd5:{MD5}\n  checksum=sha-256={SHA256}\n".encode())
    assert entry.checksums == BOTH


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"{URL}\t{MD5}", "field 2 of the line is neither a URL nor a checksum"),
        (f"{URL}\tsample.bam", "field 2 of the line is neither"),
        (f"{URL}\tmd5:zz", "expected a md5 checksum"),
        (f"{URL}\n  cheksum=md5={MD5}", "line 2 of its options: aria2 has no option 'cheksum'"),
        (f"{URL}\n  md5={MD5}", "line 2 of its options: aria2 has no option 'md5'"),
        (f"{URL}\n  checksum=md5={MD5}\n  checksum=md5={'0' * 32}", "two md5 checksums contradict"),
    ],
)
def test_case_12_what_else_stands_in_a_url_list_is_refused(line: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        read_list(f"{line}\n".encode(), "urls")


def test_case_12_options_of_aria2_are_ignored_by_name(tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"{URL}\n  split=5\n  max-tries=3\nhttps://h/b\n  split=2\n")
    assert getm.read_list(tmp_path / "list").ignored == ("max-tries", "split")


@pytest.mark.parametrize(
    "options", ["  out = o1\n  dir =d\n  checksum = md5={md5}\n", "  out=o1\n  # a comment\n\t#another\n  dir=d\n"]
)
def test_case_37_blanks_around_the_sign_and_indented_comments(options: str) -> None:
    (entry,) = read_list(f"# first\n{URL}\n{options.format(md5=MD5)}".encode())
    assert entry.path == "d/o1"
    assert entry.checksums == (BOTH[1:] if "md5" in options else ())


# Metalink, BagIt -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ['<hash type="tiger">zz</hash>', f"<hash>{MD5}</hash>"])
def test_case_12_a_metalink_whose_hashes_are_all_unknown(tag: str) -> None:
    head = '<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="a">'
    with pytest.raises(InvalidInput, match="of types that getm does not know"):
        read_list(f"{head}{tag}<url>{URL}</url></file></metalink>".encode())


def test_case_12_a_bag_whose_manifests_are_all_unknown(tmp_path: Path) -> None:
    (tmp_path / "manifest-sha3512.txt").write_text("00 data/a\n")
    (tmp_path / "fetch.txt").write_text(f"{URL} 4 data/a\n")
    with pytest.raises(InvalidInput, match=r"manifest-sha3512\.txt, whose algorithm cannot be computed here"):
        getm.read_list(tmp_path / "fetch.txt")


# Sums files ----------------------------------------------------------------------------------------------------------


def test_case_41_two_checksums_of_one_target_belong_together() -> None:
    data = f"MD5 (a) = {MD5}\nSHA256 (a) = {SHA256}\nMD5 (b) = {MD5}\nSHA256 (./b) = {SHA256}\n"
    entries = read_list(data.encode(), base_url="https://h/")
    assert [(entry.path, entry.checksums, entry.place) for entry in entries] == [
        ("a", BOTH, "line 1"),
        ("b", BOTH, "line 3"),
    ]


def test_case_41_two_that_contradict_each_other() -> None:
    data = f"{MD5}  a\n{SHA256}  a\n{'0' * 32}  a\n{MD5}  b\n"
    with pytest.raises(InvalidInput, match="line 1: two md5 checksums contradict each other"):
        read_list(data.encode(), base_url="https://h/")


@pytest.mark.parametrize("tool", [["sha256sum", "-z"], ["sha256sum", "-z", "--tag"]])
def test_case_38_what_sha256sum_z_writes(tmp_path: Path, tool: list[str]) -> None:
    names = ["a", "b\nc", "d\\e", "g\n"]
    for name in names:
        (tmp_path / name).write_bytes(b"data")
    done = subprocess.run([*tool, *names], cwd=tmp_path, stdout=subprocess.PIPE, check=True)
    for format in (None, "sums"):
        entries = read_list(done.stdout, format, base_url="https://h/")
        assert [(entry.path, entry.checksums) for entry in entries] == [(name, BOTH[:1]) for name in names]


# Forms ---------------------------------------------------------------------------------------------------------------

ROW = {"url": URL, "filepath": "x", "md5": MD5}


@pytest.mark.parametrize("format", [None, "json", "jsonl"])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("count", [1, 3])
def test_case_43_objects_without_a_list_around_them(format: str | None, indent: int | None, count: int) -> None:
    rows = [{**ROW, "filepath": str(number)} for number in range(count)]
    entries = read_list("\n".join(json.dumps(row, indent=indent) for row in rows).encode(), format)
    assert [entry.path for entry in entries] == [str(number) for number in range(count)]
    assert entries[-1].place == f"line {1 + (count - 1) * (5 if indent else 1)}"


@pytest.mark.parametrize("data", ["null", '"https://h/a"', "3", f'["{URL}"] 3', f"{json.dumps(ROW)}\n[]"])
def test_case_43_what_is_no_list_is_said(data: str) -> None:
    with pytest.raises(InvalidInput, match=r"expected (?:a list of entries|nothing beside the list)"):
        read_list(data.encode(), "json")


def test_case_43_blanks_before_a_digest() -> None:
    entries = read_list(f"  {MD5}  a\n\t{MD5} *b\n \\{MD5}  c\\\\d\n MD5 (e) = {MD5}\n".encode(), base_url="https://h/")
    assert [entry.path for entry in entries] == ["a", "b", "c\\d", "e"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "utf-8-sig"])
@pytest.mark.parametrize(
    "text", [f"{URL}\n  out=ü\n", f"{MD5}  ü\n", f"url,path,md5\r\n{URL},ü,{MD5}\r\n", f"url\tpath\n{URL}\tü\n"]
)
def test_case_43_byte_order_marks(encoding: str, text: str) -> None:
    mark = "" if encoding in ("utf-16", "utf-8-sig") else "\ufeff"
    data = f"{mark}{text}".encode(encoding)
    (entry,) = read_list(data, base_url="https://h/" if text.startswith(MD5) else None)
    assert entry.path == "ü"


def test_case_43_utf_16_without_a_mark_is_no_text() -> None:
    with pytest.raises(InvalidInput, match="not a text"):
        read_list(f"{URL}\n".encode("utf-16-le"))


# Targets -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (("a", "a/b"), r"entry 1 .*: its target a/b would lie below the target of entry 0"),
        (("a/b/c", "x", "a"), r"entry 0 .*: its target a/b/c would lie below the target of entry 2"),
        (("a/", "a/a/x"), r"would lie below the target of entry 0"),
        (("r/x",), "would lie below the receipt"),
        (("r",), "its target r is the receipt"),
        (("link",), "its target link is the receipt"),
        (("x/../r",), "is the receipt"),
    ],
)
def test_case_42_and_19_targets_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paths: tuple[str, ...], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("r")
    (tmp_path / "list").write_text(json.dumps([{"url": "https://h/a", "filepath": path} for path in paths]))
    with pytest.raises(InvalidInput, match=reason):
        getm.read_list("list", reserved={str(tmp_path / "r"): "the receipt"})
