"""The sink of a placed object waits for hashing that lags, and no longer than that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from getm.buffers.object_memory import ObjectMemory, WritableMemory
from getm.core.spans import Span
from getm.core.units import MIB
from getm.engine.sinks.segment import Lag, SegmentSink

SIZE = 6 * MIB


class Loop:
    """Calls what is to be called in the thread that receives."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def run(self) -> None:
        while self.calls:
            self.calls.pop(0)()


@pytest.fixture
def memory() -> Iterator[WritableMemory]:
    memory = ObjectMemory(SIZE)
    writable = WritableMemory(memory.descriptor, SIZE)
    # Closed by the other one.
    memory.descriptor = -1
    yield writable
    assert writable.close()


async def test_it_waits_while_too_many_blocks_are_not_hashed(memory: WritableMemory) -> None:
    loop, told = Loop(), 0
    lag = Lag(2, loop.calls.append)
    sink = SegmentSink(memory, Span(0, SIZE), 0, lambda offset, view: lag.fed(), lag)

    def tell() -> None:
        nonlocal told
        told += 1

    sink.notify(tell, lambda: None)
    for _ in range(2):
        space = sink.space()
        assert space is not None and sink.advance(len(space))
    assert sink.space() is None and not sink.ended and sink.waited
    lag.hashed()
    loop.run()
    space = sink.space()
    assert told == 1 and space is not None
    sink.advance(len(space))
    assert sink.space() is None
    # What is hashed between the question and the wait is noticed as well, and nobody is told twice.
    lag.hashed()
    lag.hashed()
    loop.run()
    assert told == 2 and sink.space() is not None
    lag.hashed()
    loop.run()
    assert told == 2


async def test_it_does_not_wait_where_others_bring_what_follows(memory: WritableMemory) -> None:
    lag, told = Lag(1, Loop().calls.append), asyncio.Event()
    sink = SegmentSink(memory, Span(0, SIZE), 0, lambda offset, view: lag.fed(), lag)
    sink.notify(told.set, lambda: None)
    space = sink.space()
    assert space is not None and sink.advance(len(space)) and sink.space() is None
    sink.cut(4 * MIB, hold=False)
    await told.wait()
    assert sink.space() is not None
