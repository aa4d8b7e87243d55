"""A result: the answers of one run with its environment, as a JSON file that holds every single run."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.machine import Described
from benchmarks.harness.question import Answer, Series


@dataclass
class Result:
    """Answers by the names of questions; `busy` says how busy the machine was when a question was asked.

    `rounds` is what was asked for; `quick`: with smaller sizes.
    """

    machine: Described
    versions: Described
    rounds: int
    quick: bool
    answers: dict[str, Answer] = field(default_factory=dict)
    busy: dict[str, Described] = field(default_factory=dict)

    @property
    def load_before(self) -> str:
        """The load before the first question; later ones find that of the questions before them."""
        return next((each["load"] for each in self.busy.values()), "?")

    def save(self, path: Path) -> None:
        data = {
            "machine": self.machine,
            "versions": self.versions,
            "rounds": self.rounds,
            "quick": self.quick,
            "questions": {
                name: {
                    "busy": self.busy[name],
                    "missing": answer.missing,
                    "series": [
                        {
                            "case": series.case,
                            "tool": series.tool,
                            "amount": series.amount,
                            "values": {
                                value: [float(f"{each:.6g}") for each in run] for value, run in series.values.items()
                            },
                        }
                        for series in answer.series
                    ],
                }
                for name, answer in self.answers.items()
            },
        }
        # Numbers of one kind on one line: a difference between two results can be read.
        text = re.sub(
            r"\[\s+([^\[\]{}\"]+?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", json.dumps(data, indent=1)
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    @classmethod
    def load(cls, path: Path) -> Result:
        data = json.loads(path.read_text())
        questions = data["questions"]
        return cls(
            machine=data["machine"],
            versions=data["versions"],
            rounds=data["rounds"],
            quick=data["quick"],
            answers={
                name: Answer([Series(**series) for series in each["series"]], each["missing"])
                for name, each in questions.items()
            },
            busy={name: each["busy"] for name, each in questions.items()},
        )
