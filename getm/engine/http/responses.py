"""What a response must be, so that its bytes may stand where they are put."""

from __future__ import annotations

from msgspec import Struct

from getm import errors
from getm.core.head import Head, HeadError
from getm.core.proxy import Proxy
from getm.core.redact import redact
from getm.core.spans import Span

# The whole object (RFC 9110, sections 15.3.1 and 15.3.4). No other status is: not even 202, which promises one.
WHOLE = frozenset({200, 203})

_ADVICE = {
    304: "; leave out If-None-Match and If-Modified-Since: nothing is kept here that the server could refer to",
    202: "; the server is still preparing it: try again later",
}


def refusal(
    head: Head, wanted: Span | None, if_range: str | None, *, answered: bool = False, proxy: Proxy | None = None
) -> errors.HTTPStatusError | None:
    """The error of a response that brings nothing of the object; None where it brings the whole, or answers the range
    that was `wanted` (206, 416) or the condition `if_range` (412). `answered`: the same request was answered before.
    `proxy`: what it came through, and may come from."""
    status, advice = head.status, _ADVICE.get(head.status, "")
    if status in WHOLE or (wanted is not None and status in (206, 416)) or (if_range is not None and status == 412):
        return None
    if status == 206:
        if _covers_all(head):
            return None
        covers = head.get("content-range") or "no Content-Range"
        advice = f" to a request without Range, with {covers}: expected 200 and the whole object"
    kind: type[errors.HTTPStatusError] = errors.HTTPStatusError
    if answered and if_range is not None and status in (401, 403):
        # The same request was answered before: what changed is the time.
        kind, advice = errors.URLExpired, "; the URL has probably expired: ask its issuer for a new one"
    elif status < 400 and status != 206:
        advice = f", which is not the object: expected 200{advice}"
    told = f"the server answered {status} {head.reason}".rstrip() + ("" if proxy is None else f" through {proxy}")
    return kind(f"{told}{advice}", url=redact(head.url), status=status, reason=head.reason)


def _covers_all(head: Head) -> bool:
    found = head.content_range()
    if found is None or found.span is None or found.total is None or len(found.span) != found.total:
        return False
    try:
        return head.is_chunked() or head.content_length() in (None, found.total)
    except HeadError:
        return False


class Identity(Struct, frozen=True):
    """What every further response must agree with, so that bytes of two versions are never joined."""

    total: int
    etag: str | None
    last_modified: str | None
    if_range: str

    @classmethod
    def of(cls, head: Head, total: int | None) -> Identity | None:
        """That of the object in `head`; None where nothing would show that two responses are of one version."""
        if_range = head.strong_validator()
        if total is None or if_range is None:
            return None
        return cls(total, head.get("etag"), head.get("last-modified"), if_range)

    def check(self, head: Head, total: int | None) -> None:
        """Raises `RemoteChanged` where `head` is of another version of the object."""
        theirs = head.validator()
        for name, ours, other in (
            ("size", str(self.total), None if total is None else str(total)),
            ("ETag", self.etag, theirs.etag),
            ("Last-Modified", self.last_modified, theirs.last_modified),
        ):
            if ours is not None and other is not None and ours != other:
                raise errors.RemoteChanged(
                    f"the object was replaced while it was read: its {name} was {ours} and is now {other}; "
                    "read it again",
                    url=redact(head.url),
                    expected=ours,
                    actual=other,
                )


def agreed(identity: Identity | None, head: Head, wanted: Span, total: int) -> tuple[Span, Identity]:
    """The span of an answer to a request for `wanted` of an object of `total` bytes, and the identity of that object.

    `identity` None: where this answer comes from has not told yet what it has. Raises `RemoteChanged` where it is of
    another object, `BadResponse` where it cannot be used.
    """
    if identity is not None and head.status in WHOLE:
        # By If-Range, a full response means another version; the same one means Range is ignored now.
        identity.check(head, content_length(head))
    if head.status == 412:
        raise errors.RemoteChanged(
            "the object was replaced while it was read: the server answered 412; read it again", url=redact(head.url)
        )
    found, theirs = covered(head, wanted)
    identity = identity or Identity.of(head, theirs)
    if identity is None:
        raise errors.BadResponse(
            "a 206 without a size and a strong validator: its bytes cannot be joined to others", url=redact(head.url)
        )
    identity.check(head, theirs)
    if identity.total != total:
        raise errors.RemoteChanged(
            f"a mirror has another object: expected {total} bytes, it has {identity.total}",
            url=redact(head.url),
            expected=str(total),
            actual=str(identity.total),
        )
    return found, identity


def require_size(expected: int | None, head: Head) -> None:
    """Raises `SizeMismatch` where `head` tells another size of the object than `expected`; None: any will do."""
    if expected is None:
        return
    if head.status in (206, 416):
        found = head.content_range()
        actual = None if found is None else found.total
    else:
        actual = content_length(head) if head.status in WHOLE else None
    if actual is not None and actual != expected:
        raise errors.SizeMismatch.of(expected, actual, redact(head.url))


def content_length(head: Head) -> int | None:
    """The length of a response's content in bytes, None where only its end tells."""
    if head.is_chunked():
        return None
    try:
        return head.content_length()
    except HeadError as error:
        raise errors.BadResponse(f"{error}", url=redact(head.url)) from None


def covered(head: Head, wanted: Span) -> tuple[Span, int | None]:
    """The span and total of a 206 to a request for `wanted`: it must start there and go no further."""
    if head.status != 206:
        raise errors.BadResponse(
            f"expected 206 for bytes {wanted.start} to {wanted.stop}, got {head.status}", url=redact(head.url)
        )
    found = head.content_range()
    if found is None or found.span is None:
        raise errors.BadResponse(
            f"a 206 without one valid Content-Range: {head.get('content-range')!r}", url=redact(head.url)
        )
    length = content_length(head)
    if found.span.start != wanted.start or found.span.stop > wanted.stop or length not in (None, len(found.span)):
        raise errors.BadResponse(
            f"asked for bytes {wanted.start} to {wanted.stop}, got {found.span.start} to {found.span.stop} "
            f"with a Content-Length of {length}",
            url=redact(head.url),
        )
    return found.span, found.total
