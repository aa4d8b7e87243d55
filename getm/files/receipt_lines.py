"""The lines of a receipt, and how they are read. Lines are added to what a receipt holds already: of each path the last
one that says what is on the disk counts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import msgspec

from getm.core.url_path import URLPath, as_path, is_url
from getm.core.version import Version
from getm.errors import InvalidInput
from getm.integrity.blocks import BlockSums
from getm.integrity.values import Checksum, parse_checksum

Status = Literal["done", "left", "failed", "skipped", "list"]
"""What a line says: see `ReceiptLine`."""

_T = TypeVar("_T")


class ReceiptLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. "done": it was downloaded; "left": it was there, was read, and is what it should be; "skipped": it was
    there, and was not read; "list": of all downloads of a run, not of one. Empty fields are left out; a reader ignores
    fields that it does not know.

    `url`: redacted. `path`: relative to the receipt's folder where it lies below it, else absolute, or the URL of an
    object; None where no file was written (standard output, a device). `size`: bytes. `host`: that sent the bytes,
    after redirects. `checksums`: all that were computed, canonical. `verified_by`: the one that had been declared, and
    matched; `declared_by`: by whom ("caller", "receipt", or a header's name). `reason`: why nothing verified the bytes,
    or why the file was left. `changed_ns`: when file and inode were changed last, in nanoseconds since 1970 (st_ctime):
    no program can set it, so a file that still has it, and its size, is what was received. `blocks`: of a file of more
    than 1 MiB, the CRC32C of each block of `block_bytes` as it was received (or read, where it was resumed or left):
    four bytes each, big-endian, in base64. `started`, `ended`: RFC 3339, UTC. `requests`: made for it; `retries`: those
    of them made again; `limited_by`: what took most of the time, a stage of `getm.Bottleneck`. `error`, `message`,
    `status_code`: of a failure, as on standard error. `suggested_name`, `content_coding`: see `DownloadResult`.
    `ignored`: what the list has and getm does not use.
    """

    status: Status
    url: str | None = None
    path: str | None = None
    size: int | None = None
    host: str | None = None
    checksums: tuple[str, ...] = ()
    verified_by: str | None = None
    declared_by: str | None = None
    reason: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    changed_ns: int | None = None
    block_bytes: int = 0
    blocks: str | None = None
    started: str | None = None
    ended: str | None = None
    requests: int = 0
    retries: int = 0
    limited_by: str | None = None
    error: str | None = None
    message: str | None = None
    status_code: int | None = None
    suggested_name: str | None = None
    content_coding: str | None = None
    ignored: tuple[str, ...] = ()


class ReceiptEntry(msgspec.Struct, frozen=True):
    """A file that the receipt says is there.

    `path`: as it can be opened; of an object, a `URLPath`. `size`: in bytes. `checksums`: that it has, perhaps none.
    `line`: the number of its line, from 1. `url`: where it came from, redacted. `version`: of the object there.
    `changed_ns`, `blocks`: see `ReceiptLine`.
    """

    path: Path
    size: int
    checksums: tuple[Checksum, ...]
    line: int
    url: str | None = None
    version: Version = Version()
    changed_ns: int | None = None
    blocks: BlockSums | None = None

    @property
    def proofs(self) -> tuple[Checksum, ...]:
        """What the file must have: its checksums, or else that of all its blocks."""
        return self.checksums or (() if self.blocks is None else (self.blocks.whole,))


class Received(Protocol):
    """What earlier runs have received."""

    def find(self, path: str) -> ReceiptEntry | None:
        """What a receipt said of the file at `path`; None where it said nothing."""


class ReceiptFiles(msgspec.Struct, frozen=True):
    """What a receipt says is on the disk, in the order of its lines; and a sentence for each line that could not be
    understood."""

    entries: tuple[ReceiptEntry, ...]
    problems: tuple[str, ...]


def read_receipt(lines: Iterable[bytes], folder: str | os.PathLike[str]) -> ReceiptFiles:
    """The files of a receipt in `folder`: for each path the last line with "done" or "left". Lines of failures and of
    skipped files say nothing about the disk and are ignored."""
    entries: dict[str, ReceiptEntry] = {}
    problems: list[str] = []
    for number, data in enumerate(lines, 1):
        if data.isspace():
            continue
        try:
            entry = _entry(data, number, folder)
        except (ValueError, RecursionError, InvalidInput) as error:
            problems.append(f"line {number} is no line of a receipt: {error}")
            continue
        if entry is not None:
            key = full_path(entry.path)
            entries.pop(key, None)
            entries[key] = entry
    return ReceiptFiles(tuple(entries.values()), tuple(problems))


def full_path(path: Path) -> str:
    """The same text for all spellings of a path, but for symbolic links; or the URL that it is."""
    # Resolving each would cost as much as reading small files.
    return str(path) if isinstance(path, URLPath) else os.path.abspath(path)  # noqa: PTH100


def decode_line(data: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    """A line, as a struct that has its fields, or some of them. Raises ValueError, RecursionError."""
    try:
        return decoder.decode(data)
    except msgspec.MsgspecError:
        # As in writing: names need not be UTF-8, and are lone surrogates then. (And it says what is wrong.)
        line: _T = msgspec.convert(json.loads(data), decoder.type)
        return line


def _entry(data: bytes, number: int, folder: str | os.PathLike[str]) -> ReceiptEntry | None:
    line = decode_line(data, _decoder)
    if line.status not in ("done", "left") or line.path is None:
        return None
    if "\0" in line.path:
        raise InvalidInput("`path` holds a NUL character; no file can have it in its name")
    if line.size is None or line.size < 0:
        raise InvalidInput(f"expected `size`, a number of bytes, got {line.size}")
    checksums = tuple(parse_checksum(text) for text in line.checksums)
    version = Version(line.size, line.etag, line.last_modified)
    blocks = None if line.blocks is None else BlockSums.parse(line.size, line.block_bytes, line.blocks)
    path = as_path(line.path) if is_url(line.path) else Path(folder, line.path)
    return ReceiptEntry(path, line.size, checksums, number, line.url, version, line.changed_ns, blocks)


_decoder = msgspec.json.Decoder(ReceiptLine)
