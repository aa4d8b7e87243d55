"""From the entries of a list to the jobs of a batch: requests and targets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from getm.batch.job import Job
from getm.core.lazy import importing
from getm.core.units import MIB
from getm.core.url_path import is_url
from getm.errors import InvalidInput
from getm.manifests.entry import Entry, as_entry
from getm.options import override_headers
from getm.protocol.messages import OpenRequest
from getm.resolve.request import UnlocatedRequest, locator_for

if TYPE_CHECKING:
    from getm.batch.scheduler import Batch
    from getm.files.logins import Logins

# Larger files wait until the smaller ones have begun.
_SMALL_FILE_BYTES = 64 * MIB


def jobs_of(
    entries: Iterable[Entry | str], common: OpenRequest, folder: str | None, logins: Logins | None, batch: Batch
) -> Iterator[Job]:
    """The downloads of `entries`, made as they are needed.

    Args:
        entries: Entries or URLs.
        common: What their requests have in common.
        folder: Where relative targets go, and what no target may leave; None: the current folder.
        logins: Of their hosts.
        batch: That they belong to.

    Raises:
        InvalidInput: An entry cannot be used.
    """
    for index, entry in small_first(entries):
        request = _for_entry(entry, common, logins)
        waived = request.checksums is None or not entry.warn_unverified
        yield Job(batch, index, *_place(entry, folder), request, waived=waived)


def small_first(entries: Iterable[Entry | str]) -> Iterator[tuple[int, Entry]]:
    """Entries with their positions; where they can be read twice, those known to be large come last: a batch that is
    interrupted has then brought most of its files."""
    once = isinstance(entries, Iterator)
    any_large = False
    for index, given in enumerate(entries):
        entry = as_entry(given)
        if once or not _is_large(entry):
            yield index, entry
        else:
            any_large = True
    if any_large:
        yield from ((index, entry) for index, entry in enumerate(map(as_entry, entries)) if _is_large(entry))


def _is_large(entry: Entry) -> bool:
    return (entry.size or 0) > _SMALL_FILE_BYTES


def _for_entry(entry: Entry, common: OpenRequest, logins: Logins | None) -> OpenRequest:
    """The request for one entry, whose URLs and headers are checked already: what it says itself goes first."""
    if entry.stands_for_several:
        raise InvalidInput(
            "it stands for several objects, which are listed before a batch begins: give a list, and no iterator",
            url=entry.label,
        )
    headers, checksums = common.headers if entry.session_headers else (), common.checksums
    if entry.headers:
        headers = override_headers(headers, entry.headers)
    if entry.checksums:
        checksums = tuple(map(str, entry.verifiable))
    url, *mirrors = entry.urls or ("",)
    locator = locator_for(entry.provider or url, logins, url)
    request = msgspec.structs.replace(
        common,
        url=url if locator is None else "",
        mirrors=tuple(mirrors),
        headers=headers,
        logins=() if logins is None else logins.of(entry.urls, named=entry.session_headers),
        checksums=checksums,
        size=entry.size,
    )
    return request if locator is None else UnlocatedRequest.of(request, locator)


def _url(entry: Entry, folder: str | None) -> str:
    """The URL of an entry's object, or of a folder for it."""
    with importing:
        from getm.destinations.urls import in_folder

    if entry.path is None:
        return in_folder(folder or "", "")
    target = entry.target(folder)
    if entry.path.endswith("/"):
        target = target[: target.rindex("/") + 1]
    return target if folder is None else in_folder(folder, target)


def _place(entry: Entry, folder: str | None) -> tuple[str | None, str | None]:
    """The path of an entry's file, as `resolve_target` reads it, and the folder that it may not leave."""
    if (folder is not None and is_url(folder)) or (entry.path is not None and is_url(entry.path)):
        return _url(entry, folder), None
    root = folder if folder is not None or entry.trusted_path else "."
    if entry.path is None:
        # Not None: the name would be absolute, and is shown.
        return f"{folder or '.'}/", root
    target = entry.target(folder)
    if entry.path.endswith("/"):
        # A folder: the server may name the file in it, as it may where there is no path.
        target = target[: target.rindex("/") + 1]
    return target if folder is None else f"{folder}/{target}", root
