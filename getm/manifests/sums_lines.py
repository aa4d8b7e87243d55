"""A sums file (`sha256sum`, `md5sum`, BSD's `sha256`) and the address below which its files are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import quote, urlsplit, urlunsplit

from getm.core.url import validate_url
from getm.errors import InvalidInput
from getm.integrity import SumsEntry, hinted_algorithm, scan_sums
from getm.manifests.entry import Entry
from getm.manifests.problem import Problem, tried
from getm.manifests.source import Source


def read_sums(source: Source, base_url: str | None) -> Iterator[Entry | Problem]:
    """The entries of a sums file. `base_url` is the folder's; a query in it, as signed folders have, goes with each."""
    if base_url is None:
        raise Problem("", "a sums file, which has no URLs; give the base URL that its names are below")
    base = validate_url(base_url)
    algorithm = None if source.path is None else hinted_algorithm(source.path.name)
    for item in scan_sums(source.text_lines(), algorithm):
        place = f"line {item.line}"
        if isinstance(item, SumsEntry):
            yield tried(place, _entry, place, base, item)
        elif "://" in item.reason:
            # The line is quoted there, and a URL may have a secret in it.
            yield Problem(place, "expected a line of a sums file, and there is a URL in it")
        else:
            yield Problem(place, item.reason)


def _entry(place: str, base: str, item: SumsEntry) -> Entry:
    name = item.name
    # As "find . | xargs sha256sum" writes them.
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    if not name:
        raise InvalidInput("the name is empty; expected that of a file")
    return Entry(_below(base, name), name, item.checksum, place=place, trusted_path=False)


def _below(base: str, name: str) -> str:
    parts = urlsplit(base)
    path = f"{parts.path.rstrip('/')}/{quote(os.fsencode(name))}"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))
