"""Which column of a table says what: given by the caller, by a preset, or by the columns' own names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from getm.errors import InvalidInput
from getm.manifests.fields import FIELDS, field_of, quoted

Row = Sequence[str]
Columns = Mapping[str, str]
"""Field -> where it comes from. Fields are `url`, `path`, `size`, `checksum` ("ALG:VALUE", or the value where there is
also `checksum-algorithm`) and every algorithm that getm knows. A value is the name of a column, or a template with
names of columns: "https://host/{id}"."""

# NCI Genomic Data Commons, "Data Transfer Tool": a manifest has id, filename, md5, size and state. A folder for each
# id, as gdc-client makes it, since file names need not differ.
GDC: Columns = {
    "url": "https://api.gdc.cancer.gov/data/{id}",
    "path": "{id}/{filename}",
    "md5": "md5",
    "size": "size",
}
# European Nucleotide Archive, "filereport": columns by kind of file, lists in them.
_ENA_KINDS = ("fastq", "submitted", "sra", "bam")

# What else is in such a manifest and says nothing about the bytes.
_GDC_IGNORED = frozenset({"state", "acl", "project_id", "category", "access"})

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Plan:
    """How an entry is made of a row. `checksums`: cells of digests with their algorithms, None where another cell has
    it (`algorithm`) or the value itself. `separator`: the cells are lists, of one entry each (ENA). `ignored`: the
    columns that are understood and not used."""

    url: Callable[[Row], str]
    path: Callable[[Row], str] | None
    size: Callable[[Row], str] | None
    algorithm: Callable[[Row], str] | None
    checksums: tuple[tuple[str | None, Callable[[Row], str]], ...]
    ignored: tuple[str, ...] = ()
    separator: str | None = None


def plan_table(header: Row, columns: Columns | None, preset: str | None) -> Plan:
    """Which column is what: as `columns` says, or the `preset` ("gdc", "ena"), or what their names say.

    Raises:
        InvalidInput: No column is the URL, one that was asked for is missing, or one is not understood.
    """
    if columns is not None:
        # The caller knows what the others are.
        return _plan(columns.items(), header, ignored=_unused(header, columns.values()))
    if preset == "gdc" or (preset is None and {"id", "filename", "md5", "size"} <= set(header) and "url" not in header):
        ignored = _unused(header, GDC.values())
        _refuse_unknown([name for name in ignored if name not in _GDC_IGNORED])
        return _plan(GDC.items(), header, ignored=ignored)
    ena = _ena_columns(header)
    if ena is not None:
        ignored = _unused(header, ena.values())
        # A report may have any of hundreds of columns about samples and runs, but no other checksums.
        _refuse_unknown([name for name in ignored if not name.endswith("_md5") and _names_checksum(name)])
        return _plan(ena.items(), header, ignored=ignored, separator=";")
    if preset == "ena":
        raise InvalidInput("an ENA report has a column fastq_ftp (or submitted_ftp, sra_ftp, bam_ftp); ask for it")
    return _plan(_by_their_names(header), header)


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


def _ena_columns(header: Row) -> Columns | None:
    """The columns of the first kind of file that an ENA report has; None where it is none."""
    for kind in _ENA_KINDS:
        if f"{kind}_ftp" in header:
            wanted = {"url": f"{kind}_ftp", "md5": f"{kind}_md5", "size": f"{kind}_bytes"}
            return {field: name for field, name in wanted.items() if name in header}
    return None


def _by_their_names(header: Row) -> list[tuple[str, str]]:
    """Pairs of a field and its column, by names that say what they hold ("url", "filename", "MD5", "sha-256")."""
    pairs = [(field_of(name), name) for name in header]
    fields = dict(pairs)
    if "url" not in fields:
        raise InvalidInput(f"no column is called 'url'; say which one it is. The columns are {quoted(list(header))}")
    _refuse_unknown([name for field, name in pairs if field is None])
    for field, name in pairs:
        if field in FIELDS and fields[field] != name:
            raise InvalidInput(
                f"the columns {name[:40]!r} and {fields[field][:40]!r} both seem to be the {field}; name the right one "
                f"(--columns url=...,{field}=...)"
            )
    return [(field, name) for field, name in pairs if field is not None]


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


def _unused(header: Row, sources: Iterable[str]) -> tuple[str, ...]:
    used = {name for source in sources for name in (source, *_PLACEHOLDER.findall(source))}
    return tuple(name for name in header if name not in used)


def _plan(
    pairs: Iterable[tuple[str, str]], header: Row, *, ignored: tuple[str, ...] = (), separator: str | None = None
) -> Plan:
    """Raises InvalidInput: no `url`, a field that getm does not know, a column that the table does not have."""
    cells: dict[str, Callable[[Row], str]] = {}
    checksums: list[tuple[str | None, Callable[[Row], str]]] = []
    for written, source in pairs:
        field = field_of(written)
        cell = _cell(source, header, field == "url")
        if field is None:
            raise InvalidInput(f"no field is called {written[:40]!r}: expected {', '.join(FIELDS)} or md5, ...")
        if field == "checksum":
            checksums.append((None, cell))
        elif field in FIELDS:
            cells[field] = cell
        else:
            checksums.append((field, cell))
    if "url" not in cells:
        raise InvalidInput("the columns do not say which one is the url: expected url=COLUMN")
    path, size, algorithm = (cells.get(field) for field in ("path", "size", "checksum-algorithm"))
    return Plan(cells["url"], path, size, algorithm, tuple(checksums), ignored, separator)


def _cell(source: str, header: Row, in_url: bool) -> Callable[[Row], str]:
    """What reads a column, or fills a template. In a URL the values become single segments, percent-encoded."""
    if source in header:
        index = header.index(source)
        return lambda row: row[index]
    pieces = _PLACEHOLDER.split(source)
    if len(pieces) == 1:
        raise InvalidInput(f"the table has no column {source[:60]!r}; it has {quoted(list(header))}")
    # Literal text and names take turns.
    missing = next((name for name in pieces[1::2] if name not in header), None)
    if missing is not None:
        raise InvalidInput(f"the table has no column {missing[:60]!r}; it has {quoted(list(header))}")
    indices = [header.index(name) for name in pieces[1::2]]

    def fill(row: Row) -> str:
        if not any(row[index] for index in indices):
            return ""
        texts = list(pieces)
        for place, index in enumerate(indices):
            texts[2 * place + 1] = quote(row[index], safe="", errors="surrogateescape") if in_url else row[index]
        return "".join(texts)

    return fill
