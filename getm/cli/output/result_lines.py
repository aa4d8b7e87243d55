"""Result lines on standard output, and one progress bar over all files on a terminal.

rich is imported only when a bar is shown, as in `getm.cli.output.bars`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.progress


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

    _bar: rich.progress.Progress | None = None
    _task: rich.progress.TaskID

    def __init__(self, paths: Iterable[str], *, shown: bool) -> None:
        super().__init__()
        if not shown or sys.stderr is None or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        columns = BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn()
        # Unless redirect_stdout is False, rich would stand between print() and standard output, even that of
        # "getm hash FILE > SUMS".
        self._bar = Progress(*columns, console=Console(file=sys.stderr), transient=True, redirect_stdout=False)
        self._task = self._bar.add_task("", total=sum(size_bytes(path) or 0 for path in paths) or None)
        self.enter_context(self._bar)

    def advance(self, path: Path, count: int) -> None:
        """`count` more bytes of `path` have been read."""
        if self._bar is not None:
            self._bar.advance(self._task, count)

    def write(self, line: str) -> None:
        """One line. Names that are not UTF-8 come out as the bytes that they are."""
        if sys.stdout is None:
            return
        if self._bar is not None and sys.stdout.isatty():
            # One terminal for both: above the bar instead of through it.
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(f"{line}\n"))
        sys.stdout.buffer.flush()
