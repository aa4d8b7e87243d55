"""The one place that removes the secrets of a URL, for messages."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_START = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.\-]*:)?/*")
# What nearly every URL looks like, and what of it may be shown; anything else is parsed with more care.
_USUAL = re.compile(
    r"(https?://([a-z0-9.\-]+(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}))?)(?:/[!-\"$->A-~]*)?)(?:[?#].*)?", re.DOTALL
)
_NAME = re.compile(r"(?!https?:)[A-Za-z][A-Za-z0-9+.\-]*://", re.IGNORECASE)
_NAME_END = re.compile(r"[?#]")
# The same for names of other schemes, whose path may have an "@".
_USUAL_NAME = re.compile(r"(?!https?:)[a-z][a-z0-9+.\-]*://[A-Za-z0-9._\-]+(?:/[ -\"$->@-~]*)?")
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s\"'<>]+")
_PORT = re.compile(r"[^:]*|\[[^\]]*\]|(?:[^:]*|\[[^\]]*\]):[0-9]*")
# In whose names a container stands before the host of its account.
_CONTAINER_SCHEMES = frozenset({"az", "abfs", "abfss"})


def redact(url: str) -> str:
    """`url` without userinfo, query and fragment: as it may appear in a log, an error or a file name.

    A signed URL carries its secret in the query (AWS SigV4, GCS V4, Azure SAS) or in the userinfo.
    """
    usual = _USUAL.fullmatch(url)
    if usual is not None and "@" not in url:
        return usual[1]
    if _USUAL_NAME.fullmatch(url):
        return url
    host = host_of(url)
    if host is None:
        # In a name what follows a colon is no port, nor a password, which an "@" would follow: drs://PREFIX:ACCESSION.
        return _NAME_END.split(url, maxsplit=1)[0] if _NAME.match(url) and "@" not in url else _suspicious(url)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        # Not a host, perhaps, but a part of a name, in which capitals count.
        userinfo, at, host = parts.netloc.rpartition("@")
        if parts.scheme in _CONTAINER_SCHEMES and ":" not in userinfo:
            host = f"{userinfo}{at}{host}"
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme else _suspicious(url)


def redact_text(text: str) -> str:
    """`text` with each URL in it redacted."""
    return _IN_TEXT.sub(lambda found: redact(found[0]), text)


def host_of(url: str) -> str | None:
    """The host of `url`, with its port where one is written; None where there is none."""
    usual = _USUAL.fullmatch(url)
    if usual is not None and "@" not in url:
        return usual[2]
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return host if port is None else f"{host}:{port}"


def _suspicious(url: str) -> str:
    """Text that is no valid URL: a password in it may hold an unencoded "/", "?" or "#"."""
    start = _START.match(url)
    scheme = "" if start is None else start[0]
    rest = url[len(scheme) :]
    authority, slash, path = rest.partition("/")
    path = re.split(r"[?#]", path, maxsplit=1)[0]
    if "@" in authority:
        authority = authority.rpartition("@")[2]
    elif not _PORT.fullmatch(authority):
        # Not a port: it may be half of a password, whose other half ends with an "@" in the path.
        authority = authority.partition(":")[0]
        path = path.rpartition("@")[2]
    return scheme + re.split(r"[?#]", f"{authority}{slash}{path}", maxsplit=1)[0]
