"""CSV and TSV: an entry for each row, or for each item of the lists in a row."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence

from getm.errors import InvalidInput
from getm.integrity.values import make_checksum
from getm.manifests.document import Document
from getm.manifests.entry import Entry
from getm.manifests.fields import FIELDS, checksums_of, parse_size
from getm.manifests.items import Item, attempt, located
from getm.manifests.table_columns import Columns, Plan, cell, plan_table

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def read_table(document: Document, format: str, columns: Columns | None) -> Iterator[Item]:
    """The entries of a table with a header line (RFC 4180, section 2; TSV likewise), which `columns` explains, or the
    `format` ("gdc", "ena"), or the columns' names."""
    delimiter = "," if format == "csv" else "\t"
    rows = csv.reader((line for _, line in document.lines()), delimiter=delimiter, strict=True)
    plan: Plan | None = None
    header: list[str] = []
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise InvalidInput(f"line {rows.line_num}: not a table: {error}") from error
        if row is None:
            return
        place = f"line {rows.line_num}"
        if not any(row):
            continue
        if plan is None:
            header = row
            try:
                plan = plan_table(header, columns, format)
            except InvalidInput as error:
                raise located(place, error) from error
            yield from plan.ignored
        elif len(row) != len(header):
            yield InvalidInput(f"{place}: {len(row)} fields where the header has {len(header)}")
        else:
            by_name = dict(zip(header, row, strict=True))
            cells = [(field, cell(source, by_name, field == "url").strip()) for field, source in plan.cells]
            yield from _of_lists(place, cells) if plan.of_lists else [attempt(_entry, place, cells)]


def _of_lists(place: str, cells: Sequence[tuple[str, str]]) -> Iterator[Item]:
    """The entries of a row of an ENA report, whose cells are lists of one item for each file."""
    fields = [field for field, text in cells if text]
    lists = [[item.strip() for item in text.split(";")] for _, text in cells if text]
    if "url" not in fields:
        yield InvalidInput(f"{place}: it has no file of this kind; remove the line, or ask for another kind")
        return
    urls = lists[fields.index("url")]
    urls[:] = map(_over_https, urls)
    if any(len(items) != len(urls) for items in lists):
        yield InvalidInput(f"{place}: {len(urls)} URLs, and another number of sizes or checksums")
        return
    for items in zip(*lists, strict=True):
        yield attempt(_entry, place, list(zip(fields, items, strict=True)))


def _over_https(address: str) -> str:
    """ENA writes "ftp.sra.ebi.ac.uk/vol1/...", in some reports with ftp://, and serves the same by https."""
    return f"https://{address.removeprefix('ftp://')}" if not _SCHEME.match(address.removeprefix("ftp://")) else address


def _entry(place: str, cells: Sequence[tuple[str, str]]) -> Entry:
    values = dict(cells)
    if not values["url"]:
        raise InvalidInput("the url is empty")
    checksums = [make_checksum(field, text) for field, text in cells if text and field not in FIELDS]
    checksums += checksums_of(values.get("checksum-algorithm"), values.get("checksum"))
    size = parse_size(values.get("size"))
    return Entry(values["url"], values.get("path"), checksums, size, place=place, trusted_path=False)
