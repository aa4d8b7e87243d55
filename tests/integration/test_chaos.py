"""The chaos run: short here, and proof that it would notice. Longer by hand: `python -m tests.chaos --minutes 10`."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from getm import errors
from getm.testing import Reply, Request
from tests.chaos import plan as plans
from tests.chaos.plan import FAULTS, Leaver, Plan, make_plan, transfer_seed
from tests.chaos.received import Received
from tests.chaos.run import Run, complaint
from tests.chaos.serving import ServedPlan


@pytest.mark.slow
@pytest.mark.deadline(180)
def test_a_short_run_is_clean() -> None:
    said: list[str] = []
    counters = Run(20251101, said.append).count(60)
    assert counters.clean, [*said, *counters.lines()]
    assert counters.transfers == 60
    assert counters.complete > 30
    assert sum(counters.faults.values()) > 15


def test_a_seed_always_stands_for_the_same_transfer() -> None:
    seeds = [transfer_seed(7, number) for number in range(300)]
    assert len(set(seeds)) == 300
    made = [make_plan(seed) for seed in seeds]
    assert made == [make_plan(seed) for seed in seeds]
    # The schedules reach every fault, and both kinds of certainty.
    assert set(FAULTS) == {kind for plan in made for kind in plan.kinds}
    assert set(get_args(Leaver)) == {plan.leaver for plan in made}
    assert {True, False} == {plan.must_succeed for plan in made} == {plan.must_fail for plan in made}


def served_plan(**changes: object) -> ServedPlan:
    base = next(plan for plan in map(make_plan, range(10_000)) if plan.must_succeed and plan.size > 1000)
    plan: Plan = replace(base, **{"declared": "none", "faults": (), "where": "one process", **changes})  # type: ignore[arg-type]
    return ServedPlan(plan, None, lambda kind: None)  # type: ignore[arg-type]  # no fault of it waits at a gate


def received(served: ServedPlan, *parts: tuple[int, bytes], verified: bool = False) -> list[str]:
    came = Received(served)
    for offset, data in parts:
        came.take(offset, memoryview(data))
    came.complete(verified)
    return came.wrong


def test_bytes_that_are_wrong_are_noticed() -> None:
    served = served_plan()
    body = served.versions[0].body
    wrong = bytes([body[500] ^ 1])
    assert received(served, (0, body)) == []
    assert received(served, (700, body[700:]), (0, body[:700])) == []
    assert received(served, (0, body[:500] + wrong + body[501:])) != []
    assert received(served, (0, body[:-1])) != []
    assert received(served, (0, body[:700]), (600, body[600:])) != []
    assert received(served, (0, body[:700]), (701, body[701:])) != []
    assert received(served, (0, body + b"x")) != []
    assert received(served, (0, body), verified=True) != []


def test_an_inverted_bit_may_pass_only_where_nothing_was_declared() -> None:
    for declared in ("none", "caller"):
        served = served_plan(declared=declared)
        body = bytearray(served.versions[0].body)
        body[500] ^= 1 << 3
        assert received(served, (0, bytes(body)), verified=declared != "none") != []
        served.flipped.add(8 * 500 + 3)
        assert (received(served, (0, bytes(body)), verified=declared != "none") == []) is (declared == "none")


def test_two_versions_are_never_one_object() -> None:
    served = served_plan(faults=(plans.Fault("other version", 0.0, lasting=False),))
    first, second = (version.body for version in served.versions)
    assert received(served, (0, first)) == received(served, (0, second)) == []
    assert received(served, (0, first[:700]), (700, second[700:])) != []


def test_an_end_that_should_not_be_is_noticed() -> None:
    mendable = served_plan().plan
    hopeless = replace(mendable, wire="nobody listens")
    broken = errors.Truncated("cut", received=1)
    killed, stopped = frozenset({"engine killed"}), frozenset({"engine stopped"})
    assert complaint(mendable, None) is None
    assert complaint(hopeless, None) is not None
    assert complaint(mendable, broken) is not None
    assert complaint(mendable, broken, stopped) is not None
    assert complaint(hopeless, broken) is None
    for bug in (KeyError("x"), errors.GetmError("unexpected"), errors.ProtocolError("order")):
        assert complaint(hopeless, bug, killed) is not None
    died = errors.EngineDied("gone", exit_status=-9)
    assert complaint(hopeless, died, stopped) is not None
    assert complaint(mendable, died, killed) is None


def test_every_fault_is_committed() -> None:
    """Each of them changes the reply to some request, so that none is counted on that never comes."""
    whole = Request(0, 0, "GET", b"/object", ())
    ranged = Request(0, 0, "GET", b"/object", (("Range", "bytes=700-900"),))
    for kind in FAULTS:
        injected = 0
        for request in (whole, ranged):
            fault = plans.Fault(kind, 0.5, lasting=True)
            served = served_plan(faults=(fault,), refusal=None, granted=None, framing="length", validator="etag")
            assert isinstance(served.script(request), Reply)
            injected += served.injected[kind]
        assert injected, kind
