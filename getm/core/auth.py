"""Tokens and passwords that a caller gives for hosts, as the Authorization fields that requests to them get."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from msgspec import Struct

from getm.core.url import DEFAULT_PORTS, basic_credentials, encode_name, origin_of
from getm.core.validate import refuse
from getm.errors import InvalidInput

Credential = str | tuple[str, str]
AuthInput = Credential | Mapping[str, Credential]


class Auth(Struct, frozen=True):
    """`usual`: for the hosts of the URLs that the caller gives; None for none. `by_host`: for a host, with its port
    where that is not the usual one of the scheme."""

    usual: str | None
    by_host: dict[str, str]

    def of(self, url: str, *, named: bool) -> str | None:
        """The field for a request to `url`; `named`: whether it is a URL that the caller gave."""
        _, host, _ = origin_of(url)
        port = urlsplit(url).port
        found = self.by_host.get(f"{host}:{port}") if port is not None else None
        if found is None and host is not None and _has_usual_port(url):
            found = self.by_host.get(host)
        return found or (self.usual if named else None)


def _has_usual_port(url: str) -> bool:
    scheme, _, port = origin_of(url)
    return port == DEFAULT_PORTS.get(scheme)


def validate_auth(given: AuthInput | None) -> Auth | None:
    """A token, a user name and a password, or either by the host that it is for; "" stands for the hosts of URLs.
    Raises `InvalidInput`, which quotes neither."""
    if given is None:
        return None
    by_host = dict(given) if isinstance(given, Mapping) else {"": given}
    fields = {_host(host): _field(credential) for host, credential in by_host.items()}
    return Auth(fields.pop("", None), fields)


def _host(host: object) -> str:
    if not isinstance(host, str):
        refuse("auth", "names of hosts as keys", host)
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not colon:
        name, port = host, ""
    try:
        usable = not host or bool((name.startswith("[") or encode_name(name)) and (not colon or 0 < int(port) < 65536))
    except (UnicodeError, ValueError):
        usable = False
    if not usable:
        raise InvalidInput(f"auth: expected HOST or HOST:PORT, got {host[:100]!r}")
    if not host:
        return ""
    name = name.strip("[]").lower() if name.startswith("[") else encode_name(name).lower().rstrip(".")
    return f"{name}:{port}" if colon else name


def _field(credential: object) -> str:
    """The value of an Authorization field."""
    if isinstance(credential, str):
        # RFC 6750, section 2.1 has fewer characters; some servers give out others.
        if not credential or not (credential.isascii() and credential.isprintable()) or " " in credential:
            raise InvalidInput(
                "auth: a token has printable ASCII characters, and no blanks; check where it is read from"
            )
        return f"Bearer {credential}"
    pair = tuple(credential) if isinstance(credential, tuple | list) else ()
    if len(pair) != 2 or not all(isinstance(each, str) for each in pair):
        raise InvalidInput("auth: expected a token, or a user name and a password as a pair, for each host")
    user, password = pair
    if ":" in user:
        raise InvalidInput("auth: a user name with a colon cannot be sent (RFC 7617)")
    return basic_credentials(f"{quote(user, safe='')}:{quote(password, safe='')}")
