"""Which of the addresses that a list has for one file getm can use."""

from __future__ import annotations

from collections.abc import Iterable

from getm.errors import InvalidInput


def usable_urls(urls: Iterable[str]) -> list[str]:
    """The http(s) URLs among those of one file. Lists for other tools also have ftp, torrents, s3: these are passed
    over where there is a URL to use. Raises InvalidInput where there is none."""
    schemes = []
    usable = []
    for url in urls:
        scheme, colon, _ = url.partition(":")
        if scheme.strip().lower() in ("http", "https"):
            usable.append(url)
        elif colon and scheme.isascii() and scheme.isalnum():
            schemes.append(scheme[:20])
    if not usable:
        got = f"only {', '.join(dict.fromkeys(schemes))}" if schemes else "none"
        raise InvalidInput(f"expected an http or https URL, got {got}")
    return usable
