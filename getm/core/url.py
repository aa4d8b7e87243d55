"""URLs as they go on the wire."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, urlsplit

from getm.core.redact import redact
from getm.errors import InvalidInput

_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_ON_THE_WIRE = re.compile(r"[!-~]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Most URLs, and nothing that `validate_url` would refuse or change: parsing one costs ten times as much.
_PLAIN_URL = re.compile(r"https?://[a-zA-Z0-9.\-]+(?::[1-5]?[1-9][0-9]{0,3})?(?:/[!-\"$-~]*)?")


def validate_url(url: str) -> str:
    """The URL as it goes on the wire: what is already encoded stays byte-identical (signed URLs depend on it), spaces
    and characters outside ASCII are percent-encoded, the fragment is dropped (RFC 9110, section 7.1)."""
    if not isinstance(url, str):
        raise InvalidInput(f"a URL must be a str, not {type(url).__name__}")
    url = str.__str__(url)
    if _PLAIN_URL.fullmatch(url):
        return url
    url = url.strip(" ")
    if _CONTROL.search(url):
        raise InvalidInput("the URL has control characters; check for a line break at its end", url=redact(url))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"the URL cannot be read: {error}", url=redact(url)) from None
    if parts.scheme not in ("http", "https"):
        raise InvalidInput(f"expected an http or https URL, got the scheme {parts.scheme!r}", url=redact(url))
    if not parts.hostname or port == 0:
        raise InvalidInput("the URL has no host and port to connect to", url=redact(url))
    url = url.partition("#")[0]
    if _ON_THE_WIRE.fullmatch(url):
        return url
    try:
        if not parts.hostname.isascii():
            userinfo, at, _ = parts.netloc.rpartition("@")
            host = parts.hostname.encode("idna").decode("ascii") + ("" if port is None else f":{port}")
            url = url.replace(parts.netloc, f"{userinfo}{at}{host}", 1)
        # Everything printable in ASCII is safe here, "%" included: nothing that is encoded may be encoded twice.
        return quote(url, safe=_PRINTABLE)
    except UnicodeError as error:
        raise InvalidInput(f"the URL has characters that cannot be sent ({error})", url=redact(url)) from None


def validate_mirrors(mirrors: Iterable[str]) -> tuple[str, ...]:
    """Further URLs of the same object, each as `validate_url` makes it."""
    if isinstance(mirrors, str) or not isinstance(mirrors, Iterable):
        raise InvalidInput(f"mirrors must be several URLs, such as a list of str, not a {type(mirrors).__name__}")
    return tuple(validate_url(url) for url in mirrors)
