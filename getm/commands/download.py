"""`getm URL [FILE]`, `getm URL URL...` and `getm -m MANIFEST`: downloads, one or a hundred thousand."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import getm
from getm.commands.download_options import parse
from getm.commands.process import logging_to_stdout
from getm.commands.report import EXIT_OK, report, sum_up
from getm.downloads import StreamTarget
from getm.downloads.progress import DisplayKind, open_display
from getm.downloads.receipt import Receipt
from getm.downloads.wording import bytes_text, finished_text
from getm.errors import GetmError, InvalidInput, TargetError
from getm.events import Event, Failed, Finished, Planned, Progressed, Retried, Skipped, Started
from getm.integrity import parse_checksum, parse_pair
from getm.lists import Entry, EntryList, open_list
from getm.options import parse_header
from getm.redact import redact

# Log records keep away from the data, by whichever name it goes there.
_STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_LISTED = ("format", "base_url", "columns")

_log = logging.getLogger("getm.cli")


def main(arguments: Sequence[str]) -> int:
    """Run the command with `arguments` and return its exit status; raises what getm raises."""
    options = parse(arguments)
    if options.manifest is not None:
        return _download_list(options)
    urls, path = _operands(options)
    if path in _STANDARD_OUTPUT:
        return _download_to_stdout(options, urls[0], path)
    return _download_urls(options, urls, path)


# What was asked for --------------------------------------------------------------------------------------------------


def _operands(options: argparse.Namespace) -> tuple[list[str], str | None]:
    """The URLs, and the target where there is one of them."""
    operands, path = list(options.operands), options.filepath
    if not operands:
        raise InvalidInput("one of URL and --manifest must be given; see getm --help")
    for name in _LISTED:
        if getattr(options, name) is not None:
            raise InvalidInput(f"--{name.replace('_', '-')} is for lists (-m)")
    if len(operands) == 2 and not _is_url(operands[1]):
        if path is not None:
            raise InvalidInput("the target is given twice: by FILE and by --filepath")
        path = operands.pop()
    if len(operands) > 1:
        if path is not None:
            raise InvalidInput("several URLs cannot go into one FILE; give a folder with -d")
        if not all(map(_is_url, operands)):
            raise InvalidInput("expected URL [FILE], or several URLs and nothing else; list files in a manifest (-m)")
        if options.checksum not in (None, "auto", "none") or options.checksum_algorithm is not None:
            raise InvalidInput("one checksum cannot be that of several URLs; give each its own in a manifest (-m)")
    if path in _STANDARD_OUTPUT and options.dir is not None:
        raise InvalidInput("-d DIR is for files; standard output has no folder")
    # Shells do not expand "~" within --filepath=~/x, and getm 0.0.x did.
    return operands, os.path.expanduser(path) if path else None  # noqa: PTH111 - Path drops a trailing slash


def _is_url(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))


def _checksum(options: argparse.Namespace) -> str | None:
    """The checksum option as a session takes it."""
    value = options.checksum
    if options.checksum_algorithm is not None:
        pair = parse_pair(options.checksum_algorithm, value)
        return str(pair) if pair else "auto"
    if value is None or value == "auto":
        return "auto"
    return None if value == "none" else str(parse_checksum(value))


def _session(options: argparse.Namespace) -> getm.Session:
    floor = {"floor_bytes_s": options.speed_limit, "floor_window_s": options.speed_time}
    given = {name: value for name, value in floor.items() if value is not None}
    limits = replace(getm.Timeout.of(options.timeout, getm.Timeout()), **given)
    return getm.Session(
        processes=options.processes,
        headers=[parse_header(line) for line in options.header],
        timeout=limits,
        cacert=options.cacert,
        insecure=options.insecure,
        limit_rate=options.limit_rate,
        retries=options.retries,
    )


# Files ---------------------------------------------------------------------------------------------------------------


def _download_urls(options: argparse.Namespace, urls: list[str], path: str | None) -> int:
    entries = [Entry(url, path) for url in urls]
    teller = _Teller(options, files=len(entries), single=len(entries) == 1)
    status = _run(options, entries, teller, _checksum(options), jobs=min(options.jobs, len(entries)))
    if len(entries) == 1:
        # Told in full by the caller of this command's `main`, as every single failure is.
        for failure in teller.failures:
            raise failure
    return status


def _download_list(options: argparse.Namespace) -> int:
    if options.operands or options.filepath or options.checksum or options.checksum_algorithm:
        raise InvalidInput("--manifest takes no URL, FILE or checksum beside it: these stand in the manifest")
    with open_list(
        options.manifest,
        format=options.format,
        base_url=options.base_url,
        columns=options.columns,
        directory=options.dir,
    ) as entries:
        teller = _Teller(options, files=entries.count, total_bytes=entries.total_bytes)
        return _run(options, entries, teller, "auto", jobs=options.jobs)


def _run(
    options: argparse.Namespace, entries: list[Entry] | EntryList, teller: _Teller, checksum: str | None, *, jobs: int
) -> int:
    with contextlib.ExitStack() as stack:
        stack.enter_context(logging_to_stdout(options.verbose, to_stdout=False))
        session = stack.enter_context(_session(options))
        stack.enter_context(teller)
        try:
            for _ in session.download_all(
                entries,
                jobs=jobs,
                concurrency=options.concurrency,
                directory=options.dir,
                checksum=checksum,
                strict=options.strict,
                resume=not options.no_resume,
                no_clobber=options.no_clobber,
                remote_time=options.remote_time,
                per_host=options.per_host,
                ranged_from=options.multipart_threshold,
                dry_run=options.dry_run,
                continue_after_error=options.continue_after_error,
                on_event=teller.on_event,
            ):
                pass
        except GetmError:
            # Failures were told as they happened; the one that ended the batch is among them.
            if not teller.failures:
                raise
        return teller.finish()


class _Teller:
    """Tells what happens in all the ways that were asked for. A context manager."""

    def __init__(
        self, options: argparse.Namespace, *, files: int, total_bytes: int | None = None, single: bool = False
    ) -> None:
        """`single`: one URL, whose failure is told by the caller."""
        self._single = single
        self.failures: list[GetmError] = []
        self._options = options
        self._files = files
        self._total_bytes = total_bytes
        self._planned: list[Started] = []
        self._stack = contextlib.ExitStack()
        # With -v, log records tell what a bar would, and would tear it apart.
        kind: DisplayKind = (
            "none" if options.quiet or (options.verbose and options.progress == "auto") else options.progress
        )
        self._display = open_display(sys.stderr, kind, files=files)
        self._receipt = None if options.receipt is None else Receipt(Path(options.receipt))

    def __enter__(self) -> _Teller:
        self._stack.enter_context(self._display)
        if self._receipt is not None:
            self._stack.enter_context(self._receipt)
        self._display.on_event(Planned(self._files, self._total_bytes))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def on_event(self, event: Event) -> None:
        self._display.on_event(event)
        if self._receipt is not None:
            self._receipt.on_event(event)
        if isinstance(event, Finished):
            _log.info("%s", finished_text(event.result))
        elif isinstance(event, Skipped):
            _log.info("%s: skipped, %s", event.path, event.reason)
        elif isinstance(event, Started) and self._options.dry_run:
            self._planned.append(event)
        if self._options.json and not isinstance(event, Progressed | Retried):
            self._print(json.dumps(event.to_json()))
        if isinstance(event, Failed):
            self.failures.append(event.error)
            if not self._single:
                report(event.error, event.url)

    def finish(self) -> int:
        """The exit status, after everything has ended."""
        if self._options.dry_run and not self._options.json:
            self._tell_plan()
        return sum_up(list(self.failures), self._files)

    def _tell_plan(self) -> None:
        """What a dry run has found out, for people."""
        for event in self._planned:
            size = "?" if event.size is None else f"{event.size:,}"
            self._print(f"{size:>20}  {event.path}  {event.url}")
        known = sum(event.size or 0 for event in self._planned)
        resumed = sum(event.resumed_bytes for event in self._planned)
        unknown = sum(event.size is None for event in self._planned)
        free = shutil.disk_usage(_existing(Path(self._options.dir or self._options.filepath or "."))).free
        beside = f", and {unknown} of unknown size" if unknown else ""
        here = f", {bytes_text(resumed)} of it here already" if resumed else ""
        self._print(f"{len(self._planned)} files, {bytes_text(known)}{beside}{here}; {bytes_text(free)} free")

    @staticmethod
    def _print(line: str) -> None:
        if sys.stdout is not None:
            print(line, flush=True)


def _existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


# Standard output -----------------------------------------------------------------------------------------------------


def _download_to_stdout(options: argparse.Namespace, url: str, path: str) -> int:
    """The object to standard output, in order."""
    if sys.stdout is None:
        raise TargetError("Standard output is closed; give a FILE, or open it.", path="-")
    checksum = _checksum(options)
    on_terminal = sys.stdout.isatty()
    sys.stdout.flush()
    done_bytes = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(logging_to_stdout(options.verbose, to_stdout=True))
        session = stack.enter_context(_session(options))
        kind: DisplayKind = "none" if options.quiet or options.verbose or on_terminal else options.progress
        display = stack.enter_context(open_display(sys.stderr, kind, files=1))
        target = stack.enter_context(StreamTarget(sys.stdout.fileno(), Path(path)))
        parts = stack.enter_context(
            session.iter_content(url, concurrency=options.concurrency, checksum=checksum, strict=options.strict)
        )
        display.on_event(Started(0, redact(url), Path(path), parts.size))
        for part in parts:
            target.write(done_bytes, part)
            done_bytes += len(part)
            display.on_event(Progressed(0, done_bytes, parts.size))
        _log.info("%s: %s bytes, %s", path, f"{done_bytes:,}", parts.checksum)
    return EXIT_OK
