"""What `getm run` and `getm serve` have in common."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from getm.adapter.locations import Locations
from getm.cli.output.errors import JSON_ERRORS, print_failure, use_json_errors
from getm.cli.parser import Parser, json_errors
from getm.cli.session_options import (
    add_config_options,
    add_connection_options,
    add_rate_limit,
    add_retry_options,
    add_url_command,
    open_session,
    url_command_of,
    warn_of_exposed_files,
)
from getm.client.process import NO_CERTIFICATES
from getm.core.url import validate_url
from getm.errors import GetmError, InvalidInput
from getm.resolve.request import is_name

if TYPE_CHECKING:
    from getm.resolve.resource import Provider

_BESIDE = re.compile(r"(?:([^/:=]+)=)?(.*)", re.DOTALL)


def add_serving_options(parser: Parser) -> None:
    """Add the options that both have."""
    beside = (
        "serve this as well, as a file beside each of the others, under its own name or FILE; repeatable: for an index"
        " elsewhere, or with a signature of its own"
    )
    parser.add_argument("--with", dest="beside", action="append", default=[], metavar="[FILE=]NAME", help=beside)
    add_url_command(parser.add_argument)
    add_rate_limit(parser.add_argument)
    parser.add_argument(JSON_ERRORS, **json_errors())
    add_retry_options(parser.add_argument_group("when something fails").add_argument)
    add_connection_options(parser)
    add_config_options(parser.add_argument_group("defaults").add_argument)


def is_served(name: str) -> bool:
    """Whether it is a URL or a name, of an object that can be served."""
    if not name.lower().startswith(("http://", "https://")):
        return is_name(name)
    try:
        validate_url(name)
    except InvalidInput:
        return False
    return True


def add_beside(locations: Locations, options: argparse.Namespace) -> None:
    """Serve what the options say. Raises `InvalidInput`."""
    for given in options.beside:
        file_name, name = _BESIDE.findall(given)[0]
        if not is_served(name):
            raise InvalidInput("--with: expected the URL or the name of an object (getm sources lists the schemes)")
        locations.add_beside(name, file_name or None)


def serve(
    options: argparse.Namespace,
    locations: Locations,
    listener: socket.socket,
    watch: Callable[[Callable[[], None]], None],
) -> None:
    """Serve the objects of `locations` until the end, which `watch` tells (see `getm.adapter.server.serve`)."""
    with _without_certificates():
        # aiohttp takes a while to import.
        from getm.adapter import server

    if options.json_errors:
        use_json_errors()
    warn_of_exposed_files(options)
    reported: set[tuple[str, str]] = set()

    def report(name: str, error: GetmError) -> None:
        # Programs try again.
        if (name, error.message) not in reported:
            reported.add((name, error.message))
            print_failure(error, name)

    with url_command_of(options) as command, open_session(options) as session:
        provider_of: Callable[[str], Provider] | None = None if command is None else command.provider
        server.serve(server.Adapter(session, locations, report, provider_of), listener, watch)


@contextlib.contextmanager
def _without_certificates() -> Iterator[None]:
    """aiohttp reads the system's certificates while it is imported, twice, for what is not used here: a third of the
    time that a server takes to start."""
    before = {name: os.environ.get(name) for name in NO_CERTIFICATES}
    os.environ.update(NO_CERTIFICATES)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value
