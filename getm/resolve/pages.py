"""The requests that a resolver makes: small documents, fetched as the session that wants the object fetches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
from msgspec.structs import replace

from getm.core.redact import redact
from getm.core.url import validate_url
from getm.errors import BadResponse, InvalidInput
from getm.options import override_headers, validate_headers
from getm.protocol.messages import OpenRequest

if TYPE_CHECKING:
    from getm.files.logins import Logins


JSON = {"Accept": "application/json"}
"""The header of a request for a JSON document."""


class ListPage(NamedTuple):
    """A response to a request of a lister, or a resolver. `url` is where it came from, after redirects."""

    content: bytes
    headers: Mapping[str, str]
    url: str


class Get(Protocol):
    """Makes a request. `session_headers`: whether the headers and the token of the caller and the session are sent as
    well: not to hosts that somebody else names."""

    def __call__(self, url: str, headers: Mapping[str, str], *, session_headers: bool = True) -> ListPage: ...


_get: ContextVar[Get] = ContextVar("getm_get_page")


# Makes the request for a document.
Fetch = Callable[[OpenRequest], ListPage]


def getter(wanted: OpenRequest, fetch: Fetch, logins: Logins | None, *, total_s: float | None) -> Get:
    """What makes the requests for documents that are needed to find or list what is `wanted`, as that is requested.
    `total_s`: the time limit of each."""

    def get(url: str, headers: Mapping[str, str], *, session_headers: bool = True) -> ListPage:
        return fetch(_page_request(wanted, logins, url, headers, session_headers=session_headers, total_s=total_s))

    return get


def _page_request(
    wanted: OpenRequest,
    logins: Logins | None,
    url: str,
    headers: Mapping[str, str],
    *,
    session_headers: bool,
    total_s: float | None,
) -> OpenRequest:
    """The request for a document that is needed to find or list what is `wanted`, with its limits and connections.
    Raises `InvalidInput`."""
    own = validate_headers(headers)
    return OpenRequest(
        url=validate_url(url),
        headers=override_headers(wanted.headers, own) if session_headers else own,
        concurrency=1,
        checksums=None,
        strict=False,
        connect_s=wanted.connect_s,
        stall_s=wanted.stall_s,
        total_s=total_s,
        floor_bytes_s=wanted.floor_bytes_s,
        floor_window_s=wanted.floor_window_s,
        tail_s=None,
        # 202: it is being prepared (GA4GH DRS, "GetObject"), and Retry-After says for how long.
        custom_retries=replace(wanted.retries, statuses=wanted.retries.statuses | {202}),
        cacert=wanted.cacert,
        environment=wanted.environment,
        insecure=wanted.insecure,
        connection=wanted.connection,
        logins=() if logins is None else logins.of((url,), named=session_headers),
    )


def use(get: Get) -> None:
    """Have `get` make the requests of this context."""
    _get.set(get)


def get_page(url: str, headers: Mapping[str, str], *, session_headers: bool = True) -> ListPage:
    """Fetch a document, with the proxies, certificates, logins, limits and retries of the session that wants the
    object.

    Raises:
        InvalidInput: Nothing is being resolved in this context.
        NetworkError: As `getm.read`.
    """
    get = _get.get(None)
    if get is None:
        raise InvalidInput(
            "this resolver makes requests, by the session that it works for: give the name, or "
            "functools.partial(resolve, NAME, ...), in place of a URL"
        )
    return get(url, headers, session_headers=session_headers)


def decode(page: ListPage, kind: Any) -> Any:
    """What a JSON document says, as that type. Raises `BadResponse`."""
    try:
        return msgspec.json.decode(page.content, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise BadResponse(f"the answer is not what was expected ({error})", url=redact(page.url)) from None
