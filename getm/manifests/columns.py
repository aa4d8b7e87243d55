"""Which column of a table says what: given by the caller, by a preset, or by the columns' own names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from getm.errors import InvalidInput
from getm.integrity import canonical_algorithm

Row = Sequence[str]
Columns = Mapping[str, str]
"""Field -> where it comes from. Fields are `url`, `path`, `size`, `checksum` ("ALG:VALUE") and every algorithm that
getm knows. A value is the name of a column, or a template with names of columns: "https://host/{id}"."""

# NCI Genomic Data Commons, "Data Transfer Tool": a manifest has id, filename, md5, size and state. A folder for each
# id, as gdc-client makes it, since file names need not differ.
GDC: Columns = {
    "url": "https://api.gdc.cancer.gov/data/{id}",
    "path": "{id}/{filename}",
    "md5": "md5",
    "size": "size",
}
# European Nucleotide Archive, "filereport": columns by kind of file, lists in them.
ENA_KINDS = ("fastq", "submitted", "sra", "bam")

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NAMES = {
    "url": ("url", "uri", "link"),
    "path": ("path", "filepath", "filename", "file_name", "file"),
    "size": ("size", "bytes", "file_size"),
    "checksum": ("checksum",),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How an entry is made of a row. `separator`: the cells are lists, of one entry each (ENA)."""

    url: Callable[[Row], str]
    path: Callable[[Row], str] | None
    size: Callable[[Row], str] | None
    checksums: tuple[tuple[str | None, Callable[[Row], str]], ...]
    separator: str | None = None


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


def is_gdc(header: Row) -> bool:
    return {"id", "filename", "md5", "size"} <= set(header)


def ena_columns(header: Row) -> Columns | None:
    """The columns of the first kind of file that an ENA report has; None where it is none."""
    for kind in ENA_KINDS:
        if f"{kind}_ftp" in header:
            wanted = {"url": f"{kind}_ftp", "md5": f"{kind}_md5", "size": f"{kind}_bytes"}
            return {field: name for field, name in wanted.items() if name in header}
    return None


def guessed_columns(header: Row) -> Columns:
    """The columns whose names say what they hold ("url", "filename", "MD5", "sha-256")."""
    plain = {name.strip().lower().replace(" ", "_"): name for name in reversed(header)}
    columns = {}
    for field, names in _NAMES.items():
        found = next((plain[name] for name in names if name in plain), None)
        if found is not None:
            columns[field] = found
    for name in header:
        # "md5sum", as pandas users and repositories write it.
        try:
            algorithm = canonical_algorithm(re.sub(r"(?i)sum$", "", name.strip()))
        except InvalidInput:
            continue
        columns.setdefault(algorithm, name)
    if "url" not in columns:
        raise InvalidInput(f"no column is called 'url'; say which one it is. The columns are {_listed(header)}")
    return columns


def make_plan(columns: Columns, header: Row, separator: str | None = None) -> Plan:
    """Raises InvalidInput: no `url`, a field that getm does not know, a column that the table does not have."""
    cells = {field: _cell(source, header, field == "url") for field, source in columns.items()}
    if "url" not in cells:
        raise InvalidInput("the columns do not say which one is the url: expected url=COLUMN")
    plain = ("url", "path", "size")
    checksums = [
        (None if field == "checksum" else _algorithm(field), cell)
        for field, cell in cells.items()
        if field not in plain
    ]
    return Plan(cells["url"], cells.get("path"), cells.get("size"), tuple(checksums), separator)


def _algorithm(field: str) -> str:
    try:
        return canonical_algorithm(field)
    except InvalidInput as error:
        raise InvalidInput(
            f"no field is called {field[:40]!r}: expected url, path, size, checksum or md5, ..."
        ) from error


def _cell(source: str, header: Row, in_url: bool) -> Callable[[Row], str]:
    """What reads a column, or fills a template. In a URL the values become single segments, percent-encoded."""
    if source in header:
        index = header.index(source)
        return lambda row: row[index]
    pieces = _PLACEHOLDER.split(source)
    if len(pieces) == 1:
        raise InvalidInput(f"the table has no column {source[:60]!r}; it has {_listed(header)}")
    # Literal text and names take turns.
    missing = next((name for name in pieces[1::2] if name not in header), None)
    if missing is not None:
        raise InvalidInput(f"the table has no column {missing[:60]!r}; it has {_listed(header)}")
    indices = [header.index(name) for name in pieces[1::2]]

    def fill(row: Row) -> str:
        if not any(row[index] for index in indices):
            return ""
        texts = list(pieces)
        for place, index in enumerate(indices):
            texts[2 * place + 1] = quote(row[index], safe="", errors="surrogateescape") if in_url else row[index]
        return "".join(texts)

    return fill


def _listed(header: Row) -> str:
    names = ", ".join(repr(name[:40]) for name in header[:12])
    return f"{names}, ..." if len(header) > 12 else names
