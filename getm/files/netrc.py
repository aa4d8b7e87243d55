"""Logins from a netrc file, as curl, wget and Python's own `netrc` read it."""

from __future__ import annotations

import netrc
import os
import stat
from pathlib import Path
from urllib.parse import quote, urlsplit

from getm.core.log import get_logger
from getm.core.url import basic_credentials
from getm.errors import InvalidInput

_log = get_logger()


class Netrc:
    """What a netrc file says of hosts. `hosts`: user name and password by the name of the host, in lower case."""

    def __init__(self, hosts: dict[str, tuple[str, str]]) -> None:
        self._hosts = hosts

    def of(self, url: str) -> str | None:
        """The Authorization field for a request to `url`; None where there is no login for its host. Raises
        `InvalidInput`."""
        host = urlsplit(url).hostname or ""
        login = self._hosts.get(host)
        return None if login is None else _authorization(host, *login)


def netrc_path() -> str:
    """Where the file is that nobody names: `$NETRC`, or else `~/.netrc`."""
    return os.path.expanduser(os.environ.get("NETRC") or "~/.netrc")  # noqa: PTH111 - Path raises where there is no home


def exposure(path: str | os.PathLike[str]) -> str | None:
    """A warning, where others may read the file at `path`; None where they may not, or where there is none."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError:
        return None
    readable = stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO)
    return f"others than you may read the secrets in {path}; protect it: chmod 600 {path}" if readable else None


def read_netrc(path: str | None) -> Netrc:
    """The logins of the file at `path`; None for `$NETRC`, or else `~/.netrc`. A "default" entry is left out: it would
    be for any host that a list or a mirror names.

    Raises:
        InvalidInput: There is none, or it cannot be read.
    """
    file = Path(path or netrc_path())
    if warning := exposure(file):
        _log.warning("%s", warning)
    try:
        found = netrc.netrc(file)
    except netrc.NetrcParseError as error:
        # Its message may quote a password.
        raise InvalidInput(f"{file}:{error.lineno}: this line of the netrc file cannot be understood") from None
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"the netrc file {file} cannot be read: {reason}") from None
    return Netrc(
        {host.lower(): (login, password) for host, (login, _, password) in found.hosts.items() if host != "default"}
    )


def _authorization(host: str, login: str, password: str) -> str:
    if ":" in login:
        raise InvalidInput(f"the user name for {host} in the netrc file holds a colon, and cannot be sent (RFC 7617)")
    return basic_credentials(f"{quote(login, safe='')}:{quote(password, safe='')}")
