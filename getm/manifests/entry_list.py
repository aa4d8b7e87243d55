"""A list of downloads that was checked as a whole: nothing is written twice, outside, or over what getm needs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from getm.errors import InvalidInput, MissingExtra
from getm.files.names import name_from_url
from getm.files.streams import needs_order
from getm.integrity import require_algorithm
from getm.manifests.entry import Entry
from getm.manifests.problem import Problem, raise_all


@dataclass(frozen=True, slots=True)
class Ignored:
    """A column, key or option of a list that is understood and not used."""

    name: str


Item = Entry | Problem | Ignored
"""What readers yield. They raise a Problem where nothing after it can be read."""


@dataclass(frozen=True, slots=True)
class EntryList:
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
        total_bytes = 0
        for entry in self.entries:
            if entry.size is None:
                return None
            total_bytes += entry.size
        return total_bytes


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
    problems: list[tuple[int, Problem]] = []
    targets = _Targets(directory, reserved or {})
    for number, item in enumerate(_until_broken(items)):
        if isinstance(item, Problem):
            problems.append((number, item))
        elif isinstance(item, Ignored):
            ignored[item.name] = None
        else:
            entries.append(item)
            try:
                _require_any(item)
                targets.add(number, item)
            except InvalidInput as error:
                problems.append((number, Problem.of(item.place, error)))
    if not entries and not problems:
        problems.append((0, Problem("", "an empty list; expected at least one entry")))
    problems += targets.nested()
    raise_all(name, [problem for _, problem in sorted(problems, key=lambda pair: pair[0])])
    return EntryList(name, format, tuple(entries), tuple(ignored))


def _until_broken(items: Iterable[Item]) -> Iterator[Item]:
    """The items; the problem that ended the reading is the last one."""
    try:
        yield from items
    except Problem as problem:
        yield problem
    except InvalidInput as error:
        yield Problem.of("", error)


def _require_any(entry: Entry) -> None:
    """Raise InvalidInput where the entry has checksums and none of them can be computed here."""
    checksum = entry.checksum
    if checksum is not None:
        try:
            require_algorithm(checksum.algorithm)
        except MissingExtra as error:
            raise InvalidInput(error.message) from error


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
        if needs_order(path):
            if confined:
                raise InvalidInput(f"{path!r} is a device or pipe; a list may only name files there")
            return
        if os.path.isdir(path):  # noqa: PTH112 - asked a hundred thousand times
            path = f"{path}/{name_from_url(entry.urls[0])}"
        folder, name = os.path.split(path)
        resolved = self._resolved(folder or ".")
        if confined and resolved != self._root and not resolved.startswith(self._root.rstrip("/") + "/"):
            raise InvalidInput(f"{path!r} leads out of {self._root!r} by a symbolic link")
        key = f"{resolved.rstrip('/')}/{name}"
        if self._reserved and (what := self._reserved.get(key) or self._reserved.get(os.path.realpath(key))):
            raise InvalidInput(f"its target {target} is {what}; give it another path")
        first = self._entries.setdefault(key, (number, entry))[1]
        if first is not entry:
            where = first.place.partition(" (")[0]
            raise InvalidInput(f"its target {target} is the target of {where} already; give each a path of its own")

    def nested(self) -> Iterator[tuple[int, Problem]]:
        """Problems with entries whose target would lie below another entry's file, or below a reserved one."""
        above = lru_cache(4096)(self._file_above)
        for key, (number, entry) in self._entries.items():
            other = above(os.path.dirname(key))  # noqa: PTH120
            if other is not None:
                target = entry.target(self._directory)
                yield number, Problem(entry.place, f"its target {target} would lie below {other}, which is a file")

    def _file_above(self, folder: str) -> str | None:
        """What in `self` is the file `folder`, or one of the folders above it."""
        while folder not in ("", "/"):
            if folder in self._entries:
                first = self._entries[folder][1]
                return f"the target of {first.place.partition(' (')[0]}"
            if folder in self._reserved:
                return self._reserved[folder]
            folder = os.path.dirname(folder)  # noqa: PTH120
        return None
