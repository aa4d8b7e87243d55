"""`getm URL [FILE]`, `getm URL URL...` and `getm -m MANIFEST`: downloads, one or a hundred thousand."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import zip_longest
from typing import TYPE_CHECKING

from msgspec.structs import replace

from getm.cli import defaults
from getm.cli.exit_status import EXIT_USAGE
from getm.cli.main import WORDS
from getm.cli.options import build_parser
from getm.cli.output.errors import errors_are_for_people, print_summary, use_json_errors
from getm.cli.output.formatting import ignored_text
from getm.cli.output.logs import logging_to_stdout
from getm.cli.output.reporter import Reporter
from getm.cli.parser import Parser
from getm.cli.session_options import open_session, session_files, url_command_of, warn_of_exposed_files
from getm.core.log import get_logger
from getm.core.redact import redact
from getm.core.url_path import is_url
from getm.errors import GetmError, InvalidInput, TargetError
from getm.events import Planned
from getm.files.names import follow_link
from getm.integrity.algorithms import require_algorithm
from getm.integrity.values import Checksum, parse_checksum, parse_pair
from getm.manifests.entry import Entry
from getm.manifests.entry_list import EntryList, check_list
from getm.resolve.request import is_name

if TYPE_CHECKING:
    from concurrent.futures import Executor

_log = get_logger("cli")

# Log records keep away from the data, by whichever name it goes there.
_STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_LISTED = ("format", "base_url", "columns")

_RESUMABLE = "Partial data is kept; run the same command to resume."


def main(arguments: Sequence[str]) -> int:
    """Run the command with `arguments` and return its exit status; raises what getm raises."""
    parser = build_parser()
    if not arguments and errors_are_for_people():
        sys.stderr.write(f"{parser.format_usage()}\ngetm --help lists the options; getm demo tries it out.\n")
        return EXIT_USAGE
    options = defaults.parse(parser, arguments)
    if options.json_errors:
        use_json_errors()
    if options.manifest is not None:
        return _download_list(options)
    urls, path = _operands(parser, options)
    return _download_urls(options, urls, path)


# Operands and options -------------------------------------------------------------------------------------------------


def _operands(parser: Parser, options: argparse.Namespace) -> tuple[list[str], str | None]:
    """The URLs, and the target where there is one of them."""
    operands, path = list(options.operands), options.filepath
    unknown = [operand for operand in operands if re.fullmatch(r"-\d+", operand)]
    if unknown:
        # argparse takes them for negative numbers.
        parser.refuse(unknown)
    if not operands and path is not None and _is_url(path):
        raise InvalidInput("-O and -o take a FILE here; without them, the file is named by the server or the URL")
    if not operands:
        raise InvalidInput("one of URL and --manifest must be given; see getm --help")
    for name in _LISTED:
        if getattr(options, name) is not None:
            raise InvalidInput(f"--{name.replace('_', '-')} is for lists (-m)")
    if not _is_url(operands[0]):
        _refuse_word(operands)
    if len(operands) == 2 and (not _is_url(operands[1]) or (options.dir is None and _is_store(operands[1]))):
        if path is not None:
            raise InvalidInput("the target is given twice: by FILE and by --filepath")
        path = operands.pop()
    if len(operands) > 1:
        if path is not None:
            raise InvalidInput("several URLs cannot go into one FILE; give a folder with -d")
        if not all(map(_is_url, operands)):
            raise InvalidInput("expected URL [FILE], or several URLs and nothing else; list files in a manifest (-m)")
        if not set(options.checksum) <= {"auto", "none"} or options.checksum_algorithm:
            raise InvalidInput("one checksum cannot be that of several URLs; give each its own in a manifest (-m)")
    if path in _STANDARD_OUTPUT:
        for name, of in (("dir", "-d DIR"), ("json", "--json"), ("dry_run", "--dry-run")):
            if getattr(options, name):
                raise InvalidInput(f"{of} is for files; here the data itself goes to standard output")
    # Shells do not expand "~" within --filepath=~/x, and getm 0.0.x did.
    return operands, os.path.expanduser(path) if path else None  # noqa: PTH111 - Path drops a trailing slash


def _refuse_word(operands: list[str]) -> None:
    """Raise `InvalidInput` where the first operand is no URL, and something else was probably meant."""
    from getm.cli.suggestions import no_command

    if len(operands) == 2 and _is_url(operands[1]):
        raise InvalidInput("the URL comes first: getm URL FILE")
    if text := no_command(operands[0], WORDS):
        raise InvalidInput(text)


def _is_url(text: str) -> bool:
    return text.lower().startswith(("http://", "https://")) or is_name(text)


def _is_store(text: str) -> bool:
    """Whether it is the URL of a place that can be written to, even where it is also a name that can be read."""
    if not is_url(text) or text.lower().startswith(("http://", "https://")):
        return False
    from getm.destinations.urls import is_writable

    return is_writable(text)


def _checksum(options: argparse.Namespace) -> list[Checksum] | str | None:
    """The checksum options as a session takes them: all that were given must match."""
    values: list[str] = options.checksum
    if options.checksum_algorithm:
        if len(options.checksum_algorithm) != max(1, len(values)):
            raise InvalidInput("give --checksum-algorithm as often as --checksum: they are pairs, in their order")
        pairs = zip_longest(options.checksum_algorithm, values)
        checksums = [checksum for pair in pairs if (checksum := parse_pair(*pair)) is not None]
        return _agreeing(checksums) if checksums else "auto"
    if not values:
        return "auto"
    if "auto" in values or "none" in values:
        if len(set(values)) > 1:
            raise InvalidInput("--checksum auto and --checksum none stand alone; leave out the other checksums")
        return None if values[0] == "none" else "auto"
    return _agreeing([parse_checksum(value) for value in values])


def _agreeing(checksums: list[Checksum]) -> list[Checksum]:
    """Raises InvalidInput where two of one algorithm differ, MissingExtra where one cannot be computed."""
    by_algorithm: dict[str, Checksum] = {}
    for checksum in checksums:
        require_algorithm(checksum.algorithm)
        if by_algorithm.setdefault(checksum.algorithm, checksum) != checksum:
            raise InvalidInput(f"two {checksum.algorithm} checksums contradict each other; give the right one")
    return list(by_algorithm.values())


# Files ---------------------------------------------------------------------------------------------------------------


def _download_urls(options: argparse.Namespace, urls: list[str], path: str | None) -> int:
    checksum = _checksum(options)
    # A pair of "null" says that there is none: nothing to warn of.
    waived = checksum is None or (checksum == "auto" and bool(options.checksum_algorithm))
    to_stdout = path in _STANDARD_OUTPUT
    if to_stdout and sys.stdout is None:
        raise TargetError("Standard output is closed; give a FILE, or open it.", path="-")
    if path is not None and options.dir is None and not is_url(path):
        path = follow_link("/dev/stdout" if path == "-" else path)
    expand = _expand(options)
    entries = [Entry(url, path, warn_unverified=not waived, expand=expand) for url in urls]
    if path is not None and not path.endswith("/") and Entry(urls[0], expand=expand).stands_for_several:
        # It would be one object for its path.
        if to_stdout or not os.path.isdir(path):  # noqa: PTH112
            raise InvalidInput(
                "several objects cannot go into one FILE; give a folder with -d, or --no-glob for the name of one",
                url=redact(urls[0]),
            )
        entries = [Entry(urls[0], f"{path}/", warn_unverified=not waived, expand=expand)]
    checked = check_list(entries, "the command line", directory=options.dir, reserved=_reserved(options))
    return _run(options, checked, checksum, to_stdout=to_stdout)


def _download_list(options: argparse.Namespace) -> int:
    # For a URL the readers of lists are not needed.
    from getm.manifests.read import read_list
    from getm.manifests.table_columns import parse_columns

    if options.operands or options.filepath or options.checksum or options.checksum_algorithm:
        raise InvalidInput("--manifest takes no URL, FILE or checksum: these belong in the manifest")
    entries = read_list(
        options.manifest,
        format=options.format,
        base_url=options.base_url,
        columns=None if options.columns is None else parse_columns(options.columns),
        directory=options.dir,
        reserved=_reserved(options),
        expand=_expand(options),
    )
    return _run(options, entries, "auto")


def _expand(options: argparse.Namespace) -> bool | None:
    """See `Entry`."""
    if options.no_glob:
        if options.recursive:
            raise InvalidInput("--recursive and --no-glob exclude each other")
        return False
    return True if options.recursive else None


def _reserved(options: argparse.Namespace) -> dict[str, str]:
    """The files that the command itself reads or writes, and what they are: no download may replace them.

    Raises InvalidInput where the receipt is one of the others."""
    named = {
        "the list itself": options.manifest,
        "the configuration (--config)": options.config,
        **session_files(options),
    }
    files = {os.path.realpath(path): what for what, path in named.items() if path not in (None, "-")}
    if options.receipt is not None:
        path = os.path.realpath(options.receipt)
        if path in files:
            raise InvalidInput(f"the receipt {options.receipt} is {files[path]}; give it a file of its own")
        files[path] = "the receipt"
    return files


def _cluster(scheduler: str) -> AbstractContextManager[Executor]:
    # Dask takes a second to import, and is needed by few.
    from getm.integrations import dask

    return dask.executor(scheduler)


def _go_elsewhere(options: argparse.Namespace, entries: EntryList) -> bool:
    """Whether nothing goes to files."""
    return is_url(options.dir or "") or all(entry.path is not None and is_url(entry.path) for entry in entries)


def _run(
    options: argparse.Namespace,
    entries: EntryList,
    checksum: list[Checksum] | str | None,
    *,
    to_stdout: bool = False,
) -> int:
    """`to_stdout`: the data goes to standard output."""
    if to_stdout and options.dask is not None:
        raise InvalidInput("--dask is for files; here the data goes to standard output")
    stands_for_several = any(entry.stands_for_several for entry in entries)
    if (options.include or options.exclude) and not stands_for_several:
        raise InvalidInput("--include and --exclude choose from what is listed, and nothing here names several objects")
    with contextlib.ExitStack() as stack:
        stack.enter_context(logging_to_stdout(options.verbose, to_stdout=options.json or to_stdout))
        if options.config is not None:
            _log.info("defaults of options are those of %s", options.config)
        for variable in options.unknown_variables:
            # In the log only: it may be another program's.
            _log.warning("%s is no variable of getm, and has no effect; see getm help environment", variable)
        warn_of_exposed_files(options)
        if entries.ignored:
            _log.info("%s: %s", entries.name, ignored_text(entries.ignored))
        session = stack.enter_context(open_session(options, processes=options.processes))
        if stands_for_several:
            from getm.cli.listed import find_listed

            entries = find_listed(options, entries, session, _reserved(options))
        planned = Planned(len(entries), entries.total_bytes, entries.ignored)
        reporter = Reporter(options, planned, to_stdout=to_stdout)
        known: list[Entry] = []
        if stands_for_several and options.dry_run and not options.existing:
            from getm.cli.listed import planned_event, split_planned

            known, entries = split_planned(entries)
        if command := stack.enter_context(url_command_of(options)):
            entries = replace(entries, entries=tuple(map(command.found, entries)))
        executor = None if options.dask is None else stack.enter_context(_cluster(options.dask))
        reporter.engines_busy = session._pool.busiest
        results = session.download_all(
            entries,
            jobs=options.jobs,
            concurrency=options.concurrency,
            directory=options.dir if executor is None else options.dir or ".",
            executor=executor,
            checksum=checksum,
            strict=options.strict,
            resume=not options.no_resume,
            fsync=not options.no_fsync,
            existing=options.existing or "replace",
            receipt=options.receipt,
            remote_time=options.remote_time,
            per_host=options.per_host,
            ranged_from=options.multipart_threshold,
            dry_run=options.dry_run,
            continue_after_error=options.continue_after_error,
            on_event=reporter.on_event,
        )
        stack.enter_context(reporter)
        for number, entry in enumerate(known, len(entries)):
            reporter.on_event(planned_event(number, entry, options.dir))
        try:
            for _ in results:
                pass
        except KeyboardInterrupt as stop:
            if not (options.no_resume or options.dry_run or to_stdout or _go_elsewhere(options, entries)):
                stop.add_note(_RESUMABLE)
            raise
        except GetmError as error:
            # A failure was reported as it happened; what ended the batch as a whole was not.
            if not any(error is reported for reported in reporter.failures):
                raise
        reporter.finish()
    return print_summary(reporter.failures, reporter.summary, shown=reporter.shows_failures)
