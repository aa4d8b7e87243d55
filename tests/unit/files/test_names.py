"""File names out of the network, and paths made of them (faults rows 40 and 41)."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.errors import InvalidInput, TargetError
from getm.files.names import (
    FALLBACK_NAME,
    NAME_LIMIT_BYTES,
    changed_name,
    name_from_headers,
    name_from_url,
    resolve_target,
    safe_name,
)


@pytest.mark.parametrize(
    ("candidate", "name"),
    [
        ("sample.bam", "sample.bam"),
        ("Grüße 2024.vcf.gz", "Grüße 2024.vcf.gz"),
        # What POSIX allows stays, whatever other systems say.
        ("e\u0301.txt", "e\u0301.txt"),
        ("chr1:1-9.bam", "chr1:1-9.bam"),
        ("HLA-A*02", "HLA-A*02"),
        ("a<b>c|d?.txt", "a<b>c|d?.txt"),
        ('say "hello".txt', 'say "hello".txt'),
        ("dots...", "dots..."),
        ("CON", "CON"),
        ("nul.txt", "nul.txt"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("C:\\Users\\x\\run.exe", "run.exe"),
        ("C:run.exe", "C:run.exe"),
        ("/absolute/file", "file"),
        ("a.txt\0.sh", "a.txt_.sh"),
        ("a\r\nSet-Cookie: b", "a__Set-Cookie: b"),
        ("a\x1b[31mred", "a_[31mred"),
        ("a\x85b\u2028c", "a_b_c"),
        ("gpj.\u202eexe.txt", "gpj.exe.txt"),
        ("\u200f\ufefffile\u200b", "file"),
        (".bashrc", "_bashrc"),
        ("..hidden", "_.hidden"),
        ("-rf", "_rf"),
        ("~root", "_root"),
        ("  spaced  ", "spaced"),
        ("console.log", "console.log"),
        ("\ud800x", "_x"),
        ("\uff0fetc\uff0fpasswd", "\uff0fetc\uff0fpasswd"),
    ],
)
def test_row_40_safe_name(candidate: str, name: str) -> None:
    assert safe_name(candidate) == name


@pytest.mark.parametrize(
    "candidate", ["", ".", "..", "...", "/", "a/", "a/..", "\\", " ", ". .", "\u202e", "\u200b.", "\r\n"]
)
def test_row_40_nothing_usable_is_no_name(candidate: str) -> None:
    assert safe_name(candidate) is None


@pytest.mark.parametrize(
    ("candidate", "ending"),
    [
        ("x" * 300, "x"),
        ("x" * 300 + ".tar.gz", ".tar.gz"),
        ("\u20ac" * 100 + ".bam", ".bam"),
        ("a" + "\U0001f9ec" * 75, "\U0001f9ec"),
        ("x." + "y" * 300, "y"),
        ("x" * 235 + ".\u20ac\u20ac\u20ac\u20ac\u20ac\u20ac", "\u20ac"),
    ],
)
def test_row_40_long_names_keep_their_extension(candidate: str, ending: str) -> None:
    name = safe_name(candidate)
    assert name is not None
    assert NAME_LIMIT_BYTES - 4 < len(name.encode()) <= NAME_LIMIT_BYTES
    assert name.endswith(ending)
    assert candidate.startswith(name.removesuffix(ending))


@given(st.text(alphabet=st.characters(), max_size=400))
def test_row_40_any_safe_name_is_one_harmless_component(candidate: str) -> None:
    name = safe_name(candidate)
    if name is not None:
        assert name == Path(name).name and name not in (".", "..")
        assert len(name.encode()) <= NAME_LIMIT_BYTES
        assert name[0] not in ".-~ "
        assert not {unicodedata.category(char) for char in name} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
        assert not set(name) & set("/\\\0\r\n")
        assert safe_name(name) == name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ('attachment; filename="sample.bam"', "sample.bam"),
        ("attachment; filename=sample.bam", "sample.bam"),
        ("attachment;filename=sample.bam;size=3", "sample.bam"),
        ("inline; FileName=sample.bam", "sample.bam"),
        ("attachment; filename=two words.txt", "two words.txt"),
        ('attachment; filename="a;b.txt"', "a;b.txt"),
        ('attachment; filename="a\\"b.txt"', 'a"b.txt'),
        ('attachment; filename="C:\\\\Temp\\\\x.txt"', "x.txt"),
        ('attachment; filename="C:\\Temp\\x.txt"', "x.txt"),
        ('attachment; filename="../../.ssh/authorized_keys"', "authorized_keys"),
        ("attachment; filename*=UTF-8''%e2%82%ac%20rates.txt", "\u20ac rates.txt"),
        # RFC 6266, section 4.3: filename* wins, in either order.
        ("attachment; filename=\"EURO.txt\"; filename*=utf-8''%e2%82%ac.txt", "\u20ac.txt"),
        ("attachment; filename*=utf-8'de'%e2%82%ac.txt; filename=\"EURO.txt\"", "\u20ac.txt"),
        ("attachment; filename*=iso-8859-1'en'%A3%20rates", "\u00a3 rates"),
        # Wrong charset, wrong bytes, and nothing usable: the plain parameter is what is left.
        ("attachment; filename*=utf-7''x; filename=plain", "plain"),
        ("attachment; filename*=UTF-8''%ff%fe; filename=plain", "plain"),
        ("attachment; filename*=UTF-8''..%2f..; filename=plain", "plain"),
        ("attachment; filename*=UTF-8''..%2f..%2fetc%2fshadow", "shadow"),
        ("attachment; filename*=UTF-8''a%00%0d%0ab", "a___b"),
        # Not an encoded word (RFC 2047 does not apply to HTTP), and no percent-decoding of the plain parameter.
        ('attachment; filename="a%20b"', "a%20b"),
        # UTF-8 as an HTTP library hands it over: as Latin-1, as surrogate escapes, or decoded.
        ('attachment; filename="\u00e2\u0082\u00ac.txt"', "\u20ac.txt"),
        ('attachment; filename="\udce2\udc82\udcac.txt"', "\u20ac.txt"),
        ('attachment; filename="\u20ac.txt"', "\u20ac.txt"),
        ('attachment; filename="\udce4.txt"', "\u00e4.txt"),
        ("attachment", None),
        ("", None),
        ('attachment; filename=""', None),
        ("attachment; filename", None),
        ('attachment; filename=".."', None),
        (";;;;=;filename*=;filename*0*=", None),
        # Parameters inside a quoted string are text, not parameters; RFC 2231 continuations are not HTTP's.
        ('attachment; title="; filename=no"; filename=yes', "yes"),
        ('attachment; title="\\"; filename=no', None),
        ("attachment; filename*0=a; filename*1=b", None),
        ('attachment; filename="unclosed.txt', "unclosed.txt"),
        ("filename=typeless.txt", "typeless.txt"),
    ],
)
def test_content_disposition(value: str, name: str | None) -> None:
    assert name_from_headers([("content-disposition", value)]) == name
    assert name_from_headers([("X-Other", "filename=no"), ("Content-Disposition", value)]) == name


@given(st.text(alphabet=st.characters() | st.sampled_from("\"\\;=*'% "), max_size=200))
def test_no_content_disposition_raises(value: str) -> None:
    name = name_from_headers([("Content-Disposition", f"attachment; filename{value}")])
    assert name is None or safe_name(name) == name


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/a/sample.bam", "sample.bam"),
        ("https://host/a/sample.bam?X-Amz-Signature=secret#part", "sample.bam"),
        ("https://host/a%20b%2Bc.txt", "a b+c.txt"),
        ("https://host/folder/", "folder"),
        ("https://host/x/..%2f..%2fetc%2fpasswd", "passwd"),
        ("https://host/x/..%5c..%5cboot.ini", "boot.ini"),
        # Decoded once: what is left is an ordinary name on every system.
        ("https://host/x/..%252f..%252fetc", "_.%2f..%2fetc"),
        ("https://host/%00%0d%0a", FALLBACK_NAME),
        ("https://host/%2e%2e", FALLBACK_NAME),
        ("https://host/..", FALLBACK_NAME),
        ("https://host/", FALLBACK_NAME),
        ("https://host", FALLBACK_NAME),
        ("https://host?name=x/y", FALLBACK_NAME),
        ("https://host/%e2%82%ac.txt", "\u20ac.txt"),
        ("https://host/%ff.txt", "_.txt"),
        ("https://host/-o", "_o"),
    ],
)
def test_name_from_url(url: str, name: str) -> None:
    assert name_from_url(url) == name


@pytest.mark.parametrize(
    ("url", "disposition", "changed"),
    [
        ("https://host/chr1:1-9.bam", None, None),
        ("https://host/", None, None),
        ("https://host/.bashrc", None, ".bashrc"),
        ("https://host/x", "filename=HLA-A*02", None),
        ("https://host/x", 'filename="../a"', "../a"),
        # The name that was used: the first is none at all.
        ("https://host/x", "filename*=UTF-8''..; filename=a%0d", None),
        ("https://host/-rf", "filename=harmless", None),
    ],
)
def test_a_name_that_was_changed_is_told(url: str, disposition: str | None, changed: str | None) -> None:
    headers = [] if disposition is None else [("Content-Disposition", disposition)]
    assert changed_name(url, headers) == changed


def test_unreadable_url_is_invalid_input() -> None:
    with pytest.raises(InvalidInput):
        name_from_url("https://[half/x")


def test_no_path_is_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_target(None, url="https://host/a.bin?sig=x", headers=()) == tmp_path / "a.bin"


def test_a_folder_takes_the_safe_name(tmp_path: Path) -> None:
    headers = [("Content-Disposition", 'attachment; filename="../../b.bin"')]
    assert resolve_target(tmp_path, url="https://host/a.bin", headers=headers) == tmp_path / "b.bin"
    new = resolve_target(f"{tmp_path}/new/deep/", url="https://host/a.bin", headers=())
    assert new == tmp_path / "new" / "deep" / "a.bin"
    assert not new.parent.exists()


def test_a_path_is_taken_as_written(tmp_path: Path) -> None:
    wanted = tmp_path / "new" / "-odd name."
    headers = [("Content-Disposition", "attachment; filename=other")]
    assert resolve_target(str(wanted), url="https://host/a.bin", headers=headers) == wanted
    assert not wanted.parent.exists()


def test_a_server_does_not_choose_which_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("mine")
    headers = [("Content-Disposition", "attachment; filename=Makefile")]
    with pytest.raises(TargetError, match="Makefile") as caught:
        resolve_target(tmp_path, url="https://host/a.bin", headers=headers)
    assert caught.value.path == str(tmp_path / "Makefile")
    # The caller's own words, by URL or by path, may.
    assert resolve_target(tmp_path, url="https://host/Makefile", headers=headers) == tmp_path / "Makefile"
    assert resolve_target(tmp_path / "Makefile", url="https://host/x", headers=headers) == tmp_path / "Makefile"


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_unusable_paths(path: str) -> None:
    with pytest.raises(TargetError):
        resolve_target(path, url="https://host/a", headers=())
