"""A proxy of TCP connections that behaves like a network path (see link.py), for what nginx's limits cannot do:

    python -m benchmarks.proxy 127.0.0.1:8080 --rate 25M --rtt 80 --slow-start
    python -m benchmarks.proxy 127.0.0.1:8080 --total-rate 100M

It prints the port of 127.0.0.1 on which it listens, and runs until it is interrupted. `shaped` does the same from
Python, and tells what passed. Bytes of responses are moved by splice(2), which needs Linux: Python sees none of them,
and a gigabyte costs 0.3 CPU seconds, nearly all of them the kernel's TCP.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import uvloop

from benchmarks.harness.environment import ROOT, environment
from benchmarks.harness.sizes import size_argument
from benchmarks.link import Link, Path, Shared

_REQUEST_BYTES = 64 * 1024
_WAITING_REQUESTS = 64
_BACKLOG = 512


@dataclasses.dataclass
class Report:
    """What passed since the last report: connections opened (and the most at once), response bytes, resets, and the CPU
    seconds that the proxy took for it."""

    connections: int = 0
    most_at_once: int = 0
    response_bytes: int = 0
    resets: int = 0
    cpu_s: float = 0.0


class _Proxy:
    def __init__(self, address: tuple[str, int], link: Link) -> None:
        self._address = address
        self._shared = Shared(link)
        self._open: set[asyncio.Task[None]] = set()
        self._cpu_s = time.process_time()
        self.counted = Report()

    def report(self) -> Report:
        report, self.counted = self.counted, Report(most_at_once=len(self._open))
        cpu_s = time.process_time()
        report.cpu_s, self._cpu_s = cpu_s - self._cpu_s, cpu_s
        return report

    async def serve(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listening)
            task = loop.create_task(self._carry(client))
            self._open.add(task)
            task.add_done_callback(self._open.discard)
            self.counted.connections += 1
            self.counted.most_at_once = max(self.counted.most_at_once, len(self._open))

    async def _carry(self, client: socket.socket) -> None:
        """One connection, from its first byte to its end: when either side closes it, or the link resets it."""
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        path = Path(self._shared, time.monotonic())
        with client, socket.socket() as server, contextlib.suppress(OSError):
            server.setblocking(False)
            await asyncio.get_running_loop().sock_connect(server, self._address)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            requests: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_WAITING_REQUESTS)
            tasks = [
                asyncio.create_task(each)
                for each in (
                    _take_requests(client, requests, path),
                    _send_requests(server, requests),
                    self._carry_responses(server, client, path),
                )
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                # All of them, and to their ends: a descriptor that is closed while a task waits for it would be
                # another connection's when it wakes.
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry_responses(self, server: socket.socket, client: socket.socket, path: Path) -> None:
        with _pipe() as (pipe_out, pipe_in):
            while True:
                piece = path.piece_bytes()
                if piece == 0:
                    self.counted.resets += 1
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                count = await _splice(server.fileno(), pipe_in, piece, waiting_for_source=True)
                if count == 0:
                    return
                await asyncio.sleep(max(0.0, path.response_at(count, time.monotonic()) - time.monotonic()))
                self.counted.response_bytes += count
                while count:
                    count -= await _splice(pipe_out, client.fileno(), count, waiting_for_source=False)


async def _take_requests(client: socket.socket, requests: asyncio.Queue[tuple[float, bytes]], path: Path) -> None:
    loop = asyncio.get_running_loop()
    while sent := await loop.sock_recv(client, _REQUEST_BYTES):
        await requests.put((path.request_at(time.monotonic()), sent))


async def _send_requests(server: socket.socket, requests: asyncio.Queue[tuple[float, bytes]]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due, sent = await requests.get()
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await loop.sock_sendall(server, sent)


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    pipe_out, pipe_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.fcntl(pipe_in, fcntl.F_SETPIPE_SZ, 1024 * 1024)
        yield pipe_out, pipe_in
    finally:
        os.close(pipe_out)
        os.close(pipe_in)


async def _splice(source: int, target: int, count: int, *, waiting_for_source: bool) -> int:
    """Move up to `count` bytes as soon as any can be moved; zero at the end of the source."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return os.splice(source, target, count, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            if waiting_for_source:
                await _ready(loop.add_reader, loop.remove_reader, source)
            else:
                await _ready(loop.add_writer, loop.remove_writer, target)


async def _ready(add: Callable[..., object], remove: Callable[[int], object], descriptor: int) -> None:
    ready = asyncio.Event()
    add(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        remove(descriptor)


async def _run(address: tuple[str, int], link: Link) -> None:
    loop = asyncio.get_running_loop()
    proxy, stopped = _Proxy(address, link), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listening:
        listening.setblocking(False)
        print(listening.getsockname()[1], flush=True)
        tasks = {loop.create_task(proxy.serve(listening)), loop.create_task(stopped.wait())}
        # From a program: a line asks for a report, and the end of the lines ends the proxy.
        if stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
            tasks.add(loop.create_task(_answer(proxy)))
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


async def _answer(proxy: _Proxy) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        print(json.dumps(dataclasses.asdict(proxy.report())), flush=True)


class ShapedPort:
    """The port of a proxy that runs, and what passes through it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        line = self._line()
        if not line:
            raise RuntimeError("the proxy did not start: its standard error says why")
        self.port = int(line)

    def report(self) -> Report:
        """What passed since the last report, or since the start."""
        if self._process.stdin is None:
            raise TypeError("the proxy has no pipe")
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Report(**json.loads(self._line()))

    def counted(self) -> dict[str, float]:
        """What passed since the last look, as values of a run."""
        report = self.report()
        return {"connections": report.connections, "most_at_once": report.most_at_once, "proxy_cpu_s": report.cpu_s}

    def url(self, url: str) -> str:
        """The URL of an object of the server behind the proxy, through the proxy."""
        scheme, _, rest = url.partition("://")
        host, path = rest.split("/", 1)
        return f"{scheme}://{host.rpartition(':')[0]}:{self.port}/{path}"

    def _line(self) -> str:
        if self._process.stdout is None:
            raise TypeError("the proxy has no pipe")
        return self._process.stdout.readline()


@contextlib.contextmanager
def shaped(port: int, link: Link) -> Iterator[ShapedPort]:
    """A proxy to a server on `port` of 127.0.0.1, in a process of its own, which ends with the context.

    Example:
        >>> with shaped(server.http_port, Link(rate=25e6, rtt_s=0.08)) as proxy:
        ...     getm.download(proxy.url(server.url(served)), target)
        ...     print(proxy.report().most_at_once)
    """
    command = [sys.executable, "-m", "benchmarks.proxy", f"127.0.0.1:{port}", "--link"]
    process = subprocess.Popen(
        [*command, json.dumps(dataclasses.asdict(link))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    with process:
        try:
            yield ShapedPort(process)
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="HOST:PORT of the server")
    parser.add_argument("--rate", type=size_argument, help="bytes a second for each connection (K, M, G: 10^3 ...)")
    parser.add_argument("--total-rate", type=size_argument, help="bytes a second for all connections together")
    parser.add_argument("--rtt", type=float, default=0.0, help="round trip in milliseconds")
    parser.add_argument("--jitter", type=float, default=0.0, help="at most so many milliseconds later, by chance")
    parser.add_argument("--slow-start", action="store_true", help="connections begin slowly, as TCP's do")
    parser.add_argument("--reset-bytes", type=size_argument, help="reset connections after so many bytes, in the mean")
    parser.add_argument("--seed", type=int, default=0, help="of what happens by chance")
    parser.add_argument("--link", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    link = Link(
        rate=options.rate,
        total_rate=options.total_rate,
        rtt_s=options.rtt / 1000,
        jitter_s=options.jitter / 1000,
        slow_start=options.slow_start,
        reset_bytes=options.reset_bytes,
        seed=options.seed,
    )
    host, _, port = options.address.rpartition(":")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run((host, int(port)), Link(**options.link) if options.link else link))


if __name__ == "__main__":
    main()
