"""Progress bars on a terminal, by rich; nothing anywhere else.

rich is imported only when a bar is shown: a pipeline that runs getm ten thousand times pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, Self, TextIO

if TYPE_CHECKING:
    import rich.progress

ProgressCallback = Callable[[int, int | None], None]
"""`callback(done_bytes, total_bytes)`: how much has come so far, of how much (None: unknown)."""


class Progress(Protocol):
    """What the command tells of its downloads. A context manager; its methods may be called from any thread."""

    def start(self, name: str) -> ProgressCallback:
        """A download begins; call the result as its bytes arrive."""

    def finish(self, callback: ProgressCallback, line: str) -> None:
        """The download of `callback` has ended; `line` says how, in words for people."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


def open_progress(stream: TextIO | None, *, shown: bool, files: int) -> Progress:
    """Bars on `stream` if `shown` and it is a terminal, for `files` downloads; else silence."""
    if stream is None or not shown or not stream.isatty():
        return _Silence()
    return _Bars(stream, files)


class _Silence:
    def start(self, name: str) -> ProgressCallback:
        return _ignore

    def finish(self, callback: ProgressCallback, line: str) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


def _ignore(done_bytes: int, total_bytes: int | None) -> None:
    pass


class _Bars:
    """A bar for each download under way. One that ended becomes a line above, numbered where there are several."""

    def __init__(self, stream: TextIO, files: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._console = Console(file=stream)
        self._progress: rich.progress.Progress = Progress(
            # markup=False: a file may be called "[red]".
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._tasks: dict[ProgressCallback, rich.progress.TaskID] = {}
        self._files = files
        self._finished = 0

    def start(self, name: str) -> ProgressCallback:
        task = self._progress.add_task(name, total=None)

        def callback(done_bytes: int, total_bytes: int | None) -> None:
            self._progress.update(task, completed=done_bytes, total=total_bytes)

        self._tasks[callback] = task
        return callback

    def finish(self, callback: ProgressCallback, line: str) -> None:
        task = self._tasks.pop(callback, None)
        if task is not None:
            self._progress.remove_task(task)
            # Or printing would show the bar once more as it was last drawn.
            self._progress.refresh()
        self._finished += 1
        counted = f"[{self._finished}/{self._files}] {line}" if self._files > 1 else line
        self._console.print(counted, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._progress.stop()
