"""Progress bars on a terminal, by rich: one over all files, a line for each under way, lines of ended ones above.

An event changes a few numbers under a lock, and that is all: twenty thousand small files come at thousands of events a
second. rich's own thread draws what the numbers are, a few times a second.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TextIO

from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from getm.cli.output.formatting import (
    amount_text,
    bytes_text,
    duration_text,
    failed_text,
    finished_text,
    name_of,
    printable,
)
from getm.events import Event, Failed, Finished, Planned, Progressed, Retried, Skipped, Started

_REFRESHES_PER_S = 8
_MAX_ROWS = 10
# Speeds are those of the last seconds: long enough to be readable, short enough to show a stall.
_SPEED_WINDOW_S = 10.0

# Name, bar, amount, speed, time to go, note.
_COLUMNS: tuple[JustifyMethod, ...] = ("left", "left", "right", "right", "right", "left")

_GOOD, _BAD, _DIM = Style(color="green"), Style(color="red"), Style(dim=True)


class _Speed:
    """Bytes per second over the last seconds, from samples taken when the bars are drawn."""

    def __init__(self, now: float, done_bytes: int) -> None:
        self._samples = deque([(now, done_bytes)])

    def sample(self, now: float, done_bytes: int) -> float:
        samples = self._samples
        samples.append((now, done_bytes))
        while now - samples[0][0] > _SPEED_WINDOW_S:
            samples.popleft()
        then, before = samples[0]
        elapsed_s = now - then
        # A download that starts over falls back.
        return max(0.0, (done_bytes - before) / elapsed_s) if elapsed_s > 0 else 0.0


@dataclass(slots=True)
class _File:
    """One download under way."""

    name: str
    size: int | None
    done_bytes: int
    speed: _Speed


@dataclass(frozen=True, slots=True)
class _Row:
    """What is drawn of one file, or of all. `amount` empty: the name only."""

    name: str
    amount: str = ""
    done: int = 0
    total: int | None = None
    speed: float = 0.0
    remaining_s: float | None = None
    note: str = ""


class Bars:
    """A `Display` that draws on the terminal `stream`; `files` None: not known yet. `clock` gives seconds."""

    def __init__(self, stream: TextIO, files: int | None, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._files = files
        self._total_bytes: int | None = None
        self._ended = 0
        self._failed = 0
        # Of all files, and what of it came now rather than in an earlier run.
        self._done_bytes = 0
        self._fetched_bytes = 0
        self._speed = _Speed(clock(), 0)
        self._active: dict[int, _File] = {}
        # Requests are made again before a file has started, too.
        self._retries: dict[int, int] = {}
        self._lines: list[tuple[str, Style, str]] = []
        utf8 = (stream.encoding or "").lower().startswith("utf")
        self._good, self._plain, self._bad = ("✓", "·", "✗") if utf8 else ("+", "-", "x")
        self._live = _Live(self, Console(file=stream))
        self._handlers: dict[type[Event], Callable[..., None]] = {
            Planned: self._planned,
            Started: self._started,
            Progressed: self._progressed,
            Retried: self._retried,
            Finished: self._finished,
            Failed: self._failed_event,
            Skipped: self._skipped,
        }

    def on_event(self, event: Event) -> None:
        handler = self._handlers.get(type(event))
        if handler is not None:
            with self._lock:
                handler(event)

    def __enter__(self) -> Bars:
        self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        # The terminal may be gone: no reason for the downloads to fail.
        with contextlib.suppress(OSError):
            self._live.stop()

    # Events: under the lock ------------------------------------------------------------------------------------------

    def _planned(self, event: Planned) -> None:
        self._files, self._total_bytes = event.files, event.total_bytes

    def _started(self, event: Started) -> None:
        name, done_bytes = name_of(event.path, event.url), event.resumed_bytes
        self._active[event.index] = _File(name, event.size, done_bytes, _Speed(self._clock(), done_bytes))
        self._done_bytes += done_bytes

    def _progressed(self, event: Progressed) -> None:
        file = self._active.get(event.index)
        if file is not None:
            self._advance(file, event.done_bytes)
            file.size = event.total_bytes

    def _advance(self, file: _File, done_bytes: int) -> None:
        more = done_bytes - file.done_bytes
        file.done_bytes = done_bytes
        self._done_bytes += more
        self._fetched_bytes += more

    def _retried(self, event: Retried) -> None:
        self._retries[event.index] = self._retries.get(event.index, 0) + 1

    def _finished(self, event: Finished) -> None:
        result = event.result
        file = self._active.get(event.index)
        if file is not None:
            self._advance(file, result.size)
        mark, style = (self._good, _GOOD) if result.verified else (self._plain, _DIM)
        self._end(event.index, mark, style, finished_text(result, digest=False))

    def _failed_event(self, event: Failed) -> None:
        self._failed += 1
        self._end(event.index, self._bad, _BAD, failed_text(event))

    def _skipped(self, event: Skipped) -> None:
        self._end(event.index, self._plain, _DIM, f"{name_of(event.path)}: skipped: {printable(event.reason)}")

    def _end(self, index: int, mark: str, style: Style, text: str) -> None:
        self._active.pop(index, None)
        self._ended += 1
        retries = _times(self._retries.pop(index, 0))
        counted = f" [{self._ended}/{self._files}]" if self._files is not None and self._files > 1 else ""
        self._lines.append((mark, style, f"{counted} {text}{retries and f', {retries}'}"))

    # Drawing: in rich's thread ---------------------------------------------------------------------------------------

    def take_lines(self) -> list[tuple[str, Style, str]]:
        """Mark, its style and text of those that have ended since the last call."""
        with self._lock:
            lines, self._lines = self._lines, []
        return lines

    def rows(self) -> list[_Row]:
        """The rows to draw now."""
        now = self._clock()
        with self._lock:
            rows = [] if self._files == 1 else [self._overall(now)]
            shown = islice(self._active.items(), _MAX_ROWS)
            rows += [self._file_row(file, now, self._retries.get(index, 0)) for index, file in shown]
            hidden = len(self._active) - _MAX_ROWS
        if hidden > 0:
            rows.append(_Row(f"and {hidden} more"))
        return rows

    def _overall(self, now: float) -> _Row:
        speed = self._speed.sample(now, self._fetched_bytes)
        files = f"{self._ended:,}" if self._files is None else f"{self._ended:,}/{self._files:,}"
        total_bytes, done_bytes = self._total_bytes, self._done_bytes
        note = f"{self._failed:,} failed" if self._failed else ""
        amount = amount_text(done_bytes, total_bytes)
        # Where the bytes are not known in advance, the files are what can be counted.
        done, total = (self._ended, self._files) if total_bytes is None else (done_bytes, total_bytes)
        remaining_s = _remaining(done_bytes, total_bytes, speed)
        return _Row(f"{files} files", amount, done, total, speed, remaining_s, note)

    def _file_row(self, file: _File, now: float, retries: int) -> _Row:
        done_bytes, size = file.done_bytes, file.size
        speed = file.speed.sample(now, done_bytes)
        amount, remaining_s = amount_text(done_bytes, size), _remaining(done_bytes, size, speed)
        return _Row(file.name, amount, done_bytes, size, speed, remaining_s, _times(retries))


class _Live(Live):
    """rich's live region, which also writes the lines of ended files above itself, many at once."""

    def __init__(self, bars: Bars, console: Console) -> None:
        self._bars = bars
        # redirect_stdout=False: the data itself may go there.
        super().__init__(
            console=console,
            refresh_per_second=_REFRESHES_PER_S,
            transient=True,
            redirect_stdout=False,
            get_renderable=self._draw,
        )

    def refresh(self) -> None:
        lines = self._bars.take_lines()
        with self.console:
            if lines:
                self.console.print(_Ended(lines), soft_wrap=True)
            super().refresh()

    def _draw(self) -> RenderableType:
        rows = self._bars.rows()
        if not rows:
            return ""
        width = self.console.width
        name_width, bar_width = max(12, width // 3), max(5, min(40, width - width // 3 - 52))
        table = Table.grid(padding=(0, 1))
        for justify in _COLUMNS:
            table.add_column(no_wrap=True, justify=justify)
        for row in rows:
            table.add_row(*_cells(row, name_width, bar_width))
        return table


class _Ended:
    """Lines as they are: rich's own way through `Text` would cost a hundred times as much for each."""

    def __init__(self, lines: Iterable[tuple[str, Style, str]]) -> None:
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for mark, style, text in self._lines:
            yield Segment(mark, style)
            yield Segment(f"{text}\n")


def _cells(row: _Row, name_width: int, bar_width: int) -> Iterator[RenderableType]:
    yield Text(_shortened(row.name, name_width))
    if not row.amount:
        return
    yield ProgressBar(total=row.total, completed=row.done, width=bar_width)
    yield Text(row.amount)
    yield Text(f"{bytes_text(round(row.speed))}/s" if row.speed else "")
    yield Text("" if row.remaining_s is None else duration_text(row.remaining_s))
    yield Text(row.note, style="yellow")


def _shortened(name: str, width: int) -> str:
    """The end of a path says more than its beginning."""
    return name if len(name) <= width else f"…{name[1 - width :]}"


def _remaining(done_bytes: int, total_bytes: int | None, speed: float) -> float | None:
    """Seconds left; None: not known."""
    return None if total_bytes is None or not speed else max(0, total_bytes - done_bytes) / speed


def _times(retries: int) -> str:
    return "" if not retries else "1 retry" if retries == 1 else f"{retries} retries"
