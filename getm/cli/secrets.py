"""What the command reads from files, so that it is on no command line: everyone on the machine can read those."""

from __future__ import annotations

import argparse
import os
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


class Bearers(argparse.Action):
    """Adds the token of one --bearer: "[HOST=]TOKEN", or "[HOST=]@FILE" with the token on its first line. The value is
    pairs of a host ("" where none is given) and a token; `bearer_files` of the options has the files."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, *_: Any) -> None:
        # Most runs have none.
        from getm.core.auth import validate_auth

        # A token may end with "=", and has none before its end (RFC 6750, section 2.1).
        host, equals, token = value.partition("=")
        if not equals or not token.strip("="):
            host, token = "", value
        if token.startswith("@"):
            # No shell has done that, since there is something before it.
            path = os.path.expanduser(token[1:])  # noqa: PTH111 - "-" stays what it is
            namespace.bearer_files = [*getattr(namespace, "bearer_files", []), path]
            try:
                token = first_line(path, "file with a token").strip()
            except InvalidInput as error:
                raise argparse.ArgumentError(self, error.message) from None
        try:
            validate_auth({host: token})
        except InvalidInput as error:
            raise argparse.ArgumentError(self, error.message.removeprefix("auth: ")) from None
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), (host, token)])


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


def first_line(path: str, what: str) -> str:
    """The first line of a file, without its end. Raises `InvalidInput`."""
    return next(_read(path, what).lines())[1]


def _read(path: str, what: str) -> Document:
    # Most runs read none.
    from getm.manifests.document import Document

    return Document.read(path, what)
