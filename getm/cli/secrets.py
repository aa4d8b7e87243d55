"""What the command reads from files, so that it is on no command line: everyone on the machine can read those."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from getm.errors import InvalidInput
from getm.options import parse_header

if TYPE_CHECKING:
    from getm.manifests.document import Document


class Headers(argparse.Action):
    """Adds the headers of one -H: "NAME: VALUE", or "@FILE" with one on each line ("-" is standard input). Empty lines
    and those that begin with "#" are left out. `header_files` of the options has the files."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, *_: Any) -> None:
        try:
            headers = _in_file(value[1:]) if value.startswith("@") else [parse_header(value)]
        except InvalidInput as error:
            raise argparse.ArgumentError(self, error.message) from None
        files = [value[1:]] if value.startswith("@") else []
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), *headers])
        namespace.header_files = [*getattr(namespace, "header_files", []), *files]


def _in_file(path: str) -> list[tuple[str, str]]:
    document = _read(path, "file of headers")
    headers = []
    for number, line in document.lines():
        if line.strip() and not line.startswith("#"):
            try:
                headers.append(parse_header(line))
            except InvalidInput as error:
                raise InvalidInput(f"{document.name}:{number}: {error.message}") from None
    return headers


def password_in(path: str) -> str:
    """The first line of a file, without its end. Raises `InvalidInput`."""
    return next(_read(path, "file with the password").lines())[1]


def _read(path: str, what: str) -> Document:
    # Most runs read none.
    from getm.manifests.document import Document

    return Document.read(path, what)
