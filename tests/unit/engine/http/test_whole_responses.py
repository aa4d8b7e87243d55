"""Responses that are awaited whole: they come in any pieces, and what is none of them is handed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from getm.core.spans import Span
from getm.engine.http.connections import Begun, Exchanges, SpanRequests
from getm.engine.http.framing import PlainHead
from tests.support.peer import WHOLE, Peer, ask, exchanges, peer

COUNT = 100_000
BODY = bytes(number % 251 for number in range(COUNT))
HEAD = b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\nContent-Range: bytes 0-%d/%d\r\n\r\n" % (
    COUNT,
    COUNT - 1,
    COUNT,
)


class Listener:
    status = 206

    def __init__(self) -> None:
        self.outcome: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

    def knows(self, head: bytes) -> int | None:
        return None

    def accepts(self, head: PlainHead) -> bool:
        return head.length == COUNT

    def came(self, content: memoryview) -> None:
        self.outcome.set_result(bytes(content))

    def is_other(self) -> None:
        self.outcome.set_result(None)


@asynccontextmanager
async def kept() -> AsyncIterator[tuple[Peer, Exchanges, SpanRequests]]:
    """One connection that waits for a request."""
    async with peer() as server, exchanges() as pool:
        reply = await ask(pool, server, WHOLE)
        await reply.content.read()
        yield server, pool, pool.spans(server.origin, "/x", (), (("If-Range", '"v"'),), None)


def begin(requests: SpanRequests) -> tuple[Listener, Begun]:
    listener = Listener()
    begun = requests.begin(Span(0, COUNT), listener)
    assert begun is not None
    return listener, begun


@pytest.mark.parametrize(
    "cuts", ((), (10,), (len(HEAD),), (len(HEAD) + COUNT - 1,), (5, len(HEAD) + 7, len(HEAD) + COUNT - 3))
)
async def test_a_response_in_pieces_is_awaited_to_its_end(cuts: tuple[int, ...]) -> None:
    """However little the last piece is: less than what the loop was to be woken for."""
    async with kept() as (server, _, requests):
        for _ in range(2):
            listener, begun = begin(requests)
            assert b'If-Range: "v"\r\nRange: bytes=0-99999\r\n\r\n' in await server.head()
            answer, start = HEAD + BODY, 0
            for stop in (*cuts, len(answer)):
                server.writers[0].write(answer[start:stop])
                await server.writers[0].drain()
                start = stop
                # The other end reads what has come.
                for _ in range(20):
                    await asyncio.sleep(0)
            assert await listener.outcome == BODY
            begun.keep(begun.connection)


async def test_a_short_answer_is_read_once_nobody_waits_for_the_whole_any_more() -> None:
    async with kept() as (server, pool, requests):
        listener, begun = begin(requests)
        await server.head()
        server.writers[0].write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nsorry")
        await server.writers[0].drain()
        begun.protocol.give_up_whole()
        assert await listener.outcome is None
        reply = await pool.get(server.origin, "/x", (), (), None, 10.0, 10.0, begun=begun)
        assert reply.message.code == 404 and await reply.content.read() == b"sorry"


async def test_the_end_of_the_connection_wakes_who_waits_for_more() -> None:
    async with kept() as (server, _, requests):
        listener, begun = begin(requests)
        await server.head()
        server.writers[0].write(HEAD + BODY[:-1])
        server.writers[0].close()
        assert await listener.outcome is None
        begun.connection.close()


async def test_a_short_answer_is_read_at_once_where_the_last_one_was_short_as_well() -> None:
    async with kept() as (server, _, requests):
        requests.usual = False
        listener, begun = begin(requests)
        await server.head()
        server.writers[0].write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nsorry")
        assert await listener.outcome is None
        begun.connection.close()
