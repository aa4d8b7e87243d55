"""Result lines on standard output, and one progress bar over all files on a terminal.

rich is imported only when a bar is shown, as in `getm.cli.output.bars`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import rich.progress

STANDARD_INPUT = "-"


def one_line(name: str) -> str:
    """A file's name for a result line. One with a line break is escaped as "sha256sum -c" does it, after a backslash:
    it could otherwise forge a line (GNU coreutils manual, "md5sum invocation")."""
    if "\n" not in name and "\r" not in name:
        return name
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"\\{escaped}"


class Lines:
    """Writes result lines to standard output, and shows how many bytes of `paths` have been read. A context manager.

    `shown` False, or standard error not being a terminal: lines only. `advance` may be called from any thread.
    """

    def __init__(self, paths: Iterable[str], *, shown: bool) -> None:
        self._bar: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None
        if shown and sys.stderr is not None and sys.stderr.isatty():
            self._open_bar(sum(_size_bytes(path) for path in paths))

    def _open_bar(self, total_bytes: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        self._bar = Progress(
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            transient=True,
            # rich would stand between print() and standard output, even that of "getm hash FILE > SUMS".
            redirect_stdout=False,
        )
        self._task = self._bar.add_task("", total=total_bytes or None)

    def advance(self, path: Path, count: int) -> None:
        """`count` more bytes of `path` have been read."""
        if self._bar is not None and self._task is not None:
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

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _size_bytes(path: str) -> int:
    try:
        return 0 if path == STANDARD_INPUT else Path(path).stat().st_size
    except OSError:
        return 0  # reported when it is opened
