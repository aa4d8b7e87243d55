"""Whether one result is slower than another, beyond noise.

The rule: of a number's runs, old and new, all ratios new/old are taken. Their median is the estimate (Hodges and
Lehmann), and an interval around it holds the true ratio with 95 percent (the ranks come from the exact distribution of
Mann and Whitney's U, so that nothing is supposed about how runs are distributed; it takes four rounds). A number is
worse where the whole interval is more than five percent on the bad side, and stays there when it is divided by what
happened to the other tools in the same case: what made those slower as well is the machine.
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

    `low` and `high` are None where there are too few runs. `others`: what happened to the other tools in the same case.
    """

    question: str
    case: str
    tool: str
    column: str
    ratio: float
    low: float | None
    high: float | None
    others: float

    @property
    def worse(self) -> bool:
        return self.low is not None and self.low > _MARGIN * max(1.0, self.others)

    @property
    def better(self) -> bool:
        return self.high is not None and self.high < min(1.0, self.others) / _MARGIN

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
            f"{self.others:.2f}",
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
    for (case, tool), (ratio, low, high) in intervals.items():
        if not question.ours(tool):
            continue
        peers = [each[0] for (other, peer), each in intervals.items() if other == case and not question.ours(peer)]
        others = statistics.median(peers) if peers else 1.0
        yield Change(question.name, case, tool, column.head, ratio, low, high, others)


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
