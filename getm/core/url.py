"""URLs as they go on the wire: checked, encoded where they must be, and otherwise byte for byte as they were given."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_from_bytes, unquote, unquote_to_bytes, urlsplit

from getm.core.lazy import importing
from getm.core.redact import redact
from getm.errors import InvalidInput

_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Most URLs, and nothing that `validate_url` would refuse or change: taking one apart costs ten times as much.
_PLAIN_URL = re.compile(
    r"https?://(?:[a-zA-Z0-9\-]{1,63}\.){0,4}[a-zA-Z0-9\-]{1,63}(?::[1-9][0-9]{0,3}|:[1-5][0-9]{4})?(?:/[!-\"$-~]*)?"
)
_PARTS = re.compile(r"([^:]+://[^/?#]*)([^?#]*)((?:\?[^#]*)?)(?:#.*)?", re.DOTALL)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
# RFC 3986, section 3.2.2, once decoded.
_NAME = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=]+")
_MAX_LABEL_CHARS, _MAX_NAME_CHARS = 63, 253

DEFAULT_PORTS = {"http": 80, "https": 443}
"""The ports of URLs that name none."""


def is_tls(url: str) -> bool:
    """Whether the URL's scheme is https. A scheme may be in capitals (RFC 3986, section 3.1)."""
    return url[:6].lower() == "https:"


def validate_url(url: object) -> str:
    """The URL as it goes on the wire: what is already encoded stays byte-identical (signed URLs depend on it), spaces
    and characters outside ASCII are percent-encoded, the host's by IDNA 2008 and UTS 46, and the fragment is dropped
    (RFC 9110, section 7.1)."""
    if not isinstance(url, str):
        several = "; for several URLs use download_all" if isinstance(url, Iterable) else ""
        raise InvalidInput(f"a URL must be a str, not {type(url).__name__}{several}")
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
    if parts.scheme not in ("http", "https") or not parts.hostname:
        with importing:
            from getm.core.url_advice import not_http
        raise InvalidInput(not_http(url), url=redact(url) or None)
    if port == 0:
        raise InvalidInput("the URL has the port 0, to which nobody can connect", url=redact(url))
    userinfo, at, host = parts.netloc.rpartition("@")
    try:
        if not host.startswith("["):
            name, colon, digits = host.partition(":")
            encoded = encode_name(name)
            if encoded != name:
                url = url.replace(parts.netloc, f"{userinfo}{at}{encoded}{colon}{digits}", 1)
        # Everything printable in ASCII is safe here, "%" included: nothing that is encoded may be encoded twice.
        return quote(url.partition("#")[0], safe=_PRINTABLE)
    except UnicodeError as error:
        raise InvalidInput(f"the URL has characters that cannot be sent ({error})", url=redact(url)) from None


def encode_name(name: str) -> str:
    """A host's name as it is resolved and sent. Raises `UnicodeError` for what is none."""
    ascii_name = unquote(name, errors="strict") if "%" in name else name
    if not ascii_name.isascii():
        # Slow to import, and needed by few.
        import idna

        labels = idna.uts46_remap(ascii_name, std3_rules=False, transitional=False).split(".")
        ascii_name = ".".join(label if label.isascii() else idna.alabel(label).decode("ascii") for label in labels)
    if not _NAME.fullmatch(ascii_name):
        raise UnicodeError(f"{ascii_name!r} is no name of a host")
    labels = ascii_name.removesuffix(".").split(".")
    if len(ascii_name) > _MAX_NAME_CHARS or not all(0 < len(label) <= _MAX_LABEL_CHARS for label in labels):
        raise UnicodeError(f"a part of the host's name is empty or longer than {_MAX_LABEL_CHARS} characters")
    return ascii_name


def validate_mirrors(mirrors: Iterable[str]) -> tuple[str, ...]:
    """Further URLs of the same object, each as `validate_url` makes it."""
    if isinstance(mirrors, str) or not isinstance(mirrors, Iterable):
        raise InvalidInput(f"mirrors must be several URLs, such as a list of str, not a {type(mirrors).__name__}")
    return tuple(validate_url(url) for url in mirrors)


def split_url(url: str) -> tuple[str, str]:
    """Scheme and authority of an http or https URL, and the request target (RFC 9112, section 3.2.1), both as they are
    written. Raises ValueError where it is no such URL."""
    found = _PARTS.fullmatch(url)
    if found is None:
        raise ValueError("it has no host")
    origin, path, query = found.groups()
    return origin, (path or "/") + query


def split_authority(origin: str) -> tuple[str, str, str]:
    """Scheme, userinfo, and host with port, of what `split_url` gives first."""
    scheme, _, authority = origin.partition("://")
    userinfo, _, host = authority.rpartition("@")
    return scheme, userinfo, host


def host_field(host: str) -> str:
    """Host and port as they go into the Host field: without the zone of an address, which means something on this
    machine only (RFC 6874, section 4)."""
    address, bracket, port = host.partition("]")
    return f"{address.partition('%')[0]}]{port}" if bracket else host


def origin_of(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port, the default one where none is written."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)


def basic_credentials(userinfo: str) -> str:
    """The value of an Authorization field (RFC 7617) for the userinfo of a URL: bytes as they are encoded there, or,
    of text, in ISO-8859-1 where that has all of it, and else in UTF-8 (section 2.1)."""
    data = unquote_to_bytes(userinfo)
    with contextlib.suppress(UnicodeError):
        # Else they are bytes of another coding, or characters that only UTF-8 has.
        data = data.decode("utf-8").encode("latin-1")
    return "Basic " + base64.b64encode(data if b":" in data else data + b":").decode("ascii")


def follow(url: str, location: bytes) -> str:
    """Where a redirect from `url` leads (RFC 3986, section 5.2): as the server wrote it, with every byte that a URL
    cannot have percent-encoded as it came. Within one origin it gets the userinfo of `url`.

    Raises `InvalidInput` for what is no http or https URL.
    """
    reference = quote_from_bytes(location.strip(b" \t"), safe=_PRINTABLE).partition("#")[0]
    target = validate_url(_resolve(url, reference))
    scheme, userinfo, _ = split_authority(split_url(url)[0])
    if userinfo and origin_of(target) == origin_of(url):
        scheme, other, _ = split_authority(split_url(target)[0])
        if not other:
            return f"{scheme}://{userinfo}@{target[len(scheme) + 3 :]}"
    return target


def _resolve(url: str, reference: str) -> str:
    origin, target = split_url(url)
    path = target.partition("?")[0]
    if not reference:
        return origin + target
    if _SCHEME.match(reference):
        return reference
    if reference.startswith("//"):
        return f"{origin.partition(':')[0]}:{reference}"
    if reference.startswith("/"):
        return origin + reference
    if reference.startswith("?"):
        return origin + path + reference
    # Only here are segments put together, so only here dots are taken out; elsewhere they go out as they were given.
    relative, mark, query = reference.partition("?")
    return origin + _without_dots(path.rpartition("/")[0] + "/" + relative) + mark + query


def _without_dots(path: str) -> str:
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
