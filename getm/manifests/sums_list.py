"""A sums file (`sha256sum`, `md5sum`, BSD's `sha256`) and the address below which its files are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import quote, urlsplit, urlunsplit

from getm.core.url import validate_url
from getm.errors import InvalidInput
from getm.integrity import Checksum, hinted_algorithm, parse_sums
from getm.manifests.document import Document
from getm.manifests.entry import Entry
from getm.manifests.entry_list import Item
from getm.manifests.problem import Problem, attempt


def read_sums_list(document: Document, base_url: str | None) -> Iterator[Item]:
    """The entries of a sums file. `base_url` is the folder's; a query in it, as signed folders have, goes with
    each. Several lines with one name, of different algorithms, are one entry."""
    if base_url is None:
        raise Problem("", "a sums file, which has no URLs; give the base URL that its names are below")
    try:
        base = validate_url(base_url)
    except InvalidInput as error:
        raise Problem("", f"the base URL: {error.message}", error.url) from error
    algorithm = None if document.path is None else hinted_algorithm(document.path.name)
    parsed = parse_sums(document.text, algorithm)
    for problem in parsed.problems:
        # The line is quoted there, and a URL may have a secret in it.
        url = "://" in problem.reason
        reason = "expected a line of a sums file, and there is a URL in it" if url else problem.reason
        yield Problem(f"line {problem.line}", reason)
    files: dict[str, tuple[str, list[Checksum]]] = {}
    for entry in parsed.entries:
        files.setdefault(_relative(entry.name), (f"line {entry.line}", []))[1].append(entry.checksum)
    for name, (place, checksums) in files.items():
        yield attempt(place, _entry, place, base, name, checksums)


def _relative(name: str) -> str:
    # As "find . | xargs sha256sum" writes them.
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


def _entry(place: str, base: str, name: str, checksums: list[Checksum]) -> Entry:
    if not name:
        raise InvalidInput("the name is empty; expected that of a file")
    return Entry(_below(base, name), name, checksums, place=place, trusted_path=False)


def _below(base: str, name: str) -> str:
    parts = urlsplit(base)
    path = f"{parts.path.rstrip('/')}/{quote(os.fsencode(name))}"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))
