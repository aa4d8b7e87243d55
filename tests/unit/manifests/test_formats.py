"""Each format of lists, by examples from where it is described."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import getm
from getm.errors import InvalidInput
from getm.integrity.values import Checksum
from getm.manifests.entry import Entry
from getm.manifests.entry_list import check_list
from getm.manifests.table_columns import parse_columns
from tests.support.lists import read_list

MD5 = hashlib.md5(b"data").hexdigest()
OTHER_MD5 = hashlib.md5(b"other").hexdigest()
SHA256 = hashlib.sha256(b"data").hexdigest()
URL = "https://host/a/b%2Fc.bam?X-Amz-Signature=SECRET"


def md5(text: str) -> Checksum:
    return Checksum("md5", bytes.fromhex(text))


def sha256(text: str) -> Checksum:
    return Checksum("sha256", bytes.fromhex(text))


def third_party(entries: list[Entry]) -> bool:
    return not any(entry.trusted_path for entry in entries)


# getm JSON, JSON Lines, DRS -------------------------------------------------------------------------------------------

ROW = {
    "url": URL,
    "mirrors": ["http://mirror/c.bam", URL],
    "filepath": "in/c.bam",
    "checksum": MD5,
    "checksum-algorithm": "md5",
    "checksums": {"sha256": SHA256, "MD5": MD5},
    "size": 4,
    "headers": {"X-Auth": "one"},
}


@pytest.mark.parametrize("form", ["json", "jsonl", "indented", "lines with blanks"])
def test_everything_that_a_row_can_say(form: str) -> None:
    rows = [ROW, {"url": "https://host/z"}]
    data = {
        "json": json.dumps(rows),
        "jsonl": "\n".join(map(json.dumps, rows)),
        "indented": "\n\t " + json.dumps(rows, indent=4) + " \r\n",
        "lines with blanks": "\r\n\r\n".join(map(json.dumps, rows)) + "\r\n",
    }[form]
    first, second = read_list(data.encode())
    assert first.urls == (URL, "http://mirror/c.bam")
    assert first.path == first.target() == "in/c.bam"
    assert first.checksums == (sha256(SHA256), md5(MD5)) and first.checksum == sha256(SHA256)
    assert (first.size, first.headers) == (4, (("X-Auth", "one"),))
    assert first.trusted_path and first.warn_unverified
    assert (second.path, second.target()) == (None, "z")
    places = {"lines with blanks": ["line 1", "line 3"], "jsonl": ["line 1", "line 2"]}
    assert [first.place, second.place] == places.get(form, ["entry 0 (counted from 0)", "entry 1 (counted from 0)"])


@pytest.mark.parametrize(
    "checksums", [{"sha-256": SHA256}, [f"sha256:{SHA256}"], [{"type": "SHA256", "checksum": SHA256}]]
)
def test_checksums_and_headers_in_their_other_forms(checksums: object) -> None:
    (entry,) = read_list(json.dumps([{"url": URL, "checksums": checksums, "headers": ["A: b", "C:d"]}]).encode())
    assert entry.checksums == (sha256(SHA256),)
    assert entry.headers == (("A", "b"), ("C", "d"))


@pytest.mark.parametrize("field", [{}, {"checksum-algorithm": None}, {"checksum-algorithm": "null", "checksum": "x"}])
def test_null_means_that_no_warning_is_wanted(field: dict[str, object]) -> None:
    (entry,) = read_list(json.dumps([{"url": URL, **field}]).encode())
    assert entry.warn_unverified is not bool(field)
    assert entry.checksum is None


def test_drs_objects() -> None:
    """GA4GH DRS 1.2, "GetObject": the example of its OpenAPI document, with two access methods."""
    drs = {
        "id": "1",
        "name": "NA12878.bam",
        "self_uri": "drs://drs.example.org/314159",
        "size": 12345,
        "checksums": [{"checksum": MD5, "type": "md5"}, {"checksum": "x", "type": "trunc512"}],
        "access_methods": [
            {"type": "s3", "access_url": {"url": "s3://bucket/NA12878.bam"}},
            {"type": "https", "access_url": {"url": URL, "headers": ["Authorization: Basic Z2E0Z2g6ZHJz"]}},
            {"type": "https", "access_url": {"url": "https://other/x", "headers": ["Authorization: Basic AAAA"]}},
            {"type": "gs", "access_id": "gs-1"},
        ],
    }
    row = {"access_url": {"url": URL}, "filepath": "x/y"}
    first, second = read_list(json.dumps([drs, row]).encode())
    # The other method's URL is not sent this one's secret.
    assert first.urls == (URL,) and first.headers == (("Authorization", "Basic Z2E0Z2g6ZHJz"),)
    assert (first.path, first.size, first.checksums) == ("NA12878.bam", 12345, (md5(MD5),))
    assert (second.urls, second.path) == ((URL,), "x/y")
    assert third_party([first, second])
    drs["access_methods"] = [{"type": "gs", "access_id": "gs-1"}]
    (third,) = read_list(json.dumps([drs]).encode())
    assert (third.urls, third.path) == (("drs://drs.example.org/314159",), "NA12878.bam")


def test_long_json_crosses_every_chunk() -> None:
    """Elements that end in any place of a chunk, characters of several bytes that are cut, numbers that go on."""
    rows = [{"url": f"https://host/{i}", "filepath": "ü€𝄞" * (i % 97) + str(i), "size": i} for i in range(4000)]
    entries = read_list(json.dumps(rows, ensure_ascii=False).encode())
    assert [(entry.path, entry.size) for entry in entries] == [(row["filepath"], row["size"]) for row in rows]


# URL lists and aria2 input files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", [None, "urls", "aria2"])
def test_a_list_of_urls(format: str | None) -> None:
    entries = read_list(
        b"\xef\xbb\xbf# from the portal\r\n\r\nhttps://h/a\r\n  https://h/b?x=1#part\nHTTP://h/c", format
    )
    assert [entry.urls for entry in entries] == [("https://h/a",), ("https://h/b?x=1",), ("HTTP://h/c",)]
    assert [entry.place for entry in entries] == ["line 3", "line 4", "line 5"]
    assert [entry.target() for entry in entries] == ["a", "b", "c"]
    assert third_party(entries)


def test_an_aria2_input_file() -> None:
    """The manual's example ("Input File"), with relative folders, and further options."""
    data = f"""\
http://server/file.iso\thttp://mirror/file.iso\tftp://mirror/file.iso
  dir=iso_images
  out=file.img
  split=5
  checksum=sha-256={SHA256}
\theader=X-Auth: one=two
 header=Accept: */*
 user-agent=aria2
# a comment
http://foo/bar
"""
    first, second = read_list(data.encode())
    assert first.urls == ("http://server/file.iso", "http://mirror/file.iso")
    assert (first.path, first.checksums) == ("iso_images/file.img", (sha256(SHA256),))
    assert first.headers == (("X-Auth", "one=two"), ("Accept", "*/*"), ("User-Agent", "aria2"))
    assert (second.urls, second.path, second.place) == (("http://foo/bar",), None, "line 10")


def test_a_folder_alone_in_an_aria2_input_file() -> None:
    (entry,) = read_list(b"https://h/x\n dir=a/b\n")
    assert (entry.path, entry.target()) == ("a/b/", "a/b/x")


def test_options_of_aria2_that_are_wrong() -> None:
    with pytest.raises(InvalidInput, match=r"(?s)3 problems:\n.*line 1: an option.*line 2: line 3 .*line 4: line 5 "):
        read_list(b" out=x\nhttps://h/x\n checksum=md5=zz\nhttps://h/y\n nonsense", "aria2")


# Sums files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", [["sha256sum"], ["sha256sum", "--tag"]])
def test_what_sha256sum_writes(tmp_path: Path, tool: list[str]) -> None:
    names = ["a b.bam", "deep/c%d?#.bam", "grüße"]
    (tmp_path / "deep").mkdir()
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    done = subprocess.run([*tool, *(f"./{name}" for name in names)], cwd=tmp_path, stdout=subprocess.PIPE, check=True)
    entries = read_list(done.stdout, base_url="https://host/v1?sig=S%2F")
    assert [entry.path for entry in entries] == names
    assert [entry.urls[0] for entry in entries] == [
        "https://host/v1/a%20b.bam?sig=S%2F",
        "https://host/v1/deep/c%25d%3F%23.bam?sig=S%2F",
        "https://host/v1/gr%C3%BC%C3%9Fe?sig=S%2F",
    ]
    assert [entry.checksums for entry in entries] == [
        (sha256(hashlib.sha256(name.encode()).hexdigest()),) for name in names
    ]
    assert third_party(entries)


def test_a_name_that_is_not_utf8_and_an_algorithm_by_the_file_name() -> None:
    (entry,) = read_list(SHA256.encode() + b" *f\xff\n", "sums", name="B3SUMS", base_url="https://h/d/")
    assert entry.path == os.fsdecode(b"f\xff") and entry.urls == ("https://h/d/f%FF",)
    assert entry.checksums[0].algorithm == "blake3"


def test_sums_need_a_base_url() -> None:
    with pytest.raises(InvalidInput, match="base URL"):
        read_list(f"{MD5}  a\n".encode())
    with pytest.raises(InvalidInput, match="scheme 'ftp'"):
        read_list(f"{MD5}  a\n".encode(), base_url="ftp://h/")


# Tables --------------------------------------------------------------------------------------------------------------

GDC = f"""id\tfilename\tmd5\tsize\tstate
4f9bab1e-7d1e-4d1c-9d1f-6d4b6fb32c1e\tTCGA-A.bam\t{MD5}\t15720\tvalidated
5c6bab1e-7d1e-4d1c-9d1f-6d4b6fb32c1e\tTCGA-A.bam\t{OTHER_MD5}\t7\treleased
"""
ENA = f"""run_accession\tfastq_ftp\tfastq_md5\tfastq_bytes
ERR1\tftp.sra.ebi.ac.uk/vol1/ERR1/ERR1_1.fastq.gz;ftp.sra.ebi.ac.uk/vol1/ERR1/ERR1_2.fastq.gz\t{MD5};{OTHER_MD5}\t10;20
ERR2\tftp://ftp.sra.ebi.ac.uk/vol1/ERR2/ERR2.fastq.gz\t{MD5}\t30
"""


@pytest.mark.parametrize("format", [None, "gdc", "tsv"])
def test_a_gdc_manifest(format: str | None) -> None:
    first, second = read_list(GDC.encode(), format)
    assert first.urls == ("https://api.gdc.cancer.gov/data/4f9bab1e-7d1e-4d1c-9d1f-6d4b6fb32c1e",)
    assert first.path == "4f9bab1e-7d1e-4d1c-9d1f-6d4b6fb32c1e/TCGA-A.bam"
    assert (first.checksums, first.size, first.place) == ((md5(MD5),), 15720, "line 2")
    assert second.size == 7 and third_party([first, second])


@pytest.mark.parametrize("format", [None, "ena", "tsv"])
def test_an_ena_report(format: str | None) -> None:
    entries = read_list(ENA.encode(), format)
    assert [entry.urls[0] for entry in entries] == [
        "https://ftp.sra.ebi.ac.uk/vol1/ERR1/ERR1_1.fastq.gz",
        "https://ftp.sra.ebi.ac.uk/vol1/ERR1/ERR1_2.fastq.gz",
        "https://ftp.sra.ebi.ac.uk/vol1/ERR2/ERR2.fastq.gz",
    ]
    assert [entry.target() for entry in entries] == ["ERR1_1.fastq.gz", "ERR1_2.fastq.gz", "ERR2.fastq.gz"]
    assert [entry.checksums for entry in entries] == [(md5(MD5),), (md5(OTHER_MD5),), (md5(MD5),)]
    assert [entry.size for entry in entries] == [10, 20, 30]
    assert [entry.place for entry in entries] == ["line 2", "line 2", "line 3"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("run_accession\tfastq_ftp\nERR1\t\n", "line 2: it has no file of this kind"),
        ("fastq_ftp\tfastq_bytes\na.b/c;a.b/d\t1\n", "line 2: 2 URLs, and another number"),
        ("run_accession\tx\nERR1\ty\n", "line 1: an ENA report has a column fastq_ftp"),
    ],
)
def test_an_ena_report_that_lacks_something(data: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        read_list(data.encode(), "ena")


def test_other_files_of_ena() -> None:
    (entry,) = read_list(b"submitted_ftp\tsubmitted_md5\nh/a.bam\t" + MD5.encode())
    assert (entry.urls, entry.checksums) == (("https://h/a.bam",), (md5(MD5),))


def test_columns_that_the_caller_names() -> None:
    data = f'\ufefflink,name,sum,bytes,id\n"https://h/x,y","a, b",{MD5},12,k 1\nhttps://h/z,c,,,k/2\n'.encode()
    columns = parse_columns("url=link, path={id}/{name}, md5=sum, size=bytes")
    first, second = read_list(data.replace(b"k/2", b"k2"), columns=columns)
    assert (first.urls, first.path) == (("https://h/x,y",), "k 1/a, b")
    assert (first.checksums, first.size) == ((md5(MD5),), 12)
    assert (second.checksums, second.size, second.place) == ((), None, "line 3")
    templates = {"url": "https://host/{id}?n={name}", "checksum": "md5:{sum}"}
    first, second = read_list(data, columns=templates, name="x.csv")
    assert (first.urls, first.checksums) == (("https://host/k%201?n=a%2C%20b",), (md5(MD5),))
    assert (second.urls, second.checksums) == (("https://host/k%2F2?n=c",), ())


def test_columns_that_tell_by_their_names() -> None:
    data = f"Filename,URL,MD5sum,sha-256,Size\na,https://h/1,{MD5},{SHA256},3\n"
    (entry,) = read_list(data.encode())
    assert (entry.urls, entry.path, entry.size) == (("https://h/1",), "a", 3)
    assert entry.checksums == (sha256(SHA256), md5(MD5))


def test_a_single_column_is_a_table_by_its_name() -> None:
    (entry,) = read_list(b"url\nhttps://h/1\n", name="list.csv")
    assert (entry.urls, entry.place) == (("https://h/1",), "line 2")


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"url": "nowhere"}, "no column 'nowhere'; it has 'link', 'name'"),
        ({"url": "https://h/{nowhere}"}, "no column 'nowhere'"),
        ({"path": "name"}, "which one is the url"),
        ({"url": "link", "colour": "name"}, "no field is called 'colour'"),
    ],
)
def test_columns_that_are_wrong(columns: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidInput, match=f"line 1: .*{reason}"):
        read_list(b"link,name\nhttps://h/1,a\n", columns=columns)


@pytest.mark.parametrize("text", ["", "url", "url=", "=x", "url=a,,md5=b", "url=a,url=b"])
def test_columns_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InvalidInput, match="columns"):
        parse_columns(text)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("url,size\nhttps://h/1\n", "line 2: 1 fields where the header has 2"),
        ("url,size\nhttps://h/1,1e3\n", "line 2: the size must be a number"),
        ("url,md5\nhttps://h/1,zz\n", "line 2: expected a md5"),
        ("url,md5\n,zz\n", "line 2: the url is empty"),
        ('url,md5\n"https://h/1,zz\n', "line 2: not a table"),
        ("a,b\n1,2\n", "line 1: no column is called 'url'"),
    ],
)
def test_rows_that_are_wrong(data: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        read_list(data.encode())


# Metalink ------------------------------------------------------------------------------------------------------------

# RFC 5854, section 1.1, with an http mirror more, a second file, and another namespace's elements between.
METALINK = f"""<?xml version="1.0" encoding="UTF-8"?>
<metalink xmlns="urn:ietf:params:xml:ns:metalink" xmlns:x="urn:x">
  <published>2009-05-15T12:23:23Z</published>
  <x:file name="no"><url>https://no/no</url></x:file>
  <file name="example.ext">
    <size>14471447</size>
    <identity>Example</identity>
    <hash type="sha-256">{SHA256}</hash>
    <hash type="md5">{MD5}</hash>
    <hash type="tiger">zz</hash>
    <pieces length="1048576" type="sha-256"><hash>{"0" * 64}</hash></pieces>
    <url location="de" priority="1">ftp://ftp.example.com/example.ext</url>
    <url location="us">http://last.example.com/example.ext</url>
    <url location="fr" priority="20">http://twenty.example.com/example.ext?a=1&amp;b=2</url>
    <url location="fr" priority="3"><![CDATA[http://three.example.com/example.ext]]></url>
    <metaurl mediatype="torrent" priority="2">http://example.com/example.ext.torrent</metaurl>
    <x:url>https://no/no</x:url>
  </file>
  <file name="sub/other"><url>https://h/x</url></file>
</metalink>"""


def test_a_metalink() -> None:
    first, second = read_list(METALINK.encode())
    assert first.urls == (
        "http://three.example.com/example.ext",
        "http://twenty.example.com/example.ext?a=1&b=2",
        "http://last.example.com/example.ext",
    )
    assert (first.path, first.size, first.place) == ("example.ext", 14471447, "line 5")
    assert first.checksums == (sha256(SHA256), md5(MD5))
    assert (second.path, second.size, second.checksums) == ("sub/other", None, ())
    assert third_party([first, second])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_a_metalink_in_another_encoding(encoding: str) -> None:
    data = METALINK.replace("UTF-8", encoding.removesuffix("-sig")).replace("sub/other", "sub/ü").encode(encoding)
    assert read_list(data, "metalink")[1].path == "sub/ü"


BOMB = """<?xml version="1.0"?><!DOCTYPE m [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>
<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="&b;"><url>https://h/x</url></file></metalink>"""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (BOMB, "line 1: a document type declaration"),
        (METALINK.replace("<metalink", '<!DOCTYPE m SYSTEM "file:///etc/passwd"><metalink'), "line 2: a document type"),
        (METALINK.replace("</metalink>", ""), "not XML: no element found"),
        (METALINK.replace("Example<", "&nope;<"), "line 7: not XML"),
        (METALINK.replace("UTF-8", "utf-7"), "not XML"),
        (METALINK.replace("ietf:params:xml:ns", "else"), "line 2: expected Metalink 4"),
        ('<metalink version="3.0" xmlns="http://www.metalinker.org/"><files/></metalink>', "Metalink 3"),
        (METALINK.replace('name="sub/other"', ""), "line 19: a file without a name"),
        (METALINK.replace("https://h/x", "ftp://h/x"), "line 19: expected an http or https URL, got only ftp"),
        (METALINK.replace("14471447", "many"), "line 5: the size must"),
        (METALINK.replace(MD5, "zz"), "line 5: expected a md5"),
        (METALINK.replace(">Example<", "><file>" * 200), "nested too deeply"),
    ],
)
def test_metalinks_that_are_wrong(data: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        read_list(data.encode(), "metalink")


# BagIt ---------------------------------------------------------------------------------------------------------------


def make_bag(folder: Path, fetch: str, **manifests: str) -> Path:
    for algorithm, text in manifests.items():
        (folder / f"manifest-{algorithm}.txt").write_text(text)
    path = folder / "fetch.txt"
    path.write_text(fetch)
    return path


def test_a_fetch_file(tmp_path: Path) -> None:
    fetch = "https://h/1 11 data/a b.txt\nhttps://h/2\t-  data/c%0D%0a%25%41\n"
    path = make_bag(
        tmp_path,
        fetch,
        md5=f"{'0' * 32} data/a b.txt\n",
        sha256=f"{SHA256}  data/a b.txt\n{SHA256} *data/c%0D%0A%25%41\n{SHA256} data/here\n",
        nonsense="?",
    )
    entries = getm.read_list(path)
    assert (entries.format, entries.total_bytes) == ("bagit", None)
    first, second = entries
    assert (first.urls, first.path, first.size) == (("https://h/1",), "data/a b.txt", 11)
    assert (second.path, second.size, second.place) == ("data/c\r\n%%41", None, "line 2")
    assert [first.checksums, second.checksums] == [(sha256(SHA256),)] * 2
    assert third_party([first, second])


def test_a_fetch_file_alone(tmp_path: Path) -> None:
    (entry,) = read_list(b"https://h/1 11 data/a\n")
    assert entry.checksums == ()


@pytest.mark.parametrize(
    ("fetch", "reason"),
    [
        ("https://h/1 1 bagit.txt\n", r"line 1: the path 'bagit.txt' is not below data/"),
        ("https://h/1 1 data/other\n", r"line 1: the path 'data/other' is not in manifest-md5.txt"),
        ("https://h/1 x data/a\n", "line 1: expected URL, LENGTH"),
        ("https://h/1 99999999999999999999 data/a\n", "line 1: the length is no number"),
        ("sftp://h/1 1 data/a\n", "line 1: expected an http or https URL, got only sftp"),
    ],
)
def test_fetch_files_that_are_wrong(tmp_path: Path, fetch: str, reason: str) -> None:
    path = make_bag(tmp_path, fetch, md5=f"{MD5} data/a\n")
    with pytest.raises(InvalidInput, match=reason):
        getm.read_list(path, format="bagit")


def test_a_bags_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    path = make_bag(tmp_path, "https://h/1 1 data/a\n", md5=f"{MD5} data/a\nzz data/b\n")
    with pytest.raises(InvalidInput, match=r"beside it, manifest-md5\.txt cannot be read: line 2"):
        getm.read_list(path)


# Which format it is, and where it comes from --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "name", "format"),
    [
        (b" \n[" + b'{"url": "https://h/a"}]', "x", "json"),
        (b'{"url": "https://h/a"}', "x.json", "jsonl"),
        (b"https://h/a\n", "x", "urls"),
        (b"https://h/a 3 data/b\n", "x", "bagit"),
        (b"url,size\nhttps://h/a,1\n", "x", "csv"),
        (b"url\tsize\nhttps://h/a\t1\n", "x", "tsv"),
        (METALINK.encode(), "x", "metalink"),
    ],
)
def test_the_format_is_told_by_the_content(tmp_path: Path, data: bytes, name: str, format: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert getm.read_list(tmp_path / name).format == format


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty list"),
        (b"\n# nothing\n", "an empty list"),
        (b"hello\n", "its format cannot be detected; say which it is: json, jsonl"),
        (b"\x1f\x8b\x08", "unpack it first"),
        (b"\xff\xfeabc", "is not UTF-16"),
        (b"www.example.com/a\n", "cannot be detected"),
    ],
)
def test_what_is_no_list(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        read_list(data)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"format": "yaml"}, "no format is called 'yaml'"),
        ({"base_url": "https://h/"}, "a base URL is for sums files"),
        ({"columns": {"url": "x"}}, "columns are for csv and tsv"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        read_list(b"https://h/a\n", **options)  # type: ignore[arg-type]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        getm.read_list(tmp_path / "none")
    with pytest.raises(InvalidInput, match="directory"):
        getm.read_list(tmp_path)
    with pytest.raises(InvalidInput, match="NUL"):
        getm.read_list("a\0b")


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(GDC.encode())))
    entries = getm.read_list("-")
    assert (entries.name, len(entries), entries.total_bytes) == ("standard input", 2, 15727)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InvalidInput, match="standard input cannot be read: it is closed"):
        getm.read_list("-")


def test_a_pipe() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"https://h/a\n")
    os.close(writing)
    assert len(getm.read_list(f"/dev/fd/{reading}")) == 1
    os.close(reading)


# Entries made by a program -------------------------------------------------------------------------------------------


def test_an_entry_by_hand() -> None:
    entry = getm.Entry([URL, "https://m/x"], Path("a/b"), [f"md5:{MD5}", sha256(SHA256)], 3, {"A": "b"})
    assert entry.urls == (URL, "https://m/x")
    assert (entry.path, entry.size, entry.headers) == ("a/b", 3, (("A", "b"),))
    assert entry.checksums == (sha256(SHA256), md5(MD5))
    assert (entry.place, entry.trusted_path) == ("the entry of https://host/a/b%2Fc.bam", True)
    assert "SECRET" not in repr(getm.Entry(URL, headers={"Authorization": "SECRET"}))
    assert entry == getm.Entry([URL, "https://m/x"], "a/b", (sha256(SHA256), md5(MD5)), 3, [("A", "b")])
    assert len({entry, entry}) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((["ftp://h/x"],), "scheme 'ftp'"),
        (([],), "no URL"),
        (([3],), "must be a str"),
        ((3,), "must be a str"),
        ((None,), "must be a str"),
        ((URL, "a\0"), "NUL"),
        ((URL, "\ud800"), "a file can have"),
        ((URL, b"a"), "must be a str or a path-like"),
        ((URL, None, "md5:zz"), "md5"),
        ((URL, None, 3), "checksum"),
        ((URL, None, [3]), "checksum must be"),
        ((URL, None, [f"md5:{MD5}", f"md5:{OTHER_MD5}"]), "contradict"),
        ((URL, None, None, -1), "size must be a whole number"),
        ((URL, None, None, True), "size must be a whole number"),
        ((URL, None, None, None, {"A b": "c"}), "header"),
        ((URL, None, None, None, {"Range": "bytes=0-"}), "Range"),
    ],
)
def test_entries_that_are_wrong(arguments: tuple[object, ...], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        Entry(*arguments)  # type: ignore[arg-type]


def test_a_list_made_by_a_program(tmp_path: Path) -> None:
    first, second = Entry("https://h/a", size=1), Entry("https://h/b", size=2)
    entries = check_list([first, second], "the list", directory=str(tmp_path))
    assert (list(entries), len(entries), entries.total_bytes) == ([first, second], 2, 3)
    with pytest.raises(InvalidInput, match=r"the entry of https://h/a: its target a is the target of the entry of"):
        check_list([first, Entry("https://h/a?2")], "the list")
    with pytest.raises(InvalidInput, match="absolute and would leave"):
        check_list([Entry("https://h/a", "/tmp/x")], "the list", directory=str(tmp_path))
    with pytest.raises(InvalidInput, match="an empty list"):
        check_list([], "the list")


def test_the_strongest_that_can_be_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry(URL, checksum=[f"blake3:{SHA256}", f"md5:{MD5}"])
    assert entry.checksum == entry.checksums[0]
    monkeypatch.setitem(sys.modules, "blake3", None)
    assert entry.checksum == md5(MD5)
    alone = Entry(URL, checksum=f"blake3:{SHA256}")
    assert alone.checksum is not None
    with pytest.raises(InvalidInput, match=r"pip install .getm\[blake3\]"):
        check_list([alone], "the list")
