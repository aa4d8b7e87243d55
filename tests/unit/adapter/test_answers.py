"""Ranges and conditions of requests: tables by RFC 9110, sections 13 and 14."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.adapter.answers import Answer, decide, wanted_span
from getm.core.spans import MAX_POSITION, Span
from getm.core.version import Version

BEFORE, TIME, AFTER = (f"Sun, 29 Nov 2026 07:00:0{second} GMT" for second in (1, 2, 3))
VERSION = Version(1000, '"tag"', TIME, '"tag"')
WHOLE = Answer(200, Span(0, 1000))


@pytest.mark.parametrize(
    ("value", "span"),
    [
        ("bytes=0-9", Span(0, 10)),
        ("bytes=5-", Span(5, MAX_POSITION)),
        ("Bytes = 5 - 9 ", Span(5, 10)),
        ("bytes=-7", Span(-7, MAX_POSITION)),
        # No range, or none that must be served.
        ("", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=9-5", None),
        ("bytes=0-1,5-6", None),
        ("bytes=x-", None),
        ("bytes=٣-", None),
        ("lines=0-9", None),
        (f"bytes=0-{'9' * 30}", None),
    ],
)
def test_ranges(value: str, span: Span | None) -> None:
    assert wanted_span({"Range": value}) == span


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({}, WHOLE),
        ({"Range": "bytes=0-9"}, Answer(206, Span(0, 10), is_open=False)),
        ({"Range": "bytes=10-"}, Answer(206, Span(10, 1000))),
        ({"Range": "bytes=990-2000"}, Answer(206, Span(990, 1000), is_open=False)),
        ({"Range": "bytes=-10"}, Answer(206, Span(990, 1000))),
        ({"Range": "bytes=-2000"}, Answer(206, Span(0, 1000))),
        ({"Range": "bytes=1000-"}, Answer(416)),
        ({"Range": "bytes=-0"}, Answer(416)),
        ({"Range": "bytes=0-1,5-6"}, WHOLE),
        # If-Range.
        ({"Range": "bytes=0-9", "If-Range": '"tag"'}, Answer(206, Span(0, 10), is_open=False)),
        ({"Range": "bytes=0-9", "If-Range": TIME}, Answer(206, Span(0, 10), is_open=False)),
        ({"Range": "bytes=0-9", "If-Range": '"other"'}, WHOLE),
        ({"Range": "bytes=0-9", "If-Range": 'W/"tag"'}, WHOLE),
        ({"Range": "bytes=0-9", "If-Range": AFTER}, WHOLE),
        # Conditions.
        ({"If-None-Match": '"tag"'}, Answer(304)),
        ({"If-None-Match": 'W/"tag"'}, Answer(304)),
        ({"If-None-Match": '"a", "tag"'}, Answer(304)),
        ({"If-None-Match": "*"}, Answer(304)),
        ({"If-None-Match": '"other"'}, WHOLE),
        ({"If-None-Match": '"other"', "If-Modified-Since": TIME}, WHOLE),
        ({"If-Modified-Since": TIME}, Answer(304)),
        ({"If-Modified-Since": AFTER}, Answer(304)),
        ({"If-Modified-Since": BEFORE}, WHOLE),
        ({"If-Modified-Since": "yesterday"}, WHOLE),
        ({"If-Match": '"tag"'}, WHOLE),
        ({"If-Match": 'W/"tag"'}, Answer(412)),
        ({"If-Match": '"other"'}, Answer(412)),
        ({"If-Match": "*"}, WHOLE),
        ({"If-Unmodified-Since": BEFORE}, Answer(412)),
        ({"If-Unmodified-Since": TIME}, WHOLE),
        ({"If-Match": '"tag"', "If-Unmodified-Since": BEFORE}, WHOLE),
        ({"If-None-Match": '"tag"', "Range": "bytes=0-9"}, Answer(304)),
    ],
)
def test_answers(fields: dict[str, str], answer: Answer) -> None:
    assert decide(fields, VERSION, in_parts=True) == answer


def test_what_cannot_be_had_in_parts_is_whole() -> None:
    assert decide({"Range": "bytes=5-9"}, VERSION, in_parts=False) == WHOLE
    assert decide({"Range": "bytes=5-9"}, Version(), in_parts=False) == Answer(200, Span(0, MAX_POSITION))


def test_without_validators_no_condition_holds() -> None:
    plain = Version(1000)
    for name in ("If-None-Match", "If-Modified-Since", "If-Unmodified-Since"):
        assert decide({name: '"tag"' if name.endswith("Match") else TIME}, plain, in_parts=True) == WHOLE
    assert decide({"If-Match": '"tag"'}, plain, in_parts=True) == Answer(412)


@given(st.text(alphabet="bytes=-,0123456789 ", max_size=25), st.integers(0, 2000))
def test_any_range_is_within_the_object(value: str, size: int) -> None:
    answer = decide({"Range": f"bytes={value}"}, Version(size, strong='"tag"'), in_parts=True)
    assert answer.status in (200, 206, 416)
    if answer.status == 206 and answer.span is not None:
        assert 0 <= answer.span.start < answer.span.stop <= size
