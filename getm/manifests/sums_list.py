"""A sums file (`sha256sum`, `md5sum`, BSD's `sha256`) and the address below which its files are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

from getm.errors import InvalidInput
from getm.integrity.sums_files import hinted_algorithm, parse_sums
from getm.integrity.values import Checksum
from getm.manifests.document import Document
from getm.manifests.entry import Entry
from getm.manifests.items import Item, attempt


def read_sums_list(document: Document, base_url: str | None) -> Iterator[Item]:
    """The entries of a sums file. `base_url` is the folder's; a query in it, as signed folders have, goes with
    each. Several lines with one name, of different algorithms, are one entry."""
    if base_url is None:
        raise InvalidInput("a sums file, which has no URLs; give the base URL that its names are below")
    algorithm = None if document.path is None else hinted_algorithm(document.path.name)
    parsed = parse_sums(document.text, algorithm)
    for problem in parsed.problems:
        # The line is quoted there, and a URL may have a secret in it.
        place = problem.partition(":")[0]
        url = "://" in problem
        yield InvalidInput(f"{place}: expected a line of a sums file, and there is a URL in it" if url else problem)
    files: dict[str, tuple[str, list[Checksum]]] = {}
    for entry in parsed.entries:
        # Without "./", as "find . | xargs sha256sum" writes it.
        name = re.sub(r"^(?:\./+)+", "", entry.name)
        files.setdefault(name, (f"line {entry.line}", []))[1].append(entry.checksum)
    for name, (place, checksums) in files.items():
        yield attempt(_entry, place, base_url, name, checksums)


def _entry(place: str, base_url: str, name: str, checksums: list[Checksum]) -> Entry:
    if not name:
        raise InvalidInput("the name is empty; expected that of a file")
    base = urlsplit(base_url)
    url = base._replace(path=f"{base.path.rstrip('/')}/{quote(os.fsencode(name))}", fragment="").geturl()
    return Entry(url, name, checksums, place=place, trusted_path=False)
