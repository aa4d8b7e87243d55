"""Rows that are redrawn on a terminal a few times a second, by a thread of its own, below lines that stay."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Self

from getm.cli.output.columns import Columns, Row
from getm.cli.output.terminal import Terminal

_DRAWN_EACH_S = 0.1


class Drawing:
    """Draws on `terminal` what `rows` gives, for a terminal of so many lines, as long as the context is not left.

    Only this thread waits for the terminal, which may be slow, or stopped by its user; `write` never does.
    """

    def __init__(self, terminal: Terminal, rows: Callable[[int], Sequence[Row]]) -> None:
        self._terminal = terminal
        self._rows = rows
        self._columns = Columns(terminal)
        # While the terminal takes what is drawn.
        self._lock = threading.Lock()
        self._lines: deque[str] = deque()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="getm-progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Only the lines are left."""
        self._stopped.set()
        self._thread.join()
        with self._lock:
            self._draw(())

    def write(self, line: str) -> None:
        """Add a line above the rows, when they are drawn the next time."""
        self._lines.append(line)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """A context in which others may write to the same terminal: the rows are not there."""
        with self._lock:
            self._draw(())
            yield

    def _run(self) -> None:
        while not (self._stopped.wait(_DRAWN_EACH_S) or self._terminal.gone):
            with self._lock:
                self._draw(self._rows(self._terminal.size().lines))

    def _draw(self, rows: Sequence[Row]) -> None:
        # Others add to them meanwhile.
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        self._terminal.draw(lines, self._columns.lines(rows, self._terminal.size().columns) if rows else ())
