"""What a caller may ask for: checked and made plain here, before any request is made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from getm.core.units import MIB
from getm.errors import InvalidInput

DEFAULT_CHUNK_BYTES = MIB
DEFAULT_MAX_MEMORY = 256 * MIB
# A timer takes so many seconds without overflow, and no connection brings so many bytes a second.
_MAX_LIMIT = 1e9
MAX_CONCURRENCY = 256

# RFC 9110, section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Headers that the engine itself must set: another value would break framing, resumption or checksums.
_RESERVED_HEADERS = frozenset(
    {"range", "if-range", "accept-encoding", "connection", "content-length", "transfer-encoding", "te", "upgrade"}
)
HeadersInput = Mapping[str, str] | Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Timeout:
    """Limits in seconds, each None for no limit. There is no limit on the whole transfer unless `total_s` sets one.

    `connect_s`: name resolution, TCP and TLS. `stall_s`: the longest silence, while waiting for the response head or
    within the body. `total_s`: the whole transfer, retries included. A connection that brings fewer than
    `floor_bytes_s` bytes a second over `floor_window_s` seconds is given up, and the rest requested on another one;
    time in which the consumer takes nothing does not count. `tail_s`: near the end of an object that comes by several
    connections, a part that is far slower than the others, and would take longer than this, is tried on another one.
    """

    connect_s: float | None = 30.0
    stall_s: float | None = 60.0
    total_s: float | None = None
    floor_bytes_s: float | None = 1024.0
    floor_window_s: float = 30.0
    tail_s: float | None = 1.0

    @classmethod
    def of(cls, value: float | Timeout | None, default: Timeout) -> Timeout:
        """A number means that many seconds for `connect_s` and `stall_s`, as in the standard library."""
        if value is None:
            return default
        if not isinstance(value, Timeout):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InvalidInput(f"timeout must be a number of seconds or a getm.Timeout, not {value!r}")
            value = replace(default, connect_s=value, stall_s=value)
        for name in ("connect_s", "stall_s", "total_s", "floor_bytes_s", "floor_window_s", "tail_s"):
            limit = getattr(value, name)
            if limit is None and name != "floor_window_s":
                continue
            if not (isinstance(limit, int | float) and 0 < limit <= _MAX_LIMIT):
                raise InvalidInput(f"timeout: {name} must be a positive number (or None for no limit), not {limit!r}")
        return value


def validate_headers(headers: HeadersInput | None) -> tuple[tuple[str, str], ...]:
    """Request headers as pairs, checked against RFC 9110, section 5."""
    if headers is None:
        return ()
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    cleaned = []
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise InvalidInput(f"headers must be pairs of str, not a {type(pair).__name__}")
        name, value = pair[0], pair[1].strip(" \t")
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


def parse_header(line: str) -> tuple[str, str]:
    """Name and value of "NAME: VALUE", as curl's -H takes it; `validate_headers` checks them."""
    name, colon, value = line.partition(":")
    if not colon:
        # Not quoted: it may be a misplaced secret.
        raise InvalidInput("expected a header as 'NAME: VALUE'")
    return name.strip(), value.strip()


def validate_concurrency(concurrency: int | None) -> int | None:
    if concurrency is None:
        return None
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or not 1 <= concurrency <= MAX_CONCURRENCY:
        raise InvalidInput(f"concurrency must be None or a number from 1 to {MAX_CONCURRENCY}, not {concurrency!r}")
    return concurrency


def validate_rate(limit_rate: float | None) -> float | None:
    """Bytes a second, None for no limit."""
    if limit_rate is None:
        return None
    if isinstance(limit_rate, bool) or not isinstance(limit_rate, int | float) or not 1 <= limit_rate < float("inf"):
        raise InvalidInput(f"limit_rate must be a number of bytes a second from 1 on, or None, not {limit_rate!r}")
    return limit_rate


def validate_chunk_size(chunk_size: int) -> int:
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1:
        raise InvalidInput(f"chunk_size must be a positive number of bytes, not {chunk_size!r}")
    return chunk_size
