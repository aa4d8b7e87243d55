"""The error tree: everything getm raises on purpose.

Each error carries plain fields, so that it can cross the pipe from an engine as a code and those fields (never
pickled; `from_wire` rebuilds it) and so that a program can act on it without reading the message. Every message says
what was expected, what came, and what to do. URLs in errors have no query string and no userinfo: signed URLs keep
their secrets.
"""

from __future__ import annotations

import errno
import io
from typing import TYPE_CHECKING, Any, ClassVar, Self

from getm.core.stats import Stats

if TYPE_CHECKING:
    from getm.core.json_form import Json

Field = str | int | float | bool | None

_BY_CODE: dict[str, type[GetmError]] = {}


class GetmError(Exception):
    """Base of all getm errors.

    `message` is the sentence for people; `url` is redacted (no query, no userinfo) or None where no URL is concerned.
    Further fields are the attributes that each class declares, listed in its `FIELDS`. `stats`: the statistics of
    the failed transfer; None where there was none.
    """

    code: ClassVar[str] = "getm"
    FIELDS: ClassVar[tuple[str, ...]] = ()
    stats: Stats | None = None

    def __init_subclass__(cls) -> None:
        cls.FIELDS = (*cls.FIELDS, *cls.__annotations__)
        # A subclass elsewhere crosses the pipe as the first one of its code.
        _BY_CODE.setdefault(cls.code, cls)

    def __init__(self, message: str, *, url: str | None = None, **fields: Field) -> None:
        unknown = set(fields) - set(self.FIELDS)
        if unknown:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        super().__init__(message)
        self.message = message
        self.url = url
        for name in self.FIELDS:
            setattr(self, name, fields.get(name))

    def __str__(self) -> str:
        return f"{self.message} [{self.url}]" if self.url else self.message

    def fields(self) -> dict[str, Field]:
        """The plain fields beside `message` and `url`."""
        return {name: getattr(self, name) for name in self.FIELDS}

    def to_json(self) -> dict[str, Json]:
        """What is known of it, as on standard error: "message", "error" (its code), "url" (redacted) and its fields,
        without those that are not known. The status of the server is "status_code"."""
        facts: dict[str, Json] = {"message": self.message, "error": self.code, "url": self.url, **self.fields()}
        if isinstance(self, HTTPStatusError | URLExpired):
            facts["status_code"] = facts.pop("status")
        return {name: value for name, value in facts.items() if value is not None}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.url, self.fields(), self.stats)


class InvalidInput(GetmError, ValueError):
    """A URL, option, checksum or manifest that cannot be used; raised before any request is made."""

    code = "invalid-input"


class NothingFound(GetmError, LookupError):
    """A pattern or a prefix, for which the listing has no object."""

    code = "nothing-found"


class MissingExtra(GetmError, ImportError):
    """A feature needs a package that is not installed; the message names the extra to install."""

    code = "missing-extra"


# What a server or the network did ------------------------------------------------------------------------------------


class NetworkError(GetmError, OSError):
    """The bytes could not be had: connection, TLS, time or protocol. `attempts` counts the requests made."""

    code = "network"
    attempts: int | None


class ConnectFailed(NetworkError, ConnectionError):
    """No connection: name not resolved, refused, unreachable. `reason`: that in a few words."""

    code = "connect"
    reason: str | None


class HostNotFound(ConnectFailed):
    """The host's name does not exist. Never retried; a failure of the resolver is a plain `ConnectFailed`."""

    code = "host-not-found"


class ProxyRefused(ConnectFailed):
    """The proxy answered in the place of the server: `status` and its `reason` phrase. Retried like such a status of a
    server: 401, 403 and 407 are final."""

    code = "proxy"
    status: int


class TLSFailed(NetworkError):
    """The TLS handshake or the server's certificate failed. Never retried: a wrong certificate stays wrong. A
    connection that ends within the handshake is a `ConnectFailed`."""

    code = "tls"


class TimedOut(NetworkError, TimeoutError):
    """Nothing came for too long, or not all of it: `phase` is "connect", "response" (no head came), "body" (silence
    within it), "pace" (slower than the floor) or "total", `timeout_s` the limit in seconds."""

    code = "timeout"
    phase: str
    timeout_s: float


class Truncated(NetworkError):
    """The connection ended before the promised length: `expected` and `received` in bytes."""

    code = "truncated"
    expected: int | None
    received: int


class BadResponse(NetworkError):
    """The response breaks HTTP, or answers another question than the one asked."""

    code = "bad-response"


class NotSeekable(GetmError, io.UnsupportedOperation):
    """Only reading on is possible here: the server does not grant range requests, or nothing would show that two
    responses are of one version. The message says why, and what to do instead."""

    code = "not-seekable"


class RangesRefused(BadResponse):
    """The server granted range requests and then stopped to: what is missing cannot be asked for by itself."""

    code = "ranges-refused"


class HTTPStatusError(NetworkError):
    """The server answered with a status that is not the object: `status` and its `reason` phrase. Only 200, 203, or
    a 206 that covers all of it are; a 202, a 204 or a 304 is an error like a 404."""

    code = "status"
    status: int
    reason: str | None


class URLExpired(NetworkError):
    """A signed URL has expired; ask its issuer for a new one. `status` and its `reason` phrase: how the server refused
    it; None where nothing was requested, since the clock alone said so. `expired_at`: since when, in UTC (RFC 3339);
    None where that is unknown. Never retried."""

    code = "url-expired"
    status: int | None
    reason: str | None
    expired_at: str | None


class ResolveFailed(NetworkError):
    """There is no URL to request: a provider or a resolver failed, with its exception as `__cause__`, or took too long,
    or returned what is no URL. Never retried."""

    code = "resolve"


class RedirectError(NetworkError):
    """A redirect that is not followed: too many, a loop, https to http, a scheme that is not http(s), no Location."""

    code = "redirect"


class RemoteChanged(NetworkError):
    """The object was replaced while it was read: its validator or its size differ between responses."""

    code = "remote-changed"
    expected: str | None
    actual: str | None


# What the bytes turned out to be -------------------------------------------------------------------------------------


class IntegrityError(GetmError):
    """The bytes are not known to be right."""

    code = "integrity"


class FormatError(GetmError, ValueError):
    """A file is not what its format demands; `name`: what in it is wrong, such as a tensor. Nothing of it was used."""

    code = "format"
    name: str | None


class ChecksumMismatch(IntegrityError):
    """The bytes differ from what was declared: `algorithm`, `expected`, `actual` (canonical text), and `source`:
    "caller" or the response header that declared it."""

    code = "checksum-mismatch"
    algorithm: str
    expected: str
    actual: str
    source: str


class SizeMismatch(IntegrityError):
    """The object has another size than its entry in a list says, or is larger than the buffer for it: `expected` and
    `actual` in bytes."""

    code = "size-mismatch"
    expected: int
    actual: int

    @classmethod
    def of(cls, expected: int, actual: int, url: str) -> SizeMismatch:
        """The error to raise; `url` is redacted already."""
        return cls(
            f"expected {expected:,} bytes, as the list says, and the server has {actual:,}: one of them is out of "
            "date; mend the list, or leave the size out",
            url=url,
            expected=expected,
            actual=actual,
        )


class Unverified(IntegrityError):
    """`strict` was asked for and nothing verified the bytes; `reason` says why."""

    code = "unverified"
    reason: str


# What happened on this side ------------------------------------------------------------------------------------------


class ReaderClosed(GetmError, ValueError):
    """Used after `close()`. (A `ValueError` too, as `io` objects raise.)"""

    code = "closed"


class ReaderBusy(GetmError, RuntimeError):
    """Used by a second thread or task while a first one reads from it. (A `RuntimeError`, as generators raise.)"""

    code = "busy"


class Cancelled(GetmError):
    """The transfer was cancelled by this side before its end."""

    code = "cancelled"


class EngineDied(GetmError):
    """The background process is gone: `exit_status` as `subprocess.Popen.returncode` gives it (negative: a signal)."""

    code = "engine-died"
    exit_status: int | None


class WorkerLost(GetmError):
    """A worker of an executor is gone, with the downloads that it had."""

    code = "worker-lost"


class ProtocolError(GetmError):
    """A message on an engine's pipe that may not come there: a bug in getm, or processes of different versions."""

    code = "protocol"


class SlotsExhausted(GetmError):
    """Every slot of the ring is held by views that the caller keeps: `slots` of `slot_bytes` bytes each."""

    code = "slots-exhausted"
    slots: int
    slot_bytes: int


class DescriptorsExhausted(GetmError, OSError):
    """No file descriptor was left, in this process or in the engine's: raise the limit (`ulimit -n`), or do less at
    once."""

    code = "descriptors"

    @classmethod
    def found(cls, error: Exception, where: str = "this process", url: str | None = None) -> Self | None:
        """The error to raise where `error` says that there are too many: in `where`, in the system, or on their way
        between two processes."""
        too_many = isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ETOOMANYREFS)
        return cls.of(where, url) if too_many else None

    @classmethod
    def of(cls, where: str, url: str | None = None) -> Self:
        """The error to raise; `where`: the process that has none left."""
        advice = "raise the limit (ulimit -n), close readers, or do less at once"
        return cls(f"no file descriptor is left in {where}: {advice}", url=url)


class MemoryUnavailable(GetmError, MemoryError):
    """Memory could not be allocated: `wanted` and `available` in bytes; None where it is not known."""

    code = "memory"
    wanted: int | None
    available: int | None


class TargetError(GetmError):
    """The target file cannot be written: name, permissions, space, or another process at work on it. `errno`: the
    number of the system's error, where it is one."""

    code = "target"
    path: str
    errno: int | None


class CommandFailed(GetmError):
    """A command that was to be run for a file failed, which is in place: `path`; `exit_status` as
    `subprocess.Popen.returncode` gives it, None where it could not be started. Only the command `getm` raises it."""

    code = "command"
    path: str
    exit_status: int | None


def _rebuild(
    cls: type[GetmError], message: str, url: str | None, fields: dict[str, Field], stats: Stats | None
) -> GetmError:
    error = cls(message, url=url, **fields)
    error.stats = stats
    return error


def from_wire(
    code: str, message: str, url: str | None, fields: dict[str, Field], stats: Stats | None = None
) -> GetmError:
    """Rebuild an error from what travelled on the pipe. An unknown code becomes the base class, never a crash."""
    cls = _BY_CODE.get(code, GetmError)
    return _rebuild(cls, message, url, {name: value for name, value in fields.items() if name in cls.FIELDS}, stats)
