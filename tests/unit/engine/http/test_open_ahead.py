"""Connections that are opened before the requests that they are for."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from aiohttp.client_exceptions import ClientConnectorError

from getm.engine.http.connections import Exchanges, Reply
from tests.support.peer import WHOLE, Peer, exchanges, peer


def get(pool: Exchanges, origin: str) -> asyncio.Task[Reply]:
    return asyncio.create_task(pool.get(origin, "/x", (), (), None, 10.0, 10.0))


async def answer(server: Peer, number: int) -> None:
    await server.head(number)
    server.writers[number].write(WHOLE)


async def test_requests_wait_for_them_and_use_each_once() -> None:
    async with peer() as server, exchanges() as pool:
        pool.open_ahead(server.origin, (), None, 10.0, 2)
        # While they are being opened: two of these wait for one each, and the third opens its own.
        asked = [get(pool, server.origin) for _ in range(3)]
        for number in range(3):
            await answer(server, number)
        for task in asked:
            assert await (await task).content.read() == b"whole"
        assert len(server.writers) == 3


async def test_one_that_is_there_before_its_request_is_used() -> None:
    async with peer() as server, exchanges() as pool:
        pool.open_ahead(server.origin, (), None, 10.0, 1)
        while not server.writers:
            await server.came.wait()
        while pool._opening:
            await asyncio.wait(pool._opening)
        asked = get(pool, server.origin)
        await answer(server, 0)
        assert await (await asked).content.read() == b"whole"
        assert len(server.writers) == 1 and not pool._unclaimed


async def test_one_whose_request_was_cancelled_serves_another() -> None:
    async with peer() as server, exchanges() as pool:
        pool.open_ahead(server.origin, (), None, 10.0, 1)
        asked = get(pool, server.origin)
        await asyncio.sleep(0)
        asked.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asked
        while pool._opening:
            await asyncio.wait(pool._opening)
        asked = get(pool, server.origin)
        await answer(server, 0)
        assert await (await asked).content.read() == b"whole"
        assert len(server.writers) == 1


async def test_where_none_can_be_opened_the_request_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with exchanges() as pool:
        pool.open_ahead(f"http://127.0.0.1:{port}", (), None, 10.0, 2)
        with pytest.raises(ClientConnectorError):
            await get(pool, f"http://127.0.0.1:{port}")
        while pool._opening:
            await asyncio.wait(pool._opening)


async def test_none_through_a_proxy() -> None:
    async with exchanges() as pool:
        pool.open_ahead("http://data.example", (), "http://127.0.0.1:9", 10.0, 2)
        assert not pool._opening


async def test_closing_ends_those_that_are_being_opened() -> None:
    async with peer() as server:
        async with exchanges() as pool:
            pool.open_ahead(server.origin, (), None, 10.0, 3)
        assert not pool._opening
