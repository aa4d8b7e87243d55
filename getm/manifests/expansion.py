"""Entries that stand for several objects become one entry for each, by a listing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from getm.errors import Cancelled, InvalidInput, NothingFound
from getm.files.names import LONGEST_NAME_BYTES
from getm.manifests.entry import Entry, as_entry, refuse_escape
from getm.manifests.items import Item, located
from getm.options import HeadersInput
from getm.resolve.listing import ListedObject, path_of
from getm.resolve.patterns import split_pattern

_ADVICE = ", or leave it out (--exclude, or by getm.list_objects)"


class ListObjects(Protocol):
    """What `Session.list_objects` is."""

    def __call__(
        self,
        name: str,
        *,
        recursive: bool,
        include: Iterable[str],
        exclude: Iterable[str],
        headers: HeadersInput | None,
    ) -> Iterator[ListedObject]: ...


class Expansion:
    """Entries, of which some stand for several objects: `run` lists these before the entries are read.
    `list_objects`: of the session."""

    def __init__(self, entries: Iterable[Entry | str], list_objects: ListObjects, *, in_folder: bool) -> None:
        """`in_folder`: as `expanded` has it."""
        self._given = entries
        self._list_objects = list_objects
        self._in_folder = in_folder
        self._found: list[Entry] = []
        self._stopped = False

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._found)

    def run(self) -> None:
        """Make the requests. Raises what `expanded` raises, and `InvalidInput` for a name that no file can have."""
        for item in expanded(map(as_entry, self._given), self._list_objects, in_folder=self._in_folder):
            if isinstance(item, InvalidInput):
                raise item
            if self._stopped:
                raise Cancelled("the listing was stopped")
            if isinstance(item, Entry):
                self._found.append(item)

    def stop(self) -> None:
        """Have `run` end with the object that it finds next. From any thread."""
        self._stopped = True


def expanded(
    entries: Iterable[Entry],
    list_objects: ListObjects,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    *,
    in_folder: bool,
) -> Iterator[Item]:
    """The same entries; and for each that stands for several objects, one for each of these, in the order of the
    listing, or what is wrong with its name.

    Args:
        entries: Entries.
        list_objects: Of the session.
        include: As `list_objects` has it.
        exclude: As `list_objects` has it.
        in_folder: Whether the caller named a folder for all of them. Else hidden files are refused: in the current
            folder a stranger's ".bashrc" might replace one's own.

    Raises:
        NothingFound: An entry stands for no object.
        InvalidInput: An entry cannot be used.
    """
    for entry in entries:
        if entry.stands_for_several:
            yield from _found(entry, list_objects, include, exclude, in_folder=in_folder or entry.path is not None)
        else:
            yield entry


def _found(
    entry: Entry, list_objects: ListObjects, include: Iterable[str], exclude: Iterable[str], *, in_folder: bool
) -> Iterator[Item]:
    name = entry.urls[0]
    if entry.path is not None and not entry.path.endswith("/"):
        raise InvalidInput(
            f"{entry.place}: several objects cannot go into one file; expected a folder, {entry.path + '/'!r}"
        )
    folder, parts = split_pattern(name)
    # With a slash at the end, or without wildcards, everything below is meant.
    recursive = entry.expand is True or not parts or not parts[-1]
    any_object, any_folder = False, False
    for listed in list_objects(
        name, recursive=recursive, include=include, exclude=exclude, headers=entry.headers or None
    ):
        if listed.is_folder:
            any_folder = True
            continue
        any_object = True
        path = path_of(listed, folder)
        try:
            if path.startswith(".") and not in_folder:
                raise InvalidInput(f"the path {path!r} is that of a hidden file; name a folder for it (-d, directory)")
            yield _entry_of(entry, listed, path)
        except InvalidInput as error:
            yield located(listed.name, InvalidInput(f"{error.message}{_ADVICE}"))
    if not any_object:
        raise NothingFound(_nothing(any_folder=any_folder, filtered=bool(include or exclude)), url=entry.label)


def _entry_of(entry: Entry, listed: ListedObject, path: str) -> Entry:
    """The entry of one object. Raises `InvalidInput` for a path that no file below a folder can have."""
    if not path or path.endswith("/"):
        raise InvalidInput(f"the path {path!r} ends with a slash, as no file's does")
    refuse_escape(path, "its folder")
    if any(len(part.encode(errors="surrogateescape")) > LONGEST_NAME_BYTES for part in path.split("/")):
        raise InvalidInput(f"a part of the path {path[:40]!r}... is longer than the name of a file may be")
    return Entry(
        listed.source,
        f"{entry.path or ''}{path}",
        listed.checksums,
        listed.size,
        entry.headers or None,
        warn_unverified=entry.warn_unverified,
        # A path that the caller wrote may lead anywhere, and what a listing adds to it stays below.
        trusted_path=entry.trusted_path and entry.path is not None,
        session_headers=entry.session_headers,
        expand=False,
    )


def _nothing(*, any_folder: bool, filtered: bool) -> str:
    if any_folder:
        return "only folders match; end it with a slash for all that is in them"
    if filtered:
        return "nothing was found that is included and not excluded; getm ls shows what is there"
    return "nothing was found there; getm ls shows what is in the folder above"
