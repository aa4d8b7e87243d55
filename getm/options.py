"""What a caller may ask for: checked and made plain here, before any request is made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import force_setattr, replace

from getm.core.retry import Retries as Retries
from getm.core.units import MIB
from getm.core.validate import validate_integer, validate_number
from getm.errors import InvalidInput

DEFAULT_CHUNK_BYTES = MIB
DEFAULT_MAX_MEMORY = 256 * MIB
MAX_CONCURRENCY = 256
# The most connections that "auto" tries for an object. Public archives begin to refuse at a few dozen.
MAX_AUTO_CONCURRENCY = 32

# RFC 9110, section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Headers that the engine itself must set: another value would break framing, resumption or checksums.
_RESERVED_HEADERS = frozenset(
    {"range", "if-range", "accept-encoding", "connection", "content-length", "transfer-encoding", "te", "upgrade"}
)
HeadersInput = Mapping[str, str] | Iterable[tuple[str, str]]


class Timeout(Struct, frozen=True):
    """Time limits in seconds; None for no limit.

    Example:
        >>> getm.Timeout(connect_s=10, stall_s=20, total_s=3600)

    Args:
        connect_s: For name resolution, TCP and TLS together.
        stall_s: The longest silence, while waiting for the response head or within the body.
        total_s: For the whole transfer, retries included. No limit by default.
        floor_bytes_s: A connection that brings fewer bytes a second, over `floor_window_s`, is replaced by another one.
            Time in which the consumer takes nothing does not count.
        floor_window_s: See `floor_bytes_s`.
        tail_s: Near the end of an object that comes over several connections, a part that is far slower than the
            others, and would take longer than this, is requested on another connection as well.

    Raises:
        InvalidInput: A limit is not a positive number.
    """

    connect_s: float | None = 30.0
    stall_s: float | None = 60.0
    total_s: float | None = None
    floor_bytes_s: float | None = 1024.0
    floor_window_s: float = 30.0
    tail_s: float | None = 1.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            none = "" if name == "floor_window_s" else ", or None for no limit"
            if value is None and none:
                continue
            unit = "bytes a second" if name == "floor_bytes_s" else "seconds"
            force_setattr(self, name, validate_number(value, name, unit, none=none))


def validate_timeout(value: float | Timeout | str | None, default: Timeout) -> Timeout:
    """A number means that many seconds for `connect_s` and `stall_s`, as in the standard library; None no limit."""
    if isinstance(value, Timeout):
        return value
    if value is None:
        return replace(default, connect_s=None, stall_s=None, total_s=None, floor_bytes_s=None)
    if isinstance(value, str) and value == "default":
        return default
    seconds = validate_number(value, "timeout", "seconds", none=', a getm.Timeout, None for no limit, or "default"')
    return replace(default, connect_s=seconds, stall_s=seconds)


def validate_headers(headers: HeadersInput | None) -> tuple[tuple[str, str], ...]:
    """Request headers as pairs, checked against RFC 9110, section 5."""
    if headers is None:
        return ()
    if isinstance(headers, str) or not isinstance(headers, Iterable):
        # Not quoted: it may be a header line, secret and all.
        raise InvalidInput(f"headers must be a mapping or pairs of str, not a {type(headers).__name__}")
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    cleaned = []
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise InvalidInput(f"headers must be pairs of str, not a {type(pair).__name__}")
        name, value = (str.__str__(text) for text in pair)
        value = value.strip(" \t")
        if not _TOKEN.fullmatch(name):
            # Not quoted: it may be a whole header line, secret and all.
            raise InvalidInput("a header's name may hold letters, digits and !#$%&'*+-.^_`|~ only: no colon, no space")
        if name.lower() in _RESERVED_HEADERS:
            raise InvalidInput(f"the header {name} is set by getm itself and cannot be given")
        # The value may be a secret: not quoted.
        if any(char in value for char in "\r\n\0"):
            raise InvalidInput(f"the value of the header {name} holds a line break or NUL")
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise InvalidInput(f"the value of the header {name} holds characters that cannot be sent")
        cleaned.append((name, value))
    return tuple(cleaned)


def override_headers(usual: Sequence[tuple[str, str]], own: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """`usual` without the headers of those names that `own` has, and these."""
    names = {name.lower() for name, _ in own}
    return (*(pair for pair in usual if pair[0].lower() not in names), *own)


def parse_header(line: str) -> tuple[str, str]:
    """Name and value of "NAME: VALUE", as curl's -H takes it; `validate_headers` checks them."""
    name, colon, value = line.partition(":")
    if not colon:
        # Not quoted: it may be a misplaced secret.
        raise InvalidInput("expected a header as 'NAME: VALUE'")
    return name.strip(), value.strip()


def validate_processes(processes: int | Literal["auto"]) -> int | None:
    """How many engine processes; None for "auto"."""
    if isinstance(processes, str) and processes == "auto":
        return None
    return validate_integer(processes, "processes", 1, none=', or "auto"')


def validate_concurrency(concurrency: int | Literal["auto"] | None) -> int | Literal["auto"] | None:
    if concurrency is None:
        return None
    if isinstance(concurrency, str) and concurrency == "auto":
        return "auto"
    others = ', "auto", or None for a thread of this process'
    return validate_integer(concurrency, "concurrency", 1, MAX_CONCURRENCY, none=others)
