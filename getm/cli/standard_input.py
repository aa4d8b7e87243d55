"""Standard input in the place of a file: it can be read once, and has no name.

It is read by its number: "/dev/stdin" would open the file again, at its beginning, and cannot be opened where it is a
socket.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from getm.errors import InvalidInput
from getm.integrity import Checksum, FileReport, HashPool
from getm.integrity.file_batch import OnBytes
from getm.integrity.files import check_file

STANDARD_INPUT = "-"


def read_whole(name: str, what: str) -> bytes:
    """The bytes of `what`, the file `name` or standard input. Raises `InvalidInput` where it cannot be read."""
    try:
        file = 0 if name == STANDARD_INPUT else name
        with open(file, "rb", closefd=bool(file)) as opened:
            return opened.read()
    except OSError as error:
        raise InvalidInput(f"The {what} {name} cannot be read: {error.strerror}.") from error


def check_standard_input(expected: Sequence[Checksum], algorithms: Sequence[str], on_bytes: OnBytes) -> FileReport:
    """Read it to its end, check it against `expected`, and compute the canonical `algorithms`."""
    path = Path(STANDARD_INPUT)
    with HashPool() as pool:
        try:
            verdict = check_file(0, expected, also=algorithms, pool=pool, on_bytes=partial(on_bytes, path))
        except OSError as error:
            return FileReport(path, None, error)
    return FileReport(path, verdict)
