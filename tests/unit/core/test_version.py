"""Which condition a version makes, and when two versions are the same (RFC 9110, sections 8.8.3.2 and 13.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from getm.core.version import Version

DATE = "Tue, 01 Jul 2025 00:00:00 GMT"


@pytest.mark.parametrize(
    ("etag", "modified", "condition"),
    [
        ('"v1"', DATE, ("If-None-Match", '"v1"')),
        ('W/"v1"', None, ("If-None-Match", 'W/"v1"')),
        ('""', None, ("If-None-Match", '""')),
        (None, DATE, ("If-Modified-Since", DATE)),
        (None, "Tuesday, 01-Jul-25 00:00:00 GMT", ("If-Modified-Since", "Tuesday, 01-Jul-25 00:00:00 GMT")),
        (None, "Tue Jul  1 00:00:00 2025", ("If-Modified-Since", "Tue Jul  1 00:00:00 2025")),
        ("unquoted", DATE, ("If-Modified-Since", DATE)),
        ("*", None, None),
        ('"a", "b"', None, None),
        ('"caf\xe9"', None, None),
        ('"a"\r\nX: y', None, None),
        (None, "yesterday\r\nX: y", None),
        (None, None, None),
    ],
)
def test_conditions(etag: str | None, modified: str | None, condition: tuple[str, str] | None) -> None:
    assert Version(5, etag, modified).condition() == condition


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        (Version(5, '"a"'), Version(5, '"a"'), True),
        (Version(5, 'W/"a"'), Version(None, '"a"'), True),
        (Version(5, '"a"'), Version(6, '"a"'), False),
        (Version(5, '"a"', DATE), Version(5, '"b"', DATE), False),
        (Version(5, '"a"', DATE), Version(5, None, DATE), True),
        (Version(5, None, DATE), Version(5, None, "yesterday"), False),
        (Version(5, '"a"'), Version(5, None, DATE), None),
        (Version(5), Version(5), None),
        (Version(5), Version(6), False),
    ],
)
def test_agreement(one: Version, other: Version, agree: bool | None) -> None:
    assert one.agrees(other) is other.agrees(one) is agree


@given(st.none() | st.text(max_size=30), st.none() | st.text(max_size=30))
def test_a_condition_is_one_header_line(etag: str | None, modified: str | None) -> None:
    """Whatever a receipt holds, which anybody may have written."""
    condition = Version(5, etag, modified).condition()
    assert condition is None or (condition[1].isascii() and condition[1].isprintable() and len(condition) == 2)
