"""CSV and TSV: an entry for each row, or for each item of the lists in a row."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator

from getm.errors import InvalidInput
from getm.integrity import make_checksum
from getm.manifests.document import Document
from getm.manifests.entry import Entry
from getm.manifests.entry_list import Ignored, Item
from getm.manifests.fields import checksum_of
from getm.manifests.problem import Problem, attempt
from getm.manifests.table_columns import Columns, Plan, Row, plan_table

_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def read_table(
    document: Document, delimiter: str, columns: Columns | None = None, preset: str | None = None
) -> Iterator[Item]:
    """The entries of a table with a header line (RFC 4180, section 2; TSV likewise). `preset` is "gdc" or "ena";
    without one and without `columns`, the columns' names decide."""
    rows = csv.reader((line for _, line in document.lines()), delimiter=delimiter, strict=True)
    plan: Plan | None = None
    header: Row = ()
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise Problem(f"line {rows.line_num}", f"not a table: {error}") from error
        if row is None:
            return
        if not any(row):
            continue
        place = f"line {rows.line_num}"
        if plan is None:
            header = row
            try:
                plan = plan_table(header, columns, preset)
            except InvalidInput as error:
                raise Problem.of(place, error) from error
            yield from map(Ignored, plan.ignored)
        elif len(row) != len(header):
            yield Problem(place, f"{len(row)} fields where the header has {len(header)}")
        else:
            yield from _entries(place, plan, row)


def _entries(place: str, plan: Plan, row: Row) -> Iterator[Item]:
    url = plan.url(row).strip()
    path = plan.path(row).strip() if plan.path else ""
    size = plan.size(row).strip() if plan.size else ""
    named = plan.algorithm(row).strip() if plan.algorithm else None
    checksums = [(algorithm, cell(row).strip()) for algorithm, cell in plan.checksums]
    if named and all(algorithm for algorithm, _ in checksums):
        # A column of algorithms belongs to one of values.
        checksums.append((None, ""))
    if plan.separator is None:
        yield attempt(place, _entry, place, url, path, size, checksums, named)
        return
    urls = _items(url, plan.separator)
    sizes = _items(size, plan.separator) or [""] * len(urls)
    digests = [_items(text, plan.separator) or [""] * len(urls) for _, text in checksums]
    if not urls:
        yield Problem(place, "it has no file of this kind; remove the line, or ask for another kind")
    elif any(len(items) != len(urls) for items in (sizes, *digests)):
        yield Problem(place, f"{len(urls)} URLs, and another number of sizes or checksums")
    else:
        for number, item in enumerate(urls):
            sums = [(checksums[index][0], items[number]) for index, items in enumerate(digests)]
            yield attempt(place, _entry, place, _over_https(item), path, sizes[number], sums)


def _items(text: str, separator: str) -> list[str]:
    return [item.strip() for item in text.split(separator)] if text else []


def _over_https(address: str) -> str:
    """ENA writes "ftp.sra.ebi.ac.uk/vol1/...", in some reports with ftp://, and serves the same by https."""
    return f"https://{address.removeprefix('ftp://')}" if not _SCHEME.match(address.removeprefix("ftp://")) else address


def _entry(
    place: str, url: str, path: str, size: str, digests: list[tuple[str | None, str]], named: str | None = None
) -> Entry:
    """`digests` with their algorithms, None for that in the row's own cell: `named`."""
    if not url:
        raise InvalidInput("the url is empty")
    if size and not _NUMBER.fullmatch(size):
        raise InvalidInput(f"the size must be a number of bytes, not {size[:40]!r}")
    checksums = [
        checksum_of(named, text) if algorithm is None else make_checksum(algorithm, text) if text else None
        for algorithm, text in digests
    ]
    values = [checksum for checksum in checksums if checksum is not None]
    return Entry(url, path or None, values, int(size) if size else None, place=place, trusted_path=False)
