"""The contenders that read a whole URL into memory, each as its own documentation shows it: `read` returns the size."""

from __future__ import annotations

import contextlib
import mmap
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from benchmarks.harness.readers import Opener, Reader


def _receive(url: str, context: ssl.SSLContext, allocate: Any) -> int:
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.create_connection((parts.hostname, parts.port)))
        if parts.scheme == "https":
            sock = stack.enter_context(context.wrap_socket(sock, server_hostname=parts.hostname))
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4096)
        fields, _, rest = head.partition(b"\r\n\r\n")
        (length,) = (line for line in fields.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        whole = memoryview(allocate(int(length.partition(b":")[2])))
        whole[: len(rest)] = rest
        received = len(rest)
        while received < len(whole) and (count := sock.recv_into(whole[received:])):
            received += count
        return received


def _loop(allocate: Any) -> Opener:
    """`recv_into` into one buffer that has the size of the object: the least that a Python process can do."""

    @contextmanager
    def opener(ca_path: str) -> Iterator[Reader]:
        context = ssl.create_default_context(cafile=ca_path)
        yield Reader(lambda url: _receive(url, context, allocate))

    return opener


@contextmanager
def requests(ca_path: str) -> Iterator[Reader]:
    with import_module("requests").Session() as session:
        yield Reader(lambda url: len(session.get(url, verify=ca_path).content))


@contextmanager
def urllib3(ca_path: str) -> Iterator[Reader]:
    with import_module("urllib3").PoolManager(ca_certs=ca_path) as pool:
        yield Reader(lambda url: len(pool.request("GET", url).data))


@contextmanager
def fsspec(ca_path: str) -> Iterator[Reader]:
    async def client(**arguments: Any) -> Any:
        aiohttp = import_module("aiohttp")
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=ca_path))
        return aiohttp.ClientSession(connector=connector, **arguments)

    files = import_module("fsspec").filesystem("http", get_client=client)
    yield Reader(lambda url: len(files.cat_file(url)))


@contextmanager
def obstore(ca_path: str) -> Iterator[Reader]:
    library = import_module("obstore")
    store = import_module("obstore.store")

    def read(url: str) -> int:
        parts = urlsplit(url)
        options = {"allow_http": True, "allow_invalid_certificates": True}
        server = store.HTTPStore.from_url(f"{parts.scheme}://{parts.netloc}", client_options=options)
        return len(library.get(server, parts.path.lstrip("/")).bytes())

    yield Reader(read)


def getm(concurrency: int | str) -> Opener:
    @contextmanager
    def opener(ca_path: str) -> Iterator[Reader]:
        # One engine: what another one has taken earlier would count as well.
        with import_module("getm").Session(cacert=ca_path, processes=1) as session:
            yield Reader(lambda url: len(session.read(url, concurrency=concurrency)))

    return opener


INTO_MEMORY: dict[str, Opener] = {
    "recv_into": _loop(lambda size: mmap.mmap(-1, max(1, size))),
    "recv_into bytearray": _loop(bytearray),
    "requests": requests,
    "urllib3": urllib3,
    "fsspec": fsspec,
    "obstore": obstore,
    "getm 1": getm(1),
    "getm 4": getm(4),
    "getm auto": getm("auto"),
}
