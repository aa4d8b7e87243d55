"""The server. It runs in a thread with an event loop of its own, and does nothing by the clock except where a `Pace` or
a delay is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Literal, Self

from getm.testing.channel import Channel, TLSChannel
from getm.testing.script import Gate, Reply, Request, Script, answer, failure

_BLOCK_BYTES = 64 * 1024
_WAIT_S = 20.0

# What becomes of connections beyond the limit: accepted and closed, accepted and reset, or not accepted.
Excess = Literal["close", "reset", "refuse"]


class _ClientLeft(Exception):
    """The client ended the connection while a reply was under way."""


class FaultServer:
    """Answers requests by scripts, one for each path, on the loopback.

    It is a context manager, and serves within the context. An error in a script, or in the server itself, is raised
    when the context ends, so that no test passes on a server that failed. A path without a script is 404.

    Args:
        tls: serve HTTPS with this context; None: HTTP.
        address: the address to listen on, of IPv4 or IPv6; or the path of a Unix-domain socket, so that one server can
            be all hosts (`Session(unix_socket=)`).
        port: the port; 0 takes any that is free.

    Attributes:
        port: the port that it listens on; 0 for a Unix-domain socket.
        requests: every request, in order of arrival.
        connections: how many connections have come.
        failed_handshakes: how many of them have not agreed on TLS.

    Example:
        >>> from getm.testing import FaultServer, failure
        >>> with FaultServer() as server:
        ...     url = server.serve("/file", failure(503, retry_after="1"), failure(404))
    """

    def __init__(self, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1", port: int = 0) -> None:
        self.requests: list[Request] = []
        self.connections: int = 0
        self.failed_handshakes: int = 0
        self._tls = tls
        self._address, self._port = address, port
        self._scripts: dict[str, list[Script]] = {}
        self._limit: int | None = None
        self._excess: Excess = "close"
        self._arrived = threading.Condition()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="fault server")
        self._errors: list[Exception] = []

    def __enter__(self) -> Self:
        # The socket listens before the thread runs: a client may connect at once and waits in the accept queue.
        self._loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self._listener: socket.socket
        self.port: int = 0
        if "/" in self._address:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(self._address)
            self._listener.listen()
        else:
            family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
            self._listener = socket.create_server((self._address, self._port), family=family)
            self.port = self._listener.getsockname()[1]
        self._listener.setblocking(False)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._loop.close()
        self._listener.close()
        if self._errors and error is None:
            raise self._errors[0]

    def url(self, target: str = "/", host: str | None = None) -> str:
        """The URL of `target` (path and query) on this server, by its address or by another name for it."""
        port = f":{self.port}" if self.port else ""
        return f"{'https' if self._tls else 'http'}://{host or self._address}{port}{target}"

    def serve(self, path: str, *steps: Script) -> str:
        """Answer the requests for a path by a script, which replaces the one that it had.

        Args:
            path: the path without a query: a request is answered by its path alone.
            steps: the answers in turn, the last one again and again: each a `Reply`, or a function that makes one of
                the request. It is called in the server's thread.

        Returns:
            The URL.
        """
        if not steps:
            raise ValueError("a script needs at least one step")
        self._scripts[path] = list(steps)
        return self.url(path)

    def limit(self, connections: int | None, excess: Excess = "close") -> None:
        """Keep at most so many connections open at once.

        Args:
            connections: how many; None for any number.
            excess: what becomes of one more: it is accepted and closed ("close"), accepted and reset ("reset"), or not
                accepted ("refuse").
        """
        self._limit, self._excess = connections, excess

    def gate(self) -> Gate:
        """A point to wait at, for one or more fields of a `Reply`."""
        return Gate(self._loop)

    def wait_for_requests(self, count: int) -> list[Request]:
        """Block until `count` requests have come, and return all; TimeoutError after 20 seconds."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.requests) >= count, _WAIT_S):
                raise TimeoutError(f"{len(self.requests)} requests came within {_WAIT_S} s, not {count}")
            return list(self.requests)

    # What follows runs in the server's thread ------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve_until_stopped())
        except Exception as error:
            self._errors.append(error)

    async def _serve_until_stopped(self) -> None:
        connections: set[asyncio.Task[None]] = set()
        accepting = asyncio.create_task(self._accept(connections))
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({accepting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (accepting, stopping, *connections):
            task.cancel()
        results = await asyncio.gather(accepting, stopping, *connections, return_exceptions=True)
        self._errors += [result for result in results if isinstance(result, Exception)]

    async def _accept(self, connections: set[asyncio.Task[None]]) -> None:
        ended = asyncio.Event()
        while True:
            while self._full(connections) and self._excess == "refuse":
                self._listener.close()
                ended.clear()
                await ended.wait()
                self._listener = socket.create_server((self._address, self.port))
                self._listener.setblocking(False)
            sock, _ = await self._loop.sock_accept(self._listener)
            sock.setblocking(False)
            number, self.connections = self.connections, self.connections + 1
            if self._full(connections):
                channel = Channel(sock)
                if self._excess == "reset":
                    channel.reset()
                channel.close()
                continue
            task = asyncio.create_task(self._connection(sock, number))
            connections.add(task)
            task.add_done_callback(lambda _: ended.set())

    def _full(self, connections: set[asyncio.Task[None]]) -> bool:
        return self._limit is not None and sum(not task.done() for task in connections) >= self._limit

    async def _connection(self, sock: socket.socket, number: int) -> None:
        channel = TLSChannel(sock, self._tls) if self._tls else Channel(sock)
        try:
            try:
                await channel.open()
            except (ssl.SSLError, ConnectionError):
                self.failed_handshakes += 1
                return
            while request := await self._read_request(channel, number):
                if not await self._reply(channel, request):
                    return
        except (ConnectionError, ssl.SSLError):
            return  # the client went away between requests
        finally:
            channel.close()

    async def _read_request(self, channel: Channel, connection: int) -> Request | None:
        data = b""
        while b"\r\n\r\n" not in data:
            more = await channel.recv()
            if not more:
                return None
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        channel.unrecv(rest)
        first, *lines = head.split(b"\r\n")
        method, target, _version = first.split(b" ")
        pairs = (line.decode("latin-1").partition(":") for line in lines)
        headers = tuple((name, value.strip()) for name, _, value in pairs)
        with self._arrived:
            request = Request(len(self.requests), connection, method.decode(), target, headers, channel.client)
            self.requests.append(request)
            self._arrived.notify_all()
        return request

    def _next_reply(self, request: Request) -> Reply:
        steps = self._scripts.get(request.path)
        if steps is None:
            return failure(404)
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        return step if isinstance(step, Reply) else step(request)

    async def _reply(self, channel: Channel, request: Request) -> bool:
        """Send the next reply of the script; True if the connection stays open for another request."""
        reply = self._next_reply(request)
        try:
            if reply.hold is not None:
                await _pause(channel, gate=reply.hold)
            if reply.delay_s:
                await _pause(channel, timeout_s=reply.delay_s)
            whole = await self._send(channel, reply, request)
        except (_ClientLeft, ConnectionError, ssl.SSLError):
            request.end("client left")
            return False
        with contextlib.suppress(ConnectionError, ssl.SSLError):  # the client may leave first, with all it wanted
            if reply.then == "reset":
                channel.reset()
            elif not whole:
                channel.close()
            elif reply.then == "close" or reply.framing == "close" or _wants_close(request):
                await channel.finish()
            else:
                request.end("sent")
                return True
        request.end("sent" if whole else "cut")
        return False

    async def _send(self, channel: Channel, reply: Reply, request: Request) -> bool:
        """Send head and body; True if the body is complete."""
        made = answer(reply, request)
        if reply.extra:
            content = bytes(made.body)
            if reply.framing == "chunked":
                content = (b"%x\r\n%b\r\n" % (len(content), content) if content else b"") + b"0\r\n\r\n"
            # At once, so that a client cannot be done before there is more.
            await channel.send(made.head + content + reply.extra)
            request.sent_bytes = len(made.body)
            return True
        await channel.send(made.head)
        if request.method == "HEAD":
            return True
        while True:
            sent_before = request.sent_bytes
            for block in _blocks(made.body, reply, sent_before):
                await self._send_block(channel, reply, block)
                request.sent_bytes += len(block)
                if gate := _gates(reply).get(request.sent_bytes):
                    await _pause(channel, gate=gate)
                if reply.pace is not None:
                    await _pause(channel, timeout_s=reply.pace.interval_s)
            if reply.cut_at is not None and request.sent_bytes >= reply.cut_at:
                return False
            if not reply.endless:
                break
        if reply.framing == "chunked" and reply.raw is None:
            await channel.send(b"0\r\n\r\n")
        return True

    async def _send_block(self, channel: Channel, reply: Reply, block: memoryview) -> None:
        if not block:  # an empty chunk would end a chunked body
            return
        if reply.framing == "chunked" and reply.raw is None:
            await channel.send(b"%x\r\n%b\r\n" % (len(block), block.tobytes()))
        else:
            await channel.send(block)


def _wants_close(request: Request) -> bool:
    return (request.header("Connection") or "").lower() == "close"


def _gates(reply: Reply) -> Mapping[int, Gate]:
    if reply.stall_at is None or reply.gate is None:
        return reply.gates
    return {**reply.gates, reply.stall_at: reply.gate}


def _blocks(body: memoryview, reply: Reply, sent_before: int) -> Iterator[memoryview]:
    """`body` in the pieces to send it in: split where something is to happen, and ended where it is cut."""
    limit = len(body) if reply.cut_at is None else max(0, min(len(body), reply.cut_at - sent_before))
    step = reply.pace.step_bytes if reply.pace else _BLOCK_BYTES
    stops = sorted(at - sent_before for at in _gates(reply))
    if 0 in stops:
        yield body[:0]
    at = 0
    while at < limit:
        stop = min([limit, (at // step + 1) * step, *(stop for stop in stops if stop > at)])
        yield body[at:stop]
        at = stop


async def _pause(channel: Channel, *, gate: Gate | None = None, timeout_s: float | None = None) -> None:
    """Wait at `gate`, or for `timeout_s`, whichever is given; raise as soon as the client ends the connection."""
    listening = asyncio.ensure_future(channel.readable())
    passing = asyncio.ensure_future(gate.passed()) if gate else None
    waiting = {listening, passing} if passing else {listening}
    try:
        await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if listening.done():
            data = await channel.recv()
            if not data:
                raise _ClientLeft
            channel.unrecv(data)  # the next request, sent early
            if passing:
                await passing
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
