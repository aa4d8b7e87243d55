"""The getm JSON manifest: many downloads in one file, checked whole before the first request.

    [{"url": "https://...", "filepath": "a/b.bam", "checksum": "...", "checksum-algorithm": "md5"}, ...]

The schema is that of getm 0.0.x, as existing callers write it: `url` is required; `filepath` may be absolute, may name
a folder, and is taken from the server or the URL when absent; `checksum` and `checksum-algorithm` come as a pair or not
at all, with the algorithms `md5` (hex), `gs_crc32c` (base64), `s3_etag` and `null` (no checksum: the value beside it
is not read). Every algorithm that `getm.integrity` knows is taken as well. Fields of other names are not looked at.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from getm.downloads.naming import name_from_url
from getm.downloads.stream import needs_order
from getm.errors import InvalidInput
from getm.integrity import Checksum, parse_pair
from getm.options import clean_url

_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Entry:
    """One download of a manifest. `path` None: the current folder and a name by the server or the URL. `checksum`
    None: nothing is expected beyond what the server itself declares. `index` counts from 0, as in the manifest."""

    index: int
    url: str
    path: str | None
    checksum: Checksum | None


class _Row(msgspec.Struct, frozen=True):
    url: str
    filepath: str | None = None
    checksum: str | None = None
    algorithm: str | None = msgspec.field(name="checksum-algorithm", default=None)


def parse_manifest(data: bytes) -> list[Entry]:
    """The entries of a manifest, in its order. Raises InvalidInput naming the entry and the reason: not JSON, a byte
    order mark (RFC 8259, section 8.1 forbids it), no entries, a field missing or of a wrong type, a URL that is not
    http(s), a checksum that cannot be read, a lone half of a checksum pair, two entries with one target."""
    if data.startswith(_BYTE_ORDER_MARKS):
        raise InvalidInput("The manifest begins with a byte order mark; save it as UTF-8 without one (RFC 8259).")
    try:
        raw_rows = msgspec.json.decode(data, type=list[msgspec.Raw])
    except msgspec.ValidationError as error:
        raise InvalidInput(f"The manifest must be a JSON list of entries: {error}.") from error
    except msgspec.DecodeError as error:
        raise InvalidInput(f"The manifest is not JSON: {error}; expected a list of entries.") from error
    if not raw_rows:
        raise InvalidInput("The manifest is an empty list; expected at least one entry.")
    entries = [_entry(index, raw) for index, raw in enumerate(raw_rows)]
    _refuse_duplicates(entries)
    return entries


def _entry(index: int, raw: msgspec.Raw) -> Entry:
    try:
        row = msgspec.json.decode(raw, type=_Row)
        clean_url(row.url)
        if row.filepath and "\0" in row.filepath:
            raise InvalidInput("`filepath` holds a NUL character; no file can have it in its name")
        checksum = parse_pair(row.algorithm, row.checksum)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"{_place(index)}: {error}.") from error
    except InvalidInput as error:
        raise InvalidInput(f"{_place(index)}: {error.message}", url=error.url) from error
    # expanduser: getm 0.0.x did, so manifests with "~/" exist. An empty path was the same as none.
    path = os.path.expanduser(row.filepath) if row.filepath else None  # noqa: PTH111 - Path drops a trailing slash
    return Entry(index, row.url, path, checksum)


def _refuse_duplicates(entries: list[Entry]) -> None:
    """Two downloads into one file would leave whichever ended last. Folders are resolved, so that `a/../b` is `b`."""
    seen: dict[str, int] = {}
    folders: dict[str, str] = {}
    for entry in entries:
        if needs_order(entry.path):
            # A device or pipe takes any number of downloads.
            continue
        folder, name = _foreseen(entry)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        key = f"{folders[folder]}/{name}"
        first = seen.setdefault(key, entry.index)
        if first != entry.index:
            raise InvalidInput(
                f"{_place(entry.index)}: its target {Path(folder, name)} is the target of entry {first} already;"
                " give each entry a `filepath` of its own."
            )


def _foreseen(entry: Entry) -> tuple[str, str]:
    """Folder and name that the download will have, unless the server then names it otherwise."""
    if entry.path is None:
        return ".", name_from_url(entry.url)
    folder, name = os.path.split(entry.path)
    if not name or Path(entry.path).is_dir():
        return entry.path, name_from_url(entry.url)
    return folder or ".", name


def _place(index: int) -> str:
    return f"Manifest entry {index} (counted from 0)"
