"""The requests that a resolver makes: small documents, fetched as the session that wants the object fetches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import msgspec

from getm.core.redact import redact
from getm.errors import BadResponse, InvalidInput


class Page(NamedTuple):
    """A response. `url` is where it came from, after redirects."""

    content: bytes
    headers: Mapping[str, str]
    url: str


Get = Callable[[str, Mapping[str, str]], Page]

_get: ContextVar[Get] = ContextVar("getm_get_page")


def use(get: Get) -> None:
    """Have `get` make the requests of this context."""
    _get.set(get)


def get_page(url: str, headers: Mapping[str, str]) -> Page:
    """Fetch a document, with the proxies, certificates, logins, limits and retries of the session that wants the
    object. The headers of the call go to the host that the name has, and to no other.

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
    return get(url, headers)


def decode(page: Page, kind: Any) -> Any:
    """What a JSON document says, as that type. Raises `BadResponse`."""
    try:
        return msgspec.json.decode(page.content, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise BadResponse(f"the answer is not what was expected ({error})", url=redact(page.url)) from None
