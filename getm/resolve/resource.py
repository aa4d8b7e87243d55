"""Where an object is now, as a provider or a resolver says it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

from msgspec import Struct
from msgspec.structs import force_setattr

from getm.core.redact import redact
from getm.core.spans import MAX_POSITION
from getm.core.url import validate_mirrors, validate_url
from getm.core.validate import refuse, validate_bool, validate_integer
from getm.errors import InvalidInput
from getm.integrity.values import Checksum, parse_checksum
from getm.options import HeadersInput, validate_headers


class Resource(Struct, frozen=True, repr_omit_defaults=True):
    """Where an object is now: what a provider or a resolver may return in place of a URL.

    Example:
        >>> getm.Resource(url, headers={"Authorization": f"Bearer {token}"}, expires_at=time.time() + 900)

    Args:
        url: An http(s) URL.
        headers: Request headers, in place of the caller's of the same names. Only requests to the origin of `url`
            (scheme, host and port) have them.
        checksums: What the bytes must match, unless the caller gives a checksum: "ALGORITHM:VALUE" or a `Checksum`, or
            several, all of which must match.
        size: Of the object, in bytes; None where unknown.
        expires_at: When the URL or the headers expire: a `datetime` with a time zone, or seconds since the epoch. None
            where unknown; then a server that refuses them says so.
        mirrors: Further URLs of the same object, which are renewed together with `url`.
        advice: What to do where a server refuses it (401, 403, 404 or 409): the error says so.
        session_headers: Whether the headers of the caller and of the session are sent as well: not to hosts that
            somebody else names.

    Raises:
        InvalidInput: A field cannot be used.
    """

    url: str
    headers: HeadersInput = ()
    checksums: str | Checksum | Iterable[str | Checksum] = ()
    size: int | None = None
    expires_at: datetime | float | None = None
    mirrors: Iterable[str] = ()
    advice: str = ""
    session_headers: bool = True

    def __post_init__(self) -> None:
        force_setattr(self, "url", validate_url(self.url))
        force_setattr(self, "headers", validate_headers(self.headers))
        force_setattr(self, "checksums", checksums_of(self.checksums))
        if self.size is not None:
            force_setattr(self, "size", validate_integer(self.size, "size", 0, MAX_POSITION))
        if isinstance(self.expires_at, datetime):
            if self.expires_at.utcoffset() is None:
                raise InvalidInput("expires_at has no time zone: give one, such as datetime.UTC")
        elif self.expires_at is not None and not _is_time(self.expires_at):
            refuse("expires_at", "seconds since the epoch, a datetime with a time zone, or None", self.expires_at)
        force_setattr(self, "mirrors", validate_mirrors(self.mirrors))
        if not isinstance(self.advice, str):
            refuse("advice", "a str", self.advice)
        validate_bool(self.session_headers, "session_headers")

    def __repr__(self) -> str:
        # No secrets: URLs without their query, headers without their values.
        headers = ", ".join(name for name, _ in validate_headers(self.headers))
        urls = ", ".join(map(redact, (self.url, *self.mirrors)))
        return f"Resource(<{urls}>, headers=<{headers}>, size={self.size}, expires_at={self.expires_at})"

    def texts(self) -> tuple[str, ...]:
        """The checksums in canonical text."""
        return tuple(map(str, checksums_of(self.checksums)))

    @property
    def expires_s(self) -> float | None:
        """`expires_at` in seconds since the epoch."""
        return self.expires_at.timestamp() if isinstance(self.expires_at, datetime) else self.expires_at


# A function without arguments that returns where an object is now.
Provider = Callable[[], str | Resource | Awaitable[str | Resource]]
URLInput = str | Provider


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def checksums_of(given: str | Checksum | Iterable[str | Checksum]) -> tuple[Checksum, ...]:
    """One checksum or several, as values. Raises `InvalidInput`."""
    several = [given] if isinstance(given, str | Checksum) or not isinstance(given, Iterable) else list(given)
    if not all(isinstance(each, str | Checksum) for each in several):
        refuse("checksums", '"ALGORITHM:VALUE", a Checksum, or several of these', given)
    return tuple(parse_checksum(each) if isinstance(each, str) else each for each in several)
