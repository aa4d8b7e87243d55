"""One stage of a transfer made slow, for real: name lookup, connecting, the first bytes of a connection, the disk."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import mounts

_BLOCK_BYTES = 256 * 1024
_NAMES_ADDRESS = "127.0.0.97"


@contextlib.contextmanager
def relay(port: int, *, accept_s: float = 0.0, first_s: float = 0.0) -> Iterator[int]:
    """A port on the loopback that leads to `port`. Nothing is accepted there before `accept_s`: the queue of the
    listening socket is full, and the kernel drops what knocks, which knocks again after a second (RFC 6298). The first
    bytes of each connection are passed on after `first_s`."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    listener.setblocking(False)
    address = listener.getsockname()
    # With a backlog of 0 the queue has room for one.
    waiting = [socket.create_connection(address, timeout=5.0)] if accept_s else []
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve() -> None:
        relays: set[asyncio.Task[None]] = set()
        accepting = asyncio.create_task(accept(relays))
        await ended.wait()
        for task in (accepting, *relays):
            task.cancel()
        await asyncio.gather(accepting, *relays, return_exceptions=True)

    async def accept(relays: set[asyncio.Task[None]]) -> None:
        await asyncio.sleep(accept_s)
        for each in waiting:
            each.close()
        while True:
            theirs, _ = await loop.sock_accept(listener)
            relays.add(asyncio.create_task(carry(theirs)))

    async def carry(theirs: socket.socket) -> None:
        theirs.setblocking(False)
        ours = socket.socket()
        ours.setblocking(False)
        try:
            await loop.sock_connect(ours, ("127.0.0.1", port))
            await asyncio.gather(copy(theirs, ours, first_s), copy(ours, theirs, 0.0))
        except ConnectionError:
            pass
        finally:
            theirs.close()
            ours.close()

    async def copy(source: socket.socket, target: socket.socket, first_s: float) -> None:
        while data := await loop.sock_recv(source, _BLOCK_BYTES):
            await asyncio.sleep(first_s)
            first_s = 0.0
            await loop.sock_sendall(target, data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="relay")
    thread.start()
    try:
        yield address[1]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()
        listener.close()
        for each in waiting:
            each.close()


@contextlib.contextmanager
def slow_names(folder: Path, delay_s: float) -> Iterator[None]:
    """Each name is that of 127.0.0.1, which the only name server says after `delay_s` (RFC 1035)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((_NAMES_ADDRESS, 53))
        except OSError as error:
            pytest.skip(f"no name server can be run here: {error}")
        sock.settimeout(0.1)
        ending = threading.Event()

        def serve() -> None:
            while not ending.is_set():
                with contextlib.suppress(TimeoutError):
                    query, client = sock.recvfrom(512)
                    if not ending.wait(delay_s):
                        sock.sendto(_answer(query), client)

        configuration = folder / "resolv.conf"
        configuration.write_text(f"nameserver {_NAMES_ADDRESS}\noptions timeout:20 attempts:1\n")
        thread = threading.Thread(target=serve, name="name server")
        thread.start()
        try:
            with mounts.replaced(Path("/etc/resolv.conf"), configuration):
                yield
        finally:
            ending.set()
            thread.join()


def _answer(query: bytes) -> bytes:
    """127.0.0.1 for a query for A, and nothing for any other."""
    # The question: labels up to an empty one, a type and a class.
    stop = query.index(b"\0", 12) + 5
    is_address = query[stop - 4 : stop - 2] == b"\0\1"
    head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, int(is_address), 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + socket.inet_aton("127.0.0.1")
    return head + query[12:stop] + (record if is_address else b"")


def waits_for_disk(folder: Path) -> Path:
    """`folder`, in which each write waits until the disk has it (chattr(1), S)."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["chattr", "+S", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this file system cannot be told to wait for its disk: {done.stderr.strip()}")
    return folder
