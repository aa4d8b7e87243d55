"""What a caller may ask for: checked and made plain here, before any request is made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import quote, urlsplit

from getm.errors import InvalidInput
from getm.redact import redact

KIB = 1024
MIB = 1024 * KIB

DEFAULT_CHUNK_BYTES = MIB
DEFAULT_MAX_MEMORY = 256 * MIB
# Measured: slots of 1 MiB cost the least CPU; 16 of them keep the engine busy while the consumer works on one.
_SLOT_BYTES = MIB
_SINGLE_STREAM_SLOTS = 16
# AWS advises parts of 8 to 16 MiB; the smaller keeps the ring of 16 connections within the memory budget.
_PART_BYTES = 8 * MIB
_MIN_SLOT_BYTES = 4 * KIB
# A timer takes so many seconds without overflow, and no connection brings so many bytes a second.
_MAX_LIMIT = 1e9
MAX_CONCURRENCY = 256

# RFC 9110, section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Headers that the engine itself must set: another value would break framing, resumption or checksums.
_RESERVED_HEADERS = frozenset(
    {"range", "if-range", "accept-encoding", "connection", "content-length", "transfer-encoding", "te", "upgrade"}
)
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_ON_THE_WIRE = re.compile(r"[!-~]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Most URLs, and nothing that `clean_url` would refuse or change: taking one apart costs ten times as much.
_PLAIN_URL = re.compile(r"https?://[a-zA-Z0-9.\-]+(?::[1-5]?[1-9][0-9]{0,3})?(?:/[!-\"$-~]*)?")
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


def clean_url(url: str) -> str:
    """The URL as it goes on the wire: what is already encoded stays byte-identical (signed URLs depend on it), spaces
    and characters outside ASCII are percent-encoded, the fragment is dropped (RFC 9110, section 7.1)."""
    if not isinstance(url, str):
        raise InvalidInput(f"a URL must be a str, not {type(url).__name__}")
    if _PLAIN_URL.fullmatch(url):
        return url
    url = url.strip(" ")
    if _CONTROL.search(url):
        raise InvalidInput("the URL holds control characters; check for a line break at its end", url=redact(url))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"the URL cannot be read: {error}", url=redact(url)) from None
    if parts.scheme not in ("http", "https"):
        raise InvalidInput(f"expected an http or https URL, got the scheme {parts.scheme!r}", url=redact(url))
    if not parts.hostname or port == 0:
        raise InvalidInput("the URL names no host and port that could be connected to", url=redact(url))
    url = url.partition("#")[0]
    if _ON_THE_WIRE.fullmatch(url):
        return url
    try:
        if not parts.hostname.isascii():
            userinfo, at, _ = parts.netloc.rpartition("@")
            host = parts.hostname.encode("idna").decode("ascii") + ("" if port is None else f":{port}")
            url = url.replace(parts.netloc, f"{userinfo}{at}{host}", 1)
        # Everything printable in ASCII is safe here, "%" included: nothing that is encoded may be encoded twice.
        return quote(url, safe=_PRINTABLE)
    except UnicodeError as error:
        raise InvalidInput(f"the URL holds characters that cannot be sent ({error})", url=redact(url)) from None


def clean_mirrors(mirrors: Iterable[str]) -> tuple[str, ...]:
    """Further URLs of the same object, each as `clean_url` makes it."""
    if isinstance(mirrors, str) or not isinstance(mirrors, Iterable):
        raise InvalidInput(f"mirrors must be several URLs, such as a list of str, not a {type(mirrors).__name__}")
    return tuple(clean_url(url) for url in mirrors)


def clean_headers(headers: HeadersInput | None) -> tuple[tuple[str, str], ...]:
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
    """Name and value of "NAME: VALUE", as curl's -H takes it; `clean_headers` checks them."""
    name, colon, value = line.partition(":")
    if not colon:
        # Not quoted: it may be a misplaced secret.
        raise InvalidInput("expected a header as 'NAME: VALUE'")
    return name.strip(), value.strip()


def clean_concurrency(concurrency: int | None) -> int | None:
    if concurrency is None:
        return None
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or not 1 <= concurrency <= MAX_CONCURRENCY:
        raise InvalidInput(f"concurrency must be None or a number from 1 to {MAX_CONCURRENCY}, not {concurrency!r}")
    return concurrency


def clean_rate(limit_rate: float | None) -> float | None:
    """Bytes a second, None for no limit."""
    if limit_rate is None:
        return None
    if isinstance(limit_rate, bool) or not isinstance(limit_rate, int | float) or not 1 <= limit_rate < float("inf"):
        raise InvalidInput(f"limit_rate must be a number of bytes a second from 1 on, or None, not {limit_rate!r}")
    return limit_rate


def clean_chunk_size(chunk_size: int) -> int:
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1:
        raise InvalidInput(f"chunk_size must be a positive number of bytes, not {chunk_size!r}")
    return chunk_size


@dataclass(frozen=True, slots=True)
class Geometry:
    """The shape of a ring: `slots` slots of `slot_bytes` bytes; a ranged part covers `part_slots` of them."""

    slot_bytes: int
    slots: int
    part_slots: int

    @property
    def total_bytes(self) -> int:
        return self.slot_bytes * self.slots


@lru_cache(maxsize=64)
def plan_ring(chunk_bytes: int, concurrency: int, budget_bytes: int, *, jobs: int = 1) -> Geometry:
    """The ring for a transfer, or for `jobs` of them at once, within `budget_bytes` of shared memory.

    A slot holds a whole number of chunks where that fits the budget, so that every chunk is one view without a copy.
    Each of `concurrency` parts in flight has its slots, and one part more is being consumed. Of several transfers with
    one request each, every one has a slot that is being filled and one that is being consumed.
    """
    slot_bytes = max(1, _SLOT_BYTES // chunk_bytes) * chunk_bytes
    if slot_bytes * 4 > budget_bytes:
        slot_bytes = min(_SLOT_BYTES, max(_MIN_SLOT_BYTES, budget_bytes // 4))
        # Still whole chunks, where four slots of them fit.
        slot_bytes = slot_bytes // chunk_bytes * chunk_bytes or (
            chunk_bytes if 4 * chunk_bytes <= budget_bytes else slot_bytes
        )
    affordable = max(2, budget_bytes // slot_bytes)
    if concurrency == 1:
        wanted = max(4, _SINGLE_STREAM_SLOTS * _SLOT_BYTES // slot_bytes, 2 * jobs)
        return Geometry(slot_bytes, min(wanted, affordable), 1)
    parts = concurrency * jobs + 1
    part_slots = max(1, min(_PART_BYTES // slot_bytes, affordable // parts))
    return Geometry(slot_bytes, min(part_slots * parts, affordable), part_slots)
