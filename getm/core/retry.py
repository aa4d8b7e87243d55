"""Whether to retry, and when: decided here without I/O; the engine acts on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct
from msgspec.structs import force_setattr, replace

from getm import errors
from getm.core.validate import refuse, validate_integer, validate_number
from getm.core.version import Version

# Statuses that say "not now" rather than "no": RFC 9110, section 15; 425: RFC 8470; 429: RFC 6585. 509: bandwidth limit
# exceeded (cPanel); 520 to 524: Cloudflare cannot reach the origin; 529: the site is overloaded.
TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524, 529})
# Statuses by which a host allows no more requests at a time, or none so soon (RFC 6585, section 4; RFC 9110, section
# 15.6.4).
TOO_MANY_STATUSES = frozenset({429, 503})
# A name that does not exist, a wrong certificate, an expired URL, a replaced object or a refused redirect is the same
# the next time.
_FINAL = (
    errors.HostNotFound,
    errors.TLSFailed,
    errors.URLExpired,
    errors.ResolveFailed,
    errors.RemoteChanged,
    errors.RedirectError,
    errors.RangesRefused,
)
# Beyond this many every backoff is at its cap.
_MAX_DOUBLINGS = 30
_MAX_ATTEMPTS = 1_000_000

SLOW_TAIL = "slow tail"
PACED = "paced"
_CAUSES: tuple[tuple[type[errors.GetmError], str], ...] = (
    (errors.ConnectFailed, "connect"),
    (errors.TLSFailed, "tls"),
    (errors.Truncated, "truncation"),
    (errors.HTTPStatusError, "status"),
    (errors.URLExpired, "status"),
    (errors.ResolveFailed, "resolve"),
    (errors.RemoteChanged, "changed"),
    (errors.RedirectError, "redirect"),
    (errors.BadResponse, "bad response"),
)
_CAUSE_OF_TIMEOUT = {"connect": "connect", "response": "stall", "body": "stall", "pace": "slow", "total": "deadline"}


class Retry(Struct, frozen=True):
    """Retry after `delay_s` seconds."""

    delay_s: float


class Fail(Struct, frozen=True):
    """Give up: the failure goes to the caller. `late`: only because the deadline comes before the retry."""

    late: bool = False


Verdict = Retry | Fail


class Retries(Struct, frozen=True):
    """How often and how soon requests with transient failures are retried.

    The first retry after a broken connection is immediate: the usual cause is a kept-alive connection that the server
    had closed. The others wait a random time of up to `base_s`, doubled with each attempt up to `cap_s` (the "full
    jitter" of the AWS architecture blog, "Exponential Backoff And Jitter").

    Example:
        >>> getm.Retries(attempts=10, base_s=1, cap_s=60)

    Args:
        attempts: Further attempts in a row, each without progress (64 KiB of new bytes); 0 for none.
        base_s: The longest first pause, in seconds.
        cap_s: The longest pause, in seconds. A server's Retry-After is honoured up to this.
        statuses: HTTP statuses after which the request is made again. Other statuses are final.

    Raises:
        InvalidInput: A field is not a number, or is negative; a status is not a number from 100 to 999.
    """

    attempts: int = 5
    base_s: float = 0.5
    cap_s: float = 30.0
    statuses: frozenset[int] = TRANSIENT_STATUSES

    def __post_init__(self) -> None:
        force_setattr(self, "attempts", validate_integer(self.attempts, "retries: attempts", 0, _MAX_ATTEMPTS))
        for name in ("base_s", "cap_s"):
            force_setattr(self, name, validate_number(getattr(self, name), f"retries: {name}", "seconds", 0))
        statuses: Any = self.statuses
        if isinstance(statuses, str | bytes) or not isinstance(statuses, Iterable):
            refuse("retries: statuses", "several HTTP statuses, such as {429, 503}", statuses)
        force_setattr(
            self, "statuses", frozenset([validate_integer(each, "retries: a status", 100, 999) for each in statuses])
        )

    @classmethod
    def of(cls, value: int | Retries | None, default: Retries) -> Retries:
        """A number means that many `attempts`. Raises `InvalidInput` for what cannot be used."""
        if value is None:
            return default
        if isinstance(value, Retries):
            return value
        attempts = validate_integer(value, "retries", 0, _MAX_ATTEMPTS, none=" or a getm.Retries")
        return replace(default, attempts=attempts)

    def decide(
        self,
        failure: errors.GetmError,
        attempt: int,
        *,
        jitter: float,
        retry_after_s: float | None = None,
        left_s: float | None = None,
    ) -> Verdict:
        """`attempt` counts the failures in a row without progress, this one included (so from 1); `jitter` is a random
        number from 0 to 1; `left_s`: seconds until the deadline; None where there is none."""
        if attempt > self.attempts or not is_transient(failure, self.statuses):
            return Fail()
        delay_s = self._delay_s(failure, attempt, jitter, retry_after_s)
        # Waiting for an attempt that can no longer be made helps nobody.
        return Fail(late=True) if left_s is not None and delay_s >= left_s else Retry(delay_s)

    def _delay_s(self, failure: errors.GetmError, attempt: int, jitter: float, retry_after_s: float | None) -> float:
        if retry_after_s is not None:
            return min(retry_after_s, self.cap_s)
        if attempt == 1 and not isinstance(failure, errors.HTTPStatusError):
            return 0.0
        return jitter * min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS))


def is_transient(failure: errors.GetmError, statuses: frozenset[int] = TRANSIENT_STATUSES) -> bool:
    """Whether the same request may succeed later. `statuses`: the transient ones."""
    if isinstance(failure, errors.HTTPStatusError | errors.ProxyRefused):
        return failure.status in statuses
    return isinstance(failure, errors.NetworkError) and not isinstance(failure, _FINAL)


def is_refusal(failure: errors.GetmError) -> bool:
    """Whether the host may only allow no further connection while others are open. Of a request that has brought
    nothing."""
    if isinstance(failure, errors.HTTPStatusError):
        return failure.status in TOO_MANY_STATUSES
    # A response that breaks HTTP is none for the want of a connection.
    return is_transient(failure) and not isinstance(failure, errors.BadResponse)


def cannot_be_joined(failure: errors.GetmError, version: Version, statuses: frozenset[int]) -> bool:
    """Whether a connection broke within an object of which no later response can bring just the rest (RFC 9110, section
    13.1.5): who has given nothing of it away can start over."""
    if isinstance(failure, errors.HTTPStatusError) or version.joinable:
        return False
    late = isinstance(failure, errors.TimedOut) and failure.phase == "total"
    return not late and is_transient(failure, statuses)


def cause(failure: errors.GetmError) -> str:
    """The kind of failure in a word: "connect", "tls", "reset" (the connection broke), "truncation" (it ended too
    soon), "stall" (silence), "slow" (a pace below the floor), "deadline", "status", "changed", "redirect", "bad
    response"; for what the network did not do, the error's code."""
    if isinstance(failure, errors.TimedOut):
        return _CAUSE_OF_TIMEOUT.get(failure.phase, "stall")
    for kind, name in _CAUSES:
        if isinstance(failure, kind):
            return name
    return "reset" if isinstance(failure, errors.NetworkError) else failure.code


def short_reason(failure: errors.GetmError) -> str:
    """Why it failed, in a few words, for a line of which most is something else: "503 Service Unavailable"."""
    match failure:
        case errors.HTTPStatusError() | errors.ProxyRefused():
            return f"{failure.status} {failure.reason or ''}".rstrip()
        case errors.ConnectFailed():
            return failure.reason or "no connection"
        case errors.TimedOut(phase="connect"):
            return f"no connection within {failure.timeout_s:g} s"
        case errors.TimedOut(phase="pace"):
            return "too slow"
        case errors.TimedOut():
            return f"no answer for {failure.timeout_s:g} s"
        case errors.Truncated():
            return "cut off"
        case errors.BadResponse():
            return "a broken response"
        case errors.RemoteChanged():
            return "replaced meanwhile"
        case errors.NetworkError():
            return "the connection broke"
    return failure.code.replace("-", " ")
