"""A URL per line, with aria2's extensions: mirrors on the same line, options on the lines below it.

    # blank lines and comments are passed over
    https://host/file.iso<TAB>https://mirror/file.iso
      dir=images
      out=file.iso
      checksum=sha-256=...
      header=X-Auth: ...

The form is that of aria2's input files (aria2c manual, "Input File"), of which a plain list of URLs is a case. Options
start with white space, one a line. Understood are `out`, `dir`, `checksum`, `header`, `user-agent` and `referer`; the
others say how aria2 transfers, and are passed over. Paths stay below the current folder, other than in aria2.
"""

from __future__ import annotations

from collections.abc import Iterator

from getm.errors import InvalidInput
from getm.integrity import Checksum, parse_checksum
from getm.manifests.entry import Entry
from getm.manifests.problem import Problem, tried
from getm.manifests.schemes import usable_urls
from getm.manifests.source import Source
from getm.options import parse_header

_HEADER_OPTIONS = {"user-agent": "User-Agent", "referer": "Referer"}
_URL_STARTS = ("http://", "https://")


def read_url_lines(source: Source) -> Iterator[Entry | Problem]:
    """The entries of a list of URLs or an aria2 input file."""
    block: list[tuple[int, str]] = []
    for number, line in source.text_lines():
        text = line.strip()
        if not text or line.startswith("#"):
            continue
        if line[0] not in " \t" or text.lower().startswith(_URL_STARTS):
            yield from _entry(block)
            block = [(number, text)]
        elif block:
            block.append((number, text))
        else:
            yield Problem(f"line {number}", "an option without a URL above it")
    yield from _entry(block)


def _entry(block: list[tuple[int, str]]) -> Iterator[Entry | Problem]:
    if block:
        (number, urls), *options = block
        place = f"line {number}"
        yield tried(place, _from_block, place, urls, options)


def _from_block(place: str, urls: str, options: list[tuple[int, str]]) -> Entry:
    name = folder = ""
    checksum: Checksum | None = None
    headers: list[tuple[str, str]] = []
    for number, text in options:
        option, equals, value = text.partition("=")
        try:
            if not equals:
                raise InvalidInput("expected an option as NAME=VALUE")
            if option == "out":
                name = value
            elif option == "dir":
                folder = value
            elif option == "checksum":
                checksum = parse_checksum(value)
            elif option == "header":
                headers.append(parse_header(value))
            elif option in _HEADER_OPTIONS:
                headers.append((_HEADER_OPTIONS[option], value))
        except InvalidInput as error:
            raise InvalidInput(f"line {number} of its options: {error.message}") from error
    # Within `dir`, as in aria2: join() would take an absolute `out` alone.
    path = f"{folder}/{name}" if folder else name
    return Entry(usable_urls(_split(urls)), path, checksum, headers=headers, place=place, trusted_path=False)


def _split(urls: str) -> list[str]:
    return [url for url in (part.strip() for part in urls.split("\t")) if url]
