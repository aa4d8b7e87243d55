"""`getm demo`: what a stranger runs first. The server it brings must be right, and a wrong byte must not pass."""

from __future__ import annotations

import base64
import hashlib
import http.client
import mmap
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from getm.cli import demo
from getm.errors import ChecksumMismatch, GetmError, InvalidInput

ROOT = Path(__file__).parents[2]
SIZE = 300_007


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "random.bin"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def connection(file: Path) -> Iterator[http.client.HTTPConnection]:
    with demo.serve(file) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc)
        yield connection
        connection.close()


def get(connection: http.client.HTTPConnection, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection.request("GET", "/random.bin", headers=headers)
    response = connection.getresponse()
    return response, response.read()


def test_the_demo_verifies_every_mode_and_cleans_up() -> None:
    command = [sys.executable, "-m", "getm", "demo", "--size", "9"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    rows = re.findall(r"^(\w+) +(1|4|None) +9 MiB +\d+\.\d{3} +\d+  sha256 \(Repr-Digest\)$", run.stdout, re.MULTILINE)
    functions = ("urlopen", "iter_content", "aiter_content", "download")
    assert rows == [(name, concurrency) for concurrency in ("1", "4", "None") for name in functions]
    assert run.stdout.endswith("12 of 12 modes: every byte compared with the original, every checksum verified\n")
    assert max(map(len, run.stdout.splitlines())) <= 80
    # The leak check of conftest.py looks only at what is new; this looks at what the demo names.
    assert not list(Path(tempfile.gettempdir()).glob("getm-demo-*"))


def test_its_table_is_the_one_that_the_documentation_shows() -> None:
    """All of it but the numbers, the digest, and the spaces that depend on them."""

    def shape(table: str) -> list[str]:
        return re.sub(r" +", " ", re.sub(r"[0-9a-f]{64}|[0-9]+(\.[0-9]+)*(\.dev[0-9]+)?", "#", table)).splitlines()

    (shown,) = re.findall(r"^```text\n(getm 0.*?)^```$", (ROOT / "docs/start/first-steps.md").read_text(), re.M | re.S)
    run = subprocess.run(
        [sys.executable, "-m", "getm", "demo", "--size", "2"], capture_output=True, text=True, check=True
    )
    assert shape(run.stdout) == shape(shown)


def test_its_server_serves_the_file_and_true_checksums(file: Path, connection: http.client.HTTPConnection) -> None:
    response, body = get(connection)
    assert (response.status, body) == (200, file.read_bytes())
    digest = hashlib.sha256(body).digest()
    assert response.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(digest).decode()}:"
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    assert f"md5={md5}" in response.headers.get_all("x-goog-hash", [])


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("0-0", 0, 1), ("5-99", 5, 100), ("300000-", 300_000, SIZE), ("300000-999999", 300_000, SIZE), ("0-", 0, SIZE)],
)
def test_its_server_serves_ranges(
    file: Path, connection: http.client.HTTPConnection, asked: str, start: int, end: int
) -> None:
    # Twice, on one kept-alive connection.
    for _ in range(2):
        response, body = get(connection, Range=f"bytes={asked}")
        assert (response.status, body) == (206, file.read_bytes()[start:end])
        assert response.headers["Content-Range"] == f"bytes {start}-{end - 1}/{SIZE}"
        assert not response.will_close


def test_its_server_refuses_a_range_beyond_the_end(connection: http.client.HTTPConnection) -> None:
    response, body = get(connection, Range=f"bytes={SIZE}-")
    assert (response.status, body) == (416, b"")
    assert response.headers["Content-Range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize("asked", ["bytes=-5", "bytes=1-2,4-5", "lines=1-2", "bytes=x"])
def test_its_server_ignores_other_ranges(file: Path, connection: http.client.HTTPConnection, asked: str) -> None:
    # RFC 9110, section 14.2: a server may ignore a Range it does not like.
    response, body = get(connection, Range=asked)
    assert (response.status, body) == (200, file.read_bytes())


def test_a_byte_that_differs_from_the_original_is_told(file: Path, tmp_path: Path) -> None:
    data = bytearray(file.read_bytes())
    data[SIZE // 2] ^= 1
    other = tmp_path / "other.bin"
    other.write_bytes(data)
    with (
        demo.serve(file) as url,
        other.open("rb") as original,
        mmap.mmap(original.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        pytest.raises(GetmError, match="wrong bytes"),
    ):
        list(demo.run(url, mapped))


def test_a_file_that_changes_under_its_checksum_is_told(file: Path) -> None:
    with demo.serve(file) as url:
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        with (
            file.open("rb") as original,
            mmap.mmap(original.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            pytest.raises(ChecksumMismatch),
        ):
            list(demo.run(url, mapped))


@pytest.mark.parametrize("arguments", [["--size", "0"], ["--size", "x"], ["--unknown"], ["operand"]])
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(InvalidInput):
        demo.main(arguments)
