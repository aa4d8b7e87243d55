"""Standard input in the place of a file: it can be read once, and has no name.

It is read by its number: "/dev/stdin" would open the file again, at its beginning, and cannot be opened where it is a
socket.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from getm.integrity.file_batch import FileReport, OnBytes, check_files
from getm.integrity.files import check_file
from getm.integrity.values import Checksum

STANDARD_INPUT = "-"


_Entries = Sequence[tuple[str, Sequence[Checksum]]]


def check_operands(
    entries: _Entries, on_bytes: OnBytes, also: Sequence[str] = (), jobs: int | None = None
) -> Iterable[FileReport]:
    """`check_files`, for entries of which the only one may be standard input. It is read in this thread: Ctrl-C could
    not end another one that waits for input."""
    if entries[0][0] != STANDARD_INPUT:
        return check_files(entries, also=also, jobs=jobs, on_bytes=on_bytes)
    path = Path(STANDARD_INPUT)
    try:
        return [FileReport(path, check_file(0, entries[0][1], also=also, on_bytes=partial(on_bytes, path)))]
    except OSError as error:
        return [FileReport(path, None, error)]
