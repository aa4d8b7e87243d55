"""The options that say which requests are made, and how, alike in each command that makes some; and the session that
they make."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal

from msgspec.structs import replace

from getm.cli.output.errors import print_warning
from getm.cli.parser import Once, Parser, amount, existing, number, seconds
from getm.cli.secrets import Bearers, Headers, first_line
from getm.core.validate import MAX_NUMBER
from getm.errors import InvalidInput
from getm.options import Timeout, validate_timeout

if TYPE_CHECKING:
    from getm.cli.url_command import URLCommand
    from getm.session import Session


def add_retry_options(add: Callable[..., Any]) -> None:
    """Add how long is waited, and how often tried again. `add`: a group's method."""
    usual = Timeout()
    time: dict[str, Any] = {"type": seconds, "metavar": "SECONDS"}
    add("--retries", **number(0, 1_000_000, 5), help="retries without progress (default 5)")
    add("--timeout", **time, default=usual, help="longest silence of a connection (default 30, then 60)")
    slow = "replace a connection slower than this a second (1K)"
    add("--speed-limit", **amount(1, MAX_NUMBER, usual.floor_bytes_s), help=slow)
    add("--speed-time", **time, default=usual.floor_window_s, help="measure --speed-limit over this time (default 30)")


def add_rate_limit(add: Callable[..., Any]) -> None:
    """Add how fast it may be. `add`: a group's method."""
    add("--limit-rate", **amount(1, MAX_NUMBER), help="most bytes a second for everything (500K, 20M, ...)")


def add_url_command(add: Callable[..., Any]) -> None:
    """Add how URLs are found. `add`: a group's method."""
    url_command = (
        "run this for each URL just before its download, and again when that expires, with the URL (without query) as"
        " last argument: it prints the URL to use, or JSON; without a shell"
    )
    add("--url-command", action=Once, metavar="CMD", help=url_command)


def add_filters(add: Callable[..., Any]) -> None:
    """Add which of the objects that are listed are meant. `add`: a group's method."""
    each: dict[str, Any] = {"action": "append", "default": [], "metavar": "PATTERN"}
    add("--include", **each, help="of what is listed, only what matches; repeatable")
    add("--exclude", **each, help="of what is listed, not what matches; repeatable")


def add_config_options(add: Callable[..., Any]) -> None:
    """Add where defaults of options are. `add`: a group's method."""
    config = (
        "take defaults of options from this TOML file, in place of ~/.config/getm/config.toml; see getm help config"
    )
    add("--config", action=Once, metavar="FILE", help=config)
    add("--no-config", action="store_true", help="from no file")


def session_parser() -> Parser:
    """A parser of the options that say how requests are made: those of which all commands have defaults."""
    parser = Parser(prog="getm", add_help=False)
    for add in (add_url_command, add_rate_limit, add_retry_options):
        add(parser.add_argument)
    add_connection_options(parser)
    return parser


def add_connection_options(parser: Parser) -> None:
    """Add what requests have with them, and how connections are made."""
    flag: dict[str, Any] = {"action": "store_true"}
    add = parser.add_argument_group("headers, logins, certificates").add_argument
    headers = "send this header; repeatable. @FILE: one on each line of a file"
    add("-H", "--header", action=Headers, default=[], metavar="'NAME: VALUE'", help=headers)
    bearer = (
        "send this token (Authorization: Bearer): to HOST alone, or to the hosts of the URLs; repeatable. @FILE: the"
        " first line of a file, which is on no command line"
    )
    add("--bearer", action=Bearers, default=[], metavar="[HOST=]TOKEN", help=bearer)
    add("-n", "--netrc", **flag, help="send the login that $NETRC or ~/.netrc has for exactly the URL's host")
    add("--netrc-file", action=Once, metavar="FILE", help="the same, from this file")
    cookies = "send the cookies of this file (Netscape's format) to the hosts that they are for"
    add("--load-cookies", action=Once, metavar="FILE", help=cookies)
    add("-E", "--cert", action=Once, metavar="FILE", help="show this client certificate (PEM) to servers that ask")
    add("--key", action=Once, metavar="FILE", help="its private key (default: in the file of --cert)")
    add("--key-password-file", action=Once, metavar="FILE", help="its first line opens an encrypted key")
    trusted = "trust the certificate authorities in this PEM file"
    add("--cacert", action=Once, type=existing, metavar="FILE", help=trusted)
    add("-k", "--insecure", **flag, help="do not check certificates (anyone on the network path can alter the data)")
    add = parser.add_argument_group("which way").add_argument
    given = "connect to these addresses, in place of what the name HOST resolves to; repeatable"
    add("--resolve", action="append", default=[], metavar="HOST:PORT:ADDR[,ADDR]", help=given)
    for version in (4, 6):
        only: dict[str, Any] = {"action": "store_const", "dest": "ip_version", "const": version}
        add(f"-{version}", f"--ipv{version}", **only, help=f"use only IPv{version} addresses")
    over = "make all connections over this network interface, or from this address"
    add("--interface", action=Once, metavar="NAME|ADDR", help=over)
    proxy = "through this proxy: http, https, socks5 (looks names up here) or socks5h; '': through none"
    add("--proxy", action=Once, default="environment", metavar="URL", help=proxy)
    exempt = "but not to these hosts and networks; '*': to none. Default: the variable no_proxy"
    add("--noproxy", action=Once, metavar="HOSTS", help=exempt)
    add("--unix-socket", action=Once, metavar="PATH", help="connect to this Unix-domain socket, whatever the host")


def open_session(options: argparse.Namespace, *, processes: int | Literal["auto"] = "auto") -> Session:
    """The session that these options describe. Raises `InvalidInput`."""
    # Not needed to check files.
    from getm.session import Session

    password = options.key_password_file
    floor = {"floor_bytes_s": options.speed_limit, "floor_window_s": options.speed_time}
    return Session(
        processes=processes,
        headers=options.header,
        timeout=replace(validate_timeout(options.timeout, Timeout()), **floor),
        cacert=options.cacert,
        insecure=options.insecure,
        limit_rate=options.limit_rate,
        retries=options.retries,
        cert=options.cert,
        key=options.key,
        key_password=None if password is None else first_line(password, "file with the password"),
        auth=dict(options.bearer) or None,
        netrc=_netrc_path(options) or False,
        cookies=options.load_cookies,
        resolve=_addresses(options.resolve),
        ip_version=options.ip_version,
        interface=options.interface,
        proxy=options.proxy or None,
        no_proxy=options.noproxy,
        unix_socket=options.unix_socket,
    )


def _addresses(given: list[str]) -> dict[str, list[str]]:
    """HOST:PORT:ADDR[,ADDR], as curl takes it. Raises `InvalidInput`."""
    addresses = {}
    for text in given:
        host, _, rest = text.partition(":")
        port, colon, several = rest.partition(":")
        if not (host and port and colon):
            raise InvalidInput(f"--resolve: expected HOST:PORT:ADDR, got {text[:100]!r}")
        addresses[f"{host}:{port}"] = [address.strip() for address in several.split(",")]
    return addresses


def _netrc_path(options: argparse.Namespace) -> str | None:
    """The netrc file, where there is to be one."""
    if not options.netrc:
        given: str | None = options.netrc_file
        return given
    # Needed by few.
    from getm.files.netrc import netrc_path

    return options.netrc_file or netrc_path()


def session_files(options: argparse.Namespace) -> dict[str, str]:
    """The files that these options name, by what they are."""
    named = {
        "the file of certificates (--cacert)": options.cacert,
        "the client certificate (--cert)": options.cert,
        "the key (--key)": options.key,
        "the file with the key's password": options.key_password_file,
        "the netrc file": _netrc_path(options),
        "the cookie file": options.load_cookies,
        **{f"a file of headers (-H @{path})": path for path in getattr(options, "header_files", ())},
        **{f"a file with a token (--bearer @{path})": path for path in getattr(options, "bearer_files", ())},
    }
    return {what: path for what, path in named.items() if path is not None}


def warn_of_exposed_files(options: argparse.Namespace) -> None:
    """Warn of files with secrets that others may read."""
    exposed = getattr(options, "exposed_config", None)
    for path in (_netrc_path(options), options.load_cookies, *getattr(options, "bearer_files", ()), exposed):
        if path is not None:
            from getm.files.netrc import exposure

            # The session has it in the log.
            if warning := exposure(path):
                print_warning(warning)


def url_command_of(options: argparse.Namespace) -> AbstractContextManager[URLCommand | None]:
    """The command that finds URLs; None where there is none. A context manager. Raises `InvalidInput`."""
    if options.url_command is None:
        return contextlib.nullcontext()
    # Needed by few.
    from getm.cli.url_command import URLCommand

    return URLCommand(options.url_command, validate_timeout(options.timeout, Timeout()).stall_s)
