"""Contenders take turns, and what they give is collected.

A machine that others use as well changes its speed within seconds, so runs that follow each other cannot be compared.
Here each contender does one piece of work, then the next one, in a new random order each round; a ratio is taken of two
pieces of the same round, and of the ratios of many rounds the median, with the quartiles beside it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

from benchmarks.harness.environment import ROOT, environment
from benchmarks.harness.measure import ended_with
from benchmarks.harness.question import Answer, Series, Values

_DEADLINE_S = 1800.0  # counting instructions is slow


class Contender(Protocol):
    """What can be measured."""

    @property
    def why_not(self) -> str | None:
        """Why it cannot be measured; None as long as it can."""

    def turn(self, request: dict[str, Any]) -> Values | None:
        """One piece of work; None where it cannot be done, then or from an earlier turn on."""


@dataclass
class Turn:
    """What one contender does in each round; `amount` is how much work that is (see `Series`)."""

    case: str
    tool: str
    amount: float
    contender: Contender
    request: dict[str, Any] = field(default_factory=dict)


def take_turns(turns: Sequence[Turn], rounds: int, what: str) -> Answer:
    """The results of all turns, one for each round; none at all for a contender that failed. A round before the first
    warms everything up. `what` is shown on a terminal."""
    every = [(turn, Series(turn.case, turn.tool, turn.amount)) for turn in turns]
    for number in range(rounds + 1):
        for turn, series in random.sample(every, len(every)):
            _show(f"{what}, round {number} of {rounds}: {turn.tool}, {turn.case}")
            run = turn.contender.turn(turn.request)
            if run is not None and number:
                series.add(run)
    _show("")
    return Answer(
        [series for turn, series in every if turn.contender.why_not is None],
        {turn.tool: turn.contender.why_not for turn in turns if turn.contender.why_not is not None},
    )


def _show(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:100.100}\r", end="", file=sys.stderr, flush=True)


class Worker:
    """A contender that is a process which stays alive: it runs `benchmarks.harness.worker`. `setup` says what it is,
    then it takes one turn at a time, and ends with the context. `under`: a command that runs it, such as valgrind."""

    def __init__(self, setup: dict[str, Any], under: Sequence[str] = ()) -> None:
        self._setup = setup
        self._under = under
        self.why_not: str | None = None

    def __enter__(self) -> Self:
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [*self._under, sys.executable, "-m", "benchmarks.harness.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env=environment(),
            process_group=0,
        )
        self._say(self._setup)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._errors.close()

    def _say(self, message: dict[str, Any]) -> dict[str, Any]:
        """What it answers; nothing where it has ended or says why it cannot."""
        if self._process.stdin is None or self._process.stdout is None:
            raise TypeError("the process has no pipes")
        try:
            with ended_with(self._process, _DEADLINE_S):
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

    def turn(self, request: dict[str, Any]) -> Values | None:
        if self.why_not is not None:
            return None
        answer = self._say(request)
        return None if self.why_not is not None else answer
