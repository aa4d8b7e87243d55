"""Descriptors that travel with messages: each arrives once, with its own message, however full the socket is."""

from __future__ import annotations

import asyncio
import os
import socket

from getm.engine.message_socket import Pipe
from getm.protocol.codec import encode
from getm.protocol.messages import FROM_CONSUMER, FROM_ENGINE, Kind, Message

COUNT = 300


def number_of(descriptor: int) -> int:
    """What the file behind it says; the descriptor is closed."""
    try:
        return int(os.pread(descriptor, 10, 0))
    finally:
        os.close(descriptor)


async def exchange(*, read: bool) -> list[tuple[int, int]]:
    """Send messages, every third with a descriptor, over a socket that takes a few at a time."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    received: list[tuple[int, int]] = []
    done = loop.create_future()

    def on_message(message: Message) -> None:
        if message.kind is Kind.PLACE:
            descriptor = receiver.take_descriptor()
            received.append((message.object, -1 if descriptor is None else number_of(descriptor)))
        if message.object == COUNT:
            done.set_result(None)

    sender = Pipe(loop, ours, FROM_ENGINE, lambda message: None, lambda: None)
    for number in range(1, COUNT + 1):
        if number % 3:
            sender.send(encode(Kind.CANCEL, number) * 20)
            continue
        descriptor = os.memfd_create("test")
        os.write(descriptor, str(number).encode())
        sender.send(encode(Kind.PLACE, number, offset=5), descriptor)
        # What is queued is a copy.
        os.close(descriptor)
    receiver = Pipe(loop, theirs, FROM_CONSUMER, on_message, lambda: None)
    if read:
        await done
    sender.close()
    receiver.close()
    return received


def test_each_descriptor_comes_with_its_message() -> None:
    assert asyncio.run(exchange(read=True)) == [(number, number) for number in range(3, COUNT + 1, 3)]


def test_those_that_were_not_sent_are_closed() -> None:
    """As the search for leaks would find."""
    assert asyncio.run(exchange(read=False)) == []


async def test_what_no_message_may_raise_ends_the_pipe() -> None:
    """Whoever waits for an answer sees that none will come."""
    ours, theirs = socket.socketpair()

    def fail(message: Message) -> None:
        raise LookupError("a bug")

    closed = asyncio.Event()
    receiver = Pipe(asyncio.get_running_loop(), theirs, FROM_CONSUMER, fail, closed.set)
    ours.send(encode(Kind.CANCEL, 1))
    await closed.wait()
    assert receiver.closed and ours.recv(1) == b""
    ours.close()
