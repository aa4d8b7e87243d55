"""`drs://HOST/ID` and `drs://PREFIX:ACCESSION`: objects of a GA4GH Data Repository Service, version 1.

The server says what the checksums and the size are, and by which methods the bytes can be had: by a URL, by one that it
signs when it is asked for it (`/access/ID`), or by a name in a store (s3://, gs://). So what is had is signed again
when it expires.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from getm.core.lazy import importing
from getm.core.log import get_logger
from getm.core.redact import redact
from getm.errors import BadResponse, GetmError, InvalidInput
from getm.integrity.algorithms import is_available
from getm.integrity.values import Checksum, find_algorithm, make_checksum
from getm.options import parse_header
from getm.resolve.compact_ids import url_of
from getm.resolve.pages import JSON, Get, ListPage, decode, get_page
from getm.resolve.request import is_http, scheme_of
from getm.resolve.resource import Resource

_log = get_logger()

PREFERRED = ("https", "s3", "gs")
"""Types of access methods in the order in which they are used."""

BUNDLE_DEPTH = 50
"""How many bundles may be within one another: none has so many, but one that has itself."""

# The specification, "DRS URIs". A colon stands in names by compact identifiers only, and the first one counts.
_COMPACT = re.compile(r"drs://((?:[A-Za-z0-9._]+/)?[A-Za-z0-9._]+):(.+)", re.IGNORECASE | re.DOTALL)
_BY_HOST = re.compile(r"drs://([A-Za-z0-9.\-]+)/([^?#:]+)", re.IGNORECASE)
_IN_BUNDLE = re.compile(r"drs://[A-Za-z0-9.\-]+/[^/?#]+", re.IGNORECASE)
_EXPECTED = "expected drs://HOST/ID, or drs://PREFIX:ACCESSION (a port cannot be given)"
_OBJECTS = "/ga4gh/drs/v1/objects"
# What is reserved within a part of a path (RFC 3986, section 3.3), and what is encoded already.
_AS_IT_IS = "%"


class AccessURL(Struct):
    """Where bytes are. `headers`: as the specification has them, lines; some servers have an object."""

    url: str
    headers: list[str] | dict[str, str] | None = None


class _AccessMethod(Struct):
    type: str
    access_url: AccessURL | None = None
    access_id: str | None = None
    # The second one in drafts of the specification.
    available: bool | None = None
    availability: bool | None = None

    @property
    def is_offline(self) -> bool:
        """Whether it must be fetched from an archive first."""
        return self.available is False or self.availability is False


class _Checksum(Struct):
    checksum: str
    type: str


class Content(Struct):
    """What a bundle says of one of its objects. `contents`: of a bundle within it, where all was asked for."""

    name: str
    id: str | None = None
    drs_uri: list[str] | None = None
    contents: list[Content] | None = None


class DRSObject(Struct):
    """What a server says of an object: a blob, or a bundle of others (`contents`)."""

    id: str
    name: str | None = None
    self_uri: str | None = None
    size: int | None = None
    checksums: list[_Checksum] = []
    access_methods: list[_AccessMethod] | None = None
    contents: list[Content] | None = None

    @property
    def is_bundle(self) -> bool:
        """Whether it is a folder of other objects."""
        return bool(self.contents) and not self.access_methods


def root_of(prefix: str) -> str:
    """The name of the object with which a prefix begins. Raises `InvalidInput`."""
    name = prefix.rstrip("/")
    by_host = _IN_BUNDLE.match(name)
    if by_host is not None and ":" not in name[len("drs://") :]:
        return by_host[0]
    if _COMPACT.fullmatch(name) is None:
        raise InvalidInput(_EXPECTED)
    # An accession may have slashes: so only the bundle itself has a name.
    return name


def checksums_of(found: DRSObject) -> tuple[Checksum, ...]:
    """Those that getm knows. Raises `BadResponse` for one that is none."""
    try:
        known = [(find_algorithm(each.type), each.checksum) for each in found.checksums]
        return tuple(
            make_checksum(algorithm, value)
            for algorithm, value in known
            if algorithm is not None and is_available(algorithm)
        )
    except InvalidInput as error:
        raise BadResponse(f"the server has a malformed checksum: {error.message}") from None


def resolve(name: str, *, prefer: Iterable[str] | None = None) -> Resource:
    """GA4GH Data Repository Service: drs://HOST/ID, drs://PREFIX:ACCESSION.

    Args:
        name: The name, of a blob.
        prefer: Types of access methods in the order in which they are used: "https", "s3", "gs"; None: as
            $GETM_DRS_ACCESS says ("gs,https"), or in that order.

    Returns:
        Where the bytes are, with the checksums and the size that the server has.

    Raises:
        InvalidInput: It is no such name, or that of a bundle.
        MissingExtra: The only method is a store whose package is not installed.
        NetworkError: The server could not be asked, refused, or has no method that is known here.

    Example:
        >>> data = getm.read("drs://drs.example.org/314159")
    """
    text = os.environ.get("GETM_DRS_ACCESS", "")
    wanted = [each.strip() for each in text.split(",") if each.strip()] if prefer is None else list(prefer)
    found, place = find_object(name, get_page)
    # The description may have come from another host.
    is_named = _has_host(name, place)
    if found.is_bundle:
        raise InvalidInput(
            f"it is a bundle of {len(found.contents or ())} objects; for all of them: {name.rstrip('/')}/"
        )
    facts: dict[str, Any] = {"checksums": checksums_of(found), "size": found.size, "session_headers": False}
    failure: GetmError | None = None
    methods = _ordered(found.access_methods or (), wanted or PREFERRED)
    for method in methods:
        try:
            return replace(_accessed(method, place, is_named=is_named), **facts)
        except GetmError as error:
            _log.info("%s by %s: %s", redact(name), method.type, error)
            failure = failure or error
    if failure is not None:
        raise failure
    types = ", ".join(dict.fromkeys(method.type[:20] for method in found.access_methods or ())) or "none"
    raise BadResponse(f"the object can be had by {types}, and getm knows {', '.join(wanted or PREFERRED)}", url=place)


def find_object(name: str, get: Get, *, expand: bool = False) -> tuple[DRSObject, str]:
    """What the server says of an object, and the URL at which it says that, asked for by `get`. `expand`: also what is
    in bundles within it. Raises as `resolve` does."""
    url = _object_url(name, get)
    page = get(f"{url}?expand=true" if expand else url, JSON, session_headers=_has_host(name, url))
    found = decode(page, DRSObject)
    return found, _place(found, page)


def _has_host(name: str, url: str) -> bool:
    """Whether the name has the host of that URL, which has the usual port: the caller named it."""
    by_host = _BY_HOST.fullmatch(name.rstrip("/"))
    return by_host is not None and by_host[1].lower() == urlsplit(url).netloc.lower()


def _object_url(name: str, get: Get) -> str:
    """The URL of an object's description. Raises `InvalidInput`; for a compact identifier also what asking for it
    raises."""
    name = name.rstrip("/")
    if compact := _COMPACT.fullmatch(name):
        return url_of(compact[1].lower(), compact[2], get)
    by_host = _BY_HOST.fullmatch(name)
    if by_host is None:
        raise InvalidInput(_EXPECTED)
    return f"https://{by_host[1]}{_OBJECTS}/{quote(by_host[2], safe=_AS_IT_IS)}"


def _place(found: DRSObject, page: ListPage) -> str:
    """The URL of the object, for further requests. A compact identifier may have led to another form of it, of which
    `self_uri` has the right one (the specification, "Accession Encoding to Valid DRS IDs")."""
    by_host = _BY_HOST.fullmatch(found.self_uri or "")
    if by_host is None or by_host[1].lower() != urlsplit(page.url).hostname:
        # Nobody but the server that answered is asked further.
        return page.url.partition("?")[0]
    return f"https://{urlsplit(page.url).netloc}{_OBJECTS}/{quote(by_host[2], safe=_AS_IT_IS)}"


def _ordered(methods: Sequence[_AccessMethod], types: Sequence[str]) -> list[_AccessMethod]:
    """Those of these types, in their order; what is in an archive comes last."""
    usable = [method for method in methods if method.type in types]
    return sorted(usable, key=lambda method: (method.is_offline, types.index(method.type)))


def _accessed(method: _AccessMethod, place: str, *, is_named: bool) -> Resource:
    """Where the bytes are by that method. A URL is used as it is; in place of a name in a store, for which the caller
    would need a login of his own, the server signs a URL where it can. `is_named`: the caller named the server."""
    access = method.access_url
    if method.access_id is not None and (access is None or not is_http(access.url)):
        url = f"{place}/access/{quote(method.access_id, safe='')}"
        page = get_page(url, JSON, session_headers=is_named)
        access = decode(page, AccessURL)
    if access is None:
        raise BadResponse(f"an access method ({method.type[:20]}) has neither a URL nor an id", url=place)
    if is_http(access.url):
        try:
            return Resource(access.url, headers=_headers(access.headers))
        except InvalidInput as error:
            raise BadResponse(f"the server gives no URL that can be used: {error.message}", url=place) from None
    if scheme_of(access.url) in ("s3", "gs", "az"):
        with importing:
            from getm.resolve.names import resolve_name
        try:
            return resolve_name(access.url)
        except InvalidInput as error:
            raise BadResponse(f"the server gives a name that cannot be used: {error.message}", url=place) from None
    raise BadResponse(f"the server gives a URL of the scheme {str(scheme_of(access.url))[:20]!r}", url=place)


def _headers(given: list[str] | dict[str, str] | None) -> Mapping[str, str]:
    return dict(given) if isinstance(given, dict) else dict(map(parse_header, given or ()))
