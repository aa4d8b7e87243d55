"""Two results are told apart where they differ, and only there."""

from __future__ import annotations

import itertools
from collections import Counter
from random import Random

import pytest

from benchmarks.harness.compare import Change, _u_counts, compare, interval_of_ratio
from benchmarks.harness.question import WALL, Answer, Question, Series
from benchmarks.harness.results import Result

ROUNDS = 7


def question() -> Question:
    return Question("disk", "How fast?", "", 1, (WALL,), lambda bench: Answer())


def result(walls: dict[str, list[float]], amount: float = 1.0) -> Result:
    series = [Series("HTTP", tool, amount, {"wall_s": values}) for tool, values in walls.items()]
    return Result({"commit": "?"}, {}, ROUNDS, False, {"disk": Answer(series)}, {"disk": {"load": "0"}})


def runs(random: Random, median: float, spread: float = 0.1) -> list[float]:
    """Skewed, as times are: now and then a run takes far longer."""
    return [median * random.lognormvariate(0, spread) * (3 if random.random() < 0.1 else 1) for _ in range(ROUNDS)]


def change(old: dict[str, list[float]], new: dict[str, list[float]]) -> Change:
    (only,) = compare(result(old), result(new), {"disk": question()})
    return only


@pytest.mark.parametrize("first, second", [(1, 1), (2, 3), (4, 4), (5, 3)])
def test_orders_are_counted_as_by_counting_them(first: int, second: int) -> None:
    total = first + second
    counted = Counter(
        sum(place > other for place in places for other in set(range(total)) - set(places))
        for places in itertools.combinations(range(total), first)
    )

    assert _u_counts(first, second) == [counted[u] for u in range(first * second + 1)]


def test_the_interval_holds_the_ratio_as_often_as_it_says() -> None:
    random, held = Random(1), 0
    for _ in range(1000):
        _, low, high = interval_of_ratio(runs(random, 1.0), runs(random, 1.3))
        held += low is not None and high is not None and low <= 1.3 <= high

    assert held >= 945


def test_what_is_much_slower_is_worse_and_what_is_much_faster_is_better() -> None:
    random = Random(2)
    slow, fast = {"getm": runs(random, 2.0)}, {"getm": runs(random, 1.0)}

    assert change(fast, slow).worse
    assert not change(fast, slow).better
    assert change(slow, fast).better
    assert not change(slow, fast).worse


def test_noise_is_hardly_ever_worse() -> None:
    random = Random(3)

    worse = sum(change({"getm": runs(random, 1.0)}, {"getm": runs(random, 1.0)}).worse for _ in range(500))

    assert worse <= 5


def test_what_happened_to_the_other_tools_as_well_is_the_machine() -> None:
    random = Random(4)
    old = {"getm": runs(random, 1.0), "curl": runs(random, 1.0), "wget2": runs(random, 0.5)}
    new = {"getm": runs(random, 2.0), "curl": runs(random, 2.0), "wget2": runs(random, 1.0)}

    assert not change(old, new).worse
    assert change({"getm": old["getm"]}, {"getm": new["getm"]}).worse


def test_few_runs_say_nothing() -> None:
    few = change({"getm": [1.0, 1.01, 1.02]}, {"getm": [9.0, 9.01, 9.02]})

    assert (few.low, few.high) == (None, None)
    assert not few.worse
    assert "too few runs" in few.row()


def test_other_amounts_of_work_are_not_compared() -> None:
    old, new = result({"getm": [1.0] * ROUNDS}), result({"getm": [9.0] * ROUNDS}, amount=2.0)

    assert list(compare(old, new, {"disk": question()})) == []
