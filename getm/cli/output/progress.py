"""Displays of what happens: bars on a terminal, plain lines for logs, JSON for programs, or nothing.

Each consumes the events of `getm.events`, of which there are thousands a second: an event costs microseconds, bars are
drawn by a timer, lines of progress are few. What draws bars is imported only when one is shown: a pipeline that runs
getm ten thousand times pays nothing for it.
"""

from __future__ import annotations

import abc
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Protocol, Self, TextIO

from msgspec import Struct

from getm.cli.output.formatting import (
    amount_text,
    bytes_text,
    failed_text,
    finished_text,
    ignored_text,
    json_text,
    name_of,
    printable,
)
from getm.cli.output.summary import Summary
from getm.events import Event, Examining, Failed, Finished, Planned, Progressed, Retried, Skipped, Started

KINDS = ("auto", "bar", "plain", "json", "none")

_PLAIN_INTERVAL_S = 1.0
# A line for a file that comes so slowly that it reaches no further tenth, or whose size is not known.
_PLAIN_SILENCE_S = 30.0
_JSON_INTERVAL_S = 0.5

_Clock = Callable[[], float]


class Display(Protocol):
    """A context manager that takes events, from any thread; this one shows nothing. A stream that nobody reads any
    longer, or that is full, ends the display and not the downloads: nothing is raised for it."""

    # Whether people read of each failure here.
    shows_failures: bool = False

    def on_event(self, event: Event) -> None:
        return

    def finish(self, summary: Summary) -> None:
        """What has become of all downloads: the last thing that is shown."""
        return

    def paused(self) -> contextlib.AbstractContextManager[object]:
        """A context in which others may write to the same terminal."""
        return contextlib.nullcontext()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        return


def open_display(stream: TextIO | None, kind: str = "auto", *, clock: _Clock = time.monotonic) -> Display:
    """The display of downloads on `stream`, which stays open.

    "auto": bars where `stream` is a terminal, else nothing. "bar": bars, or plain lines where it is no terminal, since
    the control sequences of bars make logs unreadable. "plain": a line for each start, end, failure and retry, and at
    most one line of progress a second for each file, at each tenth of its size. "json": one object a line for each
    event, progress at most twice a second for each file. "none": nothing. `clock` gives seconds.
    """
    if stream is None or kind == "none":
        return _Silence()
    if kind == "json":
        return _JsonLines(stream, clock)
    if kind != "plain" and stream.isatty():
        from getm.cli.output.bars import Bars

        return Bars(stream, clock)
    return _Silence() if kind == "auto" else _PlainLines(stream, clock)


class _Silence(Display):
    """Shows nothing."""


class _Lines(Display, abc.ABC):
    """Whole lines on a stream, each written at once."""

    def __init__(self, stream: TextIO, clock: _Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()

    def on_event(self, event: Event) -> None:
        with self._lock:
            line = self._line(event)
            if line is not None:
                self._write(line)

    def _write(self, line: str) -> None:
        # OSError: nobody reads it any longer, or its disk is full. ValueError: it was closed.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()

    def finish(self, summary: Summary) -> None:
        with self._lock:
            self._write(self._last_line(summary))

    @abc.abstractmethod
    def _line(self, event: Event) -> str | None:
        """The line of `event`, without its end; None where it gets none."""

    @abc.abstractmethod
    def _last_line(self, summary: Summary) -> str:
        """The line after all others."""


class _JsonLines(_Lines):
    def __init__(self, stream: TextIO, clock: _Clock) -> None:
        super().__init__(stream, clock)
        self._shown_at: dict[int, float] = {}
        # Progress that came too soon after the last line of its file. In a silence no other event follows, so a timer
        # writes it.
        self._held: dict[int, Progressed] = {}
        self._timer: threading.Timer | None = None

    def _line(self, event: Event) -> str | None:
        if isinstance(event, Progressed):
            now = self._clock()
            if now - self._shown_at.get(event.index, -_JSON_INTERVAL_S) < _JSON_INTERVAL_S:
                self._hold(event)
                return None
            self._shown_at[event.index] = now
            self._held.pop(event.index, None)
        elif isinstance(event, Finished | Failed | Skipped):
            self._shown_at.pop(event.index, None)
            self._held.pop(event.index, None)
        return json_text(event.to_json())

    def _last_line(self, summary: Summary) -> str:
        self._held.clear()
        return json_text(summary.to_json())

    def _hold(self, event: Progressed) -> None:
        self._held[event.index] = event
        if self._timer is None:
            self._timer = threading.Timer(_JSON_INTERVAL_S, self._show_held)
            self._timer.daemon = True
            self._timer.start()

    def _show_held(self) -> None:
        with self._lock:
            self._timer = None
            now = self._clock()
            for event in self._held.values():
                self._shown_at[event.index] = now
                self._write(json_text(event.to_json()))
            self._held.clear()

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._held.clear()
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            timer.join()


class _Shown(Struct):
    """The last line of progress of a file."""

    name: str
    at: float
    done_bytes: int
    tenth: int = 0


class _PlainLines(_Lines):
    shows_failures = True

    def __init__(self, stream: TextIO, clock: _Clock) -> None:
        super().__init__(stream, clock)
        self._files: int | None = None
        self._ended = 0
        self._shown: dict[int, _Shown] = {}

    def _line(self, event: Event) -> str | None:
        match event:
            case Progressed():
                return self._progressed(event)
            case Started():
                name = name_of(event.path, event.url)
                self._shown[event.index] = _Shown(name, self._clock(), event.resumed_bytes)
                size = "size unknown" if event.size is None else bytes_text(event.size)
                resumed = f", {bytes_text(event.resumed_bytes)} of it from before" if event.resumed_bytes else ""
                return f"start: {name}: {size}{resumed}"
            case Retried():
                name = name_of(event.path, event.url)
                count = f"{event.attempt} of {event.attempts}" if event.attempts else f"{event.attempt}"
                return f"retry {count}: {name}: {printable(event.message)}; again in {event.delay_s:.1f} s"
            case Finished():
                return self._end("done", event.index, finished_text(event.result))
            case Examining() if event.index in self._shown:
                return self._progressed(Progressed(event.index, event.done_bytes, event.total_bytes))
            case Examining():
                name = f"checking {name_of(event.path)}"
                self._shown[event.index] = _Shown(name, self._clock(), event.done_bytes)
                return f"check: {name_of(event.path)}: {bytes_text(event.total_bytes)}"
            case Failed():
                return self._end("failed", event.index, failed_text(event))
            case Skipped():
                return self._end("skipped", event.index, f"{name_of(event.path)}: {printable(event.reason)}")
            case Planned():
                self._files = event.files
                files = "?" if event.files is None else f"{event.files:,}"
                size = "size unknown" if event.total_bytes is None else bytes_text(event.total_bytes)
                ignored = f", {ignored_text(event.ignored)}" if event.ignored else ""
                return f"files: {files}, {size}{ignored}"
        return None

    def _last_line(self, summary: Summary) -> str:
        return f"all: {summary.text()}"

    def _progressed(self, event: Progressed) -> str | None:
        shown = self._shown.get(event.index)
        if shown is None:
            return None
        now, total_bytes = self._clock(), event.total_bytes
        elapsed_s = now - shown.at
        tenth = event.done_bytes * 10 // total_bytes if total_bytes else 0
        if elapsed_s < _PLAIN_INTERVAL_S or (tenth == shown.tenth and elapsed_s < _PLAIN_SILENCE_S):
            return None
        speed = max(0.0, (event.done_bytes - shown.done_bytes) / elapsed_s)
        shown.at, shown.done_bytes, shown.tenth = now, event.done_bytes, tenth
        share = f"{event.done_bytes * 100 // total_bytes} %" if total_bytes else "progress"
        return f"{share}: {shown.name}: {amount_text(event.done_bytes, total_bytes)}, {bytes_text(round(speed))}/s"

    def _end(self, word: str, index: int, text: str) -> str:
        self._shown.pop(index, None)
        self._ended += 1
        return f"{word} [{self._ended}/{'?' if self._files is None else self._files}]: {text}"
