"""A list of downloads that was checked as a whole: nothing is written twice, outside, or over what getm needs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, lru_cache

from msgspec import Struct

from getm.core.url_path import is_url
from getm.errors import InvalidInput, MissingExtra
from getm.files.names import name_from_url
from getm.files.streams import is_special, needs_order
from getm.integrity.algorithms import require_algorithm
from getm.manifests.entry import Entry
from getm.manifests.items import Item, located

_SHOWN_PROBLEMS = 20


class EntryList(Struct, frozen=True):
    """Checked downloads. `name` is for messages; `format` one of `FORMATS`, "" for entries made by a program;
    `ignored` are the columns, keys and options that were understood and not used."""

    name: str
    format: str
    entries: tuple[Entry, ...]
    ignored: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def total_bytes(self) -> int | None:
        """The sum of the sizes; None where one is not known."""
        sizes = [entry.size for entry in self.entries if entry.size is not None]
        return sum(sizes) if len(sizes) == len(self.entries) else None


def check_list(
    items: Iterable[Item],
    name: str,
    *,
    format: str = "",
    directory: str | None = None,
    reserved: Mapping[str, str] | None = None,
) -> EntryList:
    """Check everything that can be known before the first request.

    Args:
        items: What a reader yields, or entries made by a program.
        name: Of the list, for messages.
        format: One of `FORMATS`, or "".
        directory: Where relative targets go, and what no target may leave; None: the current folder.
        reserved: Paths that no download may replace, each with what it is ("the receipt").

    Raises:
        InvalidInput: All problems: entries that cannot be used, a target that leaves its folder, is that of two
            entries, lies below that of another one, or is reserved; no entry at all.
    """
    entries: list[Entry] = []
    ignored: dict[str, None] = {}
    numbered: list[tuple[int, InvalidInput]] = []
    targets = _Targets(directory, reserved or {})
    for number, item in enumerate(_until_broken(items)):
        if isinstance(item, InvalidInput):
            numbered.append((number, item))
        elif isinstance(item, str):
            ignored[item] = None
        else:
            entries.append(item)
            try:
                if item.checksums:
                    require_algorithm(item.verifiable[0].algorithm)
                if not item.stands_for_several:
                    targets.add(number, item)
            except (InvalidInput, MissingExtra) as error:
                numbered.append((number, located(item.place, error)))
    if not entries and not numbered:
        raise InvalidInput(f"{name}: an empty list; expected at least one entry")
    numbered += targets.nested()
    problems = [problem for _, problem in sorted(numbered, key=lambda pair: pair[0])]
    if len(problems) == 1:
        raise located(name, problems[0])
    if problems:
        lines = [f"{name} has {len(problems):,} problems:", *map(str, problems[:_SHOWN_PROBLEMS])]
        if len(problems) > _SHOWN_PROBLEMS:
            lines.append(f"and {len(problems) - _SHOWN_PROBLEMS:,} more")
        raise InvalidInput("\n  ".join(lines))
    return EntryList(name, format, tuple(entries), tuple(ignored))


def _until_broken(items: Iterable[Item]) -> Iterator[Item]:
    """The items; the problem that ended the reading is the last one."""
    try:
        yield from items
    except InvalidInput as problem:
        yield problem


class _Targets:
    """The files that entries will be, with all folders resolved: `a/../b` is `b`, and so is a link to `b`."""

    def __init__(self, directory: str | None, reserved: Mapping[str, str]) -> None:
        self._directory = directory
        # For lists with a folder for each entry, in the order of their folders.
        self._resolved = lru_cache(4096)(os.path.realpath)
        self._entries: dict[str, tuple[int, Entry]] = {}
        self._reserved = {os.path.realpath(path): what for path, what in reserved.items()}

    @cached_property
    def _root(self) -> str:
        # Looked up where it matters only: the current folder may be gone, and every target absolute.
        return os.path.realpath(self._directory or ".")

    def add(self, number: int, entry: Entry) -> None:
        """Raises InvalidInput for a target that leaves the folder it must stay in, by its names or by a symbolic link,
        that is another entry's, or that is reserved. Whether the links are the same when the file is written, the
        writer checks. Devices and pipes take any number of downloads. Names that only the server knows are not checked.
        """
        confined = self._directory is not None or not entry.trusted_path
        target = entry.target(self._directory)
        path = target if self._directory is None else f"{self._directory}/{target}"
        if is_url(path):
            # Without "..", and there are no links.
            self._add(path, number, entry, target, None)
            return
        exists = os.path.lexists(path)
        if needs_order(path) if exists else is_special(path):
            if confined:
                raise InvalidInput(f"{path!r} is a device or pipe; a list may only name files there")
            return
        if exists and os.path.isdir(path):  # noqa: PTH112 - asked a hundred thousand times
            path = f"{path}/{name_from_url(entry.urls[0])}"
        folder, name = os.path.split(path)
        resolved = self._resolved(folder or ".")
        if confined and resolved != self._root and not resolved.startswith(self._root.rstrip("/") + "/"):
            raise InvalidInput(f"{path!r} leads out of {self._root!r} by a symbolic link")
        key = f"{resolved.rstrip('/')}/{name}"
        # What does not exist is no link to anything.
        self._add(key, number, entry, target, self._reserved.get(os.path.realpath(key)) if exists else None)

    def _add(self, key: str, number: int, entry: Entry, target: str, reserved: str | None) -> None:
        taken = self._file_at(key) or reserved
        if taken:
            raise InvalidInput(f"its target {target} is {taken} already; give it another path")
        self._entries[key] = number, entry

    def nested(self) -> Iterator[tuple[int, InvalidInput]]:
        """Problems with entries whose target would lie below another entry's file, or below a reserved one."""
        above = lru_cache(4096)(self._file_above)
        for key, (number, entry) in self._entries.items():
            other = above(os.path.dirname(key))  # noqa: PTH120
            if other is not None:
                target = entry.target(self._directory)
                yield (
                    number,
                    InvalidInput(f"{entry.place}: its target {target} would lie below {other}, which is a file"),
                )

    def _file_above(self, folder: str) -> str | None:
        """What the file `folder` is, or the file that is one of the folders above it."""
        while folder not in ("", "/"):
            if found := self._file_at(folder):
                return found
            folder = os.path.dirname(folder)  # noqa: PTH120
        return None

    def _file_at(self, path: str) -> str | None:
        """What the file `path` is; None where it is none of these files."""
        if path in self._entries:
            return f"the target of {self._entries[path][1].place.partition(' (')[0]}"
        return self._reserved.get(path)
