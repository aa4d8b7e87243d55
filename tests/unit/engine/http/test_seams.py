"""What getm uses of aiohttp from underneath, one test a seam: where one fails, engine/http/connections.py must change
before the pinned version does."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import socket
import struct

import aiohttp
import pytest

from getm.core.connection_options import ConnectionOptions
from getm.engine import counters
from getm.engine.http.connections import Connector, Exchanges
from getm.engine.http.dialing import connector_arguments
from getm.engine.http.response_protocol import ResponseProtocol
from tests.support.peer import WHOLE, ask, exchanges, peer


async def test_the_connector_gives_connections_with_our_protocol_and_keeps_them() -> None:
    """`TCPConnector._factory`, `connect`, and what `Connection` is released by."""
    async with peer() as server, exchanges() as pool:
        first = await ask(pool, server, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwh")
        assert first.connection is not None and type(first.connection.protocol) is ResponseProtocol
        server.writers[0].write(b"ole")
        assert await first.content.read() == b"whole"
        assert first.connection is None
        second = await ask(pool, server, WHOLE)
        assert await second.content.read() == b"whole"
        assert len(server.writers) == 1


async def test_an_address_that_does_not_answer_is_tried_last_from_then_on() -> None:
    """`_resolve_host`, and `_wrap_create_connection`, which tries another address after a quarter of a second."""
    async with peer() as server:
        port = int(server.origin.rpartition(":")[2])
        # With a backlog of 0 the queue has room for one; what else knocks is dropped.
        with (
            socket.create_server(("127.0.0.2", port), backlog=0) as silent,
            socket.create_connection(silent.getsockname()),
        ):
            addresses = ConnectionOptions(addresses=(("several.test", port, ("127.0.0.2", "127.0.0.1")),))
            connector = Connector(limit=0, **connector_arguments(addresses, None))
            pool = Exchanges(connector, 30.0, lambda server: False)
            reply = await ask(pool, dataclasses.replace(server, origin=f"http://several.test:{port}"), WHOLE)
            assert await reply.content.read() == b"whole"
            for _ in range(3):
                # They take turns otherwise.
                found = await connector._resolve_host("several.test", port)
                assert [each["host"] for each in found] == ["127.0.0.1", "127.0.0.2"]
            await pool.close()


async def test_a_connection_that_nobody_uses_is_closed() -> None:
    async with peer() as server:
        pool = Exchanges(Connector(limit=0), 0.01, lambda server: False)
        reply = await ask(pool, server, WHOLE)
        assert await reply.content.read() == b"whole"
        assert await server.readers[0].read() == b""
        reply = await ask(pool, server, WHOLE, 1)
        assert await reply.content.read() == b"whole"
        await pool.close()
        assert await server.readers[1].read() == b""


async def test_a_connection_that_the_server_closes_is_not_used_again() -> None:
    async with peer() as server, exchanges() as pool:
        reply = await ask(pool, server, WHOLE)
        assert await reply.content.read() == b"whole"
        server.writers[0].close()
        assert await server.readers[0].read() == b""
        reply = await ask(pool, server, WHOLE, 1)
        assert await reply.content.read() == b"whole"


async def test_a_head_is_read_with_the_limits_that_were_set() -> None:
    """`set_response_params` and `read`: nothing is decompressed, and what has no length ends with its connection."""
    async with peer() as server, exchanges() as pool:
        reply = await ask(pool, server, b"HTTP/1.1 203 Fine\r\nX: " + b"y" * 60_000 + b"\r\n\r\nall")
        assert (reply.message.code, reply.message.reason, len(reply.message.headers["x"])) == (203, "Fine", 60_000)
        server.writers[0].close()
        assert await reply.content.read() == b"all"
        coded = await ask(pool, server, b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", 1)
        assert await coded.content.read() == b"abc"


async def test_reading_a_head_ends_with_the_exception_that_is_set() -> None:
    """`set_exception`: our timer ends the reading by it."""
    async with peer() as server, exchanges() as pool:
        with pytest.raises(TimeoutError):
            await pool.get(server.origin, "/x", (), (), None, 10.0, 0.01)


@pytest.mark.parametrize("reset", (False, True))
async def test_a_protocol_tells_how_its_connection_ended(reset: bool) -> None:
    """`protocol.closed`."""
    async with peer() as server, exchanges() as pool:
        reply = await ask(pool, server, b"HTTP/1.1 200 OK\r\n\r\nall")
        closed = reply.end_of_connection()
        assert closed is not None
        if reset:
            server.writers[0].get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            server.writers[0].transport.abort()
        else:
            server.writers[0].close()
        await asyncio.wait([closed])
        assert isinstance(closed.exception(), aiohttp.ClientConnectionError if reset else type(None))


async def test_a_content_that_was_taken_elsewhere_gives_its_connection_back() -> None:
    """`transport.set_protocol`, `StreamReader.feed_eof` and `on_eof`."""
    async with peer() as server, exchanges() as pool:
        reply = await ask(pool, server, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwh")
        assert await reply.content.readany() == b"wh"
        bypass = reply.begin_bypass()
        assert bypass is not None
        transport, original = bypass
        taken: asyncio.Queue[bytes] = asyncio.Queue()

        class Sink(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                taken.put_nowait(data)

        transport.set_protocol(Sink())
        server.writers[0].write(b"ole")
        assert await taken.get() == b"ole"
        transport.set_protocol(original)
        reply.end_bypass()
        assert reply.connection is None and reply.content.at_eof()
        await ask(pool, server, WHOLE)
        assert len(server.writers) == 1


async def test_a_proxys_password_goes_out_with_proxy_authorization() -> None:
    """`ClientRequest(proxy_headers=...)`, of which the connector takes Authorization."""
    async with peer() as server, exchanges() as pool:
        proxy = server.origin.replace("://", "://me:p%40@")
        asked = asyncio.create_task(pool.get("http://data.example", "/x", (), (), proxy, 10.0, 10.0))
        head = await server.head()
        assert head.startswith(b"GET http://data.example/x HTTP/1.1\r\n")
        assert b"\r\nProxy-Authorization: Basic " + base64.b64encode(b"me:p@") + b"\r\n" in head
        assert b"\r\nAuthorization:" not in head
        server.writers[0].write(WHOLE)
        await asked


async def test_a_limit_for_connecting_is_not_rounded_up() -> None:
    """`ClientTimeout.ceil_threshold`; the name is resolved and the connection made within `connect`."""
    async with exchanges() as pool:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            origin = f"https://127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(aiohttp.ConnectionTimeoutError):
                await pool.get(origin, "/x", (), (), None, 0.05, 10.0)


async def test_the_connector_looks_names_up_by_its_own_method() -> None:
    """`TCPConnector._resolve_host`: where the time of name lookup is measured."""
    counted = counters.Counters()
    counters.current.set(counted)
    async with peer() as server, exchanges() as pool:
        server.origin = server.origin.replace("127.0.0.1", "localhost")
        reply = await ask(pool, server, WHOLE)
        assert reply.message.code == 200
    assert 0 < counted.lookup_s <= counted.opening_s and counted.response_s > 0
