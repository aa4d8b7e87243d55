"""getm's own list: a JSON array, JSON Lines, or single objects; and GA4GH DRS objects in each of them.

    [{"url": "https://...", "filepath": "a/b.bam", "checksum": "...", "checksum-algorithm": "md5"}, ...]

The schema is that of getm 0.0.x, as existing callers write it: `url` is required; `filepath` may be absolute, may name
a folder, and is taken from the URL when absent; `checksum` and `checksum-algorithm` come as a pair or not at all, with
the algorithms `md5` (hex), `gs_crc32c` (base64), `s3_etag` and `null` (no checksum: the value beside it is not read).
Every algorithm that `getm.integrity` knows is taken as well. New are `checksum` as "ALG:VALUE" alone, `size` (bytes),
`mirrors` (a list of URLs), `headers` (an object, or a list of "NAME: VALUE"), `checksums` (an object {"md5": "..."}, or
a list of "ALG:VALUE" or of {"type": "md5", "checksum": "..."}), a key for each algorithm (`md5`, `sha256`), and other
names for these (`path`, see `fields.py`). Any other key is a problem: it could be a checksum.

A row of a DRS object (GA4GH Data Repository Service 1.x, "DrsObject") has no `url` but `access_methods`, or an
`access_url` of its own, with `checksums`, `size` and `name`; where all methods have an `access_id`, its `self_uri` is
the name that is downloaded. It comes from elsewhere, so its name is not trusted.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Annotated, NoReturn

import msgspec

from getm.core.text import UTF_16_BOMS
from getm.errors import InvalidInput
from getm.integrity.values import canonical_algorithm, make_checksum, parse_checksum
from getm.manifests.document import Document
from getm.manifests.entry import Entry, known_checksums, usable_urls
from getm.manifests.fields import FIELDS, checksums_of, field_of
from getm.manifests.items import Item, attempt
from getm.options import parse_header

_KEYS = frozenset({"mirrors", "headers", "checksums", "access_url", "access_methods"})
# A label in lists of getm 0.0.x, with anything in it; in DRS objects the file's name.
_NAME = "name"
# A DRS object's name among all servers: needed where it can be had by an access id only.
_OWN_NAME = "self_uri"
_DRS_IGNORED = frozenset(
    ["id", "self_uri", "created_time", "updated_time", "version", "mime_type", "description", "aliases", "contents"]
)
_NOT_BLANK = re.compile(r"[^ \t\n\r]")
_EXPECTED = "expected a list of entries, or an object for each"


class _AccessURL(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str
    headers: list[str] | None = None


class _AccessMethod(msgspec.Struct, frozen=True):
    access_url: _AccessURL | None = None


class _TypedSum(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    checksum: str
    type: str


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry, by the names of its fields. `digests`: those with a key of their own, by algorithm."""

    url: str | msgspec.UnsetType = msgspec.UNSET
    path: str | None = None
    checksum: str | None = None
    algorithm: str | None = msgspec.field(name="checksum-algorithm", default=None)
    size: Annotated[int, msgspec.Meta(ge=0)] | None = None
    mirrors: list[str] | None = None
    headers: dict[str, str] | list[str] | None = None
    checksums: dict[str, str] | list[_TypedSum | str] | None = None
    digests: list[tuple[str, str | None]] = []
    access_url: _AccessURL | None = None
    access_methods: list[_AccessMethod] | None = None
    self_uri: str | None = None


def read_json(document: Document) -> Iterator[Item]:
    """The entries of a JSON array, or of one object after another, as in JSON Lines (jsonlines.org).

    RFC 8259, section 8.1 forbids a byte order mark: refused, as in getm 0.0.x."""
    ignored: set[str] = set()
    for place, value in _values(document):
        yield attempt(_entry, place, value, ignored)
    yield from sorted(ignored)


def _values(document: Document) -> Iterator[tuple[str, object]]:
    """Each entry with its place. Raises InvalidInput: a byte order mark, not JSON (RFC 8259), no entries."""
    if document.data.startswith((b"\xef\xbb\xbf", *UTF_16_BOMS)):
        raise InvalidInput("begins with a byte order mark; save it as UTF-8 without one (RFC 8259)")
    try:
        text = document.data.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"not JSON: not UTF-8 ({error.reason}); {_EXPECTED}") from error
    position, line = 0, 1
    mark = first = _NOT_BLANK.search(text)
    if mark is None:
        raise InvalidInput(f"not JSON, but an empty list; {_EXPECTED}")
    while mark is not None:
        here = mark.start()
        line += text.count("\n", position, here)
        try:
            value, position = _decoder.raw_decode(text, here)
        except json.JSONDecodeError as error:
            raise InvalidInput(f"line {error.lineno}: not JSON: {error.msg}; {_EXPECTED}") from error
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else error
            raise InvalidInput(f"line {line}: not JSON: {reason}; {_EXPECTED}") from error
        following = _NOT_BLANK.search(text, position)
        if isinstance(value, list):
            if mark is not first or following is not None:
                raise InvalidInput(f"line {line}: not JSON: expected nothing beside the list of entries")
            yield from ((f"entry {index} (counted from 0)", element) for index, element in enumerate(value))
        elif isinstance(value, dict):
            yield f"line {line}", value
        else:
            raise InvalidInput(f"line {line}: {_EXPECTED}, got {text[here : here + 20]!r}")
        line += text.count("\n", here, position)
        mark = following


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object. Raises ValueError for a key that comes twice: one of its values would be dropped silently."""
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"an object has the key {next(key for key in keys if keys.count(key) > 1)[:40]!r} twice")
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)


def _entry(place: str, value: object, ignored: set[str]) -> Entry:
    fields, written = _by_field(value, ignored) if isinstance(value, dict) else (value, {})
    try:
        row = msgspec.convert(fields, _Row)
    except msgspec.ValidationError as error:
        message = str(error)
        for field, key in written.items():
            message = message.replace(f"`$.{field}", f"`$.{key}")
        raise InvalidInput(message) from error
    urls, headers = _access(row)
    is_drs = row.url is msgspec.UNSET
    checksums = [make_checksum(algorithm, text) for algorithm, text in row.digests if text]
    checksums += checksums_of(row.algorithm, row.checksum)
    given = row.checksums or []
    items = [_TypedSum(text, name) for name, text in given.items()] if isinstance(given, dict) else given
    checksums += [parse_checksum(item) for item in items if isinstance(item, str)]
    named = [(item.type, item.checksum) for item in items if not isinstance(item, str)]
    if is_drs:
        checksums += known_checksums(named)
    else:
        checksums += [make_checksum(canonical_algorithm(name), text) for name, text in named]
    # "null" and null both say so; a list that does not speak of checksums does not.
    silenced = "checksum-algorithm" in written and (row.algorithm is None or row.algorithm.strip().lower() == "null")
    return Entry(
        urls,
        # expanduser: getm 0.0.x did, so lists with "~/" exist.
        os.path.expanduser(row.path) if row.path and not is_drs else row.path,  # noqa: PTH111 - Path drops a trailing slash
        checksums,
        row.size,
        [parse_header(line) for line in headers] if isinstance(headers, list) else headers,
        place=place,
        warn_unverified=not silenced,
        trusted_path=not is_drs,
    )


def _by_field(row: dict[str, object], ignored: set[str]) -> tuple[dict[str, object], dict[str, str]]:
    """What `_Row` is made of, and the keys as they were written. Raises InvalidInput for keys that are not understood:
    each of them could be a checksum."""
    fields: dict[str, object] = {}
    written: dict[str, str] = {}
    digests: list[tuple[str, object]] = []
    is_drs = "url" not in row and ("access_methods" in row or "access_url" in row)
    for key, item in row.items():
        field = key if key in _KEYS else field_of(key)
        if is_drs and key == _NAME and isinstance(item, str):
            # Unless it has a path as well.
            fields.setdefault("path", item)
        elif key == _NAME or (field is None and is_drs and key in _DRS_IGNORED):
            ignored.add(key)
            if key == _OWN_NAME:
                fields[key] = item
        elif field is None:
            raise InvalidInput(
                f"the key {key[:40]!r} is not understood; remove it, or give what it says as one of "
                f"{', '.join([*FIELDS, 'mirrors', 'headers', 'checksums'])}, md5, sha256, ..."
            )
        elif field not in FIELDS and field not in _KEYS:
            digests.append((field, item))
        elif field in written:
            raise InvalidInput(f"the keys {written[field][:40]!r} and {key[:40]!r} say the same; give one of them")
        else:
            fields[field], written[field] = item, key
    if digests:
        fields["digests"] = digests
    return fields, written


def _access(row: _Row) -> tuple[list[str], dict[str, str] | list[str] | None]:
    """The URLs of a row, and the headers that they need."""
    if row.url is not msgspec.UNSET:
        return [row.url, *(row.mirrors or ())], row.headers
    access = [] if row.access_url is None else [row.access_url]
    access.extend(method.access_url for method in row.access_methods or () if method.access_url is not None)
    if not access and row.self_uri is not None:
        return usable_urls([row.self_uri]), None
    if not access:
        raise InvalidInput("Object missing required field `url`")
    urls = usable_urls(each.url for each in access)
    # Each method has headers of its own, which are not for the others: those that need the same are mirrors.
    headers = next(each.headers for each in access if each.url == urls[0])
    return [each.url for each in access if each.url in urls and (each.headers or []) == (headers or [])], headers
