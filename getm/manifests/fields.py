"""What a key of a JSON object or a column of a table is called, and what it holds: one vocabulary for all lists."""

from __future__ import annotations

import re
from functools import lru_cache

from getm.errors import InvalidInput
from getm.integrity.values import Checksum, canonical_algorithm, find_algorithm, parse_checksum, parse_pair

_NAMES = {
    "url": ("url", "uri", "link"),
    "path": ("path", "filepath", "filename", "file_name", "file"),
    "size": ("size", "bytes", "file_size", "size_bytes"),
    "checksum": ("checksum",),
    "checksum-algorithm": ("checksum_algorithm", "algorithm"),
}
FIELDS = tuple(_NAMES)
_BY_NAME = {name: field for field, names in _NAMES.items() for name in names}

# "checksum_sha256", "sha256 checksum", "md5sum", "file_md5", "MD5 hash".
_AROUND_ALGORITHMS = re.compile(r"\b(?:checksum|hash|digest|sum|file|hex|base64)\b")
_MARK = re.compile("[:=]")
_SIZE = re.compile(r"[0-9]{1,19}")


@lru_cache(1024)  # asked for each key of each row
def field_of(name: str) -> str | None:
    """One of `FIELDS`, or the canonical name of an algorithm whose digests it holds; None: not understood."""
    plain = re.sub(r"[-_\s]+", "_", name.strip().lower())
    if plain in _BY_NAME:
        return _BY_NAME[plain]
    words = _AROUND_ALGORITHMS.sub("", plain.replace("_", " "))
    try:
        return canonical_algorithm(re.sub(r"sums?\b", "", words).strip())
    except InvalidInput:
        return None


def parse_size(text: str | None) -> int | None:
    """The size in decimal digits; None where there is no text. Raises InvalidInput."""
    if text and not _SIZE.fullmatch(text):
        raise InvalidInput(f"the size must be a number of bytes, not {text[:40]!r}")
    return int(text) if text else None


def checksums_of(algorithm: str | None, value: str | None) -> list[Checksum]:
    """The checksum in the two fields, if any: a pair, or "ALG:VALUE" alone. Raises InvalidInput."""
    if not algorithm and value and looks_like_checksum(value):
        return [parse_checksum(value)]
    pair = parse_pair(algorithm, value)
    return [] if pair is None else [pair]


def looks_like_checksum(text: str) -> bool:
    """Whether it begins as "ALG:VALUE" or "ALG=VALUE" does, with an algorithm that getm knows."""
    mark = _MARK.search(text)
    return mark is not None and find_algorithm(text[: mark.start()].strip()) is not None


def quoted(names: list[str]) -> str:
    """Names for a message, the first dozen of them."""
    shown = ", ".join(repr(name[:40]) for name in names[:12])
    return f"{shown}, ..." if len(names) > 12 else shown
