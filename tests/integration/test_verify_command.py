"""`getm verify` and `getm hash`: their lines against those of coreutils, in both directions, and what they find."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

import getm as library
from tests.support.command import GETM, failure, getm, names, on_a_terminal, started

MIB = 1024 * 1024
TOOLS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
CHECK = b"123456789"


def lines(run: subprocess.CompletedProcess[bytes]) -> list[str]:
    return run.stdout.decode().splitlines()


def tool(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """One of coreutils."""
    return subprocess.run([name, *arguments], cwd=cwd, capture_output=True, env={**os.environ, "LC_ALL": "C"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of several sizes, and with names that are hard on lines."""
    (tmp_path / "deep").mkdir()
    contents = {"empty": b"", "a file": b"one\n", "deep/large": bytes(range(256)) * (5 * MIB // 256), "-dash": b"dash"}
    contents |= {"line\nbreak": b"line", "back\\slash": b"back", "name: OK": b"sly"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / os.fsdecode(b"latin-\xe9")).write_bytes(b"latin")
    return tmp_path


NAMES = (
    "empty",
    "a file",
    "deep/large",
    "./-dash",
    "line\nbreak",
    "back\\slash",
    "name: OK",
    os.fsdecode(b"latin-\xe9"),
)


# hash ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", TOOLS)
@pytest.mark.parametrize("form", [[], ["--bsd"], ["--tag"]])
def test_hash_writes_the_lines_of_coreutils(folder: Path, algorithm: str, form: list[str]) -> None:
    run = getm("hash", "-a", algorithm, *form, *NAMES, cwd=folder)
    theirs = tool(f"{algorithm}sum", *(["--tag"] if form else []), *NAMES, cwd=folder)
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout == theirs.stdout


def test_hash_is_sha256_unless_told(folder: Path) -> None:
    run = getm("hash", "empty", cwd=folder)
    assert run.stdout.decode() == f"{hashlib.sha256().hexdigest()}  empty\n"


def test_hash_by_several_algorithms_says_which_is_which(folder: Path) -> None:
    (folder / "check").write_bytes(CHECK)
    run = getm("hash", "-a", "md5", "-a", "CRC-32C", "-a", "crc64nvme", "check", "empty", cwd=folder)
    assert (run.returncode, run.stderr) == (0, b"")
    assert lines(run) == [
        f"MD5 (check) = {hashlib.md5(CHECK).hexdigest()}",
        "CRC32C (check) = e3069283",
        "CRC64NVME (check) = ae8b14860a799888",
        f"MD5 (empty) = {hashlib.md5().hexdigest()}",
        "CRC32C (empty) = 00000000",
        "CRC64NVME (empty) = 0000000000000000",
    ]
    assert getm("verify", "-", cwd=folder, stdin=run.stdout).returncode == 0


@pytest.mark.parametrize("algorithm", ["crc32", "crc32c", "crc64nvme", "s3-etag", "blake3", "xxh64", "xxh3-128"])
def test_what_plain_lines_would_not_tell_is_written_with_its_algorithm(folder: Path, algorithm: str) -> None:
    run = getm("hash", "-a", algorithm, "deep/large", cwd=folder)
    assert lines(run)[0].startswith(f"{algorithm.upper()} (deep/large) = ")
    run = getm("verify", "-", cwd=folder, stdin=run.stdout)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"deep/large: OK\n", b"")


@pytest.mark.parametrize("size_bytes", [0, 1, 9 * MIB + 1])
def test_hash_of_standard_input(tmp_path: Path, size_bytes: int) -> None:
    content = os.urandom(size_bytes)
    run = getm("hash", "-", "-a", "sha512", cwd=tmp_path, stdin=content)
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout.decode() == f"{hashlib.sha512(content).hexdigest()}  -\n"


def test_standard_input_is_read_from_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"skipped" + CHECK)
    with (tmp_path / "file").open("rb", buffering=0) as file:
        file.read(len(b"skipped"))
        run = subprocess.run([*GETM, "hash", "-a", "crc32", "-"], stdin=file, capture_output=True)
    assert run.stdout == b"CRC32 (-) = cbf43926\n"


def test_hash_goes_on_after_a_file_that_cannot_be_read(folder: Path) -> None:
    run = getm("hash", "absent", "a file", "deep", cwd=folder)
    assert run.returncode == 1
    assert run.stdout == tool("sha256sum", "a file", cwd=folder).stdout
    errors = run.stderr.decode().splitlines()
    assert len(errors) == 2 and all(line.startswith("ERROR:getm.cli:{") for line in errors)
    assert '"path": "absent"' in errors[0] and "No such file" in errors[0]
    assert '"path": "deep"' in errors[1] and "directory" in errors[1]


# verify FILE ALG:VALUE -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "checksum",
    [
        f"md5:{hashlib.md5(CHECK).hexdigest()}",
        f"MD5:{hashlib.md5(CHECK).hexdigest().upper()}",
        f"sha-256={hashlib.sha256(CHECK).hexdigest()}",
        "crc32c:4waSgw==",
        "gs_crc32c:e3069283",
        "crc64nvme:rosUhgp5mIg=",
        f"s3_etag:{hashlib.md5(CHECK).hexdigest()}",
    ],
)
@pytest.mark.parametrize("name", ["file", "-"])
def test_one_file(tmp_path: Path, checksum: str, name: str) -> None:
    (tmp_path / "file").write_bytes(CHECK)
    run = getm("verify", name, checksum, cwd=tmp_path, stdin=CHECK)
    assert (run.returncode, run.stdout.decode(), run.stderr) == (0, f"{name}: OK\n", b"")
    # The same with one bit of the data changed (faults row 34).
    wrong = CHECK[:-1] + bytes([CHECK[-1] ^ 4])
    (tmp_path / "file").write_bytes(wrong)
    run = getm("verify", name, checksum, cwd=tmp_path, stdin=wrong)
    assert (run.returncode, run.stdout.decode()) == (1, f"{name}: FAILED\n")
    facts = failure(run)
    assert str(facts["message"]).startswith("Checksum failed!")
    assert facts["path"] == name and facts["error"] == "checksum-mismatch" and facts["expected"] != facts["actual"]


def test_one_file_by_several_checksums(folder: Path) -> None:
    right = [f"{name}:{getattr(hashlib, name)(b'one' + bytes([10])).hexdigest()}" for name in ("md5", "sha1", "sha512")]
    assert getm("verify", "a file", *right, cwd=folder).stdout == b"a file: OK\n"
    run = getm("verify", "a file", *right, "crc32:00000000", cwd=folder)
    assert (run.returncode, failure(run)["algorithm"]) == (1, "crc32")
    run = getm("verify", "absent", *right, cwd=folder)
    assert (run.returncode, run.stdout) == (1, b"absent: FAILED open or read\n")


def test_a_multipart_etag(tmp_path: Path) -> None:
    parts = [os.urandom(8 * MIB), os.urandom(8 * MIB), os.urandom(1000)]
    (tmp_path / "file").write_bytes(b"".join(parts))
    digest = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
    for name in ("file", "-"):
        with (tmp_path / "file").open("rb") as stdin:
            run = subprocess.run(
                [*GETM, "verify", name, f"s3_etag:{digest}-3"], cwd=tmp_path, stdin=stdin, capture_output=True
            )
        assert (run.returncode, run.stdout.decode()) == (0, f"{name}: OK\n")
    # An unusual layout and wrong bytes look the same: neither is called wrong (faults row 35).
    run = getm("verify", "file", f"s3_etag:{'0' * 32}-3", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (1, b"file: NOT VERIFIED\n")
    assert "Checksum failed" not in str(failure(run)["message"])


def test_one_file_that_is_not_there(tmp_path: Path) -> None:
    run = getm("verify", "absent", f"md5:{'0' * 32}", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (1, b"absent: FAILED open or read\n")
    assert "absent cannot be read: No such file" in str(failure(run)["message"])


# verify SUMSFILE -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", TOOLS)
@pytest.mark.parametrize("form", ["gnu", "binary", "bsd"])
def test_verify_reads_the_lines_of_coreutils(folder: Path, algorithm: str, form: str) -> None:
    options = {"gnu": [], "binary": ["--binary"], "bsd": ["--tag"]}[form]
    (folder / "SUMS").write_bytes(tool(f"{algorithm}sum", *options, *NAMES, cwd=folder).stdout)
    run = getm("verify", "SUMS", cwd=folder)
    assert (run.returncode, run.stderr) == (0, b"")
    theirs = tool(f"{algorithm}sum", "-c", "SUMS", cwd=folder)
    assert run.stdout == theirs.stdout and theirs.returncode == 0


def test_case_38_verify_reads_what_sha256sum_zero_writes(folder: Path) -> None:
    written = tool("sha256sum", "--zero", *NAMES, cwd=folder).stdout
    (folder / "SUMS").write_bytes(written)
    for run in (getm("verify", "SUMS", cwd=folder), getm("verify", "-", cwd=folder, stdin=written)):
        assert (run.returncode, run.stderr) == (0, b"")
        assert run.stdout == getm("verify", "-", cwd=folder, stdin=getm("hash", *NAMES, cwd=folder).stdout).stdout


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_coreutils_read_the_lines_of_hash(folder: Path, algorithm: str) -> None:
    for form in ([], ["--bsd"]):
        (folder / "SUMS").write_bytes(getm("hash", "-a", algorithm, *form, *NAMES, cwd=folder).stdout)
        assert tool(f"{algorithm}sum", "--strict", "-c", "SUMS", cwd=folder).returncode == 0


def test_names_are_relative_to_the_current_folder(folder: Path) -> None:
    """As for `sha256sum -c`, wherever the sums file is."""
    (folder / "deep" / "SUMS").write_bytes(getm("hash", "deep/large", cwd=folder).stdout)
    assert getm("verify", "deep/SUMS", cwd=folder).stdout == b"deep/large: OK\n"
    run = getm("verify", "SUMS", cwd=folder / "deep")
    assert (run.returncode, run.stdout) == (1, b"deep/large: FAILED open or read\n")


def test_one_flipped_bit_among_many_files(folder: Path) -> None:
    (folder / "SHA256SUMS").write_bytes(getm("hash", *NAMES, cwd=folder).stdout)
    with (folder / "deep" / "large").open("r+b") as file:
        file.seek(3 * MIB)
        byte = file.read(1)[0]
        file.seek(3 * MIB)
        file.write(bytes([byte ^ 1]))
    (folder / "a file").unlink()
    run = getm("verify", "SHA256SUMS", cwd=folder)
    assert run.returncode == 1
    assert run.stdout == tool("sha256sum", "-c", "SHA256SUMS", cwd=folder).stdout
    assert failure(run) == {
        "message": "Checksum failed! 1 of 8 files is not what was declared; 1 of 8 files could not be read.",
        "failed": 1,
        "unreadable": 1,
    }
    quiet = getm("verify", "-q", "SHA256SUMS", cwd=folder)
    assert (quiet.returncode, lines(quiet)) == (1, ["a file: FAILED open or read", "deep/large: FAILED"])
    rest = getm("verify", "-q", "--ignore-missing", "SHA256SUMS", cwd=folder)
    assert (rest.returncode, lines(rest), failure(rest)["failed"]) == (1, ["deep/large: FAILED"], 1)
    assert "unreadable" not in failure(rest)


def test_several_sums_files(folder: Path) -> None:
    (folder / "MD5SUMS").write_bytes(tool("md5sum", "empty", cwd=folder).stdout)
    (folder / "SHA512SUMS").write_bytes(tool("sha512sum", "a file", cwd=folder).stdout)
    run = getm("verify", "MD5SUMS", "SHA512SUMS", cwd=folder)
    assert (run.returncode, lines(run), run.stderr) == (0, ["empty: OK", "a file: OK"], b"")


def test_only_files_that_are_there(folder: Path) -> None:
    sums = tool("sha256sum", "empty", "a file", cwd=folder).stdout
    (folder / "a file").unlink()
    run = getm("verify", "--ignore-missing", "-", cwd=folder, stdin=sums)
    assert (run.returncode, lines(run), run.stderr) == (0, ["empty: OK"], b"")
    (folder / "empty").unlink()
    run = getm("verify", "--ignore-missing", "-", cwd=folder, stdin=sums)
    assert (run.returncode, run.stdout) == (1, b"")
    assert "no file was verified" in str(failure(run)["message"])


def test_a_line_that_cannot_be_understood_is_no_success(folder: Path) -> None:
    """A file that was not checked may not pass for checked; coreutils only warn."""
    sums = tool("sha256sum", "empty", cwd=folder).stdout + b"deadbeef  a file\n"
    run = getm("verify", "-", cwd=folder, stdin=sums)
    assert (run.returncode, lines(run)) == (1, ["empty: OK"])
    facts = failure(run)
    assert facts["malformed"] == 1 and "line 2" in str(facts["message"])


def test_digests_that_need_their_algorithm_told(folder: Path) -> None:
    (folder / "list").write_text(f"{library.checksum(folder / 'empty', 'blake3').hex}  empty\n")
    assert getm("verify", "list", cwd=folder).returncode == 1
    run = getm("verify", "-a", "blake3", "list", cwd=folder)
    assert (run.returncode, run.stdout) == (0, b"empty: OK\n")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_case_43_byte_order_marks_and_blanks(folder: Path, encoding: str) -> None:
    text = "  " + tool("sha256sum", "a file", cwd=folder).stdout.decode()
    (folder / "SUMS").write_text(text.replace("\n", "\r\n"), encoding=encoding, newline="")
    for source in ("SUMS", "-"):
        run = getm("verify", source, cwd=folder, stdin=(folder / "SUMS").read_bytes())
        assert (run.returncode, run.stdout, run.stderr) == (0, b"a file: OK\n", b"")
    (folder / "SUMS").write_bytes(b"\xff\xfex")
    run = getm("verify", "SUMS", cwd=folder)
    assert run.returncode == 2 and "UTF-16" in str(failure(run)["message"])


def test_a_file_called_like_a_checksum(folder: Path) -> None:
    (folder / "sums:today").write_bytes(tool("sha256sum", "empty", cwd=folder).stdout)
    assert getm("verify", "sums:today", cwd=folder).stdout == b"empty: OK\n"
    (folder / "md5:list").write_bytes(tool("md5sum", "empty", cwd=folder).stdout)
    assert getm("verify", "./md5:list", cwd=folder).stdout == b"empty: OK\n"


# Usage ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify"], "must be given"),
        (["verify", "empty"], "not a sums file"),
        (["verify", "absent"], "cannot be read"),
        (["verify", "empty", "md5:xyz"], "md5"),
        (["verify", "empty", "md6:00"], "unknown checksum algorithm"),
        (["verify", "md5:" + "0" * 32, "empty"], "FILE ALG:VALUE"),
        (["verify", "empty", "SUMS", "md5:" + "0" * 32], "FILE ALG:VALUE"),
        (["verify", "https://u:SECRET@host/x?SECRET", "md5:" + "0" * 32], "got a URL"),
        (["verify", "SUMS", "--unknown=SECRET"], "unknown option: --unknown;"),
        (["verify", "SUMS", "-j", "0"], "--jobs"),
        (["verify", "SUMS", "-a", "md6"], "unknown checksum algorithm"),
        (["hash"], "required"),
        (["hash", "-a", "md6", "empty"], "unknown checksum algorithm"),
        (["hash", "-", "empty"], "standard input"),
        (["hash", "https://host/x?SECRET"], "got a URL"),
        (["hash", "-j", "many", "empty"], "invalid int"),
    ],
)
def test_wrong_usage(folder: Path, arguments: list[str], words: str) -> None:
    (folder / "SUMS").write_bytes(tool("sha256sum", "empty", cwd=folder).stdout)
    run = getm(*arguments, cwd=folder)
    assert (run.returncode, run.stdout) == (2, b"")
    assert words in str(failure(run)["message"])


@pytest.mark.parametrize("word", ["hash", "verify"])
def test_help(tmp_path: Path, word: str) -> None:
    run = getm(word, "--help", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert f"usage: getm {word}" in run.stdout.decode()
    assert max(map(len, lines(run))) <= 120
    assert f"getm {word}" in getm("--help", cwd=tmp_path).stdout.decode()


def test_results_go_to_standard_output_beside_a_bar(folder: Path) -> None:
    """The bar is on the terminal; the lines must still be in the file that standard output is."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)

    def go_on_when_all_is_shown(shown: str) -> None:
        if "100 %" in shown and pipe.exists():
            with pipe.open("wb"):
                pipe.unlink()

    with (folder / "SUMS").open("wb") as sums:
        shown_by = on_a_terminal(
            "hash", "deep/large", "empty", "pipe", cwd=folder, stdout=sums.fileno(), watch=go_on_when_all_is_shown
        )
    assert shown_by[0] == 0
    sums_of_files = tool("sha256sum", "deep/large", "empty", cwd=folder).stdout
    assert (folder / "SUMS").read_bytes() == sums_of_files + f"{hashlib.sha256().hexdigest()}  pipe\n".encode()
    assert hashlib.sha256().hexdigest() not in shown_by[1]
    (folder / "SUMS").write_bytes(sums_of_files)
    assert on_a_terminal("verify", "-q", "SUMS", cwd=folder) == (0, "")


def test_ctrl_c(tmp_path: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started("hash", "-", cwd=tmp_path, **pipes) as process:
        assert process.stdin is not None
        # More than a pipe holds: that all of it was taken shows that the command is reading.
        process.stdin.write(bytes(4 * MIB))
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (130, b"")
    assert "SIGINT" in str(failure(subprocess.CompletedProcess([], 130, b"", stderr))["message"])


def test_a_reader_that_leaves_is_no_error_worth_words(tmp_path: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started("hash", "-", cwd=tmp_path, **pipes) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


# The library's function ----------------------------------------------------------------------------------------------


def test_checksum_of_files_and_buffers(folder: Path) -> None:
    content = (folder / "deep" / "large").read_bytes()
    expected = library.Checksum("sha256", hashlib.sha256(content).digest())
    path = folder / "deep" / "large"
    for source in (path, str(path), content, bytearray(content), memoryview(content)):
        assert library.checksum(source) == library.checksum(source, "SHA-256") == expected
    assert str(library.checksum(CHECK, "crc32c")) == "crc32c:e3069283"
    with pytest.raises(library.InvalidInput, match="md6"):
        library.checksum(content, "md6")
    with pytest.raises(FileNotFoundError):
        library.checksum(folder / "absent")
    assert "absent" not in names(folder)
