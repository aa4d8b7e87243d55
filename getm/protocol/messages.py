"""The messages of the pipe protocol between a consumer (the caller's process) and an engine.

Every message is one fixed frame of 24 bytes, little-endian, followed by `length` bytes of a MessagePack body for the
kinds that carry one:

    kind u8 | 3 unused | object u32 | offset u64 | slot u32 | length u32

Consumer to engine:
    OPEN    object, body OpenRequest      fetch this object; its number was not used before on this pipe
    SPAN    object, offset, length        the same as the last OPEN for a span, for the `length` bytes from `offset` on
    GRANT   slot, length                  `length` slots from `slot` on are the engine's: at the start, and as credit;
            object                        with an object's number: to be filled with that object only
    WRITE   object, body FolderEntry      the file that takes the object's bytes, for one that is opened with `file` and
                                          whose HEAD has come
    PLACE   object, offset                the memory of `offset` bytes for an object whose HEAD says that it is placed;
                                          its descriptor comes with it as ancillary data
    CANCEL  object                        stop; the engine still answers with one END or FAILED
    HEDGE   object                        the rest of it comes too slowly: try another connection
    MORE    object, offset                bring the bytes up to `offset`, too, of an object that was opened with
                                          `first_bytes`
    RENEWED object, body RenewedInfo      the answer to EXPIRED
Engine to consumer:
    HEAD    object, body HeadInfo         the response's head: once, before any PART or WRITTEN
    PREFIX  object, offset, slot, length  the slot has `length` bytes so far, the first at `offset`, which may be read:
                                          may be repeated; a PART of the slot follows
    PART    object, offset, slot, length  the slot is the consumer's and holds `length` bytes, the first at `offset`
    ONLY    object, offset, slot, length  HEAD, PART and END in one: the slot holds a whole span
    RETURN  object, slot                  a slot that was granted for that object comes back unfilled
    ADAPTED object, body AdaptedInfo      so many connections bring it from now on, and why
    WRITTEN object, offset, length        bytes of the object are in its file
    NOTE    object, body NoteInfo         what failed and is retried: at any time before the end
    EXPIRED object, offset                the URLs of an object that was opened as `renewable` have expired: those with
                                          the serial number `offset`
    END     object, body EndInfo          every byte was delivered; what verified them. Without a HEAD before it, it has
                                          the head itself, and a small object is in a file of its own
    FAILED  object, body FailedInfo       no more will come; why

The control socket of an engine carries SERVE (with descriptors as ancillary data) and STOP in the same frame.

Slots belong to the pipe, not to an object: see `getm.buffers.ledger`.
"""

from __future__ import annotations

import enum
from typing import Any
from urllib.parse import urlsplit

import msgspec

from getm import errors
from getm.core.connection_options import ConnectionOptions
from getm.core.head import ResponseHead
from getm.core.retry import Retries
from getm.core.spans import MAX_POSITION
from getm.core.stats import Stats
from getm.core.text import encodable
from getm.core.url import origin_of
from getm.core.version import Version
from getm.integrity.verdict import Verdict


class Kind(enum.IntEnum):
    OPEN = 1
    GRANT = 2
    CANCEL = 3
    HEAD = 4
    PART = 5
    END = 6
    FAILED = 7
    SERVE = 8
    STOP = 9
    NOTE = 10
    HEDGE = 11
    PREFIX = 12
    RETURN = 13
    WRITE = 14
    WRITTEN = 15
    ADAPTED = 16
    PLACE = 17
    MORE = 18
    SPAN = 19
    ONLY = 20
    EXPIRED = 21
    RENEWED = 22


# Looked up once: otherwise one small object would take sixty look-ups in the class.
(
    OPEN,
    GRANT,
    CANCEL,
    HEAD,
    PART,
    END,
    FAILED,
    SERVE,
    STOP,
    NOTE,
    HEDGE,
    PREFIX,
    RETURN,
    WRITE,
    WRITTEN,
    ADAPTED,
    PLACE,
    MORE,
    SPAN,
    ONLY,
    EXPIRED,
    RENEWED,
) = Kind


class Message(msgspec.Struct, frozen=True, gc=False):
    kind: Kind
    object: int = 0
    offset: int = 0
    slot: int = 0
    length: int = 0
    body: bytes = b""


# The most that the frame's `length` can say.
MAX_LENGTH = 2**32 - 1


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of the typed bodies: encoded as MessagePack arrays, validated when decoded. Plain values, in no cycles: the
    garbage collector need not know them, nor the other values of this kind."""


# The whole object: one span whose end is not known yet.
WHOLE = ((0, MAX_POSITION),)
_DEFAULT_RETRIES = Retries()


class Route(Record, frozen=True):
    """Where to send a request: the caller's URL, or the one that redirects led to; and whose headers go there."""

    url: str
    user_headers: tuple[tuple[str, str], ...]


class Renewable(Record, frozen=True):
    """The first `count` URLs of an object can be asked for again: see EXPIRED. `serial`: their number, which rises with
    each answer. `expires_s`: when they expire, in seconds since the epoch; None where that is not known."""

    serial: int
    count: int = 1
    expires_s: float | None = None


class RenewedInfo(Record, frozen=True):
    """What comes in the place of URLs that have expired, in their order, each with the headers for it; empty where
    there is none to be had. The rest as in `Renewable`."""

    routes: tuple[Route, ...]
    serial: int
    expires_s: float | None = None


NO_URLS = RenewedInfo((), 0)


class FolderInfo(Record, frozen=True):
    """A folder that a process has open as `descriptor`; and its path, for systems that have no other way to it.
    `identity`: its device and inode."""

    pid: int
    descriptor: int
    path: bytes
    identity: tuple[int, int]


class FolderEntry(Record, frozen=True):
    """A file in a folder. `resumable`: a later run may continue it, so it stays where its process dies."""

    folder: FolderInfo
    name: bytes
    resumable: bool = False


class FileRequest(Record, frozen=True):
    """The object goes to a file, in place of slots.

    `small`: a file that does not exist yet, with the permissions `mode`, for an object of less than `small_bytes` that
    comes without a pause: then END alone says all. None: WRITE names the file in any case.
    """

    small: FolderEntry | None = None
    mode: int = 0o600
    small_bytes: int = 0


class OpenRequest(Record, frozen=True):
    """What to fetch, from where, and of which version. Times in seconds, sizes in bytes; spans are half-open, sorted
    and disjoint. The last one may be a suffix (see `Span`), and spans may go beyond the end of the object, which the
    engine learns from the first response."""

    url: str
    headers: tuple[tuple[str, str], ...]
    concurrency: int
    # In canonical text, all of which must match; empty: what the server declares; None: no verification.
    checksums: tuple[str, ...] | None
    strict: bool
    connect_s: float | None
    stall_s: float | None
    total_s: float | None
    floor_bytes_s: float | None
    floor_window_s: float
    tail_s: float | None
    custom_retries: Retries | None  # None: the default ones, which take longer to decode than all the rest
    # Bytes: paths and variables may hold any.
    cacert: bytes | None
    environment: dict[str, bytes]  # the caller's proxy and certificate variables at the time of the call
    insecure: bool = False  # do not check certificates
    mirrors: tuple[str, ...] = ()  # further URLs of the same object; the headers go to them as well
    spans: tuple[tuple[int, int], ...] = WHOLE
    # The version of the spans; None: whichever there is. For another version: `RemoteChanged`, or, with `or_whole`, the
    # whole of that one.
    version: Version | None = None
    or_whole: bool = False
    # The CRC32C of its blocks is wanted, for a receipt.
    blocks: bool = False
    # The caller has this version: a 304 is the whole answer where it is still the current one.
    unless: Version | None = None
    # It is a span that another engine, which knows the object, passes on.
    delegated: bool = False
    # What redirects from `url` led to.
    route: Route | None = None
    # Objects below so many bytes are fetched over one connection, whatever `concurrency` says.
    ranged_from: int = 0
    # What the object must have, in bytes.
    size: int | None = None
    # The pause before the first request.
    delay_s: float = 0.0
    # It starts with one connection, or with some for several spans, and `concurrency` is the most that it may have.
    adaptive: bool = False
    # From so many bytes on, an object goes to memory of its own (PLACE), where its size is known; None: never.
    place_from: int | None = None
    # None: the bytes come in slots.
    file: FileRequest | None = None
    # Only so many bytes of the whole object are requested before MORE asks for further ones, where ranges are granted;
    # 0: all of it.
    first_bytes: int = 0
    # None: the usual ones.
    connection: ConnectionOptions | None = None
    # Origins of these URLs, and headers that URLs of each of them get, unless `headers` have them.
    logins: tuple[tuple[tuple[str, str | None, int | None], str, str], ...] = ()
    # A URL, and headers that only URLs of its origin get, in place of those of the same name.
    own_headers: tuple[str, tuple[tuple[str, str], ...]] | None = None
    # None: no new URL can be had in place of one that expires.
    renewable: Renewable | None = None

    @property
    def retries(self) -> Retries:
        return self.custom_retries or _DEFAULT_RETRIES

    @property
    def head_only(self) -> bool:
        """Whether nothing of the object is wanted but what its head says."""
        return not self.spans and self.version is None

    def headers_for(self, url: str) -> tuple[tuple[str, str], ...]:
        """The caller's headers for one of its URLs, with the login for its host."""
        headers = self.headers
        if self.own_headers is not None and origin_of(url) == origin_of(self.own_headers[0]):
            own = self.own_headers[1]
            replaced = {name.lower() for name, _ in own}
            headers = (*(pair for pair in headers if pair[0].lower() not in replaced), *own)
        if self.logins:
            origin, given = origin_of(url), {name.lower() for name, _ in headers}
            if "@" in urlsplit(url).netloc:
                given.add("authorization")
            found = {name: value for of, name, value in reversed(self.logins) if of == origin}
            headers = (*headers, *((name, value) for name, value in found.items() if name.lower() not in given))
        return headers


class HeadInfo(Record, frozen=True):
    """The final response, and what it says about the object. `notes`: declared checksums that cannot be used, and why.
    `resumed`: it is the requested version, and only its spans follow; otherwise the whole object does. `declared`: the
    checksums to verify it against, in canonical text, each with its source: "caller" or a header."""

    head: ResponseHead
    version: Version
    ranged: bool = False
    notes: tuple[str, ...] = ()
    resumed: bool = False
    declared: tuple[tuple[str, str], ...] = ()
    # It waits for PLACE: its bytes go there, and no PART comes.
    placed: bool = False

    @property
    def size(self) -> int | None:
        """Bytes of the representation; None where only its end shows it."""
        return self.version.size


class EndInfo(Record, frozen=True):
    """Every requested byte of an object of `total` bytes was delivered. `head`: where no HEAD came before."""

    total: int
    verdict: Verdict
    stats: Stats
    head: HeadInfo | None = None


class NoteInfo(Record, frozen=True):
    """A retry: `message` says what failed, `reason` the same in a few words and `cause` in one
    (`getm.core.retry.short_reason`, `cause`), `attempt` counts the failures in a row without progress, of `attempts`
    that are retried (0: that is not counted), and `delay_s` is the pause. With an `attempt` of 0 nothing has failed:
    the host limits requests, and this one waits for its turn."""

    cause: str
    attempt: int
    delay_s: float
    message: str
    reason: str = ""
    attempts: int = 0

    def line(self, url: str) -> str:
        """It, as a line of the log."""
        if not self.attempt:
            return f"{url}: {self.message}; waiting {self.delay_s:.1f} s"
        return f"retry {self.attempt} of {url} in {self.delay_s:.1f} s ({self.cause}): {self.message}"


class AdaptedInfo(Record, frozen=True):
    """The object comes over `connections` connections from now on; `reason`: why, in a few words."""

    connections: int
    reason: str


class FailedInfo(Record, frozen=True):
    """A `getm.errors` error as its code and plain fields, and the statistics."""

    code: str
    message: str
    url: str | None
    fields: dict[str, str | int | float | bool | None]
    stats: Stats

    @classmethod
    def of(cls, error: errors.GetmError, stats: Stats) -> FailedInfo:
        """It can be encoded whatever the error contains: nothing else would end the transfer."""
        url = None if error.url is None else encodable(error.url)
        fields = {name: plain(value) for name, value in error.fields().items()}
        return cls(error.code, encodable(error.message), url, fields, stats)

    def error(self) -> errors.GetmError:
        return errors.from_wire(self.code, self.message, self.url, self.fields, self.stats)


class ServeRequest(Record, frozen=True):
    """Serve a pipe over a segment: descriptors come as ancillary data in the order pipe, segment (unless
    `segment_token` names memory of this same process), then one pipe for each helper engine. With several concurrent
    range requests for an object, each is for `part_slots` slots."""

    slot_bytes: int
    slots: int
    part_slots: int
    segment_bytes: int
    segment_token: int | None
    helpers: int
    limit_rate: float | None  # bytes a second over all that the engine receives; the same in each of its SERVEs


FROM_CONSUMER = frozenset(
    {
        Kind.OPEN,
        Kind.SPAN,
        Kind.GRANT,
        Kind.WRITE,
        Kind.PLACE,
        Kind.CANCEL,
        Kind.HEDGE,
        Kind.MORE,
        Kind.RENEWED,
    }
)
ON_CONTROL = frozenset({Kind.SERVE, Kind.STOP})
FROM_ENGINE = frozenset(
    {
        Kind.HEAD,
        Kind.PREFIX,
        Kind.PART,
        Kind.ONLY,
        Kind.RETURN,
        Kind.WRITTEN,
        Kind.NOTE,
        Kind.EXPIRED,
        Kind.ADAPTED,
        Kind.END,
        Kind.FAILED,
    }
)


def plain(value: Any) -> str | int | float | bool | None:
    """A field value for `FailedInfo`."""
    return value if value is None or isinstance(value, int | float | bool) else encodable(str(value))
