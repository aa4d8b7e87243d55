"""Contenders in processes of their own that stay alive and take turns, and what is made of the results.

A machine that others use as well changes its speed within seconds, so runs that follow each other cannot be compared.
Here each contender does a small piece of work, then the next one, in a new random order each round; a ratio is taken of
two pieces of the same round, and of the ratios of many rounds the median, with the quartiles beside it.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from benchmarks.measure import ROOT, environment

Result = dict[str, float]


class Contender:
    """A process that runs `benchmarks.worker`: `setup` says what it is, then it takes one turn at a time.

    `why_not`: why it cannot be measured; None as long as it can. It ends with the context. `under`: a command that
    runs it, such as valgrind.
    """

    def __init__(self, setup: dict[str, Any], under: Sequence[str] = ()) -> None:
        self._setup = setup
        self._under = under
        self.why_not: str | None = None

    def __enter__(self) -> Self:
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [*self._under, sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env=environment(),
        )
        self._say(self._setup)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _say(self, message: dict[str, Any]) -> dict[str, Any]:
        """What it answers; nothing where it has ended or says why it cannot."""
        if self._process.stdin is None or self._process.stdout is None:
            raise TypeError("the process has no pipes")
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline() or "{}")
        except BrokenPipeError:
            answer = {}
        if not answer:
            self._errors.seek(0)
            answer = {"why_not": f"failed: {(self._errors.read().splitlines() or ['(silently)'])[-1]}"}
        self.why_not = answer.get("why_not")
        return answer

    def turn(self, request: dict[str, Any]) -> Result | None:
        """One piece of work; None where it cannot be done, then or from an earlier turn on."""
        if self.why_not is not None:
            return None
        answer = self._say(request)
        return None if self.why_not is not None else answer


class TakesTurns(Protocol):
    """What can be measured: a `Contender`, or what behaves like one."""

    why_not: str | None

    def turn(self, request: dict[str, Any]) -> Result | None: ...


Key = TypeVar("Key")


def take_turns(
    turns: Sequence[tuple[Key, TakesTurns, dict[str, Any]]], rounds: int, what: str
) -> dict[Key, list[Result]]:
    """The results of each turn, one for each round; none at all for a contender that failed. A round before the first
    warms everything up. `what` is shown on a terminal."""
    results: dict[Key, list[Result]] = {key: [] for key, _, _ in turns}
    for number in range(rounds + 1):
        for key, contender, request in random.sample(turns, len(turns)):
            if sys.stderr.isatty():
                print(f"\r{f'{what}, round {number} of {rounds}: {key}':70}", end="", file=sys.stderr, flush=True)
            result = contender.turn(request)
            if result is not None and number:
                results[key].append(result)
    if sys.stderr.isatty():
        print(f"\r{'':70}\r", end="", file=sys.stderr, flush=True)
    return {key: results[key] for key, contender, _ in turns if contender.why_not is None}


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

    def show(self, digits: int) -> str:
        return f"{self.median:.{digits}f} [{self.low:.{digits}f}-{self.high:.{digits}f}]"


def spread(of: Sequence[Result], field: str) -> Spread:
    return Spread.of([result[field] for result in of])


def ratio(of: Sequence[Result], base: Sequence[Result] | None, field: str, digits: int = 2) -> str:
    """`of` over `base`, round by round, as text; a dash where there is no base."""
    if not base:
        return "-"
    return Spread.of([ours[field] / max(theirs[field], 1e-9) for ours, theirs in zip(of, base, strict=True)]).show(
        digits
    )


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their content, all but the first aligned to the right. A row may end early."""
    widths = [
        max(len(head), *(len(row[index]) for row in rows if len(row) == len(heads)), 0)
        for index, head in enumerate(heads)
    ]
    for row in (heads, *rows):
        first = row[0].ljust(max(widths[0], *(len(other[0]) for other in rows)))
        rest = (
            row[1:] if len(row) < len(heads) else [f"{text:>{widths[index + 1]}}" for index, text in enumerate(row[1:])]
        )
        print("  ".join([first, *rest]).rstrip())


def size_argument(text: str) -> int:
    """Bytes, as a number with or without K, M or G (powers of ten)."""
    units = {"K": 10**3, "M": 10**6, "G": 10**9}
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].upper() in units else (text, "")
    return int(float(number) * units.get(unit, 1))
