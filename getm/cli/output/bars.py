"""Progress bars on a terminal, by rich: one over all files, a line for each under way, lines of ended ones above.

An event changes a few numbers under a lock, and that is all: twenty thousand small files come at thousands of events a
second. rich's own thread draws what the numbers are, a few times a second.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TextIO

from msgspec import Struct
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from getm.cli.output import formatting
from getm.cli.output.formatting import amount_text, bytes_text, duration_text, name_of
from getm.events import Event, Failed, Finished, Planned, Progressed, Retried, Skipped, Started

_REFRESHES_PER_S = 8
_MAX_ROWS = 10
# Speeds are those of the last seconds: long enough to be readable, short enough to show a stall.
_SPEED_WINDOW_S = 10.0

# Name, bar, amount, speed, time to go, note.
_COLUMNS: tuple[JustifyMethod, ...] = ("left", "left", "right", "right", "right", "left")

_GOOD, _BAD, _DIM = Style(color="green"), Style(color="red"), Style(dim=True)


class _Bar(Struct):
    """One download under way, or all of them: `resumed_bytes` of `done_bytes` came in an earlier run. `samples`: at
    what time how many bytes had come in this one, taken when the bar is drawn."""

    name: str
    size: int | None
    done_bytes: int
    resumed_bytes: int
    samples: deque[tuple[float, int]]

    def cells(self, now: float, width: int, note: str, done: int, total: int | None) -> Iterator[RenderableType]:
        """What is drawn of it on a terminal of `width` columns; `done` of `total` is what the bar itself shows."""
        samples = self.samples
        samples.append((now, self.done_bytes - self.resumed_bytes))
        while now - samples[0][0] > _SPEED_WINDOW_S:
            samples.popleft()
        elapsed_s, more = now - samples[0][0], samples[-1][1] - samples[0][1]
        # A download that starts over falls back.
        speed = max(0.0, more / elapsed_s) if elapsed_s else 0.0
        remaining_s = None if self.size is None or not speed else max(0, self.size - self.done_bytes) / speed
        name_width, bar_width = max(12, width // 3), max(5, min(40, width - width // 3 - 52))
        # The end of a path says more than its beginning.
        yield Text(self.name if len(self.name) <= name_width else f"…{self.name[1 - name_width :]}")
        yield ProgressBar(total=total, completed=done, width=bar_width)
        yield Text(amount_text(self.done_bytes, self.size))
        yield Text(f"{bytes_text(round(speed))}/s" if speed else "")
        yield Text("" if remaining_s is None else duration_text(remaining_s))
        yield Text(note, style="yellow")


class Bars(Live):
    """A `Display` that draws on the terminal `stream`; `clock` gives seconds. The lines of files that have ended are
    written above the live region, many at once."""

    shows_failures = True

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Live's own lock is held while the terminal takes what is drawn.
        self._numbers = threading.Lock()
        self._files: int | None = None
        self._ended = self._failed = 0
        self._all = _Bar("", None, 0, 0, deque([(clock(), 0)]))
        self._active: dict[int, _Bar] = {}
        # Requests are made again before a file has started, too.
        self._retries: Counter[int] = Counter()
        self._lines: list[tuple[str, Style, str]] = []
        utf8 = (stream.encoding or "").lower().startswith("utf")
        self._good, self._plain, self._bad = ("✓", "·", "✗") if utf8 else ("+", "-", "x")
        console, redirect = Console(file=stream), False  # the data itself may go to standard output
        super().__init__(console=console, refresh_per_second=_REFRESHES_PER_S, transient=True, redirect_stdout=redirect)

    def __exit__(self, *exc_info: object) -> None:
        # The terminal may be gone: no reason for the downloads to fail.
        with contextlib.suppress(OSError):
            self.stop()

    def on_event(self, event: Event) -> None:
        with self._numbers:
            match event:
                case Progressed():
                    if bar := self._active.get(event.index):
                        self._advance(bar, event.done_bytes)
                        bar.size = event.total_bytes
                case Started():
                    resumed_bytes = event.resumed_bytes
                    name, samples = name_of(event.path, event.url), deque([(self._clock(), 0)])
                    self._active[event.index] = _Bar(name, event.size, resumed_bytes, resumed_bytes, samples)
                    self._all.done_bytes += resumed_bytes
                    self._all.resumed_bytes += resumed_bytes
                case Retried():
                    self._retries[event.index] += 1
                case Finished():
                    if bar := self._active.get(event.index):
                        self._advance(bar, event.result.size)
                    mark, style = (self._good, _GOOD) if event.result.verified else (self._plain, _DIM)
                    self._end(event.index, mark, style, formatting.finished_text(event.result, digest=False))
                case Failed():
                    self._failed += 1
                    self._end(event.index, self._bad, _BAD, formatting.failed_text(event))
                case Skipped():
                    text = f"{name_of(event.path)}: skipped: {formatting.printable(event.reason)}"
                    self._end(event.index, self._plain, _DIM, text)
                case Planned():
                    self._files, self._all.size = event.files, event.total_bytes

    def _advance(self, bar: _Bar, done_bytes: int) -> None:
        self._all.done_bytes += done_bytes - bar.done_bytes
        bar.done_bytes = done_bytes

    def _end(self, index: int, mark: str, style: Style, text: str) -> None:
        self._active.pop(index, None)
        self._ended += 1
        retries = _times(self._retries.pop(index, 0))
        counted = f" [{self._ended}/{self._files}]" if self._files is not None and self._files > 1 else ""
        self._lines.append((mark, style, f"{counted} {text}{retries and f', {retries}'}"))

    # Drawing: in rich's thread ---------------------------------------------------------------------------------------

    def refresh(self) -> None:
        with self._numbers:
            lines, self._lines = self._lines, []
        with self.console:
            if lines:
                self.console.print(_Ended(lines), soft_wrap=True)
            super().refresh()

    def get_renderable(self) -> RenderableType:
        now, width = self._clock(), self.console.width
        table = Table.grid(padding=(0, 1))
        for justify in _COLUMNS:
            table.add_column(no_wrap=True, justify=justify)
        with self._numbers:
            if self._files != 1:
                bar, note = self._all, f"{self._failed:,} failed" if self._failed else ""
                bar.name = f"{self._ended:,} files" if self._files is None else f"{self._ended:,}/{self._files:,} files"
                # Where the bytes are not known in advance, the files are what can be counted.
                counted = (self._ended, self._files) if bar.size is None else (bar.done_bytes, bar.size)
                table.add_row(*bar.cells(now, width, note, *counted))
            for index, bar in islice(self._active.items(), _MAX_ROWS):
                table.add_row(*bar.cells(now, width, _times(self._retries[index]), bar.done_bytes, bar.size))
            hidden = len(self._active) - _MAX_ROWS
        if hidden > 0:
            table.add_row(f"and {hidden} more")
        return table if table.row_count else ""


class _Ended(Struct, frozen=True):
    """Lines as they are: rich's own way through `Text` would cost a hundred times as much for each."""

    lines: list[tuple[str, Style, str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for mark, style, text in self.lines:
            yield Segment(mark, style)
            yield Segment(f"{text}\n")


def _times(retries: int) -> str:
    return "" if not retries else "1 retry" if retries == 1 else f"{retries} retries"
