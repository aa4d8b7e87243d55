"""Progress on a terminal: a line over all files, one for each file under way, and above them what has ended.

An event changes a few numbers under a lock, and that is all: twenty thousand small files come at thousands of events a
second. A thread of its own draws what the numbers are, ten times a second at most.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Self, TextIO

from msgspec import Struct

from getm.cli.output.cells import width_of
from getm.cli.output.columns import Row
from getm.cli.output.drawing import Drawing
from getm.cli.output.formatting import Texts, failed_text, ignored_text, name_of, printable, result_texts
from getm.cli.output.meter import Meter
from getm.cli.output.summary import Summary
from getm.cli.output.terminal import Style, Terminal
from getm.events import Event, Examining, Failed, Finished, Planned, Progressed, Retried, Skipped, Started
from getm.files.names import name_from_url

# Of more files than this only failures get a line, and those under way none.
_MANY_FILES = 50
_MOST_ROWS = 10
# What is over sooner is not worth being said.
_WAIT_WORTH_SAYING_S = 0.5
# A terminal that cannot draw over what it shows gets the line over all files so often, as a further line.
_DUMB_EACH_S = 10.0


class _Bar(Struct):
    """One download under way, or all of them: `resumed_bytes` of `done_bytes` came in an earlier run."""

    path: Path | None
    url: str
    size: int | None
    began: float
    done_bytes: int = 0
    resumed_bytes: int = 0
    meter: Meter | None = None

    def row(self, name: str, now: float, counted: tuple[int, int | None] | None = None) -> Row:
        """What is drawn of it at `now`; `counted`: see `Meter.row`."""
        if self.meter is None:
            # Most of many small files are never drawn.
            self.meter = Meter(self.began, 0 if counted else self.resumed_bytes)
        done_bytes, before_bytes = self.done_bytes, self.resumed_bytes
        return self.meter.row(name, now, done_bytes, self.size, before_bytes=before_bytes, counted=counted)


class _Wait(Struct):
    """A retry that was announced: `until` it begins, by the clock."""

    event: Retried
    until: float

    def texts(self, now: float, more: str = "") -> Texts:
        """What it waits for, the longest text first; `more`: at the end, where there is room."""
        event = self.event
        which = f"retry {event.attempt} of {event.attempts}" if event.attempts else f"retry {event.attempt}"
        when = f"{which} in {max(1, round(self.until - now))} s"
        texts = [f"waiting: {event.reason}, {when}{more}", f"waiting: {event.reason}, {when}"]
        if event.reason[:3].isdigit():
            # A status says enough without its phrase.
            texts.append(f"waiting: {event.reason[:3]}, {when}")
        return *texts, f"waiting: {when}", "waiting"


class Bars:
    """A `Display` that draws on the terminal `stream`; `clock` gives seconds. The lines of files that have ended are
    written above the others, many at once."""

    shows_failures = True

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._terminal = Terminal(stream)
        self._drawing = Drawing(self._terminal, self._rows)
        # Of all that is below; held for a moment only.
        self._numbers = threading.Lock()
        self._began = self._line_at = clock()
        self._files: int | None = None
        self._ended = self._failed = 0
        self._all = _Bar(None, "", None, self._began)
        self._active: dict[int, _Bar] = {}
        # Requests are made again before a file has started, too.
        self._retries: Counter[int] = Counter()
        self._waits: dict[int, _Wait] = {}
        # Files that are there, and are being read.
        self._examined: dict[int, _Bar] = {}

    def __enter__(self) -> Self:
        self._drawing.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._drawing.__exit__(*exc_info)

    # Events ----------------------------------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        with self._numbers:
            match event:
                case Progressed():
                    if bar := self._active.get(event.index):
                        self._advance(bar, event.done_bytes)
                        bar.size = event.total_bytes
                    self._waits.pop(event.index, None)
                case Examining():
                    bar = self._examined.setdefault(event.index, _Bar(event.path, "", event.total_bytes, self._clock()))
                    bar.done_bytes = event.done_bytes
                case Started():
                    self._examined.pop(event.index, None)
                    resumed_bytes = event.resumed_bytes
                    self._active[event.index] = _Bar(
                        event.path, event.url, event.size, self._clock(), resumed_bytes, resumed_bytes
                    )
                    self._all.done_bytes += resumed_bytes
                    self._all.resumed_bytes += resumed_bytes
                    self._waits.pop(event.index, None)
                case Retried():
                    self._retries[event.index] += 1
                    self._waits[event.index] = _Wait(event, self._clock() + event.delay_s)
                case Finished():
                    if bar := self._active.get(event.index):
                        self._advance(bar, event.result.size)
                    self._end(event, event.result.verified, lambda: result_texts(event.result))
                case Failed():
                    self._failed += 1
                    self._end(event, None, lambda: (failed_text(event),))
                case Skipped():
                    verified = event.result is not None and event.result.verified
                    if event.result is not None:
                        self._all.done_bytes += event.result.size
                        self._all.resumed_bytes += event.result.size
                    self._end(event, verified, lambda: (f"{name_of(event.path)}: skipped, {printable(event.reason)}",))
                case Planned():
                    self._files, self._all.size = event.files, event.total_bytes
                    if event.ignored:
                        self._drawing.write(self._terminal.encodable(f"  {ignored_text(event.ignored)}"))

    def finish(self, summary: Summary) -> None:
        """The last line, where it says more than the line of a single file."""
        if summary.files != 1:
            self._drawing.write(summary.text())

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """A context in which others may write to the same terminal."""
        return self._drawing.paused()

    @property
    def _many(self) -> bool:
        return self._files is None or self._files > _MANY_FILES

    def _count(self) -> str:
        files = "" if self._files is None else f"/{self._files}"
        return f"{self._ended:{max(1, len(files) - 1)}}{files}"

    def _advance(self, bar: _Bar, done_bytes: int) -> None:
        self._all.done_bytes += done_bytes - bar.done_bytes
        bar.done_bytes = done_bytes

    def _end(self, event: Finished | Failed | Skipped, verified: bool | None, texts: Callable[[], Texts]) -> None:
        """A file has ended. `verified`: whether anything verified it; None: there is none."""
        for under_way in (self._active, self._waits, self._examined):
            under_way.pop(event.index, None)
        self._ended += 1
        retries = _times(self._retries.pop(event.index, 0))
        if self._many and verified is not None:
            return
        marks = self._terminal.marks
        mark, style = (marks.bad, Style.BAD) if verified is None else (marks.plain, Style.DIM)
        if verified:
            mark, style = marks.good, Style.GOOD
        counted = "" if self._files in (None, 1) else f" [{self._count()}]"
        self._drawing.write(self._fitting(mark, style, counted, texts(), retries))

    def _fitting(self, mark: str, style: Style, counted: str, texts: Texts, retries: str) -> str:
        """The longest of the texts that fits into one line; the shortest where none does."""
        terminal = self._terminal
        candidates = [f"{counted} {text}, {retries}" for text in texts if retries]
        candidates += [f"{counted} {text}" for text in texts]
        candidates = [terminal.encodable(text) for text in candidates]
        left = terminal.size().columns - len(mark)
        text = next((text for text in candidates if width_of(text) < left), candidates[-1])
        return terminal.styled(mark, style) + text

    # Drawing: in a thread of its own ---------------------------------------------------------------------------------

    def _rows(self, lines: int) -> list[Row]:
        """What is under way now, for a terminal of so many `lines`."""
        now = self._clock()
        with self._numbers:
            if not self._terminal.in_place:
                return self._further_line(now)
            rows = [] if self._files == 1 else [self._row_of_all(now)]
            waits = {index: wait for index, wait in self._waits.items() if wait.until - now > _WAIT_WORTH_SAYING_S}
            if self._many:
                return rows + self._next_retry(waits, now)
            shown = [*waits, *(index for index in (*self._active, *self._examined) if index not in waits)]
            # All of them, and perhaps a line that counts the others, must be fewer than the terminal's lines.
            most = min(_MOST_ROWS, lines - 3)
            if most < 1 and rows:
                return rows
            most = max(1, most)
            rows += [self._row(index, waits.get(index), now) for index in shown[:most]]
            if len(shown) > most:
                rows.append(Row(f"and {len(shown) - most} more"))
            elif not rows and not self._ended and now - self._began > _WAIT_WORTH_SAYING_S:
                rows.append(Row(f"waiting for the server, {round(now - self._began)} s"))
        return rows

    def _further_line(self, now: float) -> list[Row]:
        """On a terminal that cannot draw over what it shows, where it is time for another line."""
        if now - self._line_at < _DUMB_EACH_S:
            return []
        self._line_at = now
        return [self._row_of_all(now)]

    def _row_of_all(self, now: float) -> Row:
        # Where the bytes are not known in advance, the files are what can be counted.
        bar = self._all
        counted = (self._ended, self._files) if bar.size is None else None
        row = bar.row(f"{self._count()} {'file' if self._files == 1 else 'files'}", now, counted)
        row.note = f"{self._failed} failed" if self._failed else ""
        return row

    def _row(self, index: int, wait: _Wait | None, now: float) -> Row:
        if wait is not None:
            return Row(self._name(wait.event.path, wait.event.url), waiting=wait.texts(now))
        if (bar := self._active.get(index)) is None:
            bar = self._examined[index]
            return bar.row(f"checking {self._name(bar.path, bar.url)}", now)
        row = bar.row(self._name(bar.path, bar.url), now)
        row.note = _times(self._retries[index])
        return row

    def _next_retry(self, waits: dict[int, _Wait], now: float) -> list[Row]:
        """Of many files that wait, the one that does not for longest."""
        if not waits:
            return []
        soonest = min(waits.values(), key=lambda wait: wait.until)
        more = f" (and {len(waits) - 1} more)" if len(waits) > 1 else ""
        return [Row(self._name(soonest.event.path, soonest.event.url), waiting=soonest.texts(now, more))]

    def _name(self, path: Path | None, url: str) -> str:
        return self._terminal.encodable(name_of(path) if path is not None else printable(name_from_url(url)))


def _times(retries: int) -> str:
    return "" if not retries else "1 retry" if retries == 1 else f"{retries} retries"
