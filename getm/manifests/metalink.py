"""Metalink 4 (RFC 5854): files with mirrors, sizes and hashes, in XML.

Read by expat as it comes. A document type declaration is refused: Metalink has none, and every attack that XML knows
(entities that grow, entities that read other files) begins with one. So neither a parser that resolves entities nor a
package that keeps one from doing so is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn
from xml.parsers import expat

from msgspec import Struct, field

from getm.errors import InvalidInput
from getm.manifests.document import Document
from getm.manifests.entry import Entry, known_checksums, usable_urls
from getm.manifests.fields import parse_size
from getm.manifests.items import Item, attempt

_NAMESPACE = "urn:ietf:params:xml:ns:metalink"
# RFC 5854, section 4.2.16.1: 1 is preferred, and those without a priority come last.
_LAST_PRIORITY = 999_999
_FILE = ["metalink", "file"]


class _File(Struct):
    """A file element. `children`: their names, "" for those of other namespaces, attributes and pieces of text."""

    line: int
    name: str
    children: list[tuple[str, dict[str, str], list[str]]] = field(default_factory=list)

    def texts(self, child: str) -> list[tuple[dict[str, str], str]]:
        return [(attributes, "".join(text).strip()) for name, attributes, text in self.children if name == child]


def read_metalink(document: Document) -> Iterator[Item]:
    """The files of a Metalink document, each with its http(s) mirrors in the order of their priority."""
    try:
        files = _parse(document.data)
    except expat.ExpatError as error:
        raise InvalidInput(f"line {error.lineno}: not XML: {expat.errors.messages[error.code]}") from error
    except InvalidInput:
        raise
    except (ValueError, LookupError) as error:
        # An encoding that is declared and that Python does not know, or that no XML can be in.
        raise InvalidInput(f"not XML that can be read: {error}; save it as UTF-8") from error
    for file in files:
        yield attempt(_entry, f"line {file.line}", file)


def _parse(data: bytes) -> list[_File]:
    files: list[_File] = []
    # Names of the elements that are open, for those of Metalink; "" for others.
    path: list[str] = []
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True

    def refuse(reason: str) -> NoReturn:
        raise InvalidInput(f"line {parser.CurrentLineNumber}: {reason}")

    def start(tag: str, attributes: dict[str, str]) -> None:
        namespace, _, name = tag.rpartition(" ")
        path.append(name if namespace == _NAMESPACE else "")
        if path[0] != "metalink":
            older = " (this is Metalink 3)" if name == "metalink" else ""
            refuse(f"expected Metalink 4, with the namespace {_NAMESPACE} (RFC 5854){older}")
        if len(path) > 100:
            refuse("nested too deeply for Metalink")
        if path == _FILE:
            files.append(_File(parser.CurrentLineNumber, attributes.get("name", "")))
        elif path[:-1] == _FILE:
            files[-1].children.append((path[-1], attributes, []))

    def characters(text: str) -> None:
        # Only of the children of a file: hashes of pieces lie deeper.
        if path[:-1] == _FILE:
            files[-1].children[-1][2].append(text)

    parser.StartDoctypeDeclHandler = lambda *_: refuse(
        "a document type declaration, which Metalink does not have; remove it"
    )
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: path.pop()
    parser.CharacterDataHandler = characters
    parser.Parse(data, True)
    return files


def _entry(place: str, file: _File) -> Entry:
    if not file.name:
        raise InvalidInput("a file without a name")
    urls = [text for attributes, text in sorted(file.texts("url"), key=lambda url: _priority(url[0]))]
    # Types are IANA's names: "sha-256" (section 4.2.3).
    checksums = known_checksums((attributes.get("type", ""), text) for attributes, text in file.texts("hash"))
    sizes = [parse_size(text) for _, text in file.texts("size")] or [None]
    return Entry(
        usable_urls(urls), file.name, checksums, sizes[-1], place=place, trusted_path=False, session_headers=False
    )


def _priority(attributes: dict[str, str]) -> int:
    text = attributes.get("priority", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else _LAST_PRIORITY
