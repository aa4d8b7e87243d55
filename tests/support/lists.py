"""Lists of downloads from bytes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import getm
from getm.manifests.entry import Entry
from getm.manifests.table_columns import Columns


def read_list(
    data: bytes,
    format: str | None = None,
    *,
    name: str = "list",
    base_url: str | None = None,
    columns: Columns | None = None,
    directory: str | os.PathLike[str] | None = None,
) -> list[Entry]:
    """The entries of a list with these bytes in a file called `name`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        entries = getm.read_list(path, format=format, base_url=base_url, columns=columns, directory=directory)
    found = list(entries)
    sizes = [entry.size for entry in found]
    assert len(entries) == len(found)
    assert entries.total_bytes == (None if None in sizes else sum(size or 0 for size in sizes))
    return found
