"""What a server says of an object, without its bytes."""

from __future__ import annotations

from contextlib import suppress

from getm import errors
from getm.core.spans import Span
from getm.engine.attempts import Attempts, Failed
from getm.engine.http.requests import Response
from getm.engine.http.responses import WHOLE, content_length, covered, refusal
from getm.engine.sources import Source
from getm.integrity.declared.discover import discover
from getm.protocol.messages import HeadInfo

# The object is not there, and a GET would say the same.
_ABSENT = frozenset({404, 410})
_FIRST_BYTE = Span(0, 1)


async def fetch_head(attempts: Attempts) -> HeadInfo:
    """The head of the object by a HEAD request; or, where that is refused or does not tell the size, by a GET of the
    first byte: URLs that are signed for GET refuse HEAD, and some servers do not know it. Raises as `Attempts.run`."""
    head_came: Response | None = None
    tries_head = True

    async def attempt(source: Source) -> HeadInfo:
        nonlocal tries_head, head_came
        if tries_head:
            # Once: a server that closes the connection to it, or fails, would do so again.
            tries_head = False
            with suppress(errors.Truncated, errors.BadResponse):
                response = await attempts.head(source)
                status = response.head.status
                if status in _ABSENT and (error := refusal(response.head, None, None, proxy=response.proxy)):
                    raise Failed(error)
                if status in WHOLE:
                    head_came = response
                    if (size := content_length(response.head)) is not None:
                        return _info(response, size, by_head=True)
        try:
            response, size = await _first_byte(attempts, source)
        except Failed:
            # It has answered the HEAD, and makes no representation for a GET: what it says is all there is.
            if head_came is None:
                raise
            return _info(head_came, None, by_head=True)
        return _info(response, size, by_head=False)

    return await attempts.run(attempts.sources.living[0], attempt)


async def _first_byte(attempts: Attempts, source: Source) -> tuple[Response, int | None]:
    """The response to a GET of the first byte, and the size that it tells."""
    response = await attempts.get(source, _FIRST_BYTE, None, may_skip=True)
    # It keeps the connection where the server sends no more than it was asked for.
    await response.discard()
    head = response.head
    if head.status in WHOLE:
        return response, content_length(head)
    found = head.content_range()
    if head.status == 416:
        # Nothing has no first byte (RFC 9110, section 15.5.17).
        return response, 0 if found is not None and found.total == 0 else None
    return response, covered(head, _FIRST_BYTE)[1]


def _info(response: Response, size: int | None, *, by_head: bool) -> HeadInfo:
    found = discover([*response.redirects, response.head], size=size)
    # In the answer to a HEAD, it is the digest of no content (RFC 9530, appendix B.2).
    declared = [each for each in found.declared if not (by_head and each.source == "Content-Digest")]
    texts = tuple([(str(each.checksum), each.source) for each in declared])
    ranged = response.head.status == 206
    return HeadInfo(response.head, response.head.version(size), ranged=ranged, notes=found.notes, declared=texts)
