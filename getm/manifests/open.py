"""`open_list`: from a file name to a checked list of downloads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from getm.errors import InvalidInput
from getm.manifests.bagit import read_fetch
from getm.manifests.columns import Columns
from getm.manifests.entries import EntryList
from getm.manifests.entry import Entry
from getm.manifests.formats import FORMATS, detect_format
from getm.manifests.json_rows import read_json, read_json_lines
from getm.manifests.metalink import read_metalink
from getm.manifests.problem import Problem
from getm.manifests.source import Source
from getm.manifests.sums_lines import read_sums
from getm.manifests.table import read_table
from getm.manifests.url_lines import read_url_lines

_PLAIN: dict[str, Callable[[Source], Iterator[Entry | Problem]]] = {
    "json": read_json,
    "jsonl": read_json_lines,
    "urls": read_url_lines,
    "aria2": read_url_lines,
    "metalink": read_metalink,
    "bagit": read_fetch,
}
_TABLES = {"csv": ",", "tsv": "\t", "gdc": "\t", "ena": "\t"}


def open_list(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    base_url: str | None = None,
    columns: Columns | None = None,
    directory: str | os.PathLike[str] | None = None,
) -> EntryList:
    """Open a list of downloads and check all of it: every entry, every path, every target. No request is made.

    `path`: a file; "-" is standard input. `format`: one of `FORMATS`; None tells it by the content, and by the name
    where the content could be several. `base_url`: for sums files, the folder of what they name. `columns`: for CSV and
    TSV, which column is what (see `parse_columns`). `directory`: where relative targets go, which no target may leave;
    without it, targets are relative to the current folder, which only entries of getm's own formats may leave.

    The caller closes the result. Raises InvalidInput, which tells up to 20 problems with their places, and how many
    more there are: it cannot be read, is not of its format, has no entries, an entry is wrong, a target leaves its
    folder, two entries have one target.
    """
    if format is not None and format not in FORMATS:
        raise InvalidInput(f"no format is called {format[:40]!r}: expected one of {', '.join(FORMATS)}")
    source = Source(path)
    try:
        found = format or detect_format(source)
        if base_url is not None and found != "sums":
            raise InvalidInput(f"a base URL is for sums files, and {source.name} is of the format {found}")
        if columns is not None and found not in ("csv", "tsv"):
            raise InvalidInput(f"columns are for csv and tsv, and {source.name} is of the format {found}")
    except Problem as problem:
        source.close()
        raise InvalidInput(f"{source.name}: {problem}") from problem
    except BaseException:
        source.close()
        raise

    def read() -> Iterator[Entry | Problem]:
        if found == "sums":
            return read_sums(source, base_url)
        if found in _TABLES:
            return read_table(source, _TABLES[found], columns, found if found in ("gdc", "ena") else None)
        return _PLAIN[found](source)

    place = None if directory is None else os.fspath(directory)
    return EntryList(source.name, read, directory=place, format=found, source=source)
