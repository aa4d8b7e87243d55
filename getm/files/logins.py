"""What files say that requests to some URLs are to carry: logins of a netrc file, cookies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from getm.core.url import origin_of

if TYPE_CHECKING:
    from getm.files.cookies import Cookies
    from getm.files.netrc import Netrc

Login = tuple[tuple[str, str | None, int | None], str, str]
"""An origin, and the header that requests to it get."""


class Logins:
    """The logins of a netrc file, and the cookies of a cookie file, where there are such files."""

    def __init__(self, netrc: Netrc | None, cookies: Cookies | None) -> None:
        self._netrc = netrc
        self._cookies = cookies

    def of(self, urls: Iterable[str]) -> tuple[Login, ...]:
        """The headers for the origins of `urls`. Raises `InvalidInput`."""
        found: list[Login] = []
        for url in urls:
            if self._netrc is not None and (login := self._netrc.of(url)) is not None:
                found.append((origin_of(url), "Authorization", login))
            if self._cookies is not None and (cookie := self._cookies.of(url)) is not None:
                found.append((origin_of(url), "Cookie", cookie))
        return tuple(dict.fromkeys(found))
