"""How connections are made: from where, to which addresses, through what, with which certificate of the client."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Literal

from msgspec import Struct

from getm.core.url import encode_name
from getm.core.validate import refuse, validate_path, validate_text
from getm.errors import InvalidInput

_MAX_PORT = 65535
# A name of an interface on Linux (IFNAMSIZ) and macOS.
_MAX_INTERFACE_BYTES = 15
# `sun_path` of Linux, with the zero byte at its end; macOS has four bytes less.
_MAX_SOCKET_PATH_BYTES = 107

ResolveInput = Mapping[str, str | Iterable[str]]


class ConnectionOptions(Struct, frozen=True, array_like=True):
    """What holds for each connection, those to proxies included.

    `ip_version`: 4 or 6, None for both. `interface`: a name or an address of this machine. `addresses`: host (as it is
    resolved), port, and the addresses to use in place of what the resolver says. `cert`, `key`: paths of PEM files;
    `key_password`: of an encrypted key. `proxy`: in place of the one that the environment names, "" for none.
    `no_proxy`: the hosts for which there is none, in place of the environment's. `unix_socket`: the path of the socket
    that takes the place of all hosts.
    """

    ip_version: Literal[4, 6] | None = None
    interface: str | None = None
    addresses: tuple[tuple[str, int, tuple[str, ...]], ...] = ()
    cert: bytes | None = None
    key: bytes | None = None
    key_password: str | None = None
    proxy: str | None = None
    no_proxy: str | None = None
    unix_socket: bytes | None = None


def validate_connection_options(
    ip_version: Literal[4, 6] | None,
    interface: str | None,
    resolve: ResolveInput | None,
    cert: str | os.PathLike[str] | None,
    key: str | os.PathLike[str] | None,
    key_password: str | None,
    proxy: str | None,
    no_proxy: str | Iterable[str] | None,
    unix_socket: str | os.PathLike[str] | None,
) -> ConnectionOptions | None:
    """None where all are the usual ones. An address as `interface` decides the version of IP.

    Raises:
        InvalidInput: One of them cannot be used, or they contradict each other.
    """
    if cert is None and (key is not None or key_password is not None):
        raise InvalidInput(
            "a key is that of a certificate: give that as well (cert, a PEM file that may have the key too)"
        )
    if ip_version is not None and (isinstance(ip_version, bool) or ip_version not in (4, 6)):
        refuse("ip_version", "4, 6, or None for both", ip_version)
    if interface is not None:
        interface, ip_version = _interface(interface, ip_version)
    options = ConnectionOptions(
        ip_version,
        interface,
        () if resolve is None else _addresses(resolve, ip_version),
        None if cert is None else _file(cert, "cert"),
        None if key is None else _file(key, "key"),
        None if key_password is None else validate_text(key_password, "key_password"),
        _proxy(proxy),
        None if no_proxy is None else _hosts(no_proxy),
        None if unix_socket is None else _socket(unix_socket),
    )
    if options.unix_socket is not None and (options.proxy or options.addresses or interface is not None):
        raise InvalidInput("unix_socket takes the place of all hosts: give no proxy, resolve or interface besides it")
    return None if options == ConnectionOptions() else options


def _interface(interface: object, ip_version: Literal[4, 6] | None) -> tuple[str, Literal[4, 6] | None]:
    text = validate_text(interface, "interface")
    found = _version_of(text)
    if found is None and not (0 < len(os.fsencode(text)) <= _MAX_INTERFACE_BYTES and text.isprintable()):
        refuse("interface", "the name of a network interface (eth0), or an address of this machine", interface)
    if found is not None and ip_version not in (None, found):
        raise InvalidInput(f"interface is the IPv{found} address {text}, and only IPv{ip_version} was asked for")
    return text, found or ip_version


def _proxy(proxy: object) -> str | None:
    """As `ConnectionOptions` has it."""
    if proxy is None or proxy == "environment":
        return "" if proxy is None else None
    # Slow to import, and needed by few.
    from getm.core.proxy import parse_proxy

    text = validate_text(proxy, "proxy").strip()
    if text:
        parse_proxy(text, "proxy")
    return text


def _hosts(no_proxy: str | Iterable[str]) -> str:
    return ",".join(_texts(no_proxy, "no_proxy"))


def _texts(given: str | Iterable[str], name: str) -> list[str]:
    """One text, or several."""
    several = [given] if isinstance(given, str) or not isinstance(given, Iterable) else given
    return [validate_text(each, name) for each in several]


def _socket(value: str | os.PathLike[str]) -> bytes:
    # Absolute: an engine has the folder in which it was started.
    path = os.fsencode(os.path.abspath(validate_path(value, "unix_socket")))  # noqa: PTH100
    if len(path) > _MAX_SOCKET_PATH_BYTES:
        raise InvalidInput(f"unix_socket: its path has {len(path)} bytes, and at most {_MAX_SOCKET_PATH_BYTES} can be")
    return path


def _addresses(resolve: ResolveInput, ip_version: Literal[4, 6] | None) -> tuple[tuple[str, int, tuple[str, ...]], ...]:
    if not isinstance(resolve, Mapping):
        refuse("resolve", 'a mapping such as {"data.example.org:443": "127.0.0.1"}, or None', resolve)
    found = {}
    for where, given in resolve.items():
        host, colon, port = validate_text(where, "resolve").rpartition(":")
        number = int(port) if port.isascii() and port.isdecimal() and len(port) <= 5 else 0
        if not (colon and 0 < number <= _MAX_PORT):
            raise InvalidInput(f"resolve: expected HOST:PORT, got {where[:100]!r}")
        if _version_of(host.strip("[]")) is not None:
            raise InvalidInput(f"resolve: {host} is an address already; give the name of a host")
        try:
            name = encode_name(host).rstrip(".").lower()
        except UnicodeError as error:
            raise InvalidInput(f"resolve: {host[:100]!r} is no name of a host ({error})") from None
        addresses = [address.strip("[]") for address in _texts(given, "resolve")]
        versions = {address: _version_of(address) for address in addresses}
        wrong = next((address for address, version in versions.items() if version is None), None)
        if wrong is not None or not addresses:
            shown = "none" if wrong is None else repr(wrong[:100])
            raise InvalidInput(f"resolve: expected an IP address for {where}, got {shown}")
        addresses = [address for address in addresses if ip_version in (None, versions[address])]
        if not addresses:
            raise InvalidInput(f"resolve: there is no IPv{ip_version} address for {where}, and no other is wanted")
        found[name, number] = tuple(addresses)
    return tuple((host, port, addresses) for (host, port), addresses in found.items())


def _version_of(text: str) -> Literal[4, 6] | None:
    """Of an IP address; None for what is none."""
    # Slow to import, and needed by few.
    import ipaddress

    try:
        return ipaddress.ip_address(text).version
    except ValueError:
        return None


def _file(value: str | os.PathLike[str], name: str) -> bytes:
    # Absolute: an engine has the folder in which it was started.
    path = os.path.abspath(validate_path(value, name))  # noqa: PTH100
    if not os.path.isfile(path):  # noqa: PTH113
        raise InvalidInput(f"{name}: there is no file {path}")
    return os.fsencode(path)
