"""Heads of spans: one that is recognised is one that would be accepted, had it been parsed."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from getm.core.spans import Span
from getm.core.version import Version
from getm.engine.http.framing import plain_head
from getm.engine.small_exchange import SpanHeads, is_usual, may_exchange

SIZE = 10_000
VERSION = Version(SIZE, '"v1"', None, '"v1"')
spans = st.tuples(st.integers(0, 99), st.sampled_from((1, 10, 10, 10))).map(lambda pair: Span(pair[0], sum(pair)))


def head(span: Span, *, etag: str = '"v1"', length: int | None = None, also: str = "", size: int = SIZE) -> bytes:
    return (
        f"HTTP/1.1 206 Partial Content\r\nContent-Length: {len(span) if length is None else length}\r\nETag: {etag}\r\n"
        f"Content-Range: bytes {span.start}-{span.stop - 1}/{size}\r\n{also}Date: today\r\n\r\n"
    ).encode()


answers = st.builds(
    head,
    spans,
    etag=st.sampled_from(('"v1"', '"v1"', '"v2"')),
    length=st.sampled_from((None, None, 3)),
    also=st.sampled_from(
        ("", "", "X: bytes 5-14/10000\r\n", "Content-Range: bytes 5-14/10000\r\n", "Connection: close\r\n")
    ),
    size=st.sampled_from((SIZE, SIZE, SIZE + 1)),
)


@given(st.lists(st.tuples(spans, answers | spans.map(head)), max_size=8))
@example([(Span(0, 10), head(Span(0, 10))), (Span(20, 30), head(Span(0, 10)))])
@example([(Span(5, 15), head(Span(5, 15), also="X: bytes 5-14/10000\r\n")), (Span(20, 30), head(Span(20, 30)))])
def test_what_is_recognised_would_be_accepted(answered: list[tuple[Span, bytes]]) -> None:
    heads = SpanHeads(VERSION)
    for span, came in answered:
        parsed = plain_head(came, 206)
        accepted = parsed is not None and is_usual(parsed, VERSION, span)
        known = heads.knows(came, span)
        if known is None:
            assert parsed is None or heads.accepts(parsed, span) is accepted
        else:
            assert accepted and parsed is not None and known == parsed.length == len(span)


def test_one_that_differs_in_its_range_alone_is_recognised() -> None:
    heads, first, second = SpanHeads(VERSION), Span(0, 10), Span(777, 787)
    parsed = plain_head(head(first), 206)
    assert heads.knows(head(first), first) is None and parsed is not None and heads.accepts(parsed, first)
    assert heads.knows(head(second), second) == 10
    assert heads.knows(head(second), first) is None
    assert heads.knows(head(second, etag='"v2"'), second) is None


def test_the_whole_of_a_small_span_is_awaited_and_only_of_a_version_that_is_known() -> None:
    assert may_exchange(VERSION, Span(3, 3 + 256 * 1024))
    assert not may_exchange(VERSION, Span(3, 4 + 256 * 1024)) and not may_exchange(VERSION, Span(3, 3))
    assert not may_exchange(Version(SIZE), Span(0, 1))
