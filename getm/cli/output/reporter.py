"""What the command shows of downloads as they happen: progress, results, a receipt, log records, failures."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from getm.cli.exit_status import is_broken_pipe
from getm.cli.output.errors import errors_are_for_people, print_failure, print_text
from getm.cli.output.formatting import bytes_text, failed_text, finished_text, json_text, name_of, printable
from getm.cli.output.progress import open_display
from getm.cli.output.summary import Summary
from getm.core.log import get_logger
from getm.core.url_path import URLPath
from getm.errors import GetmError, InvalidInput
from getm.events import Event, Failed, Finished, Planned, Skipped, Started

if TYPE_CHECKING:
    from getm.cli.on_complete import Commands
    from getm.cli.output.explaining import Explanation

_log = get_logger("cli")


class Reporter(contextlib.ExitStack):
    """Reports events in all the ways that the options ask for. A context manager.

    `planned`: what is known before the first request. `to_stdout`: the data goes to standard output, where a display
    may disturb. `failures`: the errors of downloads, in their order; `summary`: how many ended in which way.
    `engines_busy`: says how busy the busiest engine was.
    """

    def __init__(self, options: argparse.Namespace, planned: Planned, *, to_stdout: bool = False) -> None:
        self.files: int = planned.files or 0
        self.failures: list[GetmError] = []
        self._options = options
        self._plan = planned
        self._to_stdout = to_stdout
        self._on_terminal = sys.stdout is not None and sys.stdout.isatty()
        shows_progress = not (to_stdout and self._on_terminal)
        # With -v, log records say what a bar would, and would break it; and a bar would break the lines of a program.
        read_otherwise = options.verbose or not errors_are_for_people()
        silent = options.quiet or not shows_progress or (read_otherwise and options.progress == "auto")
        kind = "none" if silent else options.progress
        if kind == "bar" and options.verbose and self._on_terminal:
            # Records would go through the bars.
            kind = "plain"
        self._display = open_display(sys.stderr, kind)
        self._planned: list[Started] = []
        self._commands: Commands | None = None
        if options.on_complete is not None:
            if to_stdout:
                raise InvalidInput("--on-complete is for files; here the data goes to standard output")
            from getm.cli.on_complete import Commands

            self._commands = Commands(options.on_complete)
        self.summary: Summary = Summary(self.files, continues=options.continue_after_error)
        self.engines_busy: Callable[[], float] = lambda: 0.0
        self._explanation: Explanation | None = None
        if options.explain or options.verbose:
            from getm.cli.output.explaining import Explanation

            self._explanation = Explanation(self._busy)
        self._began_s, self._worked_s = time.monotonic(), time.process_time()
        super().__init__()

    def __enter__(self) -> Self:
        self.enter_context(self._display)
        if self._commands is not None:
            self.enter_context(self._commands)
        self._display.on_event(self._plan)
        if self._plan.ignored and self._options.json:
            self._write(self._plan)
        self.callback(self._sum_up)
        return self

    @property
    def shows_failures(self) -> bool:
        """Whether people have read of each failure, and of all together."""
        return self._display.shows_failures

    def _sum_up(self) -> None:
        self.summary.seconds = time.monotonic() - self._began_s
        if not self._options.dry_run:
            self._display.finish(self.summary)
        if self._explanation is not None:
            self._explain(self._explanation.lines())

    def _busy(self) -> float:
        """The share of the time in which the busiest thread worked: an engine's, or one of this process, of which one
        works at a time."""
        own_s = time.process_time() - self._worked_s
        return min(1.0, max(own_s / (time.monotonic() - self._began_s), self.engines_busy()))

    def _explain(self, lines: list[str]) -> None:
        """Where the time went: where that was asked for, and else in the log."""
        if not self._options.explain:
            for line in lines:
                _log.info("%s", line)
            return
        stream = sys.stderr if self._to_stdout else sys.stdout
        # Of JSON, each line has it.
        if lines and stream is not None and not self._options.json:
            with self._display.paused():
                print(*lines, sep="\n", file=stream, flush=True)

    def on_event(self, event: Event) -> None:
        """Raises `TargetError` where the receipt cannot be written, or where nobody reads the data on standard output;
        `BrokenPipeError` where nobody reads what is printed there; `CommandFailed` where a command of --on-complete
        has failed, and that ends the batch."""
        if self._to_stdout and isinstance(event, Failed) and is_broken_pipe(event.error):
            raise event.error
        self.summary.count(event)
        if self._explanation is not None:
            self._explanation.on_event(event)
        self._display.on_event(event)
        self._report_commands(wait=False)
        match event:
            case Started() if self._options.dry_run:
                self._planned.append(event)
                size = "size unknown" if event.size is None else f"{event.size:,}"
                self._write(event, f"{size:>18}  {name_of(event.path)}  {printable(event.url)}")
            case Finished():
                # A warning, but not on standard error: callers take anything there for a failure.
                level = logging.INFO if event.result.verified or event.waived else logging.WARNING
                if _log.isEnabledFor(level):
                    _log.log(level, "%s", finished_text(event.result))
                self._write(event)
                if self._commands is not None:
                    self._commands.run(event.result)
            case Skipped():
                _log.info("%s: skipped: %s", name_of(event.path), event.reason)
                text = f"{'skipped':>18}  {name_of(event.path)}  {printable(event.reason)}"
                self._write(event, text if self._options.dry_run else None)
            case Failed():
                self.failures.append(event.error)
                self._write(event)
                if errors_are_for_people() and self._display.shows_failures:
                    return
                with self._display.paused():
                    if errors_are_for_people():
                        print_text(failed_text(event))
                    else:
                        # The URLs of many files may differ only in their queries: the path says which one it was.
                        path = os.fspath(event.path) if event.path is not None and self.files > 1 else None
                        print_failure(event.error, event.url, path)

    def _report_commands(self, *, wait: bool) -> None:
        if self._commands is None:
            return
        for output, error in self._commands.outcomes(wait=wait):
            if output:
                self._pass_on(output)
            if error is None:
                continue
            self.failures.append(error)
            self.summary.commands_failed += 1
            with self._display.paused():
                print_failure(error)
            if not self._options.continue_after_error:
                self._commands.stop()
                if not wait:
                    raise error

    def _pass_on(self, output: bytes) -> None:
        """Print what a command has printed. Lines of JSON stay alone on standard output."""
        stream = sys.stderr if self._options.json else sys.stdout
        if stream is not None:
            with self._display.paused():
                stream.flush()
                stream.buffer.write(output if output.endswith(b"\n") else output + b"\n")
                stream.buffer.flush()

    def finish(self) -> None:
        """Wait for the commands of --on-complete. Print what a dry run found: how much would go to which file system,
        and the free space there."""
        self._report_commands(wait=True)
        if not self._options.dry_run:
            return
        import shutil

        # By device: a folder on it, and the bytes that would go there.
        folders: dict[int, Path] = {}
        sizes: Counter[int] = Counter()
        elsewhere = 0
        for event in self._planned:
            if isinstance(event.path, URLPath):
                elsewhere += event.size or 0
            elif event.path is not None:
                folder = next(each for each in event.path.absolute().parents if each.is_dir())
                device = folder.stat().st_dev
                folders.setdefault(device, folder)
                sizes[device] += event.size or 0
        places = [(folder, sizes[device], shutil.disk_usage(folder).free) for device, folder in folders.items()]
        files, unknown = len(self._planned), sum(event.size is None for event in self._planned)
        if self._options.json:
            shown = [{"path": os.fspath(at), "total_bytes": total, "free_bytes": free} for at, total, free in places]
            facts = {
                "event": "planned",
                "files": files,
                "unknown_sizes": unknown,
                "total_bytes": sizes.total() + elsewhere,
            }
            _print(json_text({**facts, "places": shown}))
            return
        beside = f", and {unknown:,} of unknown size" if unknown else ""
        _print(f"{sizes.total() + elsewhere:>18,}  bytes in {files:,} {'file' if files == 1 else 'files'}{beside}")
        for folder, total, free in places:
            short = f": {bytes_text(total - free)} too little" if total > free else ""
            _print(f"{free:>18,}  bytes free at {name_of(folder)}{short}")

    def _write(self, event: Event, text: str | None = None) -> None:
        """On standard output: the event for programs, `text` for people, if there is any."""
        line = json_text(event.to_json()) if self._options.json else text
        if line is not None:
            with self._display.paused() if self._on_terminal else contextlib.nullcontext():
                _print(line)


def _print(line: str) -> None:
    if sys.stdout is not None:
        print(line, flush=True)
