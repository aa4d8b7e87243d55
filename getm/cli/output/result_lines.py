"""Result lines on standard output, and one progress bar over all files on a terminal.

What draws the bar is imported only when one is shown, as in `getm.cli.output.progress`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from getm.cli.output.drawing import Drawing


def one_line(name: str) -> str:
    """A file's name for a result line. One with a line break is escaped as "sha256sum -c" does it, after a backslash:
    it could otherwise forge a line (GNU coreutils manual, "md5sum invocation")."""
    if "\n" not in name and "\r" not in name:
        return name
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"\\{escaped}"


def size_bytes(path: str) -> int | None:
    """The size of a file; None where there is none."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return None


class Lines(contextlib.ExitStack):
    """Writes result lines to standard output, and shows how many bytes of `paths` have been read. A context manager.

    `shown` False, or standard error not being a terminal: lines only. `advance` may be called from any thread.
    """

    def __init__(self, paths: Iterable[str], *, shown: bool) -> None:
        super().__init__()
        self._done_bytes = 0
        self._drawing: Drawing | None = None
        if not shown or sys.stderr is None or not sys.stderr.isatty():
            return
        from getm.cli.output.drawing import Drawing
        from getm.cli.output.meter import Meter
        from getm.cli.output.terminal import Terminal

        total_bytes = sum(size_bytes(path) or 0 for path in paths) or None
        meter = Meter(time.monotonic())
        self._drawing = self.enter_context(
            Drawing(Terminal(sys.stderr), lambda _: [meter.row("", time.monotonic(), self._done_bytes, total_bytes)])
        )

    def advance(self, path: Path, count: int) -> None:
        """`count` more bytes of `path` have been read."""
        self._done_bytes += count

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """A context in which others may write to the terminal: above the bar instead of through it."""
        return contextlib.nullcontext() if self._drawing is None else self._drawing.paused()

    def write(self, line: str) -> None:
        """One line. Names that are not UTF-8 come out as the bytes that they are."""
        if sys.stdout is None:
            return
        with self.paused() if sys.stdout.isatty() else contextlib.nullcontext():
            sys.stdout.flush()
            sys.stdout.buffer.write(os.fsencode(f"{line}\n"))
            sys.stdout.buffer.flush()
