"""Whether to try again, and when: decided here without I/O, acted on by the engine."""

from __future__ import annotations

from dataclasses import dataclass

from getm import errors

# Statuses that say "not now" rather than "no" (RFC 9110, section 15; 429: RFC 6585).
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
# A wrong certificate, a replaced object or a refused redirect is the same the next time.
# Beyond this many every backoff is at its cap.
_MAX_DOUBLINGS = 30
_FINAL = (errors.TLSFailed, errors.RemoteChanged, errors.RedirectError)


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay_s` seconds."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Fail:
    """Give up: the failure goes to the caller."""


Verdict = Retry | Fail


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`retries` further attempts without progress; full-jitter exponential backoff between `base_s` and `cap_s`
    seconds (the AWS architecture blog's "full jitter"); a server's Retry-After is honoured up to `cap_s`."""

    retries: int = 5
    base_s: float = 0.5
    cap_s: float = 30.0

    def decide(
        self, failure: errors.GetmError, attempt: int, *, jitter: float, retry_after_s: float | None = None
    ) -> Verdict:
        """`attempt` counts the failures in a row without progress, this one included (so from 1);
        `jitter` is a random number from 0 to 1."""
        if attempt > self.retries or not is_transient(failure):
            return Fail()
        if retry_after_s is not None:
            return Retry(min(retry_after_s, self.cap_s))
        # The first retry comes at once: the usual cause is a kept-alive connection that the server had closed.
        if attempt == 1 and not isinstance(failure, errors.HTTPStatusError):
            return Retry(0.0)
        return Retry(jitter * min(self.cap_s, self.base_s * 2 ** min(attempt - 1, _MAX_DOUBLINGS)))


def is_transient(failure: errors.GetmError) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(failure, errors.HTTPStatusError):
        return failure.status in _TRANSIENT
    return isinstance(failure, errors.NetworkError) and not isinstance(failure, _FINAL)
