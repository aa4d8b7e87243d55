"""How many downloads ended in which way: counted as they end, and said in one line."""

from __future__ import annotations

from msgspec import Struct, field

from getm.cli.output.formatting import bytes_text
from getm.core.json_form import Json
from getm.events import Event, Failed, Finished, Skipped, Started
from getm.results import DownloadResult


class Summary(Struct):
    """What has become of `files` downloads. `total_bytes`: of those that are there; `seconds`: wall time of all;
    `skipped`: how many of those had been there, and were left; `coded`: how many have the content coding with which
    they came; `started`: the indices of those under way. `continues`: whether the others go on after a failure."""

    files: int
    continues: bool = True
    total_bytes: int = 0
    seconds: float = 0.0
    verified: int = 0
    not_verified: int = 0
    failed: int = 0
    skipped: int = 0
    names_changed: int = 0
    coded: int = 0
    commands_failed: int = 0
    started: set[int] = field(default_factory=set)

    def count(self, event: Event) -> None:
        """Take an event into account."""
        match event:
            case Started():
                self.started.add(event.index)
            case Finished():
                self.started.discard(event.index)
                self._count_file(event.result)
            case Failed():
                self.started.discard(event.index)
                self.failed += 1
            case Skipped():
                self.started.discard(event.index)
                self.skipped += 1
                if event.result is None:
                    self.not_verified += 1
                else:
                    self._count_file(event.result)

    def _count_file(self, result: DownloadResult) -> None:
        self.total_bytes += result.size
        self.verified += result.verified
        self.not_verified += not result.verified
        self.names_changed += result.suggested_name is not None
        self.coded += result.content_coding is not None

    @property
    def done(self) -> int:
        """Files that are there, and complete."""
        return self.verified + self.not_verified

    @property
    def interrupted(self) -> int:
        """Begun, and neither complete nor failed."""
        return len(self.started)

    @property
    def not_tried(self) -> int:
        """Of which nothing was heard."""
        return self.files - self.done - self.failed - self.interrupted

    def text(self) -> str:
        """All of it on one line, for people."""
        parts = [
            f"{self.done} {'file' if self.done == 1 else 'files'}",
            bytes_text(self.total_bytes),
            f"{self.seconds:.1f} s",
            f"{self.verified} verified",
            f"{self.not_verified} not verified",
            f"{self.failed} failed" if self.done == self.files else f"{self.failed} of {self.files} failed",
        ]
        notes = {
            "left as they were": self.skipped,
            "renamed": self.names_changed,
            "content-coded": self.coded,
        }
        parts += [f"{count} {what}" for what, count in notes.items() if count]
        return f"{', '.join([*parts, *self._others()])}{self._advice}"

    def failed_text(self) -> str:
        """How many failed, and how many were not tried because of them."""
        others = self._others()
        if not others:
            return f"{self.failed} of {self.files} downloads failed."
        return f"{', '.join([f'{self.failed} of {self.files} failed', *others])}{self._advice}"

    def to_json(self) -> dict[str, Json]:
        """All of it, for programs."""
        counts = ("files", "total_bytes", "seconds", "verified", "not_verified", "failed", "skipped", "interrupted")
        values = {
            name: getattr(self, name) for name in (*counts, "not_tried", "names_changed", "coded", "commands_failed")
        }
        return {"event": "summary", **values, "seconds": round(self.seconds, 6)}

    def _others(self) -> list[str]:
        """What is neither there nor failed; commands of --on-complete. What is to be tried is last."""
        others = {
            "commands failed": self.commands_failed,
            "interrupted": self.interrupted,
            "not tried": self.not_tried,
        }
        return [f"{count} {what}" for what, count in others.items() if count]

    @property
    def _advice(self) -> str:
        return " (-c tries them)" if self.failed and self.not_tried and not self.continues else ""
