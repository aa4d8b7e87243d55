"""A server whose connections are each limited to a rate, in a process of its own: `python -m benchmarks.capped`.

nginx's limit_rate starts over with each response and lets the first second's bytes through at once, so that a client of
many range requests never meets it. Here the limit is the connection's, without a burst, as on a long network path.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_PIECE_S = 0.01  # what goes out at once


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, root: Path, rate: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.rate = rate

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that closes its connection is no error here; what else goes wrong, it finds out."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        # When the next piece may go: kept over the requests of the connection.
        self._due = 0.0

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged: it would cost the time of what is measured."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        try:
            file = (self.server.root / self.path.lstrip("/")).open("rb")
        except OSError:
            self.send_error(404)
            return
        with file:
            status = os.fstat(file.fileno())
            start, stop = 0, status.st_size
            asked = _RANGE.fullmatch(self.headers.get("Range", ""))
            if asked is not None:
                start, stop = int(asked[1]), min(stop, int(asked[2] or stop) + 1)
            self.send_response(200 if asked is None else 206)
            self.send_header("Content-Length", str(stop - start))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{status.st_size:x}-{status.st_mtime_ns:x}"')
            self.send_header("Last-Modified", formatdate(status.st_mtime, usegmt=True))
            if asked is not None:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{status.st_size}")
            self.end_headers()
            if body:
                # A client that has what it wants closes the connection.
                with contextlib.suppress(ConnectionError):
                    self._send(file.fileno(), start, stop)

    def _send(self, file: int, start: int, stop: int) -> None:
        piece_bytes = max(1, int(self.server.rate * _PIECE_S))
        while start < stop:
            self._due = max(self._due, time.monotonic() - _PIECE_S)
            time.sleep(max(0.0, self._due - time.monotonic()))
            sent = os.sendfile(self.connection.fileno(), file, start, min(piece_bytes, stop - start))
            if sent == 0:
                return
            start += sent
            self._due += sent / self.server.rate


@contextlib.contextmanager
def capped_server(root: Path, rate: float) -> Iterator[str]:
    """The URL of a server of the files in `root`, at `rate` bytes a second for each connection."""
    command = [sys.executable, "-m", "benchmarks.capped", str(root), str(rate)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parent.parent)
    with process:
        try:
            if process.stdout is None:
                raise TypeError("the server has no pipe")
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("rate", type=float, help="bytes a second for each connection")
    options = parser.parse_args()
    with _Server(options.root, options.rate) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
