"""What a response is to a request: the object, an answer to its range or condition, or a refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm import errors
from getm.core.head import ResponseHead
from getm.core.spans import Span
from getm.engine.http.responses import refusal

URL = "https://example.test/object?sig=SECRET"
PART = Span(0, 100)


def head(status: int, **fields: str) -> ResponseHead:
    return ResponseHead.of(
        status, URL, tuple((name.replace("_", "-"), value) for name, value in fields.items()), reason="Phrase"
    )


@given(status=st.integers(0, 999))
def test_case_3_only_200_and_203_are_the_object(status: int) -> None:
    refused = refusal(head(status), None, None)
    assert (refused is None) == (status in (200, 203))
    if refused is not None:
        assert refused.status == status and f"{status} Phrase" in refused.message
        assert refused.url == "https://example.test/object"


@given(status=st.integers(0, 999))
def test_case_3_a_range_and_a_condition_have_answers_of_their_own(status: int) -> None:
    assert (refusal(head(status), PART, None) is None) == (status in (200, 203, 206, 416))
    assert (refusal(head(status), PART, '"v1"') is None) == (status in (200, 203, 206, 412, 416))


@pytest.mark.parametrize(
    ("fields", "covers"),
    [
        ({"content_range": "bytes 0-9/10"}, True),
        ({"content_range": "bytes 0-9/10", "content_length": "10"}, True),
        ({"content_range": "bytes 0-9/10", "transfer_encoding": "chunked"}, True),
        ({"content_range": "bytes 0-9/10", "content_length": "9"}, False),
        ({"content_range": "bytes 0-9/10", "content_length": "ten"}, False),
        ({"content_range": "bytes 0-9/*"}, False),
        ({"content_range": "bytes 0-8/10"}, False),
        ({"content_range": "bytes 1-9/10"}, False),
        ({"content_range": "bytes */10"}, False),
        ({"content_range": "items 0-9/10"}, False),
        ({"content_type": "multipart/byteranges; boundary=x"}, False),
        ({}, False),
    ],
)
def test_case_3_a_206_that_was_not_asked_for(fields: dict[str, str], covers: bool) -> None:
    refused = refusal(head(206, **fields), None, None)
    assert (refused is None) == covers
    if refused is not None:
        assert fields.get("content_range", "no Content-Range") in refused.message


def test_what_was_answered_before_and_is_refused_now_has_expired() -> None:
    assert type(refusal(head(403), PART, '"v1"', answered=True)) is errors.URLExpired
    assert type(refusal(head(403), PART, None, answered=True)) is errors.HTTPStatusError
    assert type(refusal(head(403), PART, '"v1"')) is errors.HTTPStatusError
    assert type(refusal(head(404), PART, '"v1"', answered=True)) is errors.HTTPStatusError
