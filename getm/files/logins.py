"""What requests to some URLs are to carry: tokens and passwords of the caller, logins of a netrc file, cookies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from getm.core.url import origin_of

if TYPE_CHECKING:
    from getm.core.auth import Auth
    from getm.files.cookies import Cookies
    from getm.files.netrc import Netrc

Login = tuple[tuple[str, str | None, int | None], str, str]
"""An origin, and the header that requests to it get."""


class Logins:
    """Credentials that the caller gives, the logins of a netrc file, and the cookies of a cookie file, where there are
    such."""

    def __init__(self, auth: Auth | None, netrc: Netrc | None, cookies: Cookies | None) -> None:
        self._auth = auth
        self._netrc = netrc
        self._cookies = cookies

    def of(self, urls: Iterable[str], *, named: bool) -> tuple[Login, ...]:
        """The headers for the origins of `urls`, of several for one origin the first one. `named`: whether the caller
        gave the first URL. Raises `InvalidInput`."""
        found: list[Login] = []
        for number, url in enumerate(urls):
            if not url[:8].lower().startswith(("http://", "https://")):
                # A name, or nothing yet: what it leads to is asked for then.
                continue
            own = None if self._auth is None else self._auth.of(url, named=named and number == 0)
            if own is not None:
                found.append((origin_of(url), "Authorization", own))
            if self._netrc is not None and (login := self._netrc.of(url)) is not None:
                found.append((origin_of(url), "Authorization", login))
            if self._cookies is not None and (cookie := self._cookies.of(url)) is not None:
                found.append((origin_of(url), "Cookie", cookie))
        return tuple(dict.fromkeys(found))
