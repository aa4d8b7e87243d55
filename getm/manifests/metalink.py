"""Metalink 4 (RFC 5854): files with mirrors, sizes and hashes, in XML.

Read by expat as it comes. A document type declaration is refused: Metalink has none, and every attack that XML knows
(entities that grow, entities that read other files) begins with one. So neither a parser that resolves entities nor a
package that keeps one from doing so is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn
from xml.parsers import expat

from getm.errors import InvalidInput
from getm.manifests.document import Document
from getm.manifests.entry import Entry, known_checksums, usable_urls
from getm.manifests.entry_list import Item
from getm.manifests.problem import Problem, attempt

_NAMESPACE = "urn:ietf:params:xml:ns:metalink"
# RFC 5854, section 4.2.16.1: 1 is preferred, and those without a priority come last.
_LAST_PRIORITY = 999_999


@dataclass(slots=True)
class _File:
    line: int
    name: str
    size: str | None = None
    urls: list[tuple[int, str]] = field(default_factory=list)
    hashes: list[tuple[str, str]] = field(default_factory=list)


class _Handlers:
    """What expat calls. `files`: those that were read."""

    def __init__(self) -> None:
        self.files: list[_File] = []
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        # Names of the elements that are open, for those of Metalink; "" for others.
        self._open: list[str] = []
        self._file: _File | None = None
        self._attributes: dict[str, str] = {}
        self._text: list[str] = []

    def _doctype(self, *declaration: Any) -> NoReturn:
        raise Problem(self._place(), "a document type declaration, which Metalink does not have; remove it")

    def _place(self) -> str:
        return f"line {self.parser.CurrentLineNumber}"

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        namespace, _, name = tag.rpartition(" ")
        if not self._open and (namespace, name) != (_NAMESPACE, "metalink"):
            older = " (this is Metalink 3)" if name == "metalink" else ""
            raise Problem(self._place(), f"expected Metalink 4, with the namespace {_NAMESPACE} (RFC 5854){older}")
        if len(self._open) > 100:
            raise Problem(self._place(), "nested too deeply for Metalink")
        self._open.append(name if namespace == _NAMESPACE else "")
        self._text.clear()
        self._attributes = attributes
        if self._open == ["metalink", "file"]:
            self._file = _File(self.parser.CurrentLineNumber, attributes.get("name", ""))

    def _characters(self, text: str) -> None:
        if self._wanted():
            self._text.append(text)

    def _wanted(self) -> bool:
        # Only the children of a file: hashes of pieces lie deeper.
        return len(self._open) == 3 and self._file is not None and self._open[2] in ("size", "hash", "url")

    def _end(self, tag: str) -> None:
        file = self._file
        if file is not None and self._wanted():
            text = "".join(self._text).strip()
            if self._open[2] == "size":
                file.size = text
            elif self._open[2] == "hash":
                # Types are IANA's names: "sha-256" (section 4.2.3).
                file.hashes.append((self._attributes.get("type", ""), text))
            else:
                file.urls.append((_priority(self._attributes.get("priority")), text))
        elif file is not None and len(self._open) == 2:
            self.files.append(file)
            self._file = None
        self._open.pop()


def read_metalink(document: Document) -> Iterator[Item]:
    """The files of a Metalink document, each with its http(s) mirrors in the order of their priority."""
    handlers = _Handlers()
    try:
        handlers.parser.Parse(document.data, True)
    except expat.ExpatError as error:
        raise Problem(f"line {error.lineno}", f"not XML: {expat.errors.messages[error.code]}") from error
    except (ValueError, LookupError) as error:
        # An encoding that is declared and that Python does not know, or that no XML can be in.
        raise Problem("", f"not XML that can be read: {error}; save it as UTF-8") from error
    for file in handlers.files:
        place = f"line {file.line}"
        yield attempt(place, _entry, place, file)


def _entry(place: str, file: _File) -> Entry:
    if not file.name:
        raise InvalidInput("a file without a name")
    if file.size is not None and not (file.size.isascii() and file.size.isdigit() and len(file.size) < 20):
        raise InvalidInput(f"the size must be a number of bytes, not {file.size[:40]!r}")
    urls = [url for _, url in sorted(file.urls, key=lambda pair: pair[0])]
    return Entry(
        usable_urls(urls),
        file.name,
        known_checksums(file.hashes),
        None if file.size is None else int(file.size),
        place=place,
        trusted_path=False,
    )


def _priority(text: str | None) -> int:
    if text is None or not (text.isascii() and text.isdigit() and len(text) < 7):
        return _LAST_PRIORITY
    return int(text)
