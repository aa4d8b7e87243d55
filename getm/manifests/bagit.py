"""BagIt's fetch.txt (RFC 8493, section 2.2.3): URL, length, path. The checksums are in manifests beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from getm.errors import InvalidInput, MissingExtra
from getm.integrity.algorithms import require_algorithm
from getm.integrity.sums_files import parse_sums
from getm.integrity.values import STRENGTH, Checksum
from getm.manifests.document import Document
from getm.manifests.entry import Entry, usable_urls
from getm.manifests.items import Item, attempt

FETCH_LINE = re.compile(r"(?P<url>\S+)[ \t]+(?P<length>[0-9]+|-)[ \t]+(?P<path>\S.*)")
_ENCODED = re.compile(r"%(0[aAdD]|25)")

Digests = dict[str, bytes]


def read_fetch(document: Document) -> Iterator[Item]:
    """The entries of a fetch.txt, each with its checksum from the strongest manifest-ALGORITHM.txt in the same folder.

    A bag lists what it lacks in every payload manifest (section 2.2.3), so with a manifest there, an entry that it does
    not have is a problem. Without one, or from standard input, nothing is expected of the bytes.
    """
    algorithm, digests = ("", None) if document.path is None else _manifest(document.path.parent)
    for number, line in document.lines():
        if line.strip():
            yield attempt(_entry, f"line {number}", line, algorithm, digests)


def _entry(place: str, line: str, algorithm: str, digests: Digests | None) -> Entry:
    match = FETCH_LINE.fullmatch(line)
    if match is None:
        # Not quoted: a URL may have a secret in it.
        raise InvalidInput("expected URL, LENGTH (or -) and PATH")
    if len(match["length"]) > 19:
        raise InvalidInput("the length is no number of bytes that a file can have")
    path = _decoded(match["path"])
    if not path.startswith("data/"):
        # A fetch.txt that lists bagit.txt or a manifest could replace what the bag is checked by.
        raise InvalidInput(f"the path {path!r} is not below data/, as everything that a bag fetches is (RFC 8493)")
    checksum = None
    if digests is not None:
        digest = digests.get(path)
        if digest is None:
            raise InvalidInput(f"the path {path!r} is not in manifest-{algorithm}.txt; every fetched file must be")
        checksum = Checksum(algorithm, digest)
    size = None if match["length"] == "-" else int(match["length"])
    return Entry(usable_urls([match["url"]]), path, checksum, size, place=place, trusted_path=False)


def _manifest(folder: Path) -> tuple[str, Digests | None]:
    """The strongest algorithm that has a manifest in `folder` and can be computed, and the digests by path.

    Raises InvalidInput where there are manifests, and none that can be used: the bag would not be verified."""
    manifests = sorted(folder.glob("manifest-*.txt"))
    found: dict[str, Path] = {}
    for path in manifests:
        with suppress(InvalidInput, MissingExtra):
            found[require_algorithm(path.stem.removeprefix("manifest-"))] = path
    if not manifests:
        return "", None
    if not found:
        raise InvalidInput(f"beside it is {manifests[0].name}, whose algorithm cannot be computed here")
    algorithm = min(found, key=STRENGTH.index)
    parsed = parse_sums(Document.read(found[algorithm]).text, algorithm)
    if parsed.problems:
        raise InvalidInput(f"beside it, {found[algorithm].name} cannot be read: {parsed.problems[0]}")
    return algorithm, {_decoded(entry.name): entry.checksum.value for entry in parsed.entries}


def _decoded(path: str) -> str:
    """Only line ends and the percent sign are encoded (sections 2.1.3 and 2.2.3)."""
    return _ENCODED.sub(lambda match: chr(int(match[1], 16)), path)
