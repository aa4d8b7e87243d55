"""Which requests bring an object: decided from the order and the first response, without I/O.

An order names spans of an object, and the version that they must be of where that is known:

- the whole object is one span without an end;
- a resume is the spans that are missing of a version, or the whole of another one where that has been replaced;
- spans of a version, or of whichever there is: then the first response has the version that all must be of.

Spans are cut into pieces, of which the first response brings the first. With one request at a time, a piece is a whole
span. Where spans cannot be had by requests of their own, since the server ignores Range or nothing would show that two
responses are of one version, one response brings everything from the first of them to the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from msgspec import Struct
from msgspec.structs import replace

from getm import errors
from getm.core.head import ResponseHead
from getm.core.redact import redact
from getm.core.spans import MAX_POSITION, Span, join, plan_parts, resolve
from getm.core.version import Version
from getm.engine.http.responses import WHOLE, content_length, covered, covers_all

WHOLE_OBJECT = (Span(0, MAX_POSITION),)


class Order(Struct, frozen=True):
    """What was asked for. `or_whole`: where `version` has been replaced, the whole of the other one is wanted.
    `ranged`: whether requests for spans may be made at all. `first_bytes`: of the whole, these come first, and the rest
    is fetched as the consumer asks for it; 0: all comes."""

    spans: tuple[Span, ...]
    version: Version | None
    or_whole: bool
    concurrency: int
    part_bytes: int
    ranged_from: int = 0
    first_bytes: int = 0
    ranged: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether it is for the whole object, of whichever version there is."""
        return self.version is None and self.spans == WHOLE_OBJECT

    def first(self) -> tuple[Span | None, str | None]:
        """The range and the condition of the first request: for the first piece, so that ranges need no further one."""
        if not self.ranged:
            return None, None
        if self.is_whole:
            first_bytes = self.first_bytes or (self.part_bytes if self.concurrency > 1 else 0)
            return Span(0, first_bytes) if first_bytes else None, None
        if self.version is None:
            return next(self.pieces()), None
        # With nothing missing, what follows the end: nothing, if it is still the same.
        return next(self.pieces(), Span(self.version.size or 0, MAX_POSITION)), self.version.strong

    def pieces(self) -> Iterator[Span]:
        """The spans, cut for `concurrency`. Never a list: a server may claim any size."""
        return chain.from_iterable(
            (span,) if span.start < 0 else plan_parts(span, self._piece_bytes) for span in self.spans
        )

    def workers(self, size: int) -> int:
        """How many pieces of an object of `size` bytes are fetched at once."""
        count = sum(-(-len(span) // self._piece_bytes) for span in self.spans)
        return min(count, self.concurrency if size >= self.ranged_from else 1)

    @property
    def _piece_bytes(self) -> int:
        return self.part_bytes if self.concurrency > 1 else MAX_POSITION


class Plan(Struct, frozen=True):
    """What to fetch, by the first response.

    `version`: that all responses must be of. `pieces`: of the object, in order, and `workers` how many of them are
    fetched at once; none where there is nothing to bring. `got`: what the first response brings, from the start of the
    first piece on. `stream`: that is all of the object; if it breaks off, the rest is requested. `resumed`: only what
    was missing comes. `partial`: some spans were asked for, and they are not all of the object. `brings`: which bytes
    come, where that is known. `unchanged`: the caller has the current version, and nothing comes.
    """

    version: Version
    pieces: Iterator[Span]
    workers: int
    got: Span | None
    stream: bool = False
    resumed: bool = False
    partial: bool = False
    brings: tuple[Span, ...] = ()
    unchanged: bool = False


def decide(order: Order, head: ResponseHead) -> Plan | Order:
    """The plan for the order by the response to its first request; an `Order` where that must be requested instead.

    Raises `BadResponse` for a response that cannot be used, `RemoteChanged` where a version was demanded.
    """
    wanted, _ = order.first()
    if head.status == 304:
        # None comes here unless the request had the condition (`Attempts.get`).
        return Plan(head.version(None), iter(()), 0, None, unchanged=True)
    if not (order.is_whole or order.or_whole):
        return _spans(order, wanted, head)
    if head.status in WHOLE or wanted is None:
        return _stream(head, content_length(head))
    found = head.content_range()
    total = None if found is None else found.total
    if order.version is None:
        return _ranged(order, wanted, head, total)
    try:
        return _resumed(order, order.version, wanted, head, total)
    except errors.NetworkError:
        # Another version, or a server that cannot be asked for the rest (RFC 9110, section 14.2: it may ignore Range).
        if not order.or_whole:
            raise
        return replace(order, spans=WHOLE_OBJECT, version=None)


def _stream(head: ResponseHead, size: int | None) -> Plan:
    whole = Span(0, MAX_POSITION if size is None else size)
    return Plan(head.version(size), iter((whole,)), 1, whole, stream=True, brings=() if size is None else (whole,))


def _ranged(order: Order, wanted: Span, head: ResponseHead, total: int | None) -> Plan | Order:
    """The plan by the first part of an object of which nothing was known."""
    one_stream = replace(order, concurrency=1, first_bytes=0)
    if head.status == 416:
        # A 416 to a request from byte 0 on: an empty object, or a wrong server.
        return Plan(head.version(0), iter(()), 0, None, stream=True) if total == 0 else one_stream
    if total is not None and covers_all(head):
        # Range was ignored, or asked for all there is.
        return _stream(head, total)
    version = head.version(total)
    if not version.joinable or version.size is None:
        # Nothing would show that two responses are of one version: they may not be joined.
        return one_stream
    try:
        got = covered(head, wanted)[0]
    except errors.BadResponse:
        # Not what was asked for: what it sends without Range may be right.
        return one_stream
    order = replace(order, spans=(Span(0, version.size),))
    return Plan(version, order.pieces(), order.workers(version.size), got, brings=order.spans)


def _resumed(order: Order, version: Version, wanted: Span, head: ResponseHead, total: int | None) -> Plan:
    """The plan by the first of the missing spans. Raises where the response is not of that version, or not the
    requested span."""
    version.require(head.version(total), redact(head.url))
    workers = order.workers(version.size or 0)
    if head.status == 416 and not workers and total == version.size:
        return Plan(version, iter(()), 0, None, resumed=True)
    if head.status != 206 or not workers:
        raise errors.RemoteChanged(
            f"the object was replaced: its size is not {version.size} any more",
            url=redact(head.url),
            expected=str(version.size),
        )
    return Plan(version, order.pieces(), workers, covered(head, wanted)[0], resumed=True)


def _spans(order: Order, wanted: Span | None, head: ResponseHead) -> Plan | Order:
    """The plan for some spans by the response to the request for `wanted`, the first piece (None: for the whole)."""
    url, demanded = redact(head.url), order.version or Version()
    if head.status == 412:
        raise errors.RemoteChanged("the object was replaced: the server answered 412; read it again", url=url)
    found = head.content_range()
    total = None if found is None else found.total
    if wanted is None or head.status in WHOLE or (head.status == 206 and covers_all(head)):
        return _spans_of_stream(order, wanted, head, total if head.status == 206 else content_length(head))
    if total is None:
        # Neither a suffix nor what is beyond the end can be told; or it is no answer to a request for a range.
        return replace(order, ranged=False)
    version = head.version(total)
    demanded.require(version, url)
    spans = join(resolve(span, total) for span in order.spans)
    if head.status == 416:
        if not spans:
            return Plan(version, iter(()), 0, None, partial=total > 0)
        if resolve(wanted, total) == wanted:
            # It refuses what it says is there: it takes no ranges, and its size may be that of anything.
            return replace(order, ranged=False)
        # Only what is there, if it was not that which was refused.
        return replace(order, spans=spans, version=Version(total), ranged=spans != order.spans)
    if demanded.joinable:
        version = demanded
    try:
        got = covered(head, resolve(wanted, total))[0]
    except errors.BadResponse:
        return replace(order, ranged=False)
    # A suffix comes whole.
    order = replace(order, spans=spans, version=version, concurrency=1 if wanted.start < 0 else order.concurrency)
    if not version.joinable and spans != (got,):
        everything = (Span(spans[0].start, spans[-1].stop),)
        if spans != everything or order.concurrency > 1:
            return replace(order, spans=everything, concurrency=1)
    if spans[0].start != got.start:
        # The end is nearer to the start than the caller knew.
        return order
    partial = spans != (Span(0, total),)
    return Plan(version, order.pieces(), order.workers(total), got, partial=partial, brings=order.spans)


def _spans_of_stream(order: Order, wanted: Span | None, head: ResponseHead, size: int | None) -> Plan | Order:
    """The plan for some spans by a response that brings the whole object of `size` bytes."""
    url, version = redact(head.url), head.version(size)
    if order.version is not None:
        order.version.require(version, url)
    if size is None:
        if order.spans[-1].start < 0:
            raise errors.RangesRefused(
                "the server sends the object without its length and ignores Range, so its last bytes cannot be found: "
                "read the whole",
                url=url,
            )
        # What is beyond the end cannot be told.
        everything = Span(order.spans[0].start, MAX_POSITION)
        return Plan(version, iter((everything,)), 1, Span(0, MAX_POSITION), stream=True, partial=everything.start > 0)
    spans = join(resolve(span, size) for span in order.spans)
    if wanted is not None and wanted.start < 0 and head.status in WHOLE and spans[0].start > order.part_bytes:
        # A server that knows no suffixes may know other ranges (RFC 9110, section 14.1.2).
        return replace(order, spans=spans, version=version)
    if not spans:
        return Plan(version, iter(()), 0, None, partial=size > 0)
    everything = Span(spans[0].start, spans[-1].stop)
    whole = Span(0, size)
    partial = everything != whole
    return Plan(version, iter((everything,)), 1, whole, stream=True, partial=partial, brings=(everything,))


def continues(version: Version, head: ResponseHead, wanted: Span, total: int) -> tuple[Span, Version]:
    """What a later response to a request for `wanted`, of an object of `total` bytes, brings, and its version.

    `version` not joinable: its source has not answered yet. The span begins before `wanted` where the server sends the
    whole object again. Raises `RemoteChanged` where it is of another object, `BadResponse` where it cannot be used.
    """
    url = redact(head.url)
    if head.status == 412:
        raise errors.RemoteChanged(
            "the object was replaced while it was read: the server answered 412; read it again", url=url
        )
    if head.status in WHOLE:
        size = content_length(head)
        found, theirs = Span(0, total if size is None else size), head.version(size)
    elif head.status == 206 and covers_all(head):
        found, theirs = Span(0, total), head.version(total)
    else:
        found, size = covered(head, wanted)
        theirs = head.version(size)
    if version.joinable:
        # By If-Range, a full response means another version; the same one means that Range is ignored.
        version.require(theirs, url)
    else:
        version = theirs
    if not version.joinable:
        raise errors.BadResponse(
            "a response without a size and a strong validator: it cannot be joined to others", url=url
        )
    if version.size != total:
        raise errors.RemoteChanged(
            f"a mirror has another object: expected {total} bytes, it has {version.size}",
            url=url,
            expected=str(total),
            actual=str(version.size),
        )
    return found, version
