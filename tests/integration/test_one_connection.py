"""Many objects at once on one channel of an engine: none starves, none takes the ring from the others."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from getm.integrity.files import checksum
from getm.testing import FaultServer, Pace, Reply
from tests.support.consumer import Consumer, Received, consumer
from tests.support.nginx import NginxServer
from tests.support.objects import ServedObject

MIB = 1024 * 1024
# Four slots of 1 MiB: far fewer than objects.
SMALL_RING = 4 * MIB
BODY = random.Random(8).randbytes(3 * MIB + 17)


@pytest.fixture
def small() -> Iterator[Consumer]:
    with consumer(None, max_memory=SMALL_RING) as opened:
        yield opened


def whole(received: Received) -> bytes:
    assert received.error is None and received.head is not None
    data = b"".join(data for _, data in sorted(received.parts.items()))
    assert received.spans() == ([(0, len(data))] if data else [])
    return data


@pytest.mark.parametrize("concurrency", (1, 4))
def test_64_objects_at_once_through_a_ring_of_four_slots(
    concurrency: int, small: Consumer, nginx: NginxServer, make_object: Callable[..., ServedObject]
) -> None:
    served = [make_object(size, seed=1) for size in (0, 1, 1000, MIB, MIB + 1, 5 * MIB + 3)]
    chosen = [served[number % len(served)] for number in range(64)]
    url = f"http://127.0.0.1:{nginx.http_port}"
    objects = [
        small.open(
            url + one.url_path,
            concurrency=concurrency,
            checksums=(str(checksum(one.read(), ("sha256", "crc32c")[number % 2])),),
        )
        for number, one in enumerate(chosen)
    ]
    small.receive(*objects)
    for received, one in zip(objects, chosen, strict=True):
        assert whole(received) == one.read()
        assert received.end is not None and received.end.verdict


@pytest.mark.parametrize("concurrency", (1, 3))
def test_objects_that_stand_still_keep_nobody_from_going_on(
    concurrency: int, small: Consumer, fault_server: FaultServer
) -> None:
    gate = fault_server.gate()
    stuck = fault_server.serve("/stuck", Reply(body=BODY, ranges=False, stall_at=2 * MIB + 5, gate=gate))
    url = fault_server.serve("/x", Reply(body=BODY))
    still = [small.open(stuck, concurrency=concurrency) for _ in range(3)]
    others = [small.open(url, concurrency=concurrency) for _ in range(8)]
    small.receive(*others)
    assert all(whole(received) == BODY for received in others)
    assert not any(received.over for received in still)
    gate.open()
    small.receive(*still)
    assert all(whole(received) == BODY for received in still)


def test_every_object_that_waits_gets_what_there_is(small: Consumer, fault_server: FaultServer) -> None:
    """While one object keeps the consumer busy, the slow ones' slots go out long before they are full."""
    gate = fault_server.gate()
    url = fault_server.serve("/slow", Reply(body=BODY, stall_at=1000, gate=gate))
    busy = fault_server.serve("/busy", Reply(body=BODY, pace=Pace(MIB, 0.05)))
    slow = [small.open(url) for _ in range(2)]
    while not all(received.parts for received in slow):
        # There is always more to read of another object.
        ahead = small.open(busy)
        small.receive(ahead)
        assert whole(ahead) == BODY
    assert [received.parts for received in slow] == [{0: BODY[:1000]}] * 2
    gate.open()
    small.receive(*slow)
    assert all(whole(received) == BODY for received in slow)


def test_one_fails_and_one_is_cancelled_beside_others(small: Consumer, fault_server: FaultServer) -> None:
    url = fault_server.serve("/x", Reply(body=BODY))
    gate = fault_server.gate()
    stuck = fault_server.serve("/stuck", Reply(body=BODY, stall_at=5, gate=gate))
    cancelled = small.open(stuck)
    objects = [small.open(fault_server.url("/nothing"))] + [small.open(url) for _ in range(5)]
    gate.wait_reached()
    small.connection.cancel(1)
    small.receive(*objects)
    assert objects[0].error is not None
    assert all(whole(received) == BODY for received in objects[1:])
    assert not cancelled.over
    gate.open()
