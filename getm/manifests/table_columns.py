"""Which column of a table says what: given by the caller, by a preset, or by the columns' own names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from msgspec import Struct

from getm.errors import InvalidInput
from getm.manifests.fields import FIELDS, field_of, quoted

Columns = Mapping[str, str]
"""Field -> where it comes from. Fields are `url`, `path`, `size`, `checksum` ("ALG:VALUE", or the value where there is
also `checksum-algorithm`) and every algorithm that getm knows. A value is the name of a column, or a template with
names of columns: "https://host/{id}"."""

# NCI Genomic Data Commons, "Data Transfer Tool": a manifest has id, filename, md5, size and state. A folder for each
# id, as gdc-client makes it, since file names need not differ.
GDC: Columns = {"url": "https://api.gdc.cancer.gov/data/{id}", "path": "{id}/{filename}", "md5": "md5", "size": "size"}
# European Nucleotide Archive, "filereport": columns by kind of file, lists in them.
_ENA_KINDS = ("fastq", "submitted", "sra", "bam")

# What else is in such a manifest and says nothing about the bytes.
_GDC_IGNORED = frozenset({"state", "acl", "project_id", "category", "access"})

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class Plan(Struct, frozen=True):
    """How an entry is made of a row. `cells`: fields, or algorithms for digests, and where each comes from (see
    `Columns`). `ignored`: the columns that are understood and not used. `of_lists`: the cells are lists (ENA)."""

    cells: tuple[tuple[str, str], ...]
    ignored: tuple[str, ...]
    of_lists: bool = False


def plan_table(header: Sequence[str], columns: Columns | None, format: str) -> Plan:
    """Which column is what: as `columns` says, or the `format` ("gdc", "ena"), or what their names say.

    Raises:
        InvalidInput: No column is the URL, one that was asked for is missing, or one is not understood.
    """
    if columns is not None:
        # The caller knows what the others are.
        return _plan(columns, header)
    if format == "gdc" or (
        format != "ena" and {"id", "filename", "md5", "size"} <= set(header) and "url" not in header
    ):
        plan = _plan(GDC, header)
        _refuse_unknown([name for name in plan.ignored if name not in _GDC_IGNORED])
        return plan
    for kind in _ENA_KINDS:
        if f"{kind}_ftp" in header:
            wanted = {"url": f"{kind}_ftp", "md5": f"{kind}_md5", "size": f"{kind}_bytes"}
            plan = _plan({field: name for field, name in wanted.items() if name in header}, header, of_lists=True)
            # A report may have any of hundreds of columns about samples and runs, but no other checksums.
            _refuse_unknown([name for name in plan.ignored if not name.endswith("_md5") and _names_checksum(name)])
            return plan
    if format == "ena":
        raise InvalidInput("an ENA report has a column fastq_ftp (or submitted_ftp, sra_ftp, bam_ftp); ask for it")
    _check_names(header)
    return _plan({name: name for name in header}, header)


def parse_columns(text: str) -> Columns:
    """The mapping in "url=link,path={id}/{name},md5=md5sum": FIELD=COLUMN, with commas between; raises InvalidInput."""
    columns: dict[str, str] = {}
    for part in text.split(","):
        field, equals, source = (each.strip() for each in part.partition("="))
        if not (field and equals and source):
            raise InvalidInput(f"expected columns as FIELD=COLUMN,FIELD=COLUMN, got {part[:60]!r}")
        if columns.setdefault(field, source) != source:
            raise InvalidInput(f"the columns give {field!r} twice")
    return columns


def _check_names(header: Sequence[str]) -> None:
    """Raise InvalidInput unless every name says what its column holds ("url", "filename", "MD5", "sha-256")."""
    fields = {field_of(name): index for index, name in enumerate(header)}
    if "url" not in fields:
        raise InvalidInput(f"no column is called 'url'; say which one it is. The columns are {quoted(list(header))}")
    _refuse_unknown([name for name in header if field_of(name) is None])
    for index, name in enumerate(header):
        field = field_of(name)
        other = header[fields[field]]
        if fields[field] != index and (field in FIELDS or name == other):
            raise InvalidInput(
                f"the columns {name[:40]!r} and {other[:40]!r} both seem to be the {field}; name the right one "
                f"(--columns url=...,{field}=...)"
            )


def _names_checksum(name: str) -> bool:
    """Whether one of the words of a column's name is that of an algorithm, or "checksum"."""
    fields = [field_of(name), *map(field_of, re.split(r"[\W_]+", name))]
    return any(field is not None and (field not in FIELDS or field == "checksum") for field in fields)


def _refuse_unknown(names: list[str]) -> None:
    """Refuse columns that are not understood: one of them may hold the checksums."""
    if names:
        raise InvalidInput(
            f"the columns {quoted(names)} are not understood; remove them, or name those to use "
            "(--columns url=...,path=...,md5=...)"
        )


def _plan(columns: Columns, header: Sequence[str], *, of_lists: bool = False) -> Plan:
    """Raises InvalidInput: no `url`, a field that getm does not know, a column that the table does not have."""
    cells: list[tuple[str, str]] = []
    used: set[str] = set()
    for written, source in columns.items():
        field = field_of(written)
        if field is None:
            raise InvalidInput(f"no field is called {written[:40]!r}: expected {', '.join(FIELDS)} or md5, ...")
        names = [source] if source in header else _PLACEHOLDER.findall(source) or [source]
        for name in names:
            if name not in header:
                raise InvalidInput(f"the table has no column {name[:60]!r}; it has {quoted(list(header))}")
        used.update(names)
        cells.append((field, source))
    if "url" not in dict(cells):
        raise InvalidInput("the columns do not say which one is the url: expected url=COLUMN")
    return Plan(tuple(cells), tuple(name for name in header if name not in used), of_lists)


def cell(source: str, row: Mapping[str, str], in_url: bool) -> str:
    """A column of the row, or a template that is filled with columns. In a URL these become single segments,
    percent-encoded."""
    if source in row:
        return row[source]
    if not any(row[name] for name in _PLACEHOLDER.findall(source)):
        return ""

    def value(match: re.Match[str]) -> str:
        return quote(row[match[1]], safe="", errors="surrogateescape") if in_url else row[match[1]]

    return _PLACEHOLDER.sub(value, source)
