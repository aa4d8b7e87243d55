"""Partial files, written as an engine writes them."""

from __future__ import annotations

from getm.core.writing import write_all
from getm.files.os_errors import as_target_error
from getm.files.partial import PartialFile


def put(file: PartialFile, offset: int, data: bytes | memoryview) -> None:
    """Write bytes of the object, from byte `offset` on, to its file. Raises TargetError."""
    with as_target_error(file.path):
        write_all(file.fileno(), data, offset)
    file.wrote(offset, len(data))
