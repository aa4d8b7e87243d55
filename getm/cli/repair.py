"""`getm verify --receipt FILE --repair`: brings what is damaged or missing of the files of a receipt."""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from getm.cli.output.errors import print_failure, print_unreadable
from getm.cli.session_options import open_session, url_command_of, warn_of_exposed_files
from getm.errors import GetmError, HTTPStatusError, InvalidInput, RemoteChanged, URLExpired
from getm.files.receipt_lines import ReceiptEntry
from getm.manifests.entry import Entry
from getm.results import DownloadFailure, DownloadResult

_NO_QUERY = (
    "; a receipt has URLs without their query: where that is a signature, give --url-command, or the list with its "
    "URLs: getm -m LIST --receipt FILE --existing=repair"
)


def repair(
    receipt: str, entries: Sequence[ReceiptEntry], options: argparse.Namespace
) -> Iterator[tuple[ReceiptEntry, DownloadResult | None]]:
    """Repair files of a receipt. Yields each with its result; None where it could not be repaired, and the error was
    printed."""
    wanted: list[ReceiptEntry] = []
    downloads: list[Entry] = []
    for entry in entries:
        try:
            downloads.append(_download(entry))
            wanted.append(entry)
        except (GetmError, OSError) as error:
            _print(entry, error)
            yield entry, None
    with contextlib.ExitStack() as stack:
        warn_of_exposed_files(options)
        if command := stack.enter_context(url_command_of(options)):
            downloads = list(map(command.found, downloads))
        session = stack.enter_context(open_session(options))
        results = session.download_all(
            downloads,
            jobs=options.jobs or "auto",
            existing="repair",
            receipt=receipt,
            continue_after_error=True,
        )
        for result in results:
            entry = wanted[result.index]
            if isinstance(result, DownloadFailure):
                _print(entry, result.error, result.url)
            yield entry, None if isinstance(result, DownloadFailure) else result


def _download(entry: ReceiptEntry) -> Entry:
    """Raises `InvalidInput` for what cannot be downloaded, OSError for what is no file."""
    if entry.url is None:
        raise InvalidInput("the receipt does not say where it came from; download it again")
    path = Path(entry.path)
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        # Neither written to nor replaced.
        raise OSError("it is not a regular file")
    return Entry(entry.url, os.path.abspath(path), entry.proofs, entry.size)  # noqa: PTH100 - no link may be resolved


def _print(entry: ReceiptEntry, error: Exception, url: str | None = None) -> None:
    name = os.fspath(entry.path)
    if isinstance(error, OSError) and not isinstance(error, GetmError):
        print_unreadable(name, error)
        return
    if isinstance(error, HTTPStatusError | URLExpired | RemoteChanged):
        error.message += _NO_QUERY
    print_failure(error, url, name)
