"""Sums files, against the tools that write and check them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.errors import InvalidInput
from getm.integrity.files import checksum
from getm.integrity.sums_files import SumsEntry, SumsFile, format_sums_line, parse_sums, read_sums
from getm.integrity.values import Checksum

DATA = b"123456789"
MD5 = checksum(DATA, "md5")
SHA256 = checksum(DATA, "sha256")
TOOLS = {
    "md5sum": "md5",
    "sha1sum": "sha1",
    "sha224sum": "sha224",
    "sha256sum": "sha256",
    "sha384sum": "sha384",
    "sha512sum": "sha512",
}
NAMES = [
    "plain",
    "with  blanks ",
    "back\\slash",
    "line\nfeed",
    "carriage\rreturn",
    "(brackets) = x",
    "*star",
    "grüße",
    "-dash",
]


def read_sums_file(path: Path) -> SumsFile:
    return read_sums(path.read_bytes(), path.name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).write_bytes(name.encode() * 3)
    (tmp_path / os.fsdecode(b"latin-\xe9")).write_bytes(b"not UTF-8")
    return tmp_path


def run(folder: Path, *command: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(command, cwd=folder, input=stdin, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.parametrize("form", [[], ["--tag"], ["--binary"]])
@pytest.mark.parametrize("tool", TOOLS)
def test_what_coreutils_write_is_read(tool: str, form: list[str], folder: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    listing = folder / "SUMS"
    listing.write_bytes(run(folder, tool, *form, "--", *names))
    parsed = read_sums_file(listing)
    assert parsed.problems == ()
    assert [entry.name for entry in parsed.entries] == names
    for entry in parsed.entries:
        assert entry.checksum == checksum(folder / entry.name, TOOLS[tool])


@pytest.mark.parametrize("form", [[], ["--tag"]])
@pytest.mark.parametrize("tool", TOOLS)
def test_case_38_lines_that_end_in_nul_have_no_escapes(tool: str, form: list[str], folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    listing = folder / "SUMS"
    listing.write_bytes(run(folder, tool, "--zero", *form, "--", *names))
    parsed = read_sums_file(listing)
    assert parsed.problems == ()
    assert [entry.name for entry in parsed.entries] == names
    assert [entry.line for entry in parsed.entries] == list(range(1, len(names) + 1))
    for entry in parsed.entries:
        assert entry.checksum == checksum(folder / entry.name, TOOLS[tool])


@pytest.mark.parametrize("prefix", ["  ", "\t", " \t "])
@pytest.mark.parametrize("line", [f"{MD5.hex}  a\\b", f"\\{MD5.hex}  a\\\\b", f"MD5 (a\\b) = {MD5.hex}"])
def test_case_43_blanks_before_a_digest_are_fine_as_in_coreutils(prefix: str, line: str) -> None:
    parsed = parse_sums(prefix + line)
    assert parsed == SumsFile((SumsEntry("a\\b", MD5, 1),), ())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_case_43_a_sums_file_that_powershell_wrote_is_decoded(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "SHA256SUMS"
    text = f"{SHA256.hex}  gr\xfc\xdfe\r\n{SHA256.hex}  b\r\n"
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    path.write_bytes((mark + text).encode(encoding))
    assert [(entry.name, entry.line) for entry in read_sums_file(path).entries] == [("gr\xfc\xdfe", 1), ("b", 2)]


def test_case_43_utf_16_that_cannot_be_decoded_is_told(tmp_path: Path) -> None:
    path = tmp_path / "SHA256SUMS"
    path.write_bytes(b"\xff\xfea\x00\x00\xd8x")
    with pytest.raises(InvalidInput, match=r"SHA256SUMS is not a sums file: .*UTF-16"):
        read_sums_file(path)


@pytest.mark.parametrize("bsd", [False, True])
@pytest.mark.parametrize("tool", TOOLS)
def test_what_is_written_here_coreutils_check(tool: str, bsd: bool, folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    lines = [format_sums_line(checksum(folder / name, TOOLS[tool]), name, bsd=bsd) for name in names]
    checked = run(folder, tool, "--check", "--strict", stdin=os.fsencode("\n".join(lines) + "\n"))
    assert checked.count(b": OK\n") == len(names)


@given(
    name=st.text(min_size=1).filter(
        lambda name: "\0" not in name and (name.isprintable() or "\n" in name or "\\" in name)
    ),
    bsd=st.booleans(),
)
def test_any_name_reads_back(name: str, bsd: bool) -> None:
    line = format_sums_line(SHA256, name, bsd=bsd)
    assert "\n" not in line
    assert parse_sums(line).entries == (SumsEntry(name, SHA256, 1),)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"{MD5.hex}  name", ("name", MD5)),
        (f"{MD5.hex} *name", ("name", MD5)),
        (f"{MD5.hex.upper()}  name\r\n", ("name", MD5)),
        (f"{MD5.hex} name", ("name", MD5)),
        (f"{MD5.hex}\tname", ("name", MD5)),
        (f"{SHA256.base64}  name", ("name", SHA256)),
        (f"MD5 (name) = {MD5.hex}", ("name", MD5)),
        (f"MD5 (a (b) = c) = {MD5.hex}", ("a (b) = c", MD5)),
        (f"SHA256 (name) = {SHA256.base64}", ("name", SHA256)),
        (f"SHA256(name)= {SHA256.hex}", ("name", SHA256)),
        (f"SHA2-256(name)= {SHA256.hex}", ("name", SHA256)),
        (f"BLAKE3 (name) = {'ab' * 32}", ("name", Checksum("blake3", b"\xab" * 32))),
        (f"\\{MD5.hex}  a\\nb\\\\c\\rd", ("a\nb\\c\rd", MD5)),
        (f"{MD5.hex}  a\\nb", ("a\\nb", MD5)),
    ],
)
def test_lines_as_tools_write_them(line: str, expected: tuple[str, Checksum]) -> None:
    parsed = parse_sums(line)
    assert parsed.problems == ()
    assert [(entry.name, entry.checksum) for entry in parsed.entries] == [expected]


def test_the_algorithm_given_settles_what_a_bare_digest_is() -> None:
    line = f"{'ab' * 32}  name"
    assert parse_sums(line).entries[0].checksum.algorithm == "sha256"
    assert parse_sums(line, "BLAKE3").entries[0].checksum.algorithm == "blake3"
    wrong = parse_sums(line, "md5")
    assert wrong.entries == ()
    assert wrong.problems[0].startswith("line 1: expected a md5 checksum")
    with pytest.raises(InvalidInput):
        parse_sums(line, "sha0")


@pytest.mark.parametrize(
    ("file_name", "algorithm"),
    [
        ("SHA256SUMS", "sha256"),
        ("image.iso.sha256", "sha256"),
        ("B3SUMS", "blake3"),
        ("files.blake3", "blake3"),
        ("checksums.txt", "sha256"),
        ("amd5.txt", "sha256"),
    ],
)
def test_the_algorithm_told_by_the_file_name(file_name: str, algorithm: str, tmp_path: Path) -> None:
    path = tmp_path / file_name
    path.write_text(f"{'ab' * 32}  name\n")
    assert read_sums_file(path).entries[0].checksum.algorithm == algorithm


def test_lines_that_are_no_checksum_are_told_with_their_number() -> None:
    lines = [
        "# comment",
        "",
        f"{MD5.hex}  good",
        "abc  bad",
        "nonsense",
        f"\\{MD5.hex}  a\\xb",
        f"WHIRL (a) = {MD5.hex}",
    ]
    parsed = parse_sums("\n".join(lines))
    assert [entry.line for entry in parsed.entries] == [3]
    assert [problem.partition(":")[0] for problem in parsed.problems] == ["line 4", "line 5", "line 6", "line 7"]


def test_a_signed_list_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "CHECKSUM"
    path.write_bytes(
        b"\xef\xbb\xbf-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# disk.iso: 9 bytes\n"
        + f"SHA256 (disk.iso) = {SHA256.hex}\n".encode()
        + b"-----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCAAdFiEE\n-----END PGP SIGNATURE-----\n"
    )
    parsed = read_sums_file(path)
    assert parsed.problems == ()
    assert [(entry.name, entry.checksum) for entry in parsed.entries] == [("disk.iso", SHA256)]


@pytest.mark.parametrize("content", ["", "\n\n", "<html>404</html>\n"])
def test_a_file_without_one_checksum_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "SHA256SUMS"
    path.write_text(content)
    with pytest.raises(InvalidInput, match="SHA256SUMS is not a sums file"):
        read_sums_file(path)


@given(st.text(max_size=500))
def test_any_lines_are_entries_or_problems(text: str) -> None:
    parsed = parse_sums(text)
    assert len(parsed.entries) + len(parsed.problems) <= 1 + text.count("\0" if "\0" in text else "\n")
