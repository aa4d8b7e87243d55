"""Whether one result is slower than another, beyond noise.

The rule: of a number's runs, old and new, all ratios new/old are taken. Their median is the estimate (Hodges and
Lehmann), and an interval around it holds the true ratio with 95 percent (the ranks come from the exact distribution of
Mann and Whitney's U, so that nothing is supposed about how runs are distributed; it takes four rounds). A number is
worse where the whole interval is more than five percent beyond 1, and beyond the ratio of every other tool that was
asked the same question. Those have not changed: how far they seem to have says what the machine, and what else it did,
can do to a number. Runs of one result cannot say that, since they are close together in time.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.harness.question import Column, Question, Series, find
from benchmarks.harness.results import Result

_ALPHA = 0.05
_MARGIN = 1.05


@dataclass(frozen=True)
class Change:
    """A ratio new/old with its interval, turned so that more than one is worse.

    `low` and `high` are None where there are too few runs. `others_low` and `others_high`: the least and the largest
    ratio of the other tools; 1 where there are none.
    """

    question: str
    case: str
    tool: str
    column: str
    ratio: float
    low: float | None
    high: float | None
    others_low: float
    others_high: float

    @property
    def worse(self) -> bool:
        return self.low is not None and self.low > _MARGIN * max(1.0, self.others_high)

    @property
    def better(self) -> bool:
        return self.high is not None and self.high < min(1.0, self.others_low) / _MARGIN

    def row(self) -> list[str]:
        interval = "too few runs" if self.low is None else f"[{self.low:.2f}-{self.high:.2f}]"
        verdict = "WORSE" if self.worse else "better" if self.better else ""
        return [
            self.question,
            self.case,
            self.tool,
            self.column,
            f"{self.ratio:.2f}",
            interval,
            f"{self.others_low:.2f} to {self.others_high:.2f}",
            verdict,
        ]


def compare(old: Result, new: Result, questions: Mapping[str, Question]) -> Iterator[Change]:
    """The changes of getm's numbers that both results have, for the same amount of work."""
    for name, answer in new.answers.items():
        question, before = questions.get(name), old.answers.get(name)
        if question is None or before is None:
            continue
        pairs = [
            (earlier, series)
            for series in answer.series
            if (earlier := find(before.series, series.case, series.tool)) is not None
            and earlier.amount == series.amount
        ]
        for column in question.columns:
            if column.compared:
                yield from _of_column(question, column, pairs)


def _of_column(question: Question, column: Column, pairs: Sequence[tuple[Series, Series]]) -> Iterator[Change]:
    intervals = {}
    for old, new in pairs:
        olds, news = column.numbers(old, []), column.numbers(new, [])
        if olds and news:
            intervals[new.case, new.tool] = interval_of_ratio(olds, news)
    others = [each[0] for (_, tool), each in intervals.items() if not question.ours(tool)] or [1.0]
    for (case, tool), (ratio, low, high) in intervals.items():
        if not question.ours(tool):
            continue
        yield Change(question.name, case, tool, column.head, ratio, low, high, min(others), max(others))


def interval_of_ratio(old: Sequence[float], new: Sequence[float]) -> tuple[float, float | None, float | None]:
    """The ratio new/old, and the ends of its interval; None for both where there are too few runs for one."""
    ratios = sorted(after / max(before, 1e-12) for before in old for after in new)
    counts = _u_counts(len(old), len(new))
    limit, below, rank = sum(counts) * _ALPHA / 2, 0, 0
    while below + counts[rank] <= limit:
        below += counts[rank]
        rank += 1
    if rank == 0:
        return statistics.median(ratios), None, None
    return statistics.median(ratios), ratios[rank - 1], ratios[-rank]


def _u_counts(first: int, second: int) -> list[int]:
    """In how many orders of two samples Mann and Whitney's U is 0, 1, 2, ...: the coefficients of the Gaussian binomial
    (the product of (1 - q^(second + i)) / (1 - q^i))."""
    size = first * second + 1
    counts = [1] + [0] * (size - 1)
    for number in range(1, first + 1):
        for index in range(size - 1, second + number - 1, -1):
            counts[index] -= counts[index - second - number]
        for index in range(number, size):
            counts[index] += counts[index - number]
    return counts
