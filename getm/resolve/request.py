"""A request whose URL is still to be found."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from getm.core.lazy import importing
from getm.protocol.messages import OpenRequest

if TYPE_CHECKING:
    from getm.files.logins import Logins
    from getm.resolve.locator import Locator


class UnlocatedRequest(OpenRequest, frozen=True):
    """A request whose URL its `locator` finds just before it is sent. Never sent itself."""

    # A `Locator`, whose module most programs never need.
    locator: Any = None

    @classmethod
    def of(cls, request: OpenRequest, locator: Locator) -> UnlocatedRequest:
        """`request`, to be sent to where `locator` finds the object."""
        return cls(**_fields(request), locator=locator)

    def located(self) -> OpenRequest:
        """The request without its locator."""
        return OpenRequest(**_fields(self))


def _fields(request: OpenRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in OpenRequest.__struct_fields__}


# RFC 3986, section 3.1.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")


def scheme_of(text: str) -> str | None:
    """The scheme of a name or a URL, in lower case; None where it has none."""
    found = _SCHEME.match(text)
    return None if found is None else found[1].lower()


def is_http(text: str) -> bool:
    """Whether it is an http or https URL."""
    return text[:8].lower().startswith(("http://", "https://"))


def is_name(text: str) -> bool:
    """Whether it is a name whose scheme has a resolver."""
    scheme = scheme_of(text)
    if scheme in (None, "http", "https"):
        return False
    with importing:
        from getm.resolve.names import has_resolver
    return has_resolver(text)


def locator_for(url: object, logins: Logins | None = None, name: str = "") -> Locator | None:
    """What finds the object of `url`, where that is a name or a provider; None for a URL, and for what is none of
    these. `logins`: for the hosts where it is. `name`: of the object of a provider, where it has one."""
    if isinstance(url, str) and not is_name(url):
        # Nearly always.
        return None
    with importing:
        from getm.resolve.names import find_locator
    return find_locator(url, logins, name)


def locator_of(request: OpenRequest) -> Locator | None:
    """What finds the URL of `request`; None where it has one."""
    return request.locator if isinstance(request, UnlocatedRequest) else None
