"""The objects that names with wildcards, or a slash at the end, stand for in a download. Needed by few."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from msgspec.structs import replace

from getm.core.url_path import as_path
from getm.events import Started
from getm.manifests.entry import Entry
from getm.manifests.entry_list import EntryList, check_list
from getm.manifests.expansion import expanded
from getm.session import Session


def find_listed(
    options: argparse.Namespace, entries: EntryList, session: Session, reserved: Mapping[str, str]
) -> EntryList:
    """The list with the objects that its names stand for, checked again. Raises what `expanded` raises."""
    items = expanded(entries, session.list_objects, options.include, options.exclude)
    found = check_list(items, entries.name, format=entries.format, directory=options.dir, reserved=reserved)
    return replace(found, ignored=entries.ignored)


def split_planned(entries: EntryList) -> tuple[list[Entry], EntryList]:
    """Those whose size a listing has, of which a dry run need not ask; and the others."""
    known = [entry for entry in entries if entry.expand is False and entry.size is not None]
    others = tuple(entry for entry in entries if entry.expand is not False or entry.size is None)
    return known, replace(entries, entries=others)


def planned_event(number: int, entry: Entry, directory: str | None) -> Started:
    """What a dry run says of such an entry, the `number`-th of its list."""
    target = entry.target(directory)
    return Started(number, entry.label, as_path(target if directory is None else f"{directory}/{target}"), entry.size)
