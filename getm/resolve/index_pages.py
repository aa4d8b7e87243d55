"""What a web server's index page lists. Pure parsing, no I/O.

Of a page only the links to what is directly in its folder count. So the forms of nginx, Apache, Caddy, lighttpd and
Python's own server need no case of their own, and links to elsewhere (parents, columns to sort by, other hosts) are
none of its entries, whatever a page says.
"""

from __future__ import annotations

import codecs
import json
import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from typing import NamedTuple
from urllib.parse import quote, unquote, unquote_to_bytes, urljoin, urlsplit

from getm.core.spans import MAX_POSITION

# What nginx and Apache write after a link: a date, a time, and a size. Rounded sizes ("2.9K") have a unit.
_SIZE = re.compile(r"(?:\d{2}-\w{3}-\d{4}|\d{4}-\d{2}-\d{2}) \d{2}:\d{2}\s+(\d+)(?=\s|$)")
# Where Caddy has the size, by which a column is sorted.
_SIZE_ATTRIBUTES = ("data-order", "data-size")


HTML: frozenset[str] = frozenset({"text/html", "application/xhtml+xml"})
_JSON = "application/json"


class NoIndexPage(Exception):
    """A page that is none, with what it is."""


class IndexEntry(NamedTuple):
    """A file or folder. `name`: as it stands in a URL, percent-encoded where that is needed; a folder's ends with a
    slash. `size`: in bytes, None where the page does not have it exactly. `modified`: None where the page does not say
    it with its time zone."""

    name: str
    size: int | None
    modified: datetime | None = None

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")


def media_type_of(content_type: str) -> str:
    """The media type of a page, by its Content-Type. Raises `NoIndexPage` where it is none that an index page has."""
    media_type = content_type.lower().partition(";")[0].strip()
    if media_type not in HTML and media_type != _JSON:
        raise NoIndexPage(f"its type is {media_type or 'not declared'}")
    return media_type


def parse_index(content: bytes, content_type: str, url: str) -> list[IndexEntry]:
    """The entries of the index page at `url`. Raises `NoIndexPage` where it is none."""
    if media_type_of(content_type) in HTML:
        return parse_html_index(content.decode(_charset(content_type), errors="replace"), url)
    listed = parse_json_index(content)
    if listed is None:
        raise NoIndexPage("it is JSON, and no list of files")
    return listed


def _charset(content_type: str) -> str:
    """The charset that it names, where Python knows it; UTF-8 otherwise."""
    found = re.search(r"charset=\"?([\w.:-]+)", content_type.lower())
    try:
        return codecs.lookup(found[1]).name if found else "utf-8"
    except LookupError:
        return "utf-8"


def parse_html_index(text: str, url: str) -> list[IndexEntry]:
    """The entries of the HTML page at `url`, in the order in which they stand there, each once."""
    page = _Page(url)
    page.feed(text)
    page.close()
    page.end_entry()
    return [IndexEntry(name, None if name.endswith("/") else size) for name, size in page.entries.items()]


def parse_json_index(content: bytes) -> list[IndexEntry] | None:
    """The entries of an index as nginx writes it with `autoindex_format json`; None for other JSON."""
    try:
        rows = json.loads(content)
        if not isinstance(rows, list):
            return None
        entries = [(row["name"], row["type"] == "directory", row.get("size"), row.get("mtime")) for row in rows]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return [
        # Names are as on the disk: they become part of a URL.
        IndexEntry(
            _canonical(name.encode(errors="surrogatepass")) + ("/" if is_folder else ""),
            _usable_size(size),
            _time(modified),
        )
        for name, is_folder, size, modified in entries
        if isinstance(name, str) and _is_plain(name)
    ]


def _usable_size(size: object) -> int | None:
    return size if type(size) is int and 0 <= size <= MAX_POSITION else None


def _time(text: object) -> datetime | None:
    """As HTTP writes it."""
    try:
        found = parsedate_to_datetime(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None


class _Page(HTMLParser):
    """Collects entries by their names, and the text that follows each link."""

    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self.entries: dict[str, int | None] = {}
        self._base = url
        self._folder = _place(url)
        # The entry whose size may follow; and what follows its link.
        self._name: str | None = None
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.end_entry()
            href = next((value for name, value in attrs if name == "href"), None)
            self._name = None if href is None else self._child(href)
            if self._name is not None:
                self.entries.setdefault(self._name, None)
        elif tag == "base":
            href = next((value for name, value in attrs if name == "href"), None)
            self._base = urljoin(self._base, (href or "").strip())
        elif self._name is not None:
            for name, value in attrs:
                if name in _SIZE_ATTRIBUTES and value is not None and value.isascii() and value.isdigit():
                    self.entries[self._name] = _usable_size(int(value[:30]))

    def handle_data(self, data: str) -> None:
        if self._name is not None:
            self._text.append(data)

    def end_entry(self) -> None:
        """What follows belongs to another link."""
        if self._name is not None and (found := _SIZE.search(" ".join(self._text))):
            self.entries[self._name] = _usable_size(int(found[1][:30]))
        self._name = None
        self._text.clear()

    def _child(self, href: str) -> str | None:
        """The name of what a link leads to, where that is directly in the folder."""
        try:
            place = _place(urljoin(self._base, href.strip()))
        except ValueError:
            return None
        name, depth = place.path[-1], len(self._folder.path)
        slash = ""
        if not name and len(place.path) > depth:
            # A folder: its name stands before the slash.
            name, slash, place = place.path[-2], "/", place._replace(path=place.path[:-1])
        inside = place.origin == self._folder.origin and place.folders == self._folder.folders
        if not (inside and len(place.path) == depth and _is_plain(unquote(name))):
            return None
        return _canonical(unquote_to_bytes(name)) + slash + (f"?{place.query}" if place.query else "")


class _Place(NamedTuple):
    origin: tuple[str, str]
    path: list[str]
    query: str

    @property
    def folders(self) -> list[str]:
        """What a name stands in, whatever is percent-encoded."""
        return [unquote(segment) for segment in self.path[:-1]]


def _place(url: str) -> _Place:
    parts = urlsplit(url)
    return _Place((parts.scheme, parts.netloc.lower()), (parts.path or "/").split("/"), parts.query)


def _is_plain(name: str) -> bool:
    """Whether a decoded name is one of a file or folder. Others could lead out of a folder once they are used."""
    return name not in ("", ".", "..") and not any(character in name for character in "/\\\0")


def _canonical(name: bytes) -> str:
    """A decoded name as it stands in a URL, the same whatever server has listed it: nothing is percent-encoded that
    need not be (RFC 3986, section 3.3), so that "year=2024" can be read by programs. "*" and "[" would be patterns."""
    return quote(name, safe="!$&'()+,;=:@~")
