"""`read_list`: from the name of a file to a checked list of downloads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from getm.core.url import validate_url
from getm.core.validate import refuse, validate_bool, validate_path, validate_text
from getm.errors import InvalidInput
from getm.manifests.bagit import read_fetch
from getm.manifests.detect import detect_format
from getm.manifests.document import Document
from getm.manifests.entry import Entry
from getm.manifests.entry_list import EntryList, check_list
from getm.manifests.formats import FORMATS
from getm.manifests.items import Item, located
from getm.manifests.json_list import read_json
from getm.manifests.metalink import read_metalink
from getm.manifests.sums_list import read_sums_list
from getm.manifests.table_columns import Columns
from getm.manifests.tables import read_table
from getm.manifests.url_list import read_url_list

_READERS: dict[str, Callable[[Document], Iterator[Item]]] = {
    "json": read_json,
    "jsonl": read_json,
    "urls": read_url_list,
    "aria2": read_url_list,
    "metalink": read_metalink,
    "bagit": read_fetch,
}


def read_list(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    base_url: str | None = None,
    columns: Columns | None = None,
    directory: str | os.PathLike[str] | None = None,
    reserved: Mapping[str, str] | None = None,
    expand: bool | None = None,
) -> EntryList:
    """Read a list of downloads and check all of it: every entry, every path, every target. No request is made.

    Args:
        path: A file; "-" is standard input.
        format: One of `FORMATS`; None: by the content, and by the name where the content could be several.
        base_url: For sums files, the folder of what they name.
        columns: For CSV and TSV, which column is what: {"url": "link", "path": "{id}/{name}", "md5": "md5sum"}.
        directory: Where relative targets go, and what no target may leave. Without it, targets are relative to the
            current folder, which only entries of getm's own format may leave.
        reserved: Paths that no download may replace, each with what it is ("the receipt").
        expand: Whether names with wildcards, or a slash at the end, stand for several objects: see `Entry`.

    Returns:
        The entries, checked, in their order: anything that `download_all` takes.

    Raises:
        InvalidInput: It cannot be read, is not of its format, or has problems: up to 20 are reported with their places,
            and how many more there are.

    Example:
        >>> entries = getm.read_list("manifest.json", directory="data")
        >>> results = list(getm.download_all(entries, directory="data"))
    """
    if format is not None and validate_text(format, "format") not in FORMATS:
        raise InvalidInput(f"no format is called {format[:40]!r}: expected one of {', '.join(FORMATS)}")
    if base_url is not None:
        base_url = validate_url(base_url)
    given = [*columns, *columns.values()] if isinstance(columns, Mapping) else [columns]
    if columns is not None and not all(isinstance(text, str) for text in given):
        refuse("columns", "a mapping of fields to columns, all of them str", columns)
    if reserved is not None and not isinstance(reserved, Mapping):
        refuse("reserved", "a mapping of paths to what they are", reserved)
    folder = None if directory is None else validate_path(directory, "directory")
    if expand is not None:
        validate_bool(expand, "expand")
    document = Document.read(validate_path(path, "path"))
    try:
        found = format or detect_format(document)
    except InvalidInput as error:
        raise located(document.name, error) from error
    if base_url is not None and found != "sums":
        raise InvalidInput(f"a base URL is for sums files, and {document.name} is of the format {found}")
    if columns is not None and found not in ("csv", "tsv"):
        raise InvalidInput(f"columns are for csv and tsv, and {document.name} is of the format {found}")
    if found == "sums":
        items = read_sums_list(document, base_url)
    elif found in _READERS:
        items = _READERS[found](document)
    else:
        items = read_table(document, found, columns)
    if expand is not None:
        items = (item.expanding(expand) if isinstance(item, Entry) else item for item in items)
    return check_list(items, document.name, format=found, directory=folder, reserved=reserved)
