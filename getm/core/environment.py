"""What an engine must know of the environment of whoever asks it, as it is at the time of the request."""

from __future__ import annotations

import os

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_NAMES = frozenset(
    name.encode()
    # The last one says that this is a CGI program, in which HTTP_PROXY is a client's.
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", *_PROXIES, *map(str.upper, _PROXIES), "REQUEST_METHOD")
)


def environment() -> dict[str, bytes]:
    """Those variables, also empty ones: an empty proxy variable means no proxy."""
    return {name.decode(): os.environb.get(name, b"") for name in _NAMES.intersection(os.environb)}
