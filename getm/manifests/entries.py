"""A list of downloads that was checked whole, and is read anew each time it is gone through."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Self

from getm.errors import InvalidInput, MissingExtra
from getm.integrity import require_algorithm
from getm.manifests.entry import Entry
from getm.manifests.problem import SHOWN, Problem, Problems
from getm.manifests.source import Source
from getm.manifests.targets import Targets

Read = Callable[[], Iterator[Entry | Problem]]
"""Reads a list from its start: yields entries, and problems with entries; raises Problem where it cannot go on."""


class EntryList:
    """Downloads, checked. Iterating reads them anew, so that a hundred thousand need no memory.

    A context manager: it owns the open file until `close()`. `name` is for messages, `format` one of `FORMATS` ("" for
    entries made by a program), `directory` what the targets were checked against. `count` is the number of entries,
    `total_bytes` the sum of their sizes, or None when one of them is unknown.
    """

    def __init__(
        self, name: str, read: Read, *, directory: str | None = None, format: str = "", source: Source | None = None
    ) -> None:
        """Reads the list once, and checks everything that can be known before the first request.

        Takes `source` over. Raises InvalidInput that tells all problems, the first 20 of them in words; `source` is
        closed then.
        """
        self.name = name
        self.format = format
        self.directory = directory
        self.count = 0
        self.total_bytes: int | None = 0
        self._read = read
        self._source = source
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    @classmethod
    def of(cls, entries: Iterable[Entry], *, directory: str | os.PathLike[str] | None = None) -> EntryList:
        """Entries made by a program, checked as those of a file are; they are kept in memory."""
        kept = tuple(entries)
        for entry in kept:
            if not isinstance(entry, Entry):
                raise InvalidInput(f"expected entries of type getm.Entry, got a {type(entry).__name__}")
        return cls("the list", lambda: iter(kept), directory=None if directory is None else os.fspath(directory))

    def __iter__(self) -> Iterator[Entry]:
        if self._source is not None and self._source.changed():
            raise InvalidInput(f"{self.name} was changed since it was checked; run it again")
        try:
            for item in self._read():
                if isinstance(item, Problem):
                    raise item
                yield item
        except Problem as problem:
            raise InvalidInput(f"{self.name} was changed since it was checked: {problem}") from problem

    def __len__(self) -> int:
        return self.count

    def close(self) -> None:
        """Let go of the file. Harmless when repeated."""
        if self._source is not None:
            self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _check(self) -> None:
        targets = Targets(self.directory)
        problems = Problems()
        # Hashes rather than paths: a fraction of the memory. Whether two paths with one hash are the same is looked at
        # in a second pass, which only a list with a problem needs.
        seen: set[int] = set()
        suspects: set[str] = set()
        for number, item in self._items():
            if isinstance(item, Problem):
                problems.add(number, item)
                continue
            self.count += 1
            if self.total_bytes is not None:
                self.total_bytes = None if item.size is None else self.total_bytes + item.size
            try:
                _require_any(item)
                key = targets.key(item)
            except InvalidInput as error:
                problems.add(number, Problem.of(item.place, error))
                continue
            if key is None:
                continue
            digest = hash(key)
            if digest not in seen:
                seen.add(digest)
            elif key in suspects or len(suspects) < SHOWN:
                suspects.add(key)
            else:
                problems.count_one_more()
        if suspects:
            self._add_duplicates(targets, suspects, problems)
        if not self.count and not problems:
            problems.add(0, Problem("", "an empty list; expected at least one entry"))
        problems.raise_any(self.name)

    def _add_duplicates(self, targets: Targets, suspects: set[str], problems: Problems) -> None:
        """Two downloads into one file would leave whichever ended last."""
        first: dict[str, str] = {}
        for number, item in self._items():
            if isinstance(item, Problem):
                continue
            try:
                key = targets.key(item)
            except InvalidInput:
                continue
            if key is None or key not in suspects:
                continue
            if key in first:
                where, target = first[key].partition(" (")[0], item.target(self.directory)
                reason = f"its target {target} is the target of {where} already; give each a path of its own"
                problems.add(number, Problem(item.place, reason))
            first.setdefault(key, item.place)

    def _items(self) -> Iterator[tuple[int, Entry | Problem]]:
        """What is read, numbered; the problem that ended the reading is the last item."""
        number = -1
        try:
            for number, item in enumerate(self._read()):
                yield number, item
        except Problem as problem:
            yield number + 1, problem


def _require_any(entry: Entry) -> None:
    """Raise InvalidInput where the entry has checksums and none of them can be computed here."""
    checksum = entry.checksum
    if checksum is not None:
        try:
            require_algorithm(checksum.algorithm)
        except MissingExtra as error:
            raise InvalidInput(error.message) from error
