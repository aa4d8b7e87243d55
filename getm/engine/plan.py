"""Which requests bring an object: decided from the order and the first response, without I/O.

An order names spans of an object, and the version that they must be of where that is known:

- the whole object is one span without an end;
- a resume is the spans that are missing of a version, or the whole of another one where that has been replaced;
- a span that another engine delegates must be of its version.

Spans are cut into pieces, of which the first response brings the first. With one request at a time, a piece is a whole
span.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

from getm import errors
from getm.core.head import ResponseHead
from getm.core.redact import redact
from getm.core.spans import MAX_POSITION, Span, plan_parts
from getm.core.version import Version
from getm.engine.http.responses import WHOLE, content_length, covered

WHOLE_OBJECT = (Span(0, MAX_POSITION),)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `span` None: without Range."""

    span: Span | None
    if_range: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for. `or_whole`: where `version` has been replaced, the whole of the other one is wanted."""

    spans: tuple[Span, ...]
    version: Version | None
    or_whole: bool
    concurrency: int
    part_bytes: int
    ranged_from: int = 0

    def first(self) -> Ask:
        """The first request: for the first piece, so that ranges need no further one."""
        if self.version is None:
            return Ask(Span(0, self.part_bytes) if self.concurrency > 1 else None)
        # With nothing missing, what follows the end: nothing, if it is still the same.
        piece = next(self.pieces(), Span(self.version.size or 0, MAX_POSITION))
        return Ask(piece, self.version.strong)

    def pieces(self) -> Iterator[Span]:
        """The spans, cut for `concurrency`. Never a list: a server may claim any size."""
        part_bytes = self.part_bytes if self.concurrency > 1 else MAX_POSITION
        return chain.from_iterable(plan_parts(span, part_bytes) for span in self.spans)

    def count(self) -> int:
        """How many pieces there are."""
        part_bytes = self.part_bytes if self.concurrency > 1 else MAX_POSITION
        return sum(-(-len(span) // part_bytes) for span in self.spans)

    def whole(self) -> Order:
        """All of the object, whichever version it is."""
        return replace(self, spans=WHOLE_OBJECT, version=None)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to fetch, by the first response.

    `version`: that all responses must be of. `stream`: one response brings all, in order; if it breaks off, the rest is
    requested. `first`: the piece that it brings or begins, None where there is nothing to bring, and `got` what it
    holds (its stop is None where only the end shows it). `others`: the pieces after that, `count` all of them.
    `workers`: how many are fetched at once. `resumed`: only what was missing comes.
    """

    version: Version
    stream: bool
    first: Span | None
    got: Span | None
    others: Iterator[Span]
    count: int
    workers: int
    resumed: bool = False


def decide(order: Order, ask: Ask, head: ResponseHead) -> Plan | Order:
    """The plan for the order by the response to `ask`; an `Order` where that must be requested instead.

    Raises `BadResponse` for a response that cannot be used, `RemoteChanged` where a version was demanded.
    """
    if head.status in WHOLE or (head.status == 206 and ask.span is None):
        return _stream(head, content_length(head))
    found = head.content_range()
    total = None if found is None else found.total
    if order.version is None:
        return _ranged(order, ask, head, total)
    try:
        return _resumed(order, order.version, ask, head, total)
    except errors.NetworkError:
        # Another version, or a server that cannot be asked for the rest (RFC 9110, section 14.2: it may ignore Range).
        if not order.or_whole:
            raise
        return order.whole()


def _stream(head: ResponseHead, size: int | None) -> Plan:
    whole = Span(0, MAX_POSITION if size is None else size)
    return Plan(head.version(size), True, whole, whole, iter(()), 1, 1)


def _ranged(order: Order, ask: Ask, head: ResponseHead, total: int | None) -> Plan | Order:
    """The plan by the first part of an object of which nothing was known."""
    one_stream = replace(order, concurrency=1)
    wanted = ask.span or Span(0, order.part_bytes)
    if head.status == 416:
        # A 416 to a request from byte 0 on: an empty object, or a wrong server.
        if total == 0:
            return Plan(head.version(0), True, None, None, iter(()), 0, 1)
        return one_stream
    if total is not None and covers_all(head):
        # Range was ignored, or asked for all there is.
        return _stream(head, total)
    version = head.version(total)
    if not version.joinable:
        # Nothing would show that two responses are of one version: they may not be joined.
        return one_stream
    try:
        got = covered(head, wanted)[0]
    except errors.BadResponse:
        # Not what was asked for: what it sends without Range may be right.
        return one_stream
    size = version.size or 0
    order = replace(order, spans=(Span(0, size),))
    pieces, count = order.pieces(), order.count()
    workers = 1 if size < order.ranged_from else min(order.concurrency, count)
    return Plan(version, False, next(pieces), got, pieces, count, workers)


def _resumed(order: Order, version: Version, ask: Ask, head: ResponseHead, total: int | None) -> Plan:
    """The plan by the first of the missing spans. Raises where the response is not of that version, or not the
    requested span."""
    count = order.count()
    version.require(head.version(total), redact(head.url))
    if head.status == 416 and count == 0 and total == version.size:
        return Plan(version, False, None, None, iter(()), 0, 1, resumed=True)
    if head.status != 206 or not count:
        raise errors.RemoteChanged(
            f"the object was replaced: its size is not {version.size} any more",
            url=redact(head.url),
            expected=str(version.size),
        )
    pieces = order.pieces()
    first = next(pieces)
    got = covered(head, ask.span or first)[0]
    workers = 1 if (version.size or 0) < order.ranged_from else min(order.concurrency, count)
    return Plan(version, False, first, got, pieces, count, workers, resumed=True)


def covers_all(head: ResponseHead) -> bool:
    """Whether a 206 brings the whole object, as a 200 would."""
    found = head.content_range()
    return found is not None and found.span is not None and found.total == len(found.span)


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
