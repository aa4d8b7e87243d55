"""Cookies from a file in Netscape's format, as browsers' extensions, curl and wget write it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from http.cookiejar import Cookie, CookieJar, LoadError, MozillaCookieJar
from urllib.request import Request

from getm.core.log import get_logger
from getm.errors import InvalidInput
from getm.files.netrc import exposure

_log = get_logger()


class Cookies:
    """Cookies, of which each URL gets those that are for it."""

    def __init__(self, cookies: Iterable[Cookie]) -> None:
        self._jar = CookieJar()
        for cookie in cookies:
            self._jar.set_cookie(cookie)

    def __reduce__(self) -> tuple[type[Cookies], tuple[list[Cookie]]]:
        # A jar has a lock.
        return Cookies, (list(self._jar),)

    def of(self, url: str) -> str | None:
        """The Cookie field for a request to `url` (RFC 6265, section 5.4); None where there is no cookie for it."""
        request = Request(url)
        self._jar.add_cookie_header(request)
        return request.get_header("Cookie")


def read_cookies(path: str | os.PathLike[str]) -> Cookies:
    """The cookies of the file at `path`.

    Raises:
        InvalidInput: There is none, or it cannot be read.
    """
    name, jar = os.fspath(path), MozillaCookieJar()
    if warning := exposure(path):
        _log.warning("%s", warning)
    try:
        with warnings.catch_warnings():
            # Of a line that it cannot read, as of a mistake of its own.
            warnings.simplefilter("ignore")
            jar.load(name, ignore_discard=True, ignore_expires=True)
    except LoadError:
        # Its message may quote a cookie.
        raise InvalidInput(
            f'{name} is no cookie file: expected "# Netscape HTTP Cookie File" on its first line, and lines of seven '
            "fields with tabs between them"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"the cookie file {name} cannot be read: {reason}") from None
    for cookie in jar:
        if cookie.expires == 0:
            # Of a browser's session, as curl writes it; the server may know nothing of its end.
            cookie.expires = None
    return Cookies(jar)
