"""The slow tail: one connection far slower than its siblings does not hold up the object."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

import getm
from getm.core.spans import Span
from getm.engine.hedge import Hedger, is_slow
from getm.integrity.files import checksum
from getm.testing import FaultServer, Gate, Pace, Reply, Request, failure

MIB = 1024 * 1024
PART = 8 * MIB
BODY = random.Random(3).randbytes(4 * PART + 4321)
# No test waits for it: what is slow here is so for ever.
PATIENCE = getm.Timeout(tail_s=0.1)

# The slow part is the second: with two engines the helper has it.
each_engine = pytest.mark.parametrize("processes", (1, 2), ids=("one engine", "with a helper"))


def first_byte(request: Request) -> int:
    return int((request.header("Range") or "bytes=0-")[6:].split("-")[0])


def slow_once(*replies: Reply) -> Callable[[Request], Reply]:
    """The second part is answered by `replies` in turn, and well after them; all others well."""
    left = list(replies)

    def script(request: Request) -> Reply:
        second = PART <= first_byte(request) < 2 * PART
        return left.pop(0) if second and left else Reply(body=BODY)

    return script


def start(session: getm.Session, server: FaultServer) -> None:
    """Have all engines and connections there: a process that only just starts is a slow part."""
    session.read(server.serve("/start", Reply(body=BODY)), concurrency=3)


def second_part(server: FaultServer) -> list[Request]:
    return [request for request in server.requests if request.path == "/x" and PART <= first_byte(request) < 2 * PART]


def slow(where: str, gate: Gate) -> Reply:
    match where:
        case "no head":
            return Reply(body=BODY, hold=gate)
        case "no byte":
            return Reply(body=BODY, stall_at=0, gate=gate)
        case "within a slot":
            return Reply(body=BODY, stall_at=2 * MIB + 77, gate=gate)
        case "last byte":
            return Reply(body=BODY, stall_at=PART - 1, gate=gate)
        case _:
            return Reply(body=BODY, pace=Pace(step_bytes=100, interval_s=0.01))


# End to end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "ordered", "processes"),
    [
        ("no head", True, 1),
        ("no head", False, 2),
        ("no byte", False, 1),
        ("within a slot", True, 1),
        ("within a slot", False, 1),
        ("within a slot", True, 2),
        ("last byte", False, 1),
        ("trickle", True, 1),
        ("trickle", False, 2),
    ],
)
def test_a_part_that_stands_still_comes_by_another_connection(
    where: str, ordered: bool, processes: int, fault_server: FaultServer
) -> None:
    """For ever, so far as the server goes: without the race the transfer would not end before the stall limit."""
    gate = fault_server.gate()
    url = fault_server.serve("/x", slow_once(slow(where, gate)))
    expected = checksum(BODY, "md5")
    with getm.Session(timeout=PATIENCE, processes=processes) as session:
        start(session, fault_server)
        received = bytearray(len(BODY))
        if ordered:
            with session.urlopen(url, concurrency=3, checksum=expected) as fh:
                assert fh.read() == BODY
                stats = fh.stats
        else:
            parts = session.iter_content_unordered(url, concurrency=3, checksum=expected)
            for offset, view in parts:
                received[offset : offset + len(view)] = view
            assert received == BODY
            stats = parts.stats
    # On a busy machine another part may seem slow, too: so short a time is no measure.
    assert set(stats.retries) == {"slow tail"}
    assert (stats.stalls, stats.received_bytes) == (0, len(BODY))
    first, again, *_ = second_part(fault_server)
    assert first.wait_ended() == "client left"
    assert again.header("If-Range") == '"v1"'
    gate.open()


@each_engine
def test_the_race_is_told_in_the_log(
    processes: int, fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", slow_once(Reply(body=BODY, stall_at=0, gate=gate)))
    with caplog.at_level("INFO", "getm"), getm.Session(timeout=PATIENCE, processes=processes) as session:
        start(session, fault_server)
        session.read(url, concurrency=3)
    gate.open()
    assert caplog.records
    for record in caplog.records:
        assert "(slow tail)" in record.getMessage() and "far slower" in record.getMessage()


@pytest.mark.parametrize(
    ("alternate", "processes"),
    [("silent", 1), ("refused", 1), ("refused", 2), ("broken", 1), ("other version", 1), ("short", 1)],
)
def test_a_race_that_is_lost_changes_nothing(alternate: str, processes: int, fault_server: FaultServer) -> None:
    """The slow connection goes on when the other one has failed, or brings nothing itself."""
    gate, never = fault_server.gate(), fault_server.gate()
    reply = {
        "silent": Reply(body=BODY, hold=never),
        "refused": failure(503),
        "broken": Reply(body=BODY, cut_at=0, then="reset"),
        "other version": Reply(body=BODY, etag='"v2"', span=(PART, 2 * PART)),
        "short": Reply(body=BODY, span=(PART, PART + 1)),
    }[alternate]

    def script(request: Request) -> Reply:
        if not PART <= first_byte(request) < 2 * PART:
            return Reply(body=BODY)
        if len(second_part(fault_server)) == 1:
            return Reply(body=BODY, stall_at=100, gate=gate)
        # Only now: the slow one may go on when its alternate has come.
        gate.open()
        return reply

    url = fault_server.serve("/x", script)
    with getm.Session(timeout=PATIENCE, processes=processes) as session:
        start(session, fault_server)
        with session.urlopen(url, concurrency=3) as fh:
            assert fh.read() == BODY
            assert fh.stats.retries == {}
    first, *_ = second_part(fault_server)
    assert first.wait_ended() == "sent"
    never.open()


def test_the_race_goes_on_with_what_is_left_of_a_part(fault_server: FaultServer) -> None:
    """The faster connection breaks off in its turn: an ordinary retry, on the same writer."""
    gate = fault_server.gate()
    url = fault_server.serve(
        "/x",
        slow_once(
            Reply(body=BODY, stall_at=100, gate=gate),
            Reply(body=BODY, cut_at=3 * MIB),
            Reply(body=BODY, cut_at=MIB, then="reset"),
        ),
    )
    with getm.Session(timeout=PATIENCE) as session:
        start(session, fault_server)
        with session.urlopen(url, concurrency=3) as fh:
            assert fh.read() == BODY
            assert fh.stats.retries["slow tail"] >= 1
            assert sum(fh.stats.retries.values()) >= 3
    gate.open()


def test_a_closed_transfer_ends_its_races(fault_server: FaultServer) -> None:
    gate, never = fault_server.gate(), fault_server.gate()
    url = fault_server.serve("/x", slow_once(Reply(body=BODY, stall_at=100, gate=gate), Reply(body=BODY, hold=never)))
    with getm.Session(timeout=PATIENCE) as session:
        fh = session.urlopen(url, concurrency=3)
        fh.read(PART + 100)
        never.wait_reached()
        fh.close()
        for request in second_part(fault_server):
            assert request.wait_ended() == "client left"
    gate.open()
    never.open()


def test_tail_s_none_waits_for_the_slow_one(fault_server: FaultServer) -> None:
    gate = fault_server.gate()
    url = fault_server.serve("/x", slow_once(Reply(body=BODY, stall_at=100, gate=gate)))
    with getm.Session(timeout=getm.Timeout(tail_s=None)) as session:
        received = 0
        for offset, view in session.iter_content_unordered(url, concurrency=3):
            assert view == BODY[offset : offset + len(view)]
            received += len(view)
            if received >= len(BODY) - PART:
                gate.open()
    assert received == len(BODY)
    assert len(second_part(fault_server)) == 1


# The rule ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("brought", "seconds", "left", "usual", "expected"),
    [
        pytest.param(0, 1.0, 1, 1e6, True, id="silence"),
        pytest.param(0, 1.0, 1, 0.0, False, id="nothing to compare with"),
        pytest.param(100, 1.0, 1000, 301, True, id="less than a third"),
        pytest.param(100, 1.0, 1000, 300, False, id="a third"),
        pytest.param(100, 1.0, 100, 1e6, False, id="done within a second"),
        pytest.param(100, 1.0, 101, 1e6, True, id="not done within a second"),
        pytest.param(100, 0.5, 200, 1e6, False, id="another window"),
    ],
)
def test_what_is_slow(brought: int, seconds: float, left: int, usual: float, expected: bool) -> None:
    assert is_slow(brought, seconds, left, usual, 1.0) is expected


@given(st.integers(1, 10**9), st.floats(0.001, 1000), st.integers(1, 10**9), st.floats(0.001, 1e4))
def test_a_part_as_fast_as_the_others_is_never_slow(brought: int, seconds: float, left: int, tail_s: float) -> None:
    assert not is_slow(brought, seconds, left, brought / seconds, tail_s)


class Clock:
    """An event loop's clock and its timers, without the loop."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timer: tuple[float, Callable[[], None]] | None = None

    def time(self) -> float:
        return self.now

    def call_later(self, delay_s: float, callback: Callable[..., None], *args: object) -> Clock:
        assert self.timer is None, "one timer at a time"
        self.timer = (self.now + delay_s, lambda: callback(*args))
        return self

    def cancel(self) -> None:
        self.timer = None

    def ring(self) -> None:
        """Go on to the timer."""
        assert self.timer is not None
        self.now, callback = self.timer
        self.timer = None
        callback()


class FakePart:
    def __init__(self) -> None:
        self.waited = False
        self.waits = 0
        self.position = 0
        self.hurries = 0

    @property
    def remaining(self) -> Span:
        return Span(self.position, PART)

    def hedge(self) -> None:
        self.hurries += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr("asyncio.get_running_loop", lambda: clock)
    yield clock


def finish_one(watching: Hedger, clock: Clock, bytes_s: float) -> None:
    part = FakePart()
    with watching.watch(part, part.hedge):
        clock.now += PART / bytes_s
        part.position = PART


def test_nothing_is_compared_before_a_part_has_come(clock: Clock) -> None:
    watching = Hedger(4, MIB, 1.0)
    with watching.watch(FakePart(), lambda: None):
        assert clock.timer is None
        finish_one(watching, clock, 1e6)
        assert clock.timer is not None
        watching.close()
        assert clock.timer is None


def test_no_part_is_hurried_while_every_worker_has_one(clock: Clock) -> None:
    watching, parts = Hedger(2, MIB, 1.0), [FakePart() for _ in range(2)]
    finish_one(watching, clock, 1e9)
    with watching.watch(parts[0], parts[0].hedge):
        with watching.watch(parts[1], parts[1].hedge):
            for _ in range(3):
                clock.ring()
            assert [part.hurries for part in parts] == [0, 0]
        clock.ring()
        assert [part.hurries for part in parts] == [1, 0]


def test_a_part_is_hurried_after_a_whole_window_and_again_while_it_is_slow(clock: Clock) -> None:
    watching, part = Hedger(2, MIB, 1.0), FakePart()
    finish_one(watching, clock, 1e9)
    with watching.watch(part, part.hedge):
        assert part.hurries == 0
        for hurries in (1, 2, 3):
            clock.ring()
            assert part.hurries == hurries
        # What is left of it comes before another connection could.
        part.position = PART - 1
        clock.ring()
        assert part.hurries == 3
    clock.ring()
    assert clock.timer is None


def test_a_window_lasts_as_long_as_three_slots_of_the_others(clock: Clock) -> None:
    """Else a part whose slots come one by one would seem to stand still."""
    watching, part = Hedger(2, MIB, 1.0), FakePart()
    finish_one(watching, clock, MIB / 10)
    with watching.watch(part, part.hedge):
        before = clock.now
        clock.ring()
        assert clock.now - before == pytest.approx(30)


def test_a_part_that_waited_for_its_consumer_is_not_slow(clock: Clock) -> None:
    watching, part = Hedger(2, MIB, 1.0), FakePart()
    finish_one(watching, clock, 1e9)
    with watching.watch(part, part.hedge):
        for _ in range(3):
            part.waited = True
            clock.ring()
            assert (part.hurries, part.waited) == (0, False)
        clock.ring()
        assert part.hurries == 1


def test_no_more_races_than_workers_with_nothing_to_do(clock: Clock) -> None:
    for idle in range(4):
        watching, parts = Hedger(4 + idle, MIB, 1.0), [FakePart() for _ in range(4)]
        finish_one(watching, clock, 1e9)
        with ExitStack() as under_way:
            for part in parts:
                under_way.enter_context(watching.watch(part, part.hedge))
            clock.ring()
            clock.ring()
            assert sum(part.hurries > 0 for part in parts) == idle
        watching.close()


def test_never_where_tail_s_is_none(clock: Clock) -> None:
    watching = Hedger(2, MIB, None)
    finish_one(watching, clock, 1e9)
    with watching.watch(FakePart(), lambda: None):
        assert clock.timer is None


# One of many small spans ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ("no head", "no byte"))
@pytest.mark.parametrize("count", (6, 40), ids=("in slots", "placed"))
def test_a_small_span_that_stands_still_comes_by_another_connection(
    count: int, where: str, fault_server: FaultServer
) -> None:
    """For ever, where its connection is what is waited for."""
    spans = [(number * MIB // 2, number * MIB // 2 + 70_000) for number in range(count)]
    gate, stalled = fault_server.gate(), spans[count // 2][0]
    first = [True]

    def script(request: Request) -> Reply:
        if first_byte(request) == stalled and first:
            first.clear()
            return slow(where, gate)
        return Reply(body=BODY)

    with getm.Session(timeout=PATIENCE) as session:
        found = session.read_ranges(fault_server.serve("/x", script), spans)
        assert [bytes(view) for view in found] == [BODY[start:stop] for start, stop in spans]
        assert set(found.stats.retries) == {"slow tail"}
    gate.open()
