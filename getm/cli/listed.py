"""The objects that names with wildcards, or a slash at the end, stand for in a download. Needed by few."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

from msgspec.structs import replace

from getm.core.url_path import as_path
from getm.events import Started
from getm.manifests.entry import Entry
from getm.manifests.entry_list import EntryList, check_list
from getm.manifests.expansion import expanded
from getm.manifests.items import Item
from getm.session import Session


def find_listed(
    options: argparse.Namespace, entries: EntryList, session: Session, reserved: Mapping[str, str]
) -> EntryList:
    """The list with the objects that its names stand for, checked again. Raises what `expanded` raises."""
    in_folder = options.dir is not None
    items = expanded(entries, session.list_objects, options.include, options.exclude, in_folder=in_folder)
    shown = options.progress in ("auto", "bar") and not options.quiet
    with _counted(items) if shown and sys.stderr is not None and sys.stderr.isatty() else nullcontext(items) as counted:
        found = check_list(counted, entries.name, format=entries.format, directory=options.dir, reserved=reserved)
    return replace(found, ignored=entries.ignored)


@contextmanager
def _counted(items: Iterable[Item]) -> Iterator[Iterator[Item]]:
    """The same, counted on the terminal as they come: a large listing takes a while."""
    from getm.cli.output.columns import Row
    from getm.cli.output.drawing import Drawing
    from getm.cli.output.terminal import Terminal

    count = 0

    def counted() -> Iterator[Item]:
        nonlocal count
        for item in items:
            count += 1
            yield item

    with Drawing(Terminal(sys.stderr), lambda _: [Row("listing", None, "", f"{count:,} found", "", "")]):
        yield counted()


def split_planned(entries: EntryList) -> tuple[list[Entry], EntryList]:
    """Those whose size a listing has, of which a dry run need not ask; and the others."""
    known = [entry for entry in entries if entry.expand is False and entry.size is not None]
    others = tuple(entry for entry in entries if entry.expand is not False or entry.size is None)
    return known, replace(entries, entries=others)


def planned_event(number: int, entry: Entry, directory: str | None) -> Started:
    """What a dry run says of such an entry, the `number`-th of its list."""
    target = entry.target(directory)
    return Started(number, entry.label, as_path(target if directory is None else f"{directory}/{target}"), entry.size)
