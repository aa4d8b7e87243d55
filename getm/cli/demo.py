"""`getm demo`: a server on the loopback, a file of random bytes, and every way of reading it, each verified.

The first thing to run: it needs no network, leaves nothing behind, and fails if one byte differs. With `--serve` it
only serves the files of a folder, for examples to read.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import getm
from getm._version import __version__
from getm.cli.exit_status import EXIT_OK
from getm.cli.output.errors import JSON_ERRORS
from getm.cli.parser import Parser, json_errors, number
from getm.errors import GetmError, InvalidInput
from getm.integrity.files import checksum
from getm.integrity.verdict import Verdict

MIB = 1024 * 1024

_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})?")
_Take = Callable[[memoryview], None]


class _Handler(BaseHTTPRequestHandler):
    """GET of one file, whole or one range of it (RFC 9110, section 14), kept alive, sent by the kernel (sendfile)."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        found = self.server.files.get(unquote(self.path).lstrip("/"))
        if found is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        size = found.size_bytes
        status, start, end = HTTPStatus.OK, 0, size
        headers = {"Accept-Ranges": "bytes", **found.declared}
        if match := _RANGE.fullmatch(self.headers.get("Range", "")):
            start = min(size, int(match[1]))
            end = min(size, int(match[2] or size) + 1)
            status = HTTPStatus.PARTIAL_CONTENT if start < size else HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            headers["Content-Range"] = f"bytes {f'{start}-{end - 1}' if start < size else '*'}/{size}"
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(end - start)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()
        while start < end:
            start += os.sendfile(self.connection.fileno(), found.file.fileno(), start, end - start)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the output is the table."""


class _ServedFile:
    """A file, and the headers that declare its checksums."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        self.size_bytes = path.stat().st_size
        sha256, md5 = checksum(path), checksum(path, "md5")
        self.declared = {
            "ETag": f'"{sha256.hex}"',
            "x-goog-hash": f"md5={md5.base64}",
            "Repr-Digest": f"sha-256=:{sha256.base64}:",
        }


class _Server(ThreadingHTTPServer):
    """Serves files, by their names, in threads of this process."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.files = {path.name: _ServedFile(path) for path in paths}
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_close(self) -> None:
        super().server_close()
        for each in self.files.values():
            each.file.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up early is no error of the demo; one that misses bytes notices by itself."""


@contextlib.contextmanager
def serve(path: Path) -> Iterator[str]:
    """Serve the file `path` on a free loopback port for as long as the context lasts; gives its URL."""
    with _Server([path]) as server:
        thread = threading.Thread(target=server.serve_forever, name="getm-demo-server", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/{path.name}"
        finally:
            server.shutdown()
            thread.join()


# Each gives the verdict on the bytes, and the seconds it took to have them.


def _urlopen(session: getm.Session, url: str, concurrency: int | None, take: _Take) -> tuple[Verdict, float]:
    with session.urlopen(url, concurrency=concurrency) as reader:
        while part := reader.read(MIB):
            take(part)
        return reader.checksum, reader.stats.seconds


def _iter_content(session: getm.Session, url: str, concurrency: int | None, take: _Take) -> tuple[Verdict, float]:
    with session.iter_content(url, concurrency=concurrency) as parts:
        for part in parts:
            take(part)
        return parts.checksum, parts.stats.seconds


def _aiter_content(session: getm.Session, url: str, concurrency: int | None, take: _Take) -> tuple[Verdict, float]:
    async def read() -> tuple[Verdict, float]:
        async with session.aiter_content(url, concurrency=concurrency) as parts:
            async for part in parts:
                take(part)
            return parts.checksum, parts.stats.seconds

    return asyncio.run(read())


def _download(session: getm.Session, url: str, concurrency: int | None, take: _Take) -> tuple[Verdict, float]:
    with tempfile.TemporaryDirectory(prefix="getm-demo-") as folder:
        result = session.download(url, Path(folder) / "downloaded.bin", concurrency=concurrency)
        with result.path.open("rb") as file:
            while part := file.read(MIB):
                take(memoryview(part))
    return result.checksum, result.seconds


_READERS = {"urlopen": _urlopen, "iter_content": _iter_content, "aiter_content": _aiter_content, "download": _download}


def _compare(original: mmap.mmap, part: memoryview) -> None:
    # bytes() so that memcmp compares: ten times as fast as comparing memoryviews.
    start = original.tell()
    if original.read(len(part)) != bytes(part):
        raise GetmError(f"The demo read wrong bytes in {start} to {start + len(part)}; please report it.")


def run(url: str, original: mmap.mmap) -> Iterator[str]:
    """Read `url` in every mode and compare it with `original`; gives a line of the table for each.

    Raises GetmError where a byte differs or where nothing verified the bytes.
    """
    size_bytes = len(original)
    with getm.Session() as session:
        for concurrency in (1, 4, None):
            # The engine starts on first use; the table is to show what reading costs.
            with session.urlopen(url, concurrency=concurrency) as reader:
                reader.read(1)
            for function, read in _READERS.items():
                original.seek(0)
                verdict, seconds = read(session, url, concurrency, partial(_compare, original))
                if original.tell() != size_bytes:
                    raise GetmError(f"The demo read {original.tell()} bytes of {size_bytes}; please report it.")
                if verdict.checksum is None:
                    raise GetmError(f"The demo's checksum was not verified ({verdict.reason}); please report it.")
                size, rate = f"{size_bytes // MIB} MiB", size_bytes / seconds / 1e6
                # The algorithm and who declared it; the digests are the same in every row.
                verified_by = f"{verdict.checksum.algorithm} ({verdict.source})"
                yield f"{function:<14} {concurrency!s:>11} {size:>10} {seconds:>8.3f} {rate:>7.0f}  {verified_by}"


def build_parser() -> Parser:
    """The parser of `getm demo`."""
    parser = Parser(
        prog="getm demo",
        usage="getm demo [--size MIB | --serve DIR]",
        description="Read a file of random bytes from an embedded server in every mode.",
    )
    size = {**number(1, default=64), "metavar": "MIB"}
    parser.add_argument("--size", **size, help="size of the file in MiB (default 64)")
    what = "read nothing: serve the files of this folder on the loopback until Ctrl-C, and print its URL"
    parser.add_argument("--serve", metavar="DIR", type=Path, help=what)
    parser.add_argument(JSON_ERRORS, **json_errors())
    return parser


def serve_folder(folder: Path) -> int:
    """Serve the files of a folder until a signal raises; prints where."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise InvalidInput(f"--serve must name a folder: {error}") from None
    with _Server(paths) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}/", flush=True)
        server.serve_forever()
    return EXIT_OK


def main(arguments: Sequence[str]) -> int:
    """Run `getm demo` with `arguments` and return its exit status; raises what getm raises."""
    options = build_parser().parse(arguments)
    if options.serve is not None:
        return serve_folder(options.serve)
    size = options.size
    with tempfile.TemporaryDirectory(prefix="getm-demo-") as folder, Path(folder, "random.bin").open("w+b") as file:
        for _ in range(size):
            file.write(os.urandom(MIB))
        file.flush()
        path, count = Path(file.name), 0
        print(f"getm {__version__}: {size} MiB of random bytes from a server on the loopback")
        print(f"sha256 {checksum(path).hex}\n")
        print(f"{'function':<14} {'concurrency':>11} {'size':>10} {'seconds':>8} {'MB/s':>7}  verified by")
        with serve(path) as url, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as original:
            for row in run(url, original):
                count += 1
                print(row, flush=True)
    print(f"\n{count} of {count} modes: every byte compared with the original, every checksum verified")
    return EXIT_OK
