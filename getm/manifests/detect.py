"""The formats of lists, and how one is detected."""

from __future__ import annotations

import re
from pathlib import PurePath

from getm.core.text import UTF_16_BOMS
from getm.errors import InvalidInput
from getm.integrity.sums_files import parse_sums
from getm.manifests.bagit import FETCH_LINE
from getm.manifests.document import Document
from getm.manifests.formats import FORMATS

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|doi:10\.", re.IGNORECASE)
_BY_SUFFIX = {f".{name}": name for name in ("json", "jsonl", "csv", "tsv", "metalink", "aria2")}
_BY_SUFFIX |= {".ndjson": "jsonl", ".tab": "tsv", ".meta4": "metalink", ".uris": "urls"}


def detect_format(document: Document) -> str:
    """One of `FORMATS`, by the content, and by the file's name where the content could be several. Raises
    InvalidInput."""
    has_nul = b"\0" in document.data and not document.data.startswith(UTF_16_BOMS)
    is_binary = has_nul or document.data.startswith(b"\x1f\x8b")
    if is_binary and not parse_sums(document.text.partition("\0")[0]).entries:
        raise InvalidInput("not a text; unpack it first if it is compressed")
    text = document.text
    by_name = None if document.path is None else _BY_SUFFIX.get(PurePath(document.path).suffix.lower())
    by_mark = {"[": "json", "{": "jsonl", "<": "metalink"}.get(text.lstrip()[:1])
    if by_mark is not None:
        return by_mark
    lines = (line for line in re.split(r"[\0\n]", text) if line.strip() and not line.lstrip().startswith("#"))
    line = next(lines, None)
    if line is None:
        # Nothing in it.
        return by_name or "urls"
    found = _by_line(line)
    # The header of a table may look like anything; its first cell may be a URL.
    if found is None or (found == "urls" and by_name in ("csv", "tsv")):
        found = by_name
    if found is None:
        raise InvalidInput(f"its format cannot be detected; say which it is: {', '.join(FORMATS)}")
    return found


def _by_line(line: str) -> str | None:
    if _URL.match(line.lstrip()):
        return "bagit" if FETCH_LINE.fullmatch(line) else "urls"
    if line.startswith("-----BEGIN PGP") or parse_sums(line).entries:
        return "sums"
    if "\t" in line:
        return "tsv"
    return "csv" if "," in line else None
