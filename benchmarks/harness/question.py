"""What a question is, and the numbers that answer it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from benchmarks.harness.bench import Bench

Values = dict[str, float]
"""What one run gave: "wall_s", "cpu_s", "peak_bytes" and what the question counts besides."""


@dataclass
class Series:
    """The runs of one tool in one case, in the order of the rounds.

    `amount` is how much work a run was: GB (10^9 bytes) or files; every run has it as "amount".
    """

    case: str
    tool: str
    amount: float
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, run: Values) -> None:
        for name, value in run.items():
            self.values.setdefault(name, []).append(value)

    def runs(self) -> list[Values]:
        names = list(self.values)
        return [
            {"amount": self.amount, **dict(zip(names, run, strict=True))}
            for run in zip(*self.values.values(), strict=True)
        ]


@dataclass(frozen=True)
class Column:
    """A number for each run, shown as the median of the runs with the quartiles beside it.

    Args:
        head: The column's title, with the unit.
        of: The number of one run.
        better: Whether less or more of it is better, or neither.
        digits: After the decimal point.
        base: The number is a ratio to that of this case and tool, in the same round.
        largest: The largest of all runs is shown instead of the median.
        compared: Two results are compared by it.
    """

    head: str
    of: Callable[[Values], float]
    better: Literal["less", "more", "neither"] = "less"
    digits: int = 2
    base: Callable[[Series], tuple[str, str]] | None = None
    largest: bool = False
    compared: bool = False

    def numbers(self, series: Series, every: Sequence[Series]) -> list[float] | None:
        """One number for each run; None where there is nothing to compare with, or a run does not have it."""
        try:
            ours = [self.of(run) for run in series.runs()]
            if self.base is None:
                return ours
            base = find(every, *self.base(series))
            if base is None or base is series:
                return None
            # A clock's last digit may say that something took no time.
            return [our / max(self.of(run), 1e-9) for our, run in zip(ours, base.runs(), strict=True)]
        except KeyError:
            return None

    def show(self, series: Series, every: Sequence[Series], *, quartiles: bool = True) -> str:
        numbers = self.numbers(series, every)
        if not numbers:
            return "-"
        if self.largest:
            return f"{max(numbers):,.{self.digits}f}"
        spread, digits = Spread.of(numbers), self.digits
        beside = f" [{spread.low:,.{digits}f}-{spread.high:,.{digits}f}]" if quartiles else ""
        return f"{spread.median:,.{digits}f}{beside}"


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(middle, low, high)


@dataclass
class Answer:
    """What was measured, and why some tools were not (by name)."""

    series: list[Series] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def rows(self, columns: Sequence[Column], *, brief: bool = False) -> Iterator[list[str]]:
        """The table's rows; a brief one has quartiles in its first column only."""
        for series in self.series:
            shown = [
                column.show(series, self.series, quartiles=not brief or column is columns[0]) for column in columns
            ]
            yield [series.case, series.tool, *shown]


@dataclass(frozen=True)
class Question:
    """One question, asked of several tools: one table and one chart.

    Args:
        name: What it is called on the command line.
        title: The question.
        how: How it is measured, for the page of results: the module's docstring, whose first line says what it is.
        minutes: About how long it takes on two cores, with seven rounds.
        columns: Of the table; the chart shows the first.
        measure: Asks it.
        ours: Which tools are getm: they are marked in the chart, and `compare` judges by them.
        by_default: Asked unless others are named.
        charted: Which series are bars of the chart.
        scaled_by_case: The bars of each case have a scale of their own.
        disk_gb: What must be free where files are written.
    """

    name: str
    title: str
    how: str | None
    minutes: float
    columns: tuple[Column, ...]
    measure: Callable[[Bench], Answer]
    ours: Callable[[str], bool] = lambda tool: tool.split()[0] == "getm"
    by_default: bool = True
    charted: Callable[[Series], bool] = lambda series: True
    scaled_by_case: bool = False
    disk_gb: float = 4


def find(every: Sequence[Series], case: str, tool: str) -> Series | None:
    return next((series for series in every if (series.case, series.tool) == (case, tool)), None)


# Columns of several questions ----------------------------------------------------------------------------------------

WALL = Column("wall s", lambda run: run["wall_s"], compared=True)
RATE = Column("MB/s", lambda run: 1000 * run["amount"] / run["wall_s"], better="more", digits=0)
CPU_PER_GB = Column("CPU s/GB", lambda run: run["cpu_s"] / run["amount"], compared=True)
PEAK = Column("peak MB", lambda run: run["peak_bytes"] / 1e6, digits=0, largest=True)
CONNECTIONS = Column("connections", lambda run: run["connections"], digits=0, largest=True)
AT_ONCE = Column("at once", lambda run: run["most_at_once"], digits=0, largest=True)


def wall_against(tool: str, head: str | None = None) -> Column:
    return Column(head or f"wall x {tool}", lambda run: run["wall_s"], base=lambda series: (series.case, tool))


def cpu_against(tool: str) -> Column:
    return Column(f"CPU x {tool}", lambda run: run["cpu_s"], base=lambda series: (series.case, tool))
