"""The contenders: each opens a session that reads URLs to nowhere.

Each is written as its own documentation shows for reading a large body, in blocks of 1 MiB (getm's default) where there
is a choice. Packages are imported by name when a contender is chosen, so that a missing one is a line in the table and
not an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

BLOCK_BYTES = 1024 * 1024


class Reader:
    """Reads whole URLs, one after another, in a session that stays open: `read` returns how many bytes came."""

    def __init__(self, read: Callable[[str], int]) -> None:
        self.read = read

    def times_s(self, url: str, count: int) -> list[float]:
        """Read a URL `count` times; the seconds that each took."""
        times_s = []
        for _ in range(count):
            start = time.perf_counter()
            self.read(url)
            times_s.append(time.perf_counter() - start)
        return times_s


class AsyncReader(Reader):
    """The same over an event loop that `runner` holds. What is timed runs inside it: to enter a loop for each request
    would be counted against a client that does not ask for it."""

    def __init__(self, read: Callable[[str], Coroutine[Any, Any, int]], runner: asyncio.Runner) -> None:
        super().__init__(lambda url: runner.run(read(url)))
        self._read_async = read
        self._runner = runner

    def times_s(self, url: str, count: int) -> list[float]:
        async def reads() -> list[float]:
            times_s = []
            for _ in range(count):
                start = time.perf_counter()
                await self._read_async(url)
                times_s.append(time.perf_counter() - start)
            return times_s

        return self._runner.run(reads())


Opener = Callable[[str], AbstractContextManager[Reader]]
"""Opens a session that trusts the certificate authority in the given file."""


@contextmanager
def bare_socket(ca_path: str) -> Iterator[Reader]:
    """One buffer and `recv_into`: the least that a Python process can do to get the bytes."""
    context = ssl.create_default_context(cafile=ca_path)
    buffer = memoryview(bytearray(BLOCK_BYTES))

    def read(url: str) -> int:
        parts = urlsplit(url)
        with contextlib.ExitStack() as stack:
            sock = stack.enter_context(socket.create_connection((parts.hostname, parts.port)))
            if parts.scheme == "https":
                sock = stack.enter_context(context.wrap_socket(sock, server_hostname=parts.hostname))
            sock.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(4096)
            received = len(head.partition(b"\r\n\r\n")[2])
            while count := sock.recv_into(buffer):
                received += count
            return received

    yield Reader(read)


@contextmanager
def curl(ca_path: str) -> Iterator[Reader]:
    def read(url: str) -> int:
        command = [
            "curl",
            "-q",
            "--noproxy",
            "*",
            "-s",
            "--cacert",
            ca_path,
            "-o",
            "/dev/null",
            "-w",
            "%{size_download}",
        ]
        return int(subprocess.run([*command, url], stdout=subprocess.PIPE, check=True).stdout)

    yield Reader(read)


@contextmanager
def requests(ca_path: str) -> Iterator[Reader]:
    with import_module("requests").Session() as session:

        def read(url: str) -> int:
            with session.get(url, stream=True, verify=ca_path) as response:
                return sum(len(block) for block in response.iter_content(BLOCK_BYTES))

        yield Reader(read)


@contextmanager
def urllib3(ca_path: str) -> Iterator[Reader]:
    with import_module("urllib3").PoolManager(ca_certs=ca_path) as pool:

        def read(url: str) -> int:
            response = pool.request("GET", url, preload_content=False)
            try:
                return sum(len(block) for block in response.stream(BLOCK_BYTES))
            finally:
                response.release_conn()

        yield Reader(read)


@contextmanager
def httpx(ca_path: str) -> Iterator[Reader]:
    context = ssl.create_default_context(cafile=ca_path)
    with import_module("httpx").Client(verify=context) as client:

        def read(url: str) -> int:
            with client.stream("GET", url) as response:
                return sum(len(block) for block in response.iter_raw(BLOCK_BYTES))

        yield Reader(read)


@contextmanager
def aiohttp(ca_path: str) -> Iterator[Reader]:
    """aiohttp on uvloop, with the reader that hands out what has arrived."""
    library = import_module("aiohttp")
    context = ssl.create_default_context(cafile=ca_path)

    async def open_client() -> Any:
        return library.ClientSession(connector=library.TCPConnector(ssl=context))

    with asyncio.Runner(loop_factory=import_module("uvloop").new_event_loop) as runner:
        client = runner.run(open_client())

        async def read(url: str) -> int:
            async with client.get(url) as response:
                received = 0
                async for block in response.content.iter_any():
                    received += len(block)
                return received

        try:
            yield AsyncReader(read, runner)
        finally:
            runner.run(client.close())


def getm(concurrency: int | None) -> Opener:
    @contextmanager
    def opener(ca_path: str) -> Iterator[Reader]:
        with import_module("getm").Session(cacert=ca_path) as session:

            def read(url: str) -> int:
                return sum(len(part) for part in session.iter_content(url, concurrency=concurrency))

            yield Reader(read)

    return opener


CONTENDERS: dict[str, Opener] = {
    "recv_into": bare_socket,
    "curl": curl,
    "urllib3": urllib3,
    "requests": requests,
    "httpx": httpx,
    "aiohttp": aiohttp,
    "getm 1": getm(1),
    "getm 4": getm(4),
    "getm None": getm(None),
}
