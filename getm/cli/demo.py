"""`getm demo`: a server on the loopback, a file of random bytes, and every way of reading it, each verified.

The first thing to run: it needs no network, leaves nothing behind, and fails if one byte differs.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import mmap
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn

import getm
from getm._version import __version__
from getm.errors import GetmError, InvalidInput
from getm.integrity import Verdict, checksum

MIB = 1024 * 1024

_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})?")
_Taken = Callable[[memoryview], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: `seconds` from the call to the last byte; `checksum` what getm says of the bytes."""

    function: str
    concurrency: int | None
    seconds: float
    checksum: Verdict


class _Handler(BaseHTTPRequestHandler):
    """GET of one file, whole or one range of it (RFC 9110, section 14), kept alive, sent by the kernel (sendfile)."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        size = self.server.size_bytes
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        start, end = 0, size
        if match:
            start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        if match and start >= end:
            self._head(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, f"bytes */{size}")
            return
        if match:
            self._head(HTTPStatus.PARTIAL_CONTENT, end - start, f"bytes {start}-{end - 1}/{size}")
        else:
            self._head(HTTPStatus.OK, size, None)
        self.wfile.flush()
        while start < end:
            start += os.sendfile(self.connection.fileno(), self.server.file.fileno(), start, end - start)

    def _head(self, status: HTTPStatus, length: int, content_range: str | None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        if content_range is not None:
            self.send_header("Content-Range", content_range)
        for name, value in self.server.declared:
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the output is the table."""


class _Server(ThreadingHTTPServer):
    """Serves `file` in threads of this process; `declared` are the headers that declare its checksums."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path) -> None:
        digests = {name: checksum(path, name) for name in ("crc32c", "md5", "sha256")}
        base64_of = {name: base64.b64encode(digest.value).decode() for name, digest in digests.items()}
        self.declared = (
            ("ETag", f'"{digests["sha256"].value.hex()[:32]}"'),
            ("x-goog-hash", f"crc32c={base64_of['crc32c']}"),
            ("x-goog-hash", f"md5={base64_of['md5']}"),
            ("Repr-Digest", f"sha-256=:{base64_of['sha256']}:"),
        )
        self.sha256 = digests["sha256"].value
        self.file = path.open("rb")
        self.size_bytes = path.stat().st_size
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up early is no error of the demo; one that misses bytes notices by itself."""

    def server_close(self) -> None:
        super().server_close()
        self.file.close()


@contextlib.contextmanager
def serve(path: Path) -> Iterator[str]:
    """Serve the file `path` on a free loopback port for as long as the context lasts; gives its URL."""
    with _Server(path) as server:
        thread = threading.Thread(target=server.serve_forever, name="getm-demo-server", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/{path.name}"
        finally:
            server.shutdown()
            thread.join()


class _Comparison:
    """Compares the bytes of one run with the original as they come: every one of them."""

    def __init__(self, original: mmap.mmap) -> None:
        self._original = original
        self._position = 0

    def take(self, part: memoryview) -> None:
        end = self._position + len(part)
        # bytes() so that memcmp compares: ten times as fast as comparing memoryviews.
        if self._original[self._position : end] != bytes(part):
            raise GetmError(f"The demo read wrong bytes in {self._position} to {end}; please report it.")
        self._position = end

    def finish(self) -> None:
        if self._position != len(self._original):
            raise GetmError(f"The demo read {self._position} bytes of {len(self._original)}; please report it.")


# Each gives the verdict on the bytes, and the seconds it took to have them.


def _urlopen(session: getm.Session, url: str, concurrency: int | None, take: _Taken) -> tuple[Verdict, float]:
    started = time.perf_counter()
    with session.urlopen(url, concurrency=concurrency) as reader:
        while part := reader.read(MIB):
            take(part)
        return reader.checksum, time.perf_counter() - started


def _iter_content(session: getm.Session, url: str, concurrency: int | None, take: _Taken) -> tuple[Verdict, float]:
    started = time.perf_counter()
    with session.iter_content(url, concurrency=concurrency) as parts:
        for part in parts:
            take(part)
        return parts.checksum, time.perf_counter() - started


def _aiter_content(session: getm.Session, url: str, concurrency: int | None, take: _Taken) -> tuple[Verdict, float]:
    async def read() -> tuple[Verdict, float]:
        started = time.perf_counter()
        async with session.aiter_content(url, concurrency=concurrency) as parts:
            async for part in parts:
                take(part)
            return parts.checksum, time.perf_counter() - started

    return asyncio.run(read())


def _download(session: getm.Session, url: str, concurrency: int | None, take: _Taken) -> tuple[Verdict, float]:
    with tempfile.TemporaryDirectory(prefix="getm-demo-") as folder:
        result = session.download(url, Path(folder) / "downloaded.bin", concurrency=concurrency)
        with result.path.open("rb") as file:
            while part := file.read(MIB):
                take(memoryview(part))
    return result.checksum, result.seconds


_READERS = {"urlopen": _urlopen, "iter_content": _iter_content, "aiter_content": _aiter_content, "download": _download}
_CONCURRENCIES = (1, 4, None)


def run(url: str, original: mmap.mmap) -> Iterator[Row]:
    """Read `url` in every mode and compare it with `original`.

    Raises GetmError where a byte differs or where nothing verified the bytes.
    """
    with getm.Session() as session:
        for concurrency in _CONCURRENCIES:
            # The engine starts on first use; the table is to show what reading costs.
            with session.urlopen(url, concurrency=concurrency) as reader:
                reader.read(1)
            for function, read in _READERS.items():
                comparison = _Comparison(original)
                verdict, seconds = read(session, url, concurrency, comparison.take)
                comparison.finish()
                if not verdict:
                    raise GetmError(f"The demo's checksum was not verified ({verdict.reason}); please report it.")
                yield Row(function, concurrency, seconds, verdict)


def build_parser() -> argparse.ArgumentParser:
    """The parser of `getm demo`."""
    parser = _Parser(
        prog="getm demo",
        usage="getm demo [--size MIB]",
        description="Read a file of random bytes from an embedded server in every mode.",
    )
    parser.add_argument("--size", type=int, default=64, metavar="MIB", help="size of the file in MiB (default 64)")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the demo and print its table; 0 when every mode was verified. Raises what getm raises."""
    size_bytes = build_parser().parse_args(argv).size * MIB
    if size_bytes <= 0:
        raise InvalidInput("--size must be 1 MiB or more")
    with tempfile.TemporaryDirectory(prefix="getm-demo-") as folder:
        path = Path(folder) / "random.bin"
        with path.open("wb") as new:
            for _ in range(size_bytes // MIB):
                new.write(os.urandom(MIB))
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as original:
            sha256 = hashlib.sha256(original).hexdigest()
            print(f"getm {__version__}: {size_bytes // MIB} MiB of random bytes from a server on the loopback")
            print(f"sha256 {sha256}\n")
            print(f"{'function':<14} {'concurrency':>11} {'size':>10} {'seconds':>8} {'MB/s':>7}  verified by")
            with serve(path) as url:
                count = 0
                for row in run(url, original):
                    count += 1
                    print(_line(row, size_bytes), flush=True)
    print(f"\n{count} of {count} modes: every byte compared with the original, every checksum verified")
    return 0


def _line(row: Row, size_bytes: int) -> str:
    rate = size_bytes / row.seconds / 1e6
    size = f"{size_bytes // MIB} MiB"
    # The algorithm and who declared it; the digests are the same in every row.
    verified_by = f"{row.checksum.checksum.algorithm} ({row.checksum.source})" if row.checksum.checksum else ""
    return f"{row.function:<14} {row.concurrency!s:>11} {size:>10} {row.seconds:>8.3f} {rate:>7.0f}  {verified_by}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidInput(f"{message}; see getm demo --help")
