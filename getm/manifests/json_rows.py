"""getm's own list, as a JSON array or as JSON Lines, and rows of GA4GH DRS objects in either.

    [{"url": "https://...", "filepath": "a/b.bam", "checksum": "...", "checksum-algorithm": "md5"}, ...]

The schema is that of getm 0.0.x, as existing callers write it: `url` is required; `filepath` may be absolute, may name
a folder, and is taken from the URL when absent; `checksum` and `checksum-algorithm` come as a pair or not at all, with
the algorithms `md5` (hex), `gs_crc32c` (base64), `s3_etag` and `null` (no checksum: the value beside it is not read).
Every algorithm that `getm.integrity` knows is taken as well. New are `size` (bytes), `mirrors` (a list of URLs),
`headers` (an object, or a list of "NAME: VALUE") and `checksums` (an object {"md5": "..."}, or a list of "ALG:VALUE" or
of {"type": "md5", "checksum": "..."}). Fields of other names are not looked at.

A row of a DRS object (GA4GH Data Repository Service 1.x, "DrsObject") has no `url` but `access_methods`, or an
`access_url` of its own, with `checksums`, `size` and `name`. It comes from elsewhere, so its name is not trusted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import msgspec

from getm.errors import InvalidInput
from getm.integrity import Checksum, canonical_algorithm, make_checksum, parse_checksum, parse_pair
from getm.manifests.entry import Entry
from getm.manifests.json_array import array_elements
from getm.manifests.problem import Problem, tried
from getm.manifests.schemes import usable_urls
from getm.manifests.source import BOM, Source
from getm.options import HeadersInput, parse_header

_Headers = dict[str, str] | list[str] | None


class _AccessURL(msgspec.Struct, frozen=True):
    url: str
    headers: list[str] | None = None


class _AccessMethod(msgspec.Struct, frozen=True):
    access_url: _AccessURL | None = None


class _TypedSum(msgspec.Struct, frozen=True):
    checksum: str
    type: str


class _Row(msgspec.Struct, frozen=True):
    url: str | msgspec.UnsetType = msgspec.UNSET
    filepath: str | None = None
    checksum: str | None = None
    algorithm: str | msgspec.UnsetType | None = msgspec.field(name="checksum-algorithm", default=msgspec.UNSET)
    size: Annotated[int, msgspec.Meta(ge=0)] | None = None
    mirrors: list[str] | None = None
    headers: _Headers = None
    checksums: dict[str, str] | list[_TypedSum | str] | None = None
    access_url: _AccessURL | None = None
    access_methods: list[_AccessMethod] | None = None
    # Of DRS objects. Old lists may have fields of this name with anything in them.
    name: Any = None


_decoder = msgspec.json.Decoder(_Row)


def read_json(source: Source) -> Iterator[Entry | Problem]:
    """The entries of a JSON array. RFC 8259, section 8.1 forbids a byte order mark: refused, as always."""
    for index, value in enumerate(array_elements(source)):
        place = f"entry {index} (counted from 0)"
        yield tried(place, _from_value, place, value)


def read_json_lines(source: Source) -> Iterator[Entry | Problem]:
    """One entry a line (jsonlines.org); blank lines are passed over."""
    if source.head().startswith(BOM):
        raise Problem("", "begins with a byte order mark; save it as UTF-8 without one (RFC 8259)")
    for number, line in source.lines():
        if line.strip():
            place = f"line {number}"
            yield tried(place, _from_line, place, line)


def _from_value(place: str, value: object) -> Entry:
    try:
        row = msgspec.convert(value, type=_Row)
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error)) from error
    return _entry(place, row)


def _from_line(place: str, line: bytes) -> Entry:
    try:
        row = _decoder.decode(line)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidInput(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"not JSON: {error}") from error
    return _entry(place, row)


def _entry(place: str, row: _Row) -> Entry:
    if row.url is msgspec.UNSET:
        return _from_drs(place, row)
    algorithm = None if row.algorithm is msgspec.UNSET else row.algorithm
    pair = parse_pair(algorithm, row.checksum)
    checksums = [] if pair is None else [pair]
    if row.checksums:
        checksums.extend(_checksums(row.checksums))
    # "null" and null both say so; a list that does not speak of checksums does not.
    silenced = row.algorithm is None or (isinstance(algorithm, str) and algorithm.strip().lower() == "null")
    return Entry(
        [row.url, *row.mirrors] if row.mirrors else row.url,
        # expanduser: getm 0.0.x did, so lists with "~/" exist.
        os.path.expanduser(row.filepath) if row.filepath else None,  # noqa: PTH111 - Path drops a trailing slash
        checksums,
        row.size,
        _headers(row.headers),
        place=place,
        warn_unverified=not silenced,
    )


def _from_drs(place: str, row: _Row) -> Entry:
    access = [] if row.access_url is None else [row.access_url]
    access.extend(method.access_url for method in row.access_methods or () if method.access_url is not None)
    if not access:
        raise InvalidInput("Object missing required field `url`")
    urls = usable_urls(each.url for each in access)
    # Each method has headers of its own, which are not for the others: those that need the same are mirrors.
    first = next(each for each in access if each.url == urls[0])
    alike = [each.url for each in access if each.url in urls and (each.headers or []) == (first.headers or [])]
    path = row.filepath or (row.name if isinstance(row.name, str) else None)
    checksums = _checksums(row.checksums, known_only=True) if row.checksums else ()
    return Entry(alike, path, checksums, row.size, _headers(first.headers), place=place, trusted_path=False)


def _headers(headers: _Headers) -> HeadersInput | None:
    return [parse_header(line) for line in headers] if isinstance(headers, list) else headers


def _checksums(given: dict[str, str] | list[_TypedSum | str], known_only: bool = False) -> Iterable[Checksum]:
    """`known_only`: DRS has names for many things, and those that getm does not know are passed over."""
    items = [_TypedSum(value, name) for name, value in given.items()] if isinstance(given, dict) else given
    for item in items:
        if isinstance(item, str):
            yield parse_checksum(item)
            continue
        try:
            algorithm = canonical_algorithm(item.type)
        except InvalidInput:
            if known_only:
                continue
            raise
        yield make_checksum(algorithm, item.checksum)
