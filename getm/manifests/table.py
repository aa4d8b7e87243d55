"""CSV and TSV: an entry for each row, or for each item of the lists in a row."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator

from getm.errors import InvalidInput
from getm.integrity import Checksum, make_checksum, parse_checksum
from getm.manifests.columns import GDC, Columns, Plan, Row, ena_columns, guessed_columns, is_gdc, make_plan
from getm.manifests.entry import Entry
from getm.manifests.problem import Problem, tried
from getm.manifests.source import Source

_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def read_table(
    source: Source, delimiter: str, columns: Columns | None = None, preset: str | None = None
) -> Iterator[Entry | Problem]:
    """The entries of a table with a header line (RFC 4180, section 2; TSV likewise). `preset` is "gdc" or "ena";
    without one and without `columns`, the columns' names tell."""
    rows = csv.reader((line for _, line in source.text_lines()), delimiter=delimiter, strict=True)
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
                plan = _plan(header, columns, preset)
            except InvalidInput as error:
                raise Problem.of(place, error) from error
        elif len(row) != len(header):
            yield Problem(place, f"{len(row)} fields where the header has {len(header)}")
        else:
            yield from _entries(place, plan, row)


def _plan(header: Row, columns: Columns | None, preset: str | None) -> Plan:
    if columns is not None:
        return make_plan(columns, header)
    if preset == "gdc" or (preset is None and is_gdc(header) and "url" not in header):
        return make_plan(GDC, header)
    ena = ena_columns(header)
    if preset == "ena" and ena is None:
        raise InvalidInput("an ENA report has a column fastq_ftp (or submitted_ftp, sra_ftp, bam_ftp); ask for it")
    if ena is not None:
        return make_plan(ena, header, separator=";")
    return make_plan(guessed_columns(header), header)


def _entries(place: str, plan: Plan, row: Row) -> Iterator[Entry | Problem]:
    url = plan.url(row).strip()
    path = plan.path(row).strip() if plan.path else ""
    size = plan.size(row).strip() if plan.size else ""
    checksums = [(algorithm, cell(row).strip()) for algorithm, cell in plan.checksums]
    if plan.separator is None:
        yield tried(place, _entry, place, url, path, size, checksums)
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
            yield tried(place, _entry, place, _over_https(item), path, sizes[number], sums)


def _items(text: str, separator: str) -> list[str]:
    return [item.strip() for item in text.split(separator)] if text else []


def _over_https(address: str) -> str:
    """ENA writes "ftp.sra.ebi.ac.uk/vol1/...", in some reports with ftp://, and serves the same by https."""
    return f"https://{address.removeprefix('ftp://')}" if not _SCHEME.match(address.removeprefix("ftp://")) else address


def _entry(place: str, url: str, path: str, size: str, checksums: list[tuple[str | None, str]]) -> Entry:
    if not url:
        raise InvalidInput("the url is empty")
    if size and not _NUMBER.fullmatch(size):
        raise InvalidInput(f"the size must be a number of bytes, not {size[:40]!r}")
    values: list[Checksum] = [
        parse_checksum(text) if algorithm is None else make_checksum(algorithm, text)
        for algorithm, text in checksums
        if text
    ]
    return Entry(url, path or None, values, int(size) if size else None, place=place, trusted_path=False)
