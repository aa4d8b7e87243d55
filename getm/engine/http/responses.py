"""What a response must be, so that its bytes may be used for a request."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus

from getm import errors
from getm.core.head import HeadError, ResponseHead
from getm.core.lazy import importing
from getm.core.proxy import Proxy
from getm.core.redact import redact
from getm.core.signed_url import find_signature, utc_text
from getm.core.spans import Span
from getm.engine.http.request_head import HeaderFields

# The whole object (RFC 9110, sections 15.3.1 and 15.3.4). No other status is: not even 202, which promises one.
WHOLE = frozenset({200, 203})

# The statuses by which a signed URL is refused: S3 and Google Cloud Storage answer 400 where a token has expired.
REFUSED = frozenset({400, 401, 403})

_ADVICE = {
    401: "; give credentials: an Authorization header, or netrc",
    304: "; leave out If-None-Match and If-Modified-Since: nothing is kept here that the server could refer to",
    202: "; the server is still preparing it: try again later",
}


def refusal(
    head: ResponseHead,
    wanted: Span | None,
    if_range: str | None,
    *,
    answered: bool = False,
    proxy: Proxy | None = None,
    content: bytes = b"",
    headers: HeaderFields = (),
    redirected: bool = False,
) -> errors.HTTPStatusError | errors.URLExpired | None:
    """The error of a response that brings nothing of the object; None where it brings the whole, or answers the range
    that was `wanted` (206, 416) or the condition `if_range` (412). `answered`: the same request was answered before.
    `proxy`: the one that it came through, and may come from. `content`: what was read of it; `headers` are those that
    were sent. `redirected`: the caller gave another URL."""
    status, advice = head.status, _ADVICE.get(head.status, "")
    if status in WHOLE or (wanted is not None and status in (206, 416)) or (if_range is not None and status == 412):
        return None
    if status == 206:
        if covers_all(head):
            return None
        covers = head.get("content-range") or "no Content-Range"
        advice = f" to a request without Range, with {covers}: expected 200 and the whole object"
    elif status < 400:
        advice = f", which is not the object: expected 200{advice}"
    elif status == 404 and "*" in redact(head.url):
        advice = f"{advice}; in a URL * is a wildcard only with -r (or Entry(expand=True))"
    reason = head.reason
    if reason and reason != _phrase(status):
        with importing:
            # Few servers say anything else.
            from getm.core.error_content import without_secrets
        reason = without_secrets(reason, head.url, headers)
    answer = f"{status} {reason or _phrase(status)}".rstrip() + ("" if proxy is None else f" through {proxy}")
    said = None
    if content and status >= 400:
        with importing:
            # Most transfers meet no error.
            from getm.core.error_content import read_error_content
        said = read_error_content(content, head.url, headers)
        answer = f"{answer}: {said}".removesuffix(": ")
    if status in REFUSED and (signature := find_signature(head.url)) is not None:
        # By the server's clock, where it says what that is.
        now_s = head.sent_at() or time.time()
        due = signature.expires_s is not None and signature.expires_s <= now_s
        if due or (said is not None and said.expired):
            if redirected:
                advice = "; the server redirects to a URL that has expired: only its operator can mend that"
            else:
                expires_s = signature.expires_s if due else None if said is None else said.expired_s
                return url_expired(head.url, expires_s, answer, status, reason)
    if answered and if_range is not None and status in (401, 403):
        # The same request was answered before: what changed is the time.
        message = f"this URL has probably expired; get a new one ({answer})"
        return errors.URLExpired(message, url=redact(head.url), status=status, reason=reason)
    return errors.HTTPStatusError(f"{answer}{advice}", url=redact(head.url), status=status, reason=reason)


def url_expired(
    url: str, expires_s: float | None, why: str, status: int | None = None, reason: str | None = None
) -> errors.URLExpired:
    """The error for a signed URL that expired at that time, in seconds since the epoch; None: at some time before."""
    when = "has expired" if expires_s is None else f"expired {utc_text(expires_s)}"
    at = None if expires_s is None else f"{datetime.fromtimestamp(expires_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
    message = f"this URL {when}; get a new one ({why})"
    return errors.URLExpired(message, url=redact(url), status=status, reason=reason, expired_at=at)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def covers_all(head: ResponseHead) -> bool:
    """Whether a 206 brings the whole object, as a 200 would."""
    found = head.content_range()
    if found is None or found.span is None or len(found.span) != found.total:
        return False
    try:
        return content_length(head) in (None, found.total)
    except errors.BadResponse:
        return False


def wrong_size(expected: int | None, head: ResponseHead) -> errors.SizeMismatch | None:
    """The error where `head` declares another size of the object than `expected`; None: any size."""
    if expected is None:
        return None
    found = head.content_range() if head.status in (206, 416) else None
    actual = found.total if found is not None else content_length(head) if head.status in WHOLE else None
    return None if actual in (None, expected) else errors.SizeMismatch.of(expected, actual or 0, redact(head.url))


def content_length(head: ResponseHead) -> int | None:
    """The length of a response's content in bytes; None where only its end shows it."""
    if head.is_chunked():
        return None
    try:
        return head.content_length()
    except HeadError as error:
        raise errors.BadResponse(f"{error}", url=redact(head.url)) from None


def covered(head: ResponseHead, wanted: Span) -> tuple[Span, int | None]:
    """The span and total of a 206 to a request for `wanted`: it must start there and go no further."""
    bad = partial(errors.BadResponse, url=redact(head.url))
    if head.status != 206:
        raise bad(f"expected 206 for bytes {wanted.start} to {wanted.stop}, got {head.status}")
    found = head.content_range()
    if found is None or found.span is None:
        raise bad(f"a 206 without one valid Content-Range: {head.get('content-range')!r}")
    length = content_length(head)
    if found.span.start != wanted.start or found.span.stop > wanted.stop or length not in (None, len(found.span)):
        raise bad(
            f"asked for bytes {wanted.start} to {wanted.stop}, got {found.span.start} to {found.span.stop} "
            f"with a Content-Length of {length}"
        )
    return found.span, found.total
