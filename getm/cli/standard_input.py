"""Checksums of standard input, which can be read once and has no name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from getm.integrity import Checksum, FileReport, HashPool
from getm.integrity.file_batch import OnBytes
from getm.integrity.files import check_file


def check_standard_input(expected: Sequence[Checksum], algorithms: Sequence[str], on_bytes: OnBytes) -> FileReport:
    """Read descriptor 0 to its end, check it against `expected`, and compute the canonical `algorithms`.

    By its number: "/dev/stdin" would open the file again, at its beginning, and cannot be opened where it is a socket.
    """
    path = Path("-")
    try:
        with HashPool() as pool:
            return FileReport(
                path, check_file(0, expected, also=algorithms, pool=pool, on_bytes=partial(on_bytes, path))
            )
    except OSError as error:
        return FileReport(path, None, error)
