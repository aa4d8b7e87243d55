"""Folders of web servers, as far as index pages list them (nginx, Apache, Caddy, lighttpd, Python's own server).

Only what is below the folder counts, and what the same host lists: see `index_pages.py` for the links that a page has.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from getm.core.redact import redact
from getm.errors import BadResponse
from getm.resolve.index_pages import IndexEntry, NoIndexPage, parse_index
from getm.resolve.listing import ListedObject, ListRequest

# Deeper is a link that leads to a folder above itself, which a server follows for ever.
_MAX_DEPTH = 40
_MAX_PAGES = 100_000


def list_objects(request: ListRequest) -> Iterator[ListedObject]:
    """What is in a folder of a web server, with sizes where its index page has them exactly.

    Args:
        request: What is asked for.

    Yields:
        Files and folders, in the order of the pages, a folder's before what follows it.

    Raises:
        BadResponse: What comes is no index page, leads elsewhere, or has no end.
        HTTPStatusError: The server refuses one of the pages.
    """
    return _Pages(request).below(request.prefix[: request.prefix.rindex("/") + 1], 0)


class _Pages:
    def __init__(self, request: ListRequest) -> None:
        self._request = request
        self._count = 0

    def below(self, folder: str, depth: int) -> Iterator[ListedObject]:
        for entry in self._read(folder, depth):
            name = folder + entry.name
            if not entry.is_folder:
                yield ListedObject(name, entry.size, entry.modified)
            elif self._request.recursive:
                yield from self.below(name, depth + 1)
            else:
                yield ListedObject(name, is_folder=True)

    def _read(self, folder: str, depth: int) -> list[IndexEntry]:
        shown = redact(folder)
        self._count += 1
        if depth > _MAX_DEPTH or self._count > _MAX_PAGES:
            raise BadResponse(
                f"the folders have no end: there are more than {_MAX_PAGES:,}, or one within another more than "
                f"{_MAX_DEPTH} times",
                url=shown,
            )
        page = self._request.get(folder, {})
        if _place(page.url) != _place(folder):
            raise BadResponse(f"a redirect leads out of the folder, to {redact(page.url)}", url=shown)
        try:
            return parse_index(page.content, page.headers.get("content-type", ""), page.url)
        except NoIndexPage as error:
            raise BadResponse(f"it is no index page: {error}", url=shown) from None


def _place(url: str) -> tuple[str | None, str]:
    """The host and the folder of a page. The scheme may be another one after a redirect."""
    parts = urlsplit(url)
    return parts.hostname, unquote((parts.path or "/").rpartition("/")[0])
